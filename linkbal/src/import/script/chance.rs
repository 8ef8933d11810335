//! Conditions by chance: `-m statistic`.

/// A condition by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chance {
    /// Of so many among [`WHOLE`].
    Random(u32),
    /// Of a part that cannot be read.
    Unknown,
    /// Of one among so many, at its place.
    Nth { every: u32, packet: u32 },
}

/// The number of which [`Chance::Random`] has parts.
pub(super) const WHOLE: u32 = 1_000_000_000;

impl Chance {
    /// Returns the part of the packets that fit.
    pub(super) fn part(self) -> f64 {
        match self {
            Chance::Random(parts) => f64::from(parts) / f64::from(WHOLE),
            Chance::Unknown => 0.0,
            Chance::Nth { every, .. } => 1.0 / f64::from(every.max(1)),
        }
    }
}

/// Options of `-m statistic`, as far as they are read.
#[derive(Default)]
pub(super) struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    /// Takes an option with its value.
    pub(super) fn take(&mut self, word: &'a str, value: &'a str) {
        self.0.push((word, value));
    }

    /// Returns the condition that the options say.
    pub(super) fn chance(&self) -> Option<Chance> {
        if self.0.is_empty() {
            return None;
        }
        let of = |key: &str| self.0.iter().find(|(word, _)| *word == key).map(|(_, value)| *value);
        let number = |key: &str| of(key).and_then(|text| text.parse::<u32>().ok());
        let chance = match of("--mode") {
            Some("random") => of("--probability").and_then(parts).map(Chance::Random),
            Some("nth") => {
                let (every, packet) = (number("--every"), number("--packet").unwrap_or(0));
                every.filter(|every| *every > packet).map(|every| Chance::Nth { every, packet })
            }
            _ => None,
        };
        Some(chance.unwrap_or(Chance::Unknown))
    }
}

/// Parses a probability into parts of [`WHOLE`].
fn parts(text: &str) -> Option<u32> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = digits.chars().chain("000000000".chars()).take(9).collect();
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let parts = whole.checked_mul(WHOLE)?.checked_add(digits.parse().ok()?)?;
    (parts <= WHOLE).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_parts() {
        let texts = ["0.5", ".25", "1", "0.33333333333", "1.5", "x", ""];
        let expected = [
            Some(500_000_000),
            Some(250_000_000),
            Some(WHOLE),
            Some(333_333_333),
            None,
            None,
            Some(0),
        ];
        assert_eq!(texts.map(parts), expected);
    }
}
