//! Server-sent events, read line by line: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

/// A message of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Name; empty if it has none.
    pub name: String,
    /// Data: lines that belong together.
    pub data: String,
}

/// The messages of a stream. Lines have a limit, and so has the data of the daemon.
#[derive(Debug, Default)]
pub(super) struct Messages {
    next: Message,
}

impl Messages {
    /// Adds a line without its end, and returns the message that it completes.
    pub(super) fn add(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.next);
            return Some(message).filter(|message| !message.data.is_empty());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.next.name = value.to_owned(),
            "data" if self.next.data.is_empty() => self.next.data = value.to_owned(),
            "data" => self.next.data = format!("{}\n{value}", self.next.data),
            // Comments and ids: this reader does not come back.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_an_empty_line() {
        let text =
            ": comment\nid: 7-a\n\nid: 8-a\ndata: {}\n\nevent: gap\ndata:1\ndata: 2\n\n\ndata: 3\n";
        let mut messages = Messages::default();
        let read: Vec<Message> = text.lines().filter_map(|line| messages.add(line)).collect();
        let message = |name: &str, data: &str| Message { name: name.into(), data: data.into() };
        assert_eq!(read, [message("", "{}"), message("gap", "1\n2")]);
    }
}
