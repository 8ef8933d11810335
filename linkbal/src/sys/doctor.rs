//! Observation of the machine besides its network: settings, programs, old scripts, the clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    host::{clock, file},
    sysctl,
};
use crate::{
    config::Config,
    engine::doctor::{
        Daemon, Machine,
        leftovers::{self, Job, Leftover},
    },
};

/// Programs that linkbal always needs.
const PROGRAMS: [&str; 2] = ["nft", "ss"];

/// Folders besides those in `PATH` where they may be.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Files and folders of cron, and of what runs at boot.
const CRONTABS: [&str; 10] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/crontabs",
    "/etc/firewall.user",
    "/etc/rc.firewall",
    "/var/spool/cron/crontabs",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d",
];

/// Folders of systemd's units that an administrator wrote.
const UNITS: [&str; 2] = ["/etc/systemd/system", "/usr/local/lib/systemd/system"];

/// Beginning of a program that is no script (elf(5)).
const ELF: &str = "\u{7f}ELF";

/// Most bytes of a script that are read.
const MAX_SCRIPT: u64 = 64 << 10;

/// Most bytes of a crontab or command line that are read.
const MAX_FILE: u64 = 256 << 10;

/// Mean length of a year.
const YEAR: Duration = Duration::from_secs(31_556_952);

/// Observes the machine; `pid` is the process id of the daemon, if it runs.
pub fn observe(config: &Config, sysctls: &[String], pid: Option<u32>) -> Machine {
    let values = sysctls.iter().filter_map(|path| Some((path.clone(), sysctl::read(path)?)));
    let sysctls: BTreeMap<String, String> = values.collect();
    let interfaces = config.uplinks.iter().map(|uplink| &*uplink.interface).collect();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let years = since.as_secs().checked_div(YEAR.as_secs()).unwrap_or_default();
    Machine {
        daemon: pid.map(|pid| Daemon { pid, open_files: open_files(pid) }),
        sysctls,
        year: u32::try_from(years).unwrap_or_default().saturating_add(1970),
        unsynchronised: clock::is_unsynchronised(),
        missing: missing(),
        leftovers: suspects(&interfaces, &processes()),
        jobs: jobs().into_iter().filter(|job| !leftovers::is_read(config, job)).collect(),
        closed: Vec::new(),
    }
}

/// Returns how many files a process may have open, and the most that it may ask for
/// (proc_pid_limits(5)).
fn open_files(pid: u32) -> Option<(u64, u64)> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn missing() -> BTreeSet<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(FOLDERS.map(Into::into)).collect();
    let is_there = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    PROGRAMS.iter().filter(|program| !is_there(program)).map(|name| (*name).to_owned()).collect()
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sys) struct Process {
    pub(in crate::sys) pid: u32,
    /// The words of its command line.
    pub(in crate::sys) words: Vec<String>,
}

/// Returns the processes of this network namespace: those elsewhere are none of ours.
pub(in crate::sys) fn processes() -> Vec<Process> {
    let Ok(own) = fs::read_link("/proc/thread-self/ns/net") else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = |pid: u32| {
        fs::read_link(format!("/proc/{pid}/ns/net")).ok().filter(|there| *there == own)?;
        let line = file::read(Path::new(&format!("/proc/{pid}/cmdline")), MAX_FILE).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let words = line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned);
        Some(Process { pid, words: words.collect() })
    };
    pids.filter_map(process).collect()
}

/// Returns those that look like old scripts for uplinks at some of these interfaces.
pub(in crate::sys) fn suspects(
    interfaces: &BTreeSet<&str>,
    processes: &[Process],
) -> Vec<Leftover> {
    let suspect = |Process { pid, words }: &Process| {
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        let suspect = leftovers::is_suspect(interfaces, &all) || runs_suspect_script(*pid, &all);
        suspect.then(|| Leftover { pid: *pid, command: shown(&words.join(" ")) })
    };
    processes.iter().filter_map(suspect).collect()
}

/// Returns whether a process runs a script that changes ways out, as far as its file is there.
fn runs_suspect_script(pid: u32, words: &[&str]) -> bool {
    let Some(script) = leftovers::script(words) else { return false };
    // As the process sees it: it may be in a container.
    let path = match script.strip_prefix('/') {
        Some(path) => format!("/proc/{pid}/root/{path}"),
        None => format!("/proc/{pid}/cwd/{script}"),
    };
    let text = file::read(Path::new(&path), MAX_SCRIPT).unwrap_or_default();
    leftovers::is_suspect_script(&String::from_utf8_lossy(&text))
}

/// Shortens what others wrote, and leaves out what could change the terminal.
fn shown(text: &str) -> String {
    const LENGTH: usize = 80;
    text.chars().filter(|letter| !letter.is_control()).take(LENGTH).collect()
}

/// Returns the jobs of cron and the scripts of boot and of interfaces that look like old scripts.
pub(in crate::sys) fn jobs() -> Vec<Job> {
    let hooks = leftovers::HOOKS.map(|(folder, _)| folder);
    let files = CRONTABS.into_iter().chain(hooks).flat_map(files_in);
    let text_of = |path: &Path, most| {
        let text = file::read(path, most).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    };
    let is_suspect = |path: &str| {
        let text = text_of(Path::new(path), MAX_SCRIPT);
        !text.starts_with(ELF) && leftovers::is_suspect_script(&text)
    };
    let read = |path: PathBuf| {
        leftovers::jobs(&path.display().to_string(), &text_of(&path, MAX_FILE), &is_suspect)
    };
    let runs = |path: &PathBuf| {
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        leftovers::runs(&path.display().to_string(), mode.unwrap_or_default())
    };
    let enabled = enabled_units();
    let is_unit = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "service");
    let units =
        UNITS.into_iter().flat_map(files_in).filter(|path| is_unit(path) && !path.is_symlink());
    let of_units = units.filter_map(|path| {
        let text = text_of(&path, MAX_FILE);
        leftovers::unit_job(&path.display().to_string(), &text, &enabled, &is_suspect)
    });
    let jobs = files.filter(runs).flat_map(read).chain(of_units);
    jobs.map(|job| Job { text: shown(&job.text), ..job }).collect()
}

/// Returns the files in a folder, in order, or the file itself if it is one.
fn files_in(path: &str) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            files
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => vec![path.into()],
        Err(_) => Vec::new(),
    }
}

/// Returns the names of the units that others want or require, as `systemctl enable` makes them.
fn enabled_units() -> BTreeSet<String> {
    let folders = files_in(UNITS[0])
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "wants" || kind == "requires"));
    let units = folders.flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten());
    units.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
