//! Leftovers of scripts for several uplinks: loops that ping by an interface, jobs that change routes.

use std::collections::BTreeSet;

use linkbal_common::uplink::Family;
use serde::Serialize;

use super::{Complaint, Machine};
use crate::{
    config::{Config, Gateway, Severity, Uplink},
    removal::{Stage, Step, shell_word},
};

/// Programs that do what linkbal does.
const RIVALS: [&str; 5] = ["mwan3track", "mwan3rtmon", "mwan3", "vyos-wan-load-balance", "wan_lb"];

/// Folders whose scripts run when an interface comes up, or at certain times.
pub const HOOKS: [(&str, Runs); 18] = [
    ("/etc/cron.hourly", PARTS),
    ("/etc/cron.daily", PARTS),
    ("/etc/network/if-pre-up.d", PARTS),
    ("/etc/network/if-up.d", PARTS),
    ("/etc/network/if-post-down.d", PARTS),
    ("/etc/network/if-down.d", PARTS),
    ("/etc/ppp/ip-up.d", PARTS),
    ("/etc/ppp/ip-down.d", PARTS),
    // By `run-parts --list`, which asks for no x bit.
    ("/etc/dhcp/dhclient-enter-hooks.d", Runs { by_name: true, sourced: true }),
    ("/etc/dhcp/dhclient-exit-hooks.d", Runs { by_name: true, sourced: true }),
    ("/etc/NetworkManager/dispatcher.d", ALL),
    ("/etc/networkd-dispatcher/carrier.d", ALL),
    ("/etc/networkd-dispatcher/configured.d", ALL),
    ("/etc/networkd-dispatcher/degraded.d", ALL),
    ("/etc/networkd-dispatcher/no-carrier.d", ALL),
    ("/etc/networkd-dispatcher/off.d", ALL),
    ("/etc/networkd-dispatcher/routable.d", ALL),
    ("/etc/hotplug.d/iface", Runs { by_name: false, sourced: true }),
];

/// Rule of run-parts(8).
const PARTS: Runs = Runs { by_name: true, sourced: false };

/// Rule of dispatchers: whatever may be executed.
const ALL: Runs = Runs { by_name: false, sourced: false };

/// Rule by which the scripts of a folder run.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// Set if only those with a plain name run, as for run-parts(8): no `wan.bak`.
    by_name: bool,
    /// Set if a shell reads them, whether or not they may be executed.
    sourced: bool,
}

/// Beginnings of the names of crontabs, each line of which stands for itself.
const CRONTABS: [&str; 4] = ["/etc/crontab", "/etc/cron.d/", "/etc/crontabs/", "/var/spool/cron/"];

/// Keys of a systemd unit whose values are commands (systemd.service(5)).
const COMMANDS_OF_UNITS: [&str; 5] =
    ["ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop"];

/// Shells that run scripts.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

/// A process that looks like a script for several uplinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Process id.
    pub pid: u32,
    /// The command line.
    pub command: String,
}

/// A line of cron that looks like such a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// The file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Enabled systemd units that run it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
}

/// Returns whether a command line, by its words, is one that watches or changes the ways out by some
/// of these interfaces.
pub fn is_suspect(interfaces: &BTreeSet<&str>, words: &[&str]) -> bool {
    let name = |word: &&str| word.rsplit('/').next().unwrap_or_default().to_owned();
    // The second word is the script of a shell, or the program of a busybox.
    let programs: Vec<String> = words.iter().take(2).map(name).collect();
    if programs.iter().any(|program| RIVALS.contains(&&**program)) {
        return true;
    }
    let mut pairs = words.iter().zip(words.iter().skip(1));
    let interface = |word: &str| interfaces.contains(word);
    let mut by_interface =
        || pairs.any(|(flag, value)| *flag == "-I" && interface(value)) || glued(words, &interface);
    programs.iter().any(|program| program == "ping") && by_interface()
}

/// Returns the script file that a process runs by a shell, as its words name it.
pub fn script<'a>(words: &[&'a str]) -> Option<&'a str> {
    let is_shell = |word: &str| SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
    let mut rest = words.iter().copied();
    let first = rest.next()?;
    let is_box = first.rsplit('/').next() == Some("busybox");
    let shell = if is_box { rest.next()? } else { first };
    // A login shell has a hyphen before its name, and runs no script.
    if !is_shell(shell) {
        return None;
    }
    let script = rest.find(|word| !word.starts_with(['-', '+']) || *word == "-c")?;
    (script != "-c").then_some(script)
}

