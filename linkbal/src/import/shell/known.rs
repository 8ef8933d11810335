//! Values of `$(..)` and `$((..))` that are known without a run.

/// Most words of `seq`.
const MAX_SEQUENCE: i64 = 65;

/// Returns what a command within `$(..)` or backticks prints, if that is known.
pub(super) fn output(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["which" | "type", program, ..] if !program.starts_with('-') => Some((*program).into()),
        ["which" | "type" | "command", option, program, ..] if option.starts_with('-') => {
            Some((*program).into())
        }
        ["seq", last] => sequence(1, last.parse().ok()?),
        ["seq", first, last] => sequence(first.parse().ok()?, last.parse().ok()?),
        _ => None,
    }
}

/// Returns the words of `{1..3}`, separated by spaces.
pub(super) fn braces(word: &str) -> Option<String> {
    let (first, last) = word.strip_prefix('{')?.strip_suffix('}')?.split_once("..")?;
    sequence(first.parse().ok()?, last.parse().ok()?)
}

fn sequence(first: i64, last: i64) -> Option<String> {
    let last = last.min(first.checked_add(MAX_SEQUENCE)?);
    let numbers = (first..=last).map(|number| number.to_string());
    Some(numbers.collect::<Vec<_>>().join(" "))
}

/// Returns the two sides of a sum, a difference or a product, and its sign.
pub(super) fn operation(text: &str) -> Option<(&str, char, &str)> {
    let at = text.find(['+', '-', '*'])?;
    let (left, right) = text.split_at(at);
    let sign = right.chars().next()?;
    let sides = (left.trim(), right.get(1..)?.trim());
    let simple = |side: &str| {
        !side.is_empty() && side.chars().all(|c| c.is_ascii_alphanumeric() || "_${}".contains(c))
    };
    (simple(sides.0) && simple(sides.1)).then_some((sides.0, sign, sides.1))
}

/// Returns the result of an operation.
pub(super) fn result(left: &str, sign: char, right: &str) -> Option<String> {
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    let result = match sign {
        '+' => left.checked_add(right),
        '-' => left.checked_sub(right),
        _ => left.checked_mul(right),
    };
    result.map(|result| result.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_without_a_run() {
        let known = [("which ip", "ip"), ("command -v tc", "tc"), ("seq 2 4", "2 3 4")];
        for (command, text) in known {
            assert_eq!(output(command).as_deref(), Some(text), "{command}");
        }
        assert_eq!(output("cat /tmp/x"), None);
        assert_eq!(braces("{1..3}").as_deref(), Some("1 2 3"));
        assert_eq!(operation("100 + $i"), Some(("100", '+', "$i")));
        assert_eq!(operation("2"), None);
        assert_eq!(result("100", '+', "7").as_deref(), Some("107"));
    }
}
