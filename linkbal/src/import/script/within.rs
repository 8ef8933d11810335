//! Commands within others: `sh -c`, `up` of /etc/network/interfaces, and lines of `ip -batch`.

use crate::import::shell::Command;

/// Returns the name of a program without its place.
pub(super) fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Returns the commands that one is only the way to; `None` for all others.
pub(super) fn within(command: &Command) -> Option<Vec<Command>> {
    let (program, arguments) = command.words.split_first()?;
    match (name_of(program), arguments) {
        ("up" | "post-up" | "pre-up", [_, ..]) => {
            Some(vec![Command { words: arguments.to_vec(), ..command.clone() }])
        }
        ("sh" | "bash" | "dash", [option, text, ..]) if option == "-c" => {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            // Several commands in one text are not read.
            let single = !text.contains([';', '&', '|', '\n']);
            let known = words.first().is_some_and(|word| {
                matches!(name_of(word), "ip" | "route" | "iptables" | "ip6tables")
            });
            (single && known).then(|| vec![Command { words, ..command.clone() }])
        }
        ("ip", _) if is_batch(arguments) && !command.text.is_empty() => Some(batch(command)),
        _ => None,
    }
}

/// Returns the commands at the end of all ways, each with its own words.
pub(super) fn innermost(command: &Command) -> Vec<Command> {
    let mut found = vec![command.clone()];
    // A shell within a shell within `up` is the most that is of use.
    for _ in 0..3 {
        let inner = |one: &Command| within(one).unwrap_or_else(|| vec![one.clone()]);
        found = found.iter().flat_map(inner).collect();
    }
    found
}

/// Returns whether `ip` reads its commands from a file or from the text that follows.
pub(super) fn is_batch(arguments: &[impl AsRef<str>]) -> bool {
    let mut options = arguments.iter().map(AsRef::as_ref).take_while(|word| word.starts_with('-'));
    options.any(|word| word.len() > 1 && "-batch".starts_with(word))
}

/// Returns the commands of a text for `ip -batch`, each with its line.
fn batch(command: &Command) -> Vec<Command> {
    let family = command.words.iter().filter(|word| matches!(&***word, "-4" | "-6"));
    let family: Vec<String> = family.cloned().collect();
    let first = command.last_line.saturating_sub(command.text.len());
    let lines = (first..).zip(&command.text);
    let said = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
    said.map(|(line, text)| {
        let mut words = vec!["ip".to_owned()];
        words.extend(family.iter().cloned());
        words.extend(text.split_whitespace().map(str::to_owned));
        let (text, last_line) = (Vec::new(), line);
        Command { words, text, line, last_line, ..command.clone() }
    })
    .collect()
}
