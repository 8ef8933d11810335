//! Values that were written as another type: numbers in quotes, words without, durations without a
//! unit. Each becomes the value to write.

use std::{ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

/// Units of durations, from the most usual one on.
const UNITS: [(&str, f64); 4] = [("s", 1.0), ("ms", 0.001), ("m", 60.0), ("h", 3600.0)];

/// Returns the number that a text or a decimal number stands for, as it is to be written.
pub(super) fn number(value: &DeValue<'_>, range: &RangeInclusive<u32>) -> Option<String> {
    let raw = match value {
        DeValue::Float(float) => float.as_str().strip_suffix(".0")?.to_owned(),
        other => other.as_str()?.trim().trim_end_matches('%').trim_end().to_ascii_lowercase(),
    };
    let digits = raw.strip_prefix("0x");
    let (digits, radix) = digits.map_or((raw.as_str(), 10), |digits| (digits, 16));
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    let written = if radix == 16 { format!("0x{digits}") } else { number.to_string() };
    range.contains(&number).then_some(written)
}

/// Returns the boolean that a text stands for.
pub(super) fn boolean(value: &DeValue<'_>) -> Option<bool> {
    match &*value.as_str()?.trim().to_lowercase() {
        "true" | "yes" | "on" | "1" | "enabled" => Some(true),
        "false" | "no" | "off" | "0" | "disabled" => Some(false),
        _ => None,
    }
}

/// Returns how a duration within a range is written that has no unit, or a decimal number of them.
pub(super) fn duration(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Option<String> {
    let raw = match value {
        DeValue::String(text) => text.trim().replace(',', "."),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        _ => return None,
    };
    let unit_at = raw.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(raw.len());
    let (number, unit) = raw.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim();
    // Seconds are meant where they are possible, and milliseconds where they are not.
    let fits = UNITS.iter().filter(|(name, _)| unit.is_empty() || *name == unit);
    fits.filter_map(|(name, seconds)| {
        let duration = Duration::try_from_secs_f64(number * seconds).ok()?;
        let text = in_unit(number, name, duration)?;
        let read = humantime::parse_duration(&text).ok()?;
        range.contains(&read).then(|| format!("{text:?}"))
    })
    .next()
}

/// Returns a number of a unit, or the same in milliseconds if it is not whole.
fn in_unit(number: f64, unit: &str, duration: Duration) -> Option<String> {
    if number.fract() == 0.0 {
        return Some(format!("{number}{unit}"));
    }
    let millis = duration.as_millis();
    (millis > 0).then(|| format!("{millis}ms"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeTable;

    use super::*;

    fn with<T>(raw: &str, read: impl Fn(&DeValue<'_>) -> T) -> T {
        let text = format!("a = {raw}");
        let table = DeTable::parse(&text).unwrap_or_else(|error| panic!("{raw}: {error}"));
        read(table.get_ref().get("a").expect("a value").get_ref())
    }

    #[test]
    fn numbers_lose_quotes_and_percent_signs() {
        let range = 1..=u32::MAX;
        let number = |raw: &str| with(raw, |value| number(value, &range));
        for (raw, expected) in [
            ("\"30\"", "30"),
            ("\"30%\"", "30"),
            ("\" 30 %\"", "30"),
            ("3.0", "3"),
            ("\"0xFF\"", "0xff"),
        ] {
            assert_eq!(number(raw).as_deref(), Some(expected), "{raw}");
        }
        for raw in
            ["\"\"", "\"0\"", "\"many\"", "\"-3\"", "\"+3\"", "3.5", "\"%\"", "\"0x\"", "true"]
        {
            assert_eq!(number(raw), None, "{raw}");
        }
    }

    #[test]
    fn durations_get_a_unit_that_fits() {
        let range = Duration::from_millis(20)..=Duration::from_secs(3600);
        let short = Duration::from_millis(1)..=Duration::from_secs(60);
        let duration = |raw: &str, range| with(raw, |value| duration(value, range));
        for (raw, expected) in [
            ("\"1\"", "\"1s\""),
            ("600", "\"600s\""),
            ("0.5", "\"500ms\""),
            ("\"1.5s\"", "\"1500ms\""),
            ("\"1,5 s\"", "\"1500ms\""),
            ("5000", "\"5000ms\""),
        ] {
            assert_eq!(duration(raw, &range).as_deref(), Some(expected), "{raw}");
        }
        assert_eq!(duration("300", &short).as_deref(), Some("\"300ms\""));
        for raw in ["\"soon\"", "\"\"", "\"19ms\"", "true", "\"1.2.3\"", "\"5 parsecs\""] {
            assert_eq!(duration(raw, &range), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn what_is_proposed_is_accepted(raw in "[0-9]{0,12}[.,]?[0-9]{0,3} ?(s|ms|m|h|x)?") {
            let range = Duration::ZERO..=Duration::from_secs(86_400);
            let proposed = with(&format!("{raw:?}"), |value| duration(value, &range));
            if let Some(proposed) = proposed {
                let read = humantime::parse_duration(proposed.trim_matches('"'));
                prop_assert!(read.is_ok_and(|read| range.contains(&read)), "{proposed}");
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let value = DeValue::String(text.into());
            number(&value, &(0..=u32::MAX));
            boolean(&value);
            duration(&value, &(Duration::ZERO..=Duration::MAX));
        }
    }
}
