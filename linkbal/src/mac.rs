//! MAC addresses, in the ways in which people and tools write them.

/// Returns the six bytes of a MAC address: pairs of hexadecimal digits with colons or hyphens between
/// them, as Linux and Windows show them, or three groups of four with dots, as switches do.
pub(crate) fn parse(text: &str) -> Option<[u8; 6]> {
    let (separator, width) = match text.find([':', '-', '.']).map(|at| &text[at..]) {
        Some(rest) if rest.starts_with('.') => ('.', 4),
        Some(rest) if rest.starts_with('-') => ('-', 2),
        Some(_) => (':', 2),
        None => return None,
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let fits =
        |group: &&str| group.len() == width && group.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !groups.iter().all(fits) {
        return None;
    }
    let digits = groups.concat();
    let number = u64::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 12)?;
    let [_, _, bytes @ ..] = number.to_be_bytes();
    Some(bytes)
}

/// Writes a MAC address as Linux does.
pub(crate) fn show(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_texts_are_no_addresses() {
        for text in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02:00-00:00:00:01",
            "0200.0000.001",
            "020000000001",
            "+2:00:00:00:00:01",
            "02:00:00:00:00:0g",
            "ä:00:00:00:00:01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn each_form_has_the_same_bytes(bytes: [u8; 6], upper: bool) {
            let colons = show(bytes);
            let plain = colons.replace(':', "");
            let dots = [&plain[..4], &plain[4..8], &plain[8..]].join(".");
            for form in [colons.clone(), colons.replace(':', "-"), dots] {
                let form = if upper { form.to_uppercase() } else { form };
                prop_assert_eq!(parse(&form), Some(bytes), "{}", form);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            parse(&text);
        }
    }
}
