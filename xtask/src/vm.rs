//! `cargo xtask vm`: the suites that need root, on kernels that most users have.
//!
//! A guest has Debian's own kernel, nothing on disk, and in memory just what the tests need. Debian
//! 12's kernel has no tcx, and an older verifier; both kernels have what a developer's may lack:
//! bonds, VLANs, netem, WireGuard, flowtables and PPPoE.

mod cpio;
mod guest;
mod image;
mod kernel;
mod layout;
mod modules;
mod packages;
mod root;
mod selection;
mod suites;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Archive,
    architecture::Architecture,
    libtest::Counts,
    process::{require_root, target_dir},
    setup::{Need, cache_dir, setup},
};
use guest::{Guest, Machine, Report};
use kernel::Kernel;
use root::Roots;
use selection::Selection;

/// A kernel of Debian.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    /// The kernel of Debian 12, without tcx
    #[value(name = "6.1")]
    V6_1,
    /// The kernel of its backports and security updates, with tcx
    #[value(name = "6.12")]
    V6_12,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernels to boot; both by default
    #[arg(long = "kernel", value_enum)]
    kernels: Vec<Version>,
    /// The architecture of the machine
    #[arg(long = "arch", value_enum, default_value_t = Architecture::Amd64)]
    architecture: Architecture,
    /// Tests to run, by parts of their names: `vm`, `vm::bond`, `gateway::failover`, `ipv6`. A
    /// selection of all suites by default
    filters: Vec<String>,
}

