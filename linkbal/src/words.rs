//! Words that are the same everywhere.

use std::time::Duration;

/// Time from which on nobody counts in seconds.
const LONG: Duration = Duration::from_secs(120);

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

/// Returns a time as people say it, a short one exactly.
pub(crate) fn spoken(time: Duration) -> String {
    if time < LONG { format!("{} s", time.as_secs_f64()) } else { length(time) }
}

/// Returns a time that was measured as people say it.
pub(crate) fn measured(time: Duration) -> String {
    if time < LONG { format!("{:.1} s", time.as_secs_f64()) } else { length(time) }
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

    #[test]
    fn long_times_are_said_in_minutes() {
        let spoken_of = |millis| spoken(Duration::from_millis(millis));
        let each = [500, 15_000, 119_000, 559_000, 3_600_000].map(spoken_of);
        assert_eq!(each, ["0.5 s", "15 s", "119 s", "9 min 19 s", "1 h"]);
        assert_eq!(
            [5030, 600_040].map(|millis| measured(Duration::from_millis(millis))),
            ["5.0 s", "10 min"]
        );
    }
}
