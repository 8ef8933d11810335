//! Words that are the same everywhere.

use std::time::Duration;

/// Returns a number with the thing that it counts: `1 uplink`, `2 uplinks`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Returns a length of time in the two units that matter: 45 s, 4 min, 2 h 5 min, 3 d 1 h.
pub(crate) fn length(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let seconds = time.as_secs().max(1);
    let at = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len());
    let mut rest = seconds;
    let parts = UNITS.iter().skip(at).take(2).filter_map(|(size, unit)| {
        let number = rest.checked_div(*size)?;
        rest = rest.checked_rem(*size)?;
        // Seconds matter only in an outage of few minutes.
        let matters = number > 0 && (*unit != "s" || seconds < 600);
        matters.then(|| format!("{number} {unit}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|n| count(n, "uplink")), ["0 uplinks", "1 uplink", "2 uplinks"]);
    }

    #[test]
    fn lengths_have_two_units_at_most() {
        let each = [0, 45, 60, 252, 605, 3600, 7_530, 90_000, 864_000];
        let shown = each.map(|seconds| length(Duration::from_secs(seconds)));
        let expected =
            ["1 s", "45 s", "1 min", "4 min 12 s", "10 min", "1 h", "2 h 5 min", "1 d 1 h", "10 d"];
        assert_eq!(shown, expected);
    }
}
