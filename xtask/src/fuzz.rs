//! `cargo xtask fuzz`: the fuzz targets, run on invented inputs.

use std::{
    fs,
    num::NonZero,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{cargo, succeed, target_dir, workspace},
    setup::{Need, setup},
};

/// Maximum memory for an input, in MB: the whole daemon takes less.
const MEMORY_MB: u32 = 1024;

/// Maximum time for one input, in seconds.
const TIMEOUT_S: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets to fuzz, as many at a time as there are processors; all by default
    targets: Vec<String>,
    /// Time for each target, such as 60s or 10m
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "60s")]
    time: Duration,
}

/// Sets up, builds the targets and runs them.
///
/// # Errors
/// If a step fails, a target is unknown, or something was found: where it is and how to repeat it.
pub(crate) fn fuzz(arguments: &Arguments) -> Result<()> {
    setup(Need::Fuzz)?;
    let all = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let start = Instant::now();
    succeed(&mut build())?;
    println!("fuzz: built in {} s", start.elapsed().as_secs());
    if run_all(arguments, chosen)? {
        bail!("the fuzzing found something: see above");
    }
    Ok(())
}

/// Runs the targets, each on a processor; returns whether any found something.
fn run_all(arguments: &Arguments, targets: &[String]) -> Result<bool> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(targets.iter());
    let next = || queue.lock().ok()?.next();
    let work = || -> Result<bool> {
        let mut found = false;
        while let Some(target) = next() {
            found |= run(arguments, target)?;
        }
        Ok(found)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let found = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        let found = found.collect::<Result<Vec<_>>>()?;
        Ok(found.contains(&true))
    })
}

/// Runs one target; returns whether it found something.
fn run(arguments: &Arguments, target: &str) -> Result<bool> {
    let (seconds, root) = (arguments.time.as_secs().max(1), workspace().join("fuzz"));
    let corpus = root.join("corpus").join(target);
    let artifacts = root.join("artifacts").join(target);
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    let program = binary(target)?;
    let mut fuzzer = Command::new(&program);
    fuzzer.current_dir(&root).arg(&corpus);
    fuzzer.args([root.join("seeds").join(target)].iter().filter(|seeds| seeds.is_dir()));
    fuzzer
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([format!("-max_total_time={seconds}"), format!("-rss_limit_mb={MEMORY_MB}")])
        .args([format!("-timeout={TIMEOUT_S}"), "-print_final_stats=1".into()]);
    let dictionary = root.join("dictionaries").join(format!("{target}.dict"));
    if dictionary.is_file() {
        fuzzer.arg(format!("-dict={}", dictionary.display()));
    }
    let output = fuzzer.output().with_context(|| format!("failed to start {target}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let (executions, rate) =
        (stat(&log, "number_of_executed_units"), stat(&log, "average_exec_per_sec"));
    println!("fuzz: {target}: {executions} executions in {seconds} s, {rate} per second");
    if output.status.success() {
        if executions == 0 {
            bail!("{target} executed nothing");
        }
        return Ok(false);
    }
    let tail: Vec<&str> = log.lines().rev().take(60).collect();
    tail.iter().rev().for_each(|line| eprintln!("{line}"));
    match artifact(&log) {
        Some(input) => eprintln!(
            "fuzz: {target} found something with the input {input}; once more: {} {input}",
            program.display(),
        ),
        None => eprintln!("fuzz: {target} ended with {}", output.status),
    }
    Ok(true)
}

/// Returns the value of a line `stat::NAME: VALUE`, which libFuzzer ends with.
fn stat(log: &str, name: &str) -> u64 {
    let lines = log.lines().filter_map(|line| line.strip_prefix("stat::"));
    let values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.filter_map(|value| value.trim().parse().ok()).next_back().unwrap_or(0)
}

/// Returns the file to which libFuzzer wrote the input of a finding.
fn artifact(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path)
}

/// Returns the names of the targets, from their files.
fn targets() -> Result<Vec<String>> {
    let dir = workspace().join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn binary(target: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join("debug").join(target))
}

/// Returns the command that builds the targets.
///
/// The fuzzed code has hardly any unsafe code, so it needs no sanitizer and thus no nightly
/// compiler. Dependencies are those of the debug build; what is ours has its checks, but is
/// optimized, since it is what runs.
fn build() -> Command {
    let mut build = cargo(["build", "--package", "linkbal-fuzz", "--bins", "--features", "link"]);
    for package in ["linkbal", "linkbal-common", "linkbal-fuzz"] {
        build.args(["--config", &format!("profile.dev.package.{package}.opt-level=1")]);
    }
    build.env("RUSTC_WORKSPACE_WRAPPER", workspace().join("fuzz/rustc"));
    build.env("LINKBAL_WITHOUT_EBPF", "1");
    build
}

/// Parses a number and a unit: seconds, minutes or hours.
fn duration(text: &str) -> Result<Duration, String> {
    let number = |end| text.strip_suffix(end).and_then(|number| number.parse::<u32>().ok());
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let seconds = units.iter().find_map(|(end, unit)| Some(u64::from(number(*end)?) * unit));
    seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is no time: write a number and s, m or h, like 60s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "60", "0s", "-1s", "1d", "99999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statistics_of_libfuzzer_are_parsed() {
        let log = "#12 NEW\nTest unit written to /a/crash-1\nstat::number_of_executed_units: 345\n\
            stat::average_exec_per_sec:     17\n";
        assert_eq!(stat(log, "number_of_executed_units"), 345);
        assert_eq!(stat(log, "average_exec_per_sec"), 17);
        assert_eq!(stat(log, "peak_rss_mb"), 0);
        assert_eq!(artifact(log), Some("/a/crash-1"));
        assert_eq!(artifact("fine"), None);
    }
}
