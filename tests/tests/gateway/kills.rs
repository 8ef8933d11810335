//! Kills at random moments: a start repairs, and a teardown removes, whatever is left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use linkbal_lab::daemon;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::turn;
use linkbal_lab::{oracle, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, config, left_over, linkbal, text};

const KILLS: u32 = 200;
/// Number of kills between two checks that a start repairs and a teardown removes what is left.
const BETWEEN: u32 = 20;

/// Pseudo-random numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pause(&mut self, most_ms: u64) {
        thread::sleep(Duration::from_micros(self.below(most_ms * 1000)));
    }
}

/// A gateway whose daemon is killed again and again.
struct Victim {
    lab: Lab,
    folder: TempDir,
    random: Random,
    /// Number of processes that were alive when they were killed.
    killed: u32,
}

impl Victim {
    fn config_path(&self) -> PathBuf {
        self.folder.path().join("linkbal.toml")
    }

    /// Writes one of several configurations, so that there is something to change.
    fn configure(&mut self) {
        let good = config(&self.lab);
        let rule = "\n[[rule]]\nmatch = { dport = [25] }\nuse = \"isp-a\"\n";
        let next = match self.random.below(4) {
            0 => good,
            1 => good.replace("weight = 30", "weight = 0"),
            2 => format!("{good}{rule}"),
            _ => {
                format!("{good}{rule}\n[local]\nbalance = true\n[kernel]\nflow_table_size = 4096\n")
            }
        };
        fs::write(self.config_path(), next).unwrap();
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let path = self.folder.path().join("log");
        let log = File::options().append(true).create(true).open(path).unwrap();
        let errors = log.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap()
    }

    fn command(&self, action: &str) -> Command {
        let mut command = self.lab.gateway.command(daemon::find_program().unwrap());
        command.arg(action);
        command
    }

    fn run(&mut self) -> Child {
        self.configure();
        let path = self.config_path();
        self.spawn(self.command("run").arg("--config").arg(path))
    }

    /// Starts a daemon, and waits until it has an uplink.
    fn run_until_up(&mut self) -> Child {
        let mut child = self.run();
        wait::until("an uplink", LIMIT, || {
            assert!(child.try_wait().unwrap().is_none(), "{}", self.log());
            let status = self.command("status").arg("--json").output().unwrap();
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            let uplinks = status["uplinks"].as_array().into_iter().flatten();
            Ok(uplinks.into_iter().any(|uplink| uplink["state"] == "up").then_some(()))
        })
        .unwrap();
        child
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Kills a daemon or a teardown at a random moment.
    fn kill_once(&mut self) {
        let mut victim = match self.random.below(10) {
            0..5 => {
                let child = self.run();
                self.random.pause(700);
                child
            }
            5..7 => {
                let child = self.spawn(&mut self.command("teardown"));
                self.random.pause(150);
                child
            }
            7 => {
                let child = self.run_until_up();
                self.configure();
                signal(&child, Signal::SIGHUP);
                self.random.pause(500);
                child
            }
            8 => {
                let child = self.run_until_up();
                self.lab.cut_cable(0).unwrap();
                self.random.pause(100);
                self.lab.plug_cable(0).unwrap();
                child
            }
            _ => {
                let child = self.run_until_up();
                signal(&child, Signal::SIGINT);
                self.random.pause(150);
                child
            }
        };
        // The process may have ended by itself.
        self.killed += u32::from(victim.try_wait().unwrap().is_none());
        let _ = victim.kill();
        victim.wait().unwrap();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Returns the pinned objects by kind (`prog`, `map`, `link`) and id.
fn pinned(folder: &Path) -> BTreeSet<(&'static str, u64)> {
    let mut found = BTreeSet::new();
    for pin in fs::read_dir(folder).into_iter().flatten().flatten() {
        let pin = pin.path();
        for kind in ["prog", "map", "link"] {
            let shown =
                Command::new("bpftool").args(["-j", kind, "show", "pinned"]).arg(&pin).output();
            let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap_or_default();
            found.extend(shown["id"].as_u64().map(|id| (kind, id)));
        }
    }
    found
}

fn exists((kind, id): (&str, u64)) -> bool {
    let shown = Command::new("bpftool").args([kind, "show", "id", &id.to_string()]).output();
    shown.unwrap().status.success()
}

#[test]
fn after_two_hundred_kills_a_start_repairs_and_a_teardown_removes_everything() {
    turn::give_way();
    let seed = std::env::var("LINKBAL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5_eed1);
    println!("LINKBAL_SEED={seed}");
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let state = |lab: &Lab| oracle::kernel_state(&lab.gateway).unwrap();
    let before = state(&lab);
    let pins = lab.gateway.bpf_dir();
    let folder = TempDir::new().unwrap();
    let mut victim = Victim { lab, folder, random: Random(seed), killed: 0 };
    let mut removed = 0;
    for round in 1..=KILLS / BETWEEN {
        while victim.killed < round * BETWEEN {
            victim.kill_once();
        }
        // Leftovers are repaired, then removed: by the daemon's end, or by a teardown after one
        // more kill.
        let gateway = Gateway::start(victim.lab, str::to_owned);
        gateway.assert_uplinks(10, &[0, 1]);
        let ids = pinned(&pins);
        assert!(ids.len() > 40, "{ids:?}");
        victim.lab = end(gateway, round % 2 == 0);
        let teardown = linkbal(&victim.lab, &["teardown"]);
        assert!(teardown.status.success(), "{}", text(&teardown.stderr));
        assert_same(&before, &state(&victim.lab), &format!("round {round}, seed {seed}"));
        assert_eq!(left_over(&victim.lab.gateway), [""; 0], "round {round}, seed {seed}");
        // The kernel frees them after a while.
        let gone = || Ok(ids.iter().all(|id| !exists(*id)).then_some(()));
        wait::until("the end of programs, maps and links", LIMIT, gone).unwrap();
        removed += ids.len();
    }
    let log = victim.log();
    assert!(!log.contains("panicked"), "seed {seed}: {log}");
    println!("{KILLS} kills; {removed} programs, maps and links went");
}

/// Ends a daemon by Ctrl-C, or by a kill.
fn end(gateway: Gateway, by_kill: bool) -> Lab {
    let Gateway { mut daemon, lab, .. } = gateway;
    let signal = if by_kill { Signal::SIGKILL } else { Signal::SIGINT };
    daemon.stop(signal).unwrap();
    lab
}

fn assert_same(before: &str, now: &str, what: &str) {
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|same| same == *line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(before == now, "{what}: gone:\n{}new:\n{}", only(before, now), only(now, before));
}
