//! The selection of the tests that run in a guest.

use std::env;

/// The suites that can run in a guest: test targets of the package `linkbal-tests`.
pub(super) const SUITES: [&str; 4] = ["kernel", "datapath", "gateway", "vm"];

/// The default selection: tests that depend on the kernel, which take some minutes on a machine
/// without an accelerator.
const DEFAULT: [&str; 10] = [
    "vm",
    "kernel::netfilter",
    "kernel::routing",
    "kernel::teardown",
    "datapath::attach",
    "datapath::differential",
    "datapath::shapes",
    "gateway::balance::flows",
    "gateway::lifecycle::teardown",
    "gateway::local::local_traffic_leaves",
];

/// Tests, by suite.
pub(super) struct Selection(Vec<(&'static str, Vec<String>)>);

impl Selection {
    /// Selects the tests that `filters` name: `SUITE`, `SUITE::PART` or `PART` of all suites; the
    /// default ones if there are none.
    pub(super) fn of(filters: &[String]) -> Self {
        let default: Vec<_> = DEFAULT.map(str::to_owned).into();
        let filters = if filters.is_empty() { &default } else { filters };
        let of_suite =
            |suite| -> Vec<_> { filters.iter().filter_map(|filter| part(filter, suite)).collect() };
        let suites = SUITES.into_iter().map(|suite| (suite, of_suite(suite)));
        Self(suites.filter(|(_, parts)| !parts.is_empty()).collect())
    }

    /// Returns the suites that have selected tests.
    pub(super) fn suites(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(suite, _)| *suite)
    }

    /// Returns a shell script that runs the tests and exits with 1 if one failed.
    pub(super) fn script(&self) -> String {
        let mut script = String::from("status=0\n");
        // What the gateways of the lab are told.
        if let Ok(mode) = env::var("LAB_ACCELERATE") {
            script += &format!("export LAB_ACCELERATE={}\n", quoted(&mode));
        }
        for (suite, parts) in &self.0 {
            let parts: Vec<_> = parts.iter().map(|part| quoted(part)).collect();
            let parts = parts.join(" ");
            script += &format!("echo suite {suite}\n/tests/{suite} --test-threads=1 {parts}");
            script += " || status=1\n";
        }
        script + "exit $status\n"
    }
}

/// Returns the part of a test's name that `filter` selects of a suite, if it selects this suite.
fn part(filter: &str, suite: &str) -> Option<String> {
    match filter.split_once("::") {
        _ if filter == suite => Some(String::new()),
        Some((named, part)) if SUITES.contains(&named) => (named == suite).then(|| part.to_owned()),
        _ if SUITES.contains(&filter) => None,
        _ => Some(filter.to_owned()),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filters: &[&str]) -> Vec<(&'static str, Vec<String>)> {
        Selection::of(&filters.iter().map(|&f| f.to_owned()).collect::<Vec<_>>()).0
    }

    #[test]
    fn a_filter_names_a_suite_a_part_of_it_or_a_part_of_all() {
        assert_eq!(of(&["vm"]), [("vm", vec![String::new()])]);
        let bonds = vec!["bond".to_owned(), "netem::loss".to_owned()];
        assert_eq!(of(&["vm::bond", "vm::netem::loss"]), [("vm", bonds)]);
        assert_eq!(of(&["ipv6::"]).len(), SUITES.len());
    }

    #[test]
    fn without_a_filter_each_suite_has_something_to_do() {
        assert!(Selection::of(&[]).suites().eq(SUITES));
    }

    #[test]
    fn names_are_quoted_for_the_shell() {
        let script = Selection::of(&["vm::it's".to_owned()]).script();
        assert!(script.contains(r"/tests/vm --test-threads=1 'it'\''s' || status=1"), "{script}");
    }
}
