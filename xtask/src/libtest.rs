//! The output of libtest, Rust's test harness.

/// Returns the tests that libtest says have failed: `test NAME ... FAILED`.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    let failed = output.lines().filter_map(|line| line.strip_suffix(" ... FAILED"));
    failed.filter_map(|line| line.strip_prefix("test ")).map(str::to_owned).collect()
}

/// Returns whether each test program that began says how it ended: one that crashes or hangs does not.
pub(crate) fn is_complete(output: &str) -> bool {
    let begun = |line: &&str| line.starts_with("running ") && line.contains(" test");
    let ended = output.lines().filter(|line| line.starts_with("test result: ")).count();
    output.lines().filter(begun).count() == ended
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Adds up the result lines of libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn of(output: &str) -> Self {
        let mut counts = Self::default();
        let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
        for field in results.flat_map(|line| line.split(['.', ';'])) {
            let mut words = field.split_whitespace();
            let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => counts.passed += number,
                Some("failed") => counts.failed += number,
                Some("ignored") => counts.ignored += number,
                _ => {}
            }
        }
        counts
    }

    /// Returns the number of tests that ran.
    pub(crate) fn ran(&self) -> u32 {
        self.passed + self.failed
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_names() {
        let output = "test a::b ... ok\ntest c ... FAILED\ntest d ... ";
        assert_eq!(failed_tests(output), ["c"]);
    }

    #[test]
    fn a_program_that_crashes_is_not_complete() {
        let whole = "running 1 test\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed;\n";
        assert!(is_complete(whole));
        assert!(!is_complete(&format!("{whole}running 2 tests\ntest b ... ok\n")));
    }

    #[test]
    fn result_lines_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s\n";
        assert_eq!(Counts::of(output), Counts { passed: 5, failed: 4, ignored: 1 });
    }
}