/// Returns whether a script changes default routes or ip rules, or pings by an interface.
pub fn is_suspect_script(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let parts = line.split([';', '&', '|', '(', ')', '`']);
        !line.starts_with('#') && parts.into_iter().any(is_suspect_command)
    })
}

fn is_suspect_command(command: &str) -> bool {
    let quotes = ['"', '\''];
    let words: Vec<&str> =
        command.split_whitespace().map(|word| word.trim_matches(quotes)).collect();
    let runs =
        |program: &str| words.iter().position(|word| word.rsplit('/').next() == Some(program));
    let after = |program: &str| {
        let at = runs(program)?.checked_add(1)?;
        Some(words.get(at..)?.iter().copied().filter(|word| !word.starts_with('-')))
    };
    let by_interface = words.iter().any(|word| word.starts_with("-I"));
    let changes = |verb: &str| ["add", "del", "delete", "replace", "change"].contains(&verb);
    let of_ip = after("ip").is_some_and(|mut rest| match rest.next() {
        Some("route" | "ro" | "r") => {
            let verb = rest.next().is_some_and(changes);
            verb && rest.any(|word| ["default", "0.0.0.0/0", "::/0"].contains(&word))
        }
        Some("rule" | "ru") => rest.next().is_some_and(changes),
        _ => false,
    });
    let of_route = after("route").is_some_and(|mut rest| {
        rest.next().is_some_and(changes) && rest.any(|word| word == "default")
    });
    of_ip || of_route || runs("ping").is_some() && by_interface
}

/// Returns whether an option has the interface in the same word, as `-Ieth0`.
fn glued(words: &[&str], interface: &dyn Fn(&str) -> bool) -> bool {
    words.iter().filter_map(|word| word.strip_prefix("-I")).any(interface)
}

/// Returns the words of a line that may be scripts.
pub fn scripts_in(line: &str) -> Vec<&str> {
    let line = line.split(" #").next().unwrap_or_default();
    let words = line.split(|c: char| c.is_whitespace() || ";&|()<>'\"`".contains(c));
    words.filter(|word| word.starts_with('/') && word.len() > 1).collect()
}

/// Returns the lines of a crontab, or of a script that runs at boot, that change ip rules or default
/// routes, or run a script of which `is_suspect` says so. Of a script in a folder whose scripts all run,
/// it is the first one.
pub fn jobs(file: &str, text: &str, is_suspect: &dyn Fn(&str) -> bool) -> Vec<Job> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with('#'));
    let runs =
        |line: &str| scripts_in(line).into_iter().any(|path| path != file && is_suspect(path));
    let lines = lines.filter(|(_, line)| is_suspect_script(line) || runs_rival(line) || runs(line));
    let most = if hook(file).is_some() { 1 } else { usize::MAX };
    lines
        .take(most)
        .map(|(line, text)| Job {
            file: file.to_owned(),
            line,
            text: text.trim().to_owned(),
            units: Vec::new(),
        })
        .collect()
}

/// Returns the first line of a systemd service that [`jobs`] would return of a script, if it is `enabled`
/// itself, or by a unit of the same name that starts it, such as a timer.
pub fn unit_job(
    file: &str,
    text: &str,
    enabled: &BTreeSet<String>,
    is_suspect: &dyn Fn(&str) -> bool,
) -> Option<Job> {
    let (_, name) = file.rsplit_once('/')?;
    let (stem, _) = name.rsplit_once('.')?;
    let starters = ["service", "timer", "path"].map(|kind| format!("{stem}.{kind}"));
    let units: Vec<String> = starters.into_iter().filter(|unit| enabled.contains(unit)).collect();
    let first = jobs(file, &commands_of_unit(text), is_suspect).into_iter().next()?;
    (!units.is_empty()).then_some(Job { units, ..first })
}

/// Returns the commands of a unit, each in its line, without what comes before the program
/// (systemd.service(5), "Special executable prefixes").
fn commands_of_unit(text: &str) -> String {
    let command = |line: &str| {
        let (key, value) = line.split_once('=')?;
        COMMANDS_OF_UNITS
            .contains(&key.trim())
            .then(|| value.trim_start().trim_start_matches(['@', '-', ':', '+', '!']).to_owned())
    };
    text.lines().map(|line| command(line).unwrap_or_default() + "\n").collect()
}

