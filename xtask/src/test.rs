//! `cargo xtask test`: all tests, including those in namespaces and on another kernel.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    process::{cargo, require_root, succeed, target_dir, tee},
    setup::{Need, setup},
    vm,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests in a virtual machine with Debian 12's kernel
    #[arg(long)]
    no_vm: bool,
}

/// Runs every suite, also after a failure, and sums up.
///
/// # Errors
/// If a step or a test fails.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    require_root("test", "because the suites work in network namespaces")?;
    setup(if arguments.no_vm { Need::Test } else { Need::Vm })?;
    // As `cargo test` builds it: other features would mean another build of the eBPF object.
    succeed(&mut cargo(["build", "--package", "linkbal", "--all-targets"]))?;
    let mut privileged =
        cargo(["test", "--package", "linkbal-tests", "--no-fail-fast", "--", "--test-threads=1"]);
    privileged.env("LINKBAL_BIN", target_dir()?.join("debug/linkbal"));
    let mut suites = vec![
        Suite::run("unit and property tests", &mut cargo(["test", "--no-fail-fast"]))?,
        Suite::run("tests in namespaces", &mut privileged)?,
    ];
    if !arguments.no_vm {
        suites.push(Suite::in_guest());
    }
    println!();
    for suite in &suites {
        println!("{}: {}", suite.name, suite.counts);
    }
    if arguments.no_vm {
        println!("tests in a virtual machine: left out, as --no-vm says");
    }
    if suites.iter().any(|suite| !suite.success) {
        bail!("tests failed");
    }
    Ok(())
}

struct Suite {
    name: &'static str,
    success: bool,
    counts: Counts,
}

impl Suite {
    fn run(name: &'static str, command: &mut Command) -> Result<Self> {
        println!("{name}");
        let (success, output) = tee(command)?;
        let counts = Counts::of(&output);
        // A suite that found no tests proves nothing.
        Ok(Self { name, success: success && counts.passed > 0, counts })
    }

    fn in_guest() -> Self {
        let name = "tests in a virtual machine";
        println!("{name}");
        match vm::default_choice() {
            Ok(counts) => Self { name, success: true, counts },
            Err(error) => {
                eprintln!("error: {error:#}");
                Self { name, success: false, counts: Counts::default() }
            }
        }
    }
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
    fn result_lines_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s\n";
        assert_eq!(Counts::of(output), Counts { passed: 5, failed: 4, ignored: 1 });
    }
}
