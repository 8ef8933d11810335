//! `cargo xtask test`: all tests, including those in namespaces and on another kernel.

use std::{env, num::NonZero, process::Command, thread, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{
    libtest::{Counts, failed_tests, is_complete},
    process::{cargo, require_root, succeed, target_dir, tee},
    setup::{Need, setup},
};

/// Number of gateways that run at a time, for each processor.
const THREADS: usize = 2;

const IN_GUEST: &str = "tests in a virtual machine";

/// Most tests of a suite that are tried again alone. A test that fails beside others and passes
/// alone found a machine that was too busy for it, which is told; more of them are no accident.
const MAX_AGAIN: usize = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Parts of the names of the tests to run; all without any
    names: Vec<String>,
    /// Leave out the tests in a virtual machine with Debian 12's kernel, as with names
    #[arg(long)]
    no_vm: bool,
}

/// Runs every suite, also after a failure, and sums up.
///
/// # Errors
/// If a step or a test fails.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    require_root("test", "because the suites work in network namespaces")?;
    let guest = !arguments.no_vm && arguments.names.is_empty();
    setup(if guest { Need::Vm } else { Need::Test })?;
    // As `cargo test` builds it: other features would mean another build of the eBPF object.
    succeed(&mut cargo(["build", "--package", "linkbal", "--all-targets"]))?;
    let mut unprivileged = cargo(["test", "--no-fail-fast", "--"]);
    unprivileged.args(&arguments.names);
    let linkbal = target_dir()?.join("debug/linkbal");
    let in_namespaces = |packages: &[&str], targets: &[&str], threads: usize| {
        let mut command = cargo(["test", "--no-fail-fast"]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        command.args(targets).env("LINKBAL_BIN", &linkbal);
        command.args(["--", &format!("--test-threads={threads}")]).args(&arguments.names);
        command
    };
    // These have the kernel's counters and objects for themselves.
    let one_by_one = ["--lib", "--bins", "--test=lab", "--test=kernel", "--test=datapath"];
    let mut one_by_one = in_namespaces(&["linkbal-lab", "linkbal-tests"], &one_by_one, 1);
    // Gateways mostly wait, for probes and holds; tests that cannot bear others take turns.
    let threads = THREADS * thread::available_parallelism().map_or(1, NonZero::get);
    let mut gateways = in_namespaces(&["linkbal-tests"], &["--test=gateway"], threads);
    let mut suites = vec![Suite::run("unit and property tests", &mut unprivileged, "")?];
    // The others leave a processor idle half of the time, which is enough for a guest.
    thread::scope(|scope| -> Result<()> {
        let guest = guest.then(|| scope.spawn(run_in_guest));
        suites.push(Suite::run("tests of the datapath and the kernel", &mut one_by_one, "")?);
        suites.push(Suite::run("tests of gateways", &mut gateways, "")?);
        match guest {
            Some(guest) => suites.push(guest.join().expect("it does not panic")?),
            None => println!("{IN_GUEST}: left out"),
        }
        Ok(())
    })?;
    if arguments.names.is_empty() {
        for suite in suites.iter_mut().skip(2) {
            suite.run_failed_alone()?;
        }
    }
    print_summary(&suites);
    // Tests that did not run prove nothing: a suite has some, unless others were asked for.
    let ran = suites.iter().any(|suite| suite.counts.ran() > 0);
    let empty = |suite: &Suite| suite.counts.ran() == 0 && arguments.names.is_empty();
    if !ran {
        bail!("no test has such a name");
    }
    if suites.iter().any(|suite| !suite.success || empty(suite)) {
        bail!("tests failed");
    }
    Ok(())
}

/// Prints the counts of all suites, and how to run each test that failed alone.
fn print_summary(suites: &[Suite]) {
    println!();
    for suite in suites {
        println!("{}: {}", suite.name, suite.counts);
    }
    for suite in suites {
        for name in &suite.unstable {
            println!("unstable: {name} failed beside others, and passed alone");
        }
        for name in &suite.failed {
            println!("failed: {name}; alone: cargo xtask {} {name}", suite.verb);
        }
    }
}

/// Runs the tests in a guest.
fn run_in_guest() -> Result<Suite> {
    let verb = "vm --kernel 6.1";
    Ok(Suite { verb, ..Suite::run(IN_GUEST, &mut own(verb)?, "guest: ")? })
}

/// Returns a command of this program.
fn own(verb: &str) -> Result<Command> {
    let mut own = Command::new(env::current_exe().context("failed to find the path of xtask")?);
    own.args(verb.split(' '));
    Ok(own)
}

/// A suite that has run.
struct Suite {
    name: &'static str,
    /// The verb that runs one of its tests alone, by name.
    verb: &'static str,
    success: bool,
    /// Set if no test program crashed.
    complete: bool,
    counts: Counts,
    failed: Vec<String>,
    /// The tests that failed beside others, and passed alone.
    unstable: Vec<String>,
}

impl Suite {
    /// Runs a suite, whose output is shown behind `prefix`.
    fn run(name: &'static str, command: &mut Command, prefix: &str) -> Result<Self> {
        println!("{name}");
        let start = Instant::now();
        let (success, output) = tee(command, prefix)?;
        println!("{name} took {} s", start.elapsed().as_secs());
        Ok(Self {
            name,
            verb: "test",
            success,
            complete: is_complete(&output),
            counts: Counts::of(&output),
            failed: failed_tests(&output),
            unstable: Vec::new(),
        })
    }

    /// Runs the tests that failed once more, each of them alone, if all tests of the suite have ended.
    fn run_failed_alone(&mut self) -> Result<()> {
        if !self.complete || self.failed.len() > MAX_AGAIN {
            return Ok(());
        }
        let mut failed = Vec::new();
        for name in std::mem::take(&mut self.failed) {
            println!("again, alone: {name}");
            let (passed, _) = tee(own(self.verb)?.arg(&name), "")?;
            if passed { self.unstable.push(name) } else { failed.push(name) }
        }
        self.success |= failed.is_empty() && !self.unstable.is_empty();
        self.failed = failed;
        Ok(())
    }
}