fn runs_rival(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.any(|word| RIVALS.contains(&word.rsplit('/').next().unwrap_or_default()))
}

/// Returns whether a job of ifupdown makes the default route that an uplink takes its gateway from.
pub fn is_read(config: &Config, job: &Job) -> bool {
    let words: Vec<&str> = job.text.split_whitespace().collect();
    let has = |wanted: &str| words.contains(&wanted);
    let device = words.iter().zip(words.iter().skip(1)).find(|(word, _)| **word == "dev");
    let by = |interface: &str| {
        device.is_none_or(|(_, name)| name.starts_with('$') || *name == interface)
    };
    let family = if has("-6") { Family::Ipv6 } else { Family::Ipv4 };
    let gateway = |uplink: &Uplink| uplink.gateway[family];
    let makes = has("route") && has("add") && has("default") && !has("table") && !has("rule");
    job.file.starts_with("/etc/network/interfaces")
        && makes
        && config
            .uplinks
            .iter()
            .any(|uplink| gateway(uplink) == Gateway::Auto && by(&uplink.interface))
}

impl Leftover {
    /// Returns the step that ends it.
    fn step(&self) -> Step {
        let Leftover { pid, command } = self;
        let what = format!("process {pid} looks like an old script for several uplinks: {command}");
        Step::new(Stage::Stop, what, format!("kill {pid}"))
    }
}

impl Job {
    /// Returns the step that takes it out.
    fn step(&self) -> Step {
        let Job { file, line, text, units } = self;
        let what = format!("{file}:{line}: a job changes routes or rules: {text}");
        if !units.is_empty() {
            let command = format!("systemctl disable --now {}", words(units));
            return Step::new(Stage::Stop, what, command);
        }
        if let Some((rule, _)) = hook(file) {
            // Without some of its lines, it might be no script any more.
            let file = shell_word(file);
            let command = match rule.sourced {
                true => format!("mv {file} /var/tmp/"),
                false => format!("chmod a-x {file}"),
            };
            return Step::new(Stage::Stop, what, command);
        }
        if CRONTABS.iter().any(|start| file.starts_with(start)) {
            let command = format!("sed -i '{line}s/^/#/' {}", shell_word(file));
            return Step::new(Stage::Stop, what, command);
        }
        // The line may go on in the next one, or be all that an `if` does.
        Step::new(Stage::Stop, format!("{what}: take it out by hand"), "")
    }
}

fn words(names: &[String]) -> String {
    names.iter().map(|name| shell_word(name)).collect::<Vec<_>>().join(" ")
}

/// Returns the rule of the folder in which a file is a script that runs, and its name.
fn hook(file: &str) -> Option<(Runs, &str)> {
    let (inside, name) = file.rsplit_once('/')?;
    let (_, rule) = HOOKS.iter().find(|(folder, _)| *folder == inside)?;
    Some((*rule, name))
}

/// Returns whether a file runs where it is; `mode` are its permissions.
pub fn runs(file: &str, mode: u32) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    hook(file).is_none_or(|(rule, name)| {
        (rule.sourced || mode & 0o111 != 0) && (!rule.by_name || name.chars().all(plain))
    })
}

/// Returns the steps that stop them: jobs first, since these start processes.
pub fn steps(leftovers: &[Leftover], jobs: &[Job]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for step in jobs.iter().map(Job::step).chain(leftovers.iter().map(Leftover::step)) {
        if step.command.is_empty() || !steps.iter().any(|known| known.command == step.command) {
            steps.push(step);
        }
    }
    steps
}

/// Returns what is left of scripts.
pub(super) fn find(machine: &Machine) -> Vec<Complaint> {
    let complaint = |Step { what, command, .. }: Step, advice| {
        Complaint::new(Severity::Warning, what, advice, command)
    };
    let processes = steps(&machine.leftovers, &[]).into_iter().map(|step| {
        let advice =
            "what it finds may make it change routes: stop the service that starts it, too";
        complaint(step, advice)
    });
    let jobs = steps(&[], &machine.jobs).into_iter().map(|step| {
        let advice = "linkbal restores its own, but not those of the main table: take the job out";
        complaint(step, advice)
    });
    processes.chain(jobs).collect()
}
