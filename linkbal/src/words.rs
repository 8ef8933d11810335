//! Words that are the same everywhere.

/// Returns a number with the thing that it counts: `1 uplink`, `2 uplinks`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|n| count(n, "uplink")), ["0 uplinks", "1 uplink", "2 uplinks"]);
    }
}