/// Runs tests on each of the kernels, also after a failure.
///
/// # Errors
/// If a step or a test fails, or a guest hangs.
pub(crate) fn vm(arguments: &Arguments) -> Result<()> {
    require_root("vm", "to read what the guests need")?;
    setup(need(arguments.architecture))?;
    let both = [Version::V6_1, Version::V6_12];
    let kernels = if arguments.kernels.is_empty() { &both[..] } else { &arguments.kernels };
    let selection = Selection::of(&arguments.filters);
    let mut failures = Vec::new();
    for (version, result) in run_on(kernels, arguments.architecture, &selection)? {
        match result {
            Ok(Outcome { counts, failure: None }) if counts.ran() == 0 => {
                failures.push(format!("Linux {}: no test has such a name", version.name()));
            }
            Ok(Outcome { counts, failure }) => {
                println!("Linux {}: {counts}", version.name());
                failures.extend(failure.map(|text| format!("Linux {}: {text}", version.name())));
            }
            Err(error) => failures.push(format!("Linux {}: {error:#}", version.name())),
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Returns what this machine needs for guests of an architecture.
fn need(architecture: Architecture) -> Need {
    match architecture {
        Architecture::Amd64 => Need::Vm,
        Architecture::Arm64 => Need::VmArm64,
    }
}

/// The tests that ran in a guest.
struct Outcome {
    counts: Counts,
    /// The reason why the guest as a whole failed, if it did.
    failure: Option<String>,
}

/// The outcome on each kernel.
type Results = Vec<(Version, Result<Outcome>)>;

fn run_on(
    kernels: &[Version],
    architecture: Architecture,
    selection: &Selection,
) -> Result<Results> {
    let tests = suites::build(architecture, selection)?;
    let script = selection.script();
    let on = |version: &Version| {
        let system = System::get(*version, architecture)?;
        run(&system, &tests, &image::FOR_TESTS, BTreeMap::new(), &script)
    };
    Ok(kernels.iter().map(|version| (*version, on(version))).collect())
}

/// The parts of a guest, but for what it is to do.
struct System {
    version: Version,
    architecture: Architecture,
    kernel: Kernel,
    roots: Roots,
}

impl System {
    /// Returns Debian's, which is fetched where this machine lacks it.
    ///
    /// # Errors
    /// If something cannot be downloaded or unpacked.
    fn get(version: Version, architecture: Architecture) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!("the guests are made on x86-64 machines, and this one is not");
        }
        let cache = cache_dir()?.join("vm");
        let cache = match architecture {
            Architecture::Amd64 => cache,
            Architecture::Arm64 => cache.join(architecture.name()),
        };
        fs::create_dir_all(&cache)
            .with_context(|| format!("failed to create {}", cache.display()))?;
        let archive = Archive::of(architecture)?;
        let kernel = Kernel::get(version, architecture, &archive, &cache)?;
        let roots = packages::roots(architecture, &archive, &cache)?;
        Ok(Self { version, architecture, kernel, roots: Roots::new(architecture, roots) })
    }

    /// Creates the folder of a guest's image and results, such as `TARGET/vm/6.1-arm64`, and returns
    /// its path.
    fn folder(&self, purpose: &str) -> Result<PathBuf> {
        let architecture = match self.architecture {
            Architecture::Amd64 => "",
            Architecture::Arm64 => "-arm64",
        };
        let name = format!("{}{architecture}{purpose}", self.version.name());
        let folder = target_dir()?.join("vm").join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
        Ok(folder)
    }

    /// Boots it, with that file system, and waits for its end.
    fn boot(&self, machine: Machine, initramfs: &Path, folder: PathBuf) -> Result<Report> {
        let guest = Guest {
            machine,
            architecture: self.architecture,
            name: &self.kernel.name,
            image: &self.kernel.image,
            initramfs,
            folder,
        };
        guest.run()
    }
}

/// Boots Debian 12's kernel, and has dpkg install a package, replace it by the next one, and remove it.
///
/// # Errors
/// If a step or the test fails, or the guest hangs.
pub(crate) fn try_packages(architecture: Architecture, packages: [PathBuf; 2]) -> Result<()> {
    require_root("dist", "to try the packages in a guest")?;
    setup(need(architecture))?;
    let suites = suites::build(architecture, &Selection::of(&["vm".to_owned()]))?;
    let numbered = (1..).zip(packages);
    let files = numbered.map(|(number, path)| (format!("packages/{number}.deb"), path)).collect();
    let script = "/tests/vm --ignored --nocapture package::\n";
    let system = System::get(Version::V6_1, architecture)?;
    let outcome = run(&system, &suites, &image::FOR_PACKAGES, files, script)?;
    let name = architecture.name();
    println!("{name}, Linux {}: {}", Version::V6_1.name(), outcome.counts);
    match outcome.failure {
        Some(failure) => bail!("{failure}"),
        None if outcome.counts.ran() == 0 => bail!("the test of the packages did not run"),
        None => Ok(()),
    }
}

/// Boots one kernel and runs a script with the tests in it; `files` are paths in the guest and here.
fn run(
    system: &System,
    suites: &suites::Suites,
    contents: &image::Contents,
    mut files: BTreeMap<String, PathBuf>,
    script: &str,
) -> Result<Outcome> {
    let start = Instant::now();
    files.extend(packages::files(&system.roots)?);
    let folder = system.folder("")?;
    let results = guest::results(&folder);
    let image = write_image(&folder, contents, system, files, suites, script)?;
    let report = system.boot(Machine::Fast, &image, folder)?;
    println!(
        "{}: {:.0} s, {:.1} s of them to boot; what the guest left is in {}",
        system.kernel.name,
        start.elapsed().as_secs_f64(),
        report.booted_after_s,
        results.display()
    );
    Ok(Outcome { counts: Counts::of(&report.output), failure: report.failed() })
}

/// The output of a program in a guest that counts instructions.
pub(crate) struct Counted {
    /// Name of the kernel's package.
    pub(crate) kernel: String,
    pub(crate) output: String,
    /// The reason why the guest or the program failed, if it did.
    pub(crate) failure: Option<String>,
}

/// Boots one kernel on a machine where each instruction takes a nanosecond, and runs a benchmark of
/// the tests in it, which finds the file `plan` as its argument.
///
/// # Errors
/// If a step fails, or the guest cannot be started.
pub(crate) fn count(version: Version, bench: &str, plan: PathBuf) -> Result<Counted> {
    let mut programs = suites::build_bench(bench)?;
    programs.push(("plan".to_owned(), plan));
    let system = System::get(version, Architecture::Amd64)?;
    let folder = system.folder(&format!("-{bench}"))?;
    let script = format!("/tests/{bench} /tests/plan\n");
    let contents = &image::FOR_BENCHES;
    let image = write_image(&folder, contents, &system, BTreeMap::new(), &programs, &script)?;
    let report = system.boot(Machine::Counting, &image, folder)?;
    let failure = report.failed();
    Ok(Counted { kernel: system.kernel.name, output: report.output, failure })
}

/// Writes the guest's file system and returns its path.
fn write_image(
    folder: &Path,
    contents: &image::Contents,
    system: &System,
    unpacked: BTreeMap<String, PathBuf>,
    programs: &suites::Suites,
    script: &str,
) -> Result<PathBuf> {
    let image = folder.join("initramfs.cpio");
    image::write(&image, contents, &system.kernel, &system.roots, unpacked, programs, script)?;
    let size = image.metadata().with_context(|| format!("failed to stat {}", image.display()))?;
    println!("{}: initramfs of {} MB", system.kernel.name, size.len() / 1_000_000);
    Ok(image)
}
