//! Patterns of names, as a shell has them: `*` stands for any text, also for none.

/// Returns whether a name from the configuration is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Returns whether a pattern, or the name itself, matches a name.
pub fn is_match(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The first match leaves the most for those that follow.
        let Some(at) = name.find(part) else { return false };
        name = &name[at.saturating_add(part.len())..];
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Matches by trying everything.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
            Some((first, rest)) => name.first() == Some(first) && slow(rest, &name[1..]),
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name) in [
            ("br-*", "br-"),
            ("br-*", "br-1f2e"),
            ("*", "x"),
            ("*0", "docker0"),
            ("wg*", "wg0"),
            ("v*.*0", "vlan.10"),
            ("eth0", "eth0"),
            ("a*a", "aa"),
            ("**", ""),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("br-*", "br"),
            ("br-*", "xbr-1"),
            ("*0", "eth01"),
            ("eth0", "eth00"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("", "a"),
        ] {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_finds(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            let found = is_match(&pattern, &name);
            prop_assert_eq!(found, slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
