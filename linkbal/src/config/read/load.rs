//! `capacity` and `spillover` of an uplink, and `[balance]`: shares that follow the load.

use std::ops::RangeInclusive;

use toml::{Spanned, de::DeValue};

use crate::config::{
    Capacity,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value::wrong_type},
};

/// Range of capacities, in bits per second.
const RATES: RangeInclusive<f64> = 1e3..=1e12;

/// Bits per second of each unit: decimal prefixes, as in tc(8).
const UNITS: [(&str, f64); 4] = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];

const RATE_HELP: &str = "write a number and one of bit, kbit, mbit and gbit (for each second) in \
                         double quotes, like \"100mbit\" or \"2.5gbit\"";

const CAPACITY_HELP: &str =
    "write a rate like \"100mbit\", or { down = \"100mbit\", up = \"20mbit\" }";

const SPILLOVER_HELP: &str = "write a share of the capacity from 0.1 to 1.0, like 0.9";

/// Reads the capacity of an uplink, and the share of it, in thousandths, from which on new flows
/// use other uplinks.
pub(in crate::config) fn read(section: &Section) -> (Option<Capacity>, Option<u32>) {
    let spillover = section.get(&keys::uplink::SPILLOVER, share);
    if let Some(spillover) = &spillover
        && !section.has(&keys::uplink::CAPACITY)
    {
        let help = "write the speed of the line beside it, like capacity = \"100mbit\"";
        let fault = Fault::new("it is a share of a capacity that is not given", help);
        section.report(&keys::uplink::SPILLOVER, spillover.span(), fault);
    }
    (read_capacity(section), spillover.map(Spanned::into_inner))
}

/// Reads whether the weights follow the load.
pub(in crate::config) fn read_adaptive(root: &Section) -> bool {
    let section =
        root.section(&keys::root::BALANCE, "write the section [balance] and in it adaptive = true");
    let adaptive = section
        .and_then(|balance| balance.knowing(&keys::balance::KEYS).value(&keys::balance::ADAPTIVE));
    adaptive.is_some_and(Spanned::into_inner)
}

/// Reads a capacity: one text for both directions, or a table with one for each.
fn read_capacity(section: &Section) -> Option<Capacity> {
    let written = section.get(&keys::uplink::CAPACITY, text_or_table)?;
    if !written.get_ref().is_table() {
        let both = section.get(&keys::uplink::CAPACITY, rate)?.into_inner();
        return Some(Capacity { down: both, up: both });
    }
    let table =
        section.section(&keys::uplink::CAPACITY, CAPACITY_HELP)?.knowing(&keys::capacity::KEYS);
    let [down, up] = [&keys::capacity::DOWN, &keys::capacity::UP].map(|direction| {
        let missing = format!("`{}` is missing in the capacity", direction.name);
        table.require(direction, Fault::new(missing, CAPACITY_HELP));
        table.get(direction, rate).map(Spanned::into_inner)
    });
    Some(Capacity { down: down?, up: up? })
}

fn text_or_table<'a>(value: &'a DeValue<'a>) -> Result<&'a DeValue<'a>, Fault> {
    if value.is_str() || value.is_table() {
        return Ok(value);
    }
    Err(wrong_type("a rate", value, CAPACITY_HELP))
}

/// Parses a rate from a text with a unit, in bits per second.
fn rate(value: &DeValue<'_>) -> Result<u64, Fault> {
    let text = value.as_str().ok_or_else(|| wrong_type("a rate", value, RATE_HELP))?;
    let rate =
        parse_rate(text).ok_or_else(|| Fault::new(format!("{text:?} is not a rate"), RATE_HELP))?;
    if RATES.contains(&rate) {
        return Ok(rate.round() as u64);
    }
    let message = format!("{text:?} is not within 1kbit to 1000gbit");
    Err(Fault::new(message, "write a rate from 1kbit to 1000gbit"))
}

fn parse_rate(text: &str) -> Option<f64> {
    let text = text.to_ascii_lowercase();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let number = number.trim_end();
    // Neither signs nor exponents nor infinity.
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    number.parse::<f64>().ok().filter(|_| plain).map(|number| number * unit)
}

/// Parses a share from 0.1 to 1.0, in thousandths.
fn share(value: &DeValue<'_>) -> Result<u32, Fault> {
    let text = match value {
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Integer(integer) => integer.to_string(),
        other => return Err(wrong_type("a decimal number", other, SPILLOVER_HELP)),
    };
    let share = text.parse::<f64>().ok().filter(|share| (0.1..=1.0).contains(share));
    let share = share
        .ok_or_else(|| Fault::new(format!("{text} is not within 0.1 to 1.0"), SPILLOVER_HELP))?;
    Ok((share * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, rate) in [
            ("100mbit", 1e8),
            ("2.5gbit", 2.5e9),
            ("64 kbit", 64e3),
            ("9600bit", 9600.0),
            ("1.544Mbit", 1.544e6),
            (".5mbit", 5e5),
        ] {
            assert_eq!(parse_rate(text), Some(rate), "{text}");
        }
        for text in
            ["", "mbit", "100", "100 m", "-1mbit", "1e3mbit", "infbit", "1.2.3mbit", "1tbit"]
        {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_rate_is_its_number_times_its_unit(number in 1u32..=1000, thousandths in 0u32..1000) {
            for (name, unit) in UNITS {
                let text = format!("{number}.{thousandths:03}{name}");
                let wanted = (f64::from(number) + f64::from(thousandths) / 1000.0) * unit;
                let got = parse_rate(&text).expect("a rate");
                prop_assert!((got - wanted).abs() <= wanted * 1e-12, "{text}: {got}");
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            prop_assert!(parse_rate(&text).is_none_or(|rate| rate >= 0.0));
        }
    }
}
