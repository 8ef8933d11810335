//! Texts of servers, without the secrets that they may repeat.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::post;

/// Most characters of what a server says.
const MAX_SAID: usize = 200;

/// Returns what a server said in one line, without the secret that it may have repeated.
pub(super) fn without_secret(secret: Option<&str>, said: &str) -> String {
    // Before it is cut: a part of a secret is one, too.
    match secret {
        Some(secret) => shown(
            &spellings(secret)
                .iter()
                .fold(said.to_owned(), |said, spelling| said.replace(spelling, "{token}")),
        ),
        None => shown(said),
    }
}

/// Returns a secret as a server may repeat it: as it is, and escaped for an address, JSON or HTML.
fn spellings(secret: &str) -> Vec<String> {
    let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let some = post::in_address(secret);
    let json = serde_json::to_string(secret).unwrap_or_default();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = html.replace('"', "&quot;").replace('\'', "&#39;");
    let lower = [&all, &some].map(|text| lower_escapes(text));
    let mut found =
        vec![secret.to_owned(), json.trim_matches('"').to_owned(), html, quoted, all, some];
    found.extend(lower);
    // The longest first: one may be a part of another.
    found.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    found.retain(|spelling| !spelling.is_empty());
    found
}

/// Returns a text with the hexadecimal digits of its escapes (`%2F`) in lower case.
fn lower_escapes(text: &str) -> String {
    let mut parts = text.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
}

/// Returns what a server said in one line of bounded length.
fn shown(said: &str) -> String {
    let line = said.replace(char::is_control, " ");
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ").chars().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_secret_that_a_server_repeats_is_shown() {
        let long = format!("{}s3cret", "x".repeat(MAX_SAID - 3));
        assert!(!without_secret(Some("s3cret"), &long).contains("s3c"));
        assert_eq!(without_secret(Some("s3cret"), "no s3cret\r\n here"), "no {token} here");
        assert_eq!(without_secret(None, "no"), "no");
        let secret = "a+b/c:d\"<e>";
        for said in [
            "a+b/c:d\\\"<e>",
            "a%2Bb%2Fc%3Ad%22%3Ce%3E",
            "a%2bb%2fc%3ad%22%3ce%3e",
            "a%2Bb/c:d%22%3Ce%3E",
            "a+b/c:d\"&lt;e&gt;",
            "a+b/c:d&quot;&lt;e&gt;",
        ] {
            assert_eq!(without_secret(Some(secret), &format!("no {said}!")), "no {token}!");
        }
    }
}
