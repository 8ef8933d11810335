//! `cargo xtask bench instructions`: instructions that whole gateways take for a packet.
//!
//! A guest of Debian's kernel runs on an emulated processor that takes one nanosecond for each
//! instruction. linkbal and others forward the same frames there, see `tests/benches/instructions`.

mod baseline;
mod chart;
mod contenders;
mod figures;
mod plan;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    process::{target_dir, workspace},
    vm::{Counted, Version, count},
};
use figures::Figure;

/// Name of the benchmark in the package of the tests.
const BENCH: &str = "instructions";

/// File with the figures that linkbal may reach, relative to the checkout.
const BASELINE: &str = "tests/benches/instructions/baseline.json";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel to boot
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Version,
    /// Numbers of flows; 500 by default
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=50_000))]
    flows: Vec<u32>,
    /// Measure only masquerading and linkbal, and fail if linkbal costs over 2 % more than the
    /// committed baseline; LINKBAL_BLESS=1 writes the baseline instead
    #[arg(long, conflicts_with_all = ["kernel", "flows", "contenders"])]
    short: bool,
    /// Contenders to measure, by their names or parts of them; all by default
    contenders: Vec<String>,
}

/// Measures, and shows a table.
///
/// # Errors
/// If a step or a contender fails, or linkbal costs more than the baseline allows.
pub(crate) fn instructions(arguments: &Arguments) -> Result<()> {
    let contenders = plan::contenders(&arguments.contenders, arguments.short)?;
    let folder = target_dir()?.join("bench");
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let plan = folder.join("instructions.plan.json");
    write_json(&plan, &plan::to_json(&contenders, &arguments.flows))?;
    let run = count(arguments.kernel, BENCH, plan)?;
    let figures = figures::read(&run.output);
    print!("{}", figures::table(&figures));
    let results = folder.join("instructions.json");
    write_json(&results, &figures::to_json(&run.kernel, &figures))?;
    println!("\n{}; as JSON in {}", run.kernel, results.display());
    for flows in figures::numbers_of_flows(&figures) {
        let chart = folder.join(format!("instructions-{flows}.svg"));
        chart::draw(&chart, &run.kernel, &figures, flows)?;
        println!("chart of {flows} flows in {}", chart.display());
    }
    check(&run)?;
    if arguments.short { compare(&run.kernel, &figures) } else { Ok(()) }
}

/// Checks that every contender was measured.
fn check(run: &Counted) -> Result<()> {
    let failures = figures::failures(&run.output);
    ensure!(failures.is_empty(), "no figures of\n{}", failures.join("\n"));
    match &run.failure {
        Some(failure) => bail!("{failure}"),
        None => Ok(()),
    }
}

/// Compares with the baseline, or writes it.
fn compare(kernel: &str, figures: &[Figure]) -> Result<()> {
    let path = baseline_path();
    if env::var_os("LINKBAL_BLESS").is_some() {
        write_json(&path, &baseline::of(kernel, figures))?;
        println!("{BASELINE} is written");
        return Ok(());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {BASELINE}"))?;
    let baseline: Value =
        serde_json::from_str(&text).with_context(|| format!("failed to parse {BASELINE}"))?;
    let faults = baseline::faults(&baseline, kernel, figures);
    ensure!(
        faults.is_empty(),
        "{}\nif that is meant: LINKBAL_BLESS=1 cargo xtask bench instructions --short",
        faults.join("\n")
    );
    println!("linkbal costs no more than {BASELINE} allows");
    Ok(())
}

fn baseline_path() -> PathBuf {
    workspace().join(BASELINE)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(path, text + "\n").with_context(|| format!("failed to write {}", path.display()))
}
