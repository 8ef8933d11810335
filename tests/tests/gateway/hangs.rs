//! Programs, mounts and pipes that hang: they delay neither a verdict nor the daemon's end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::mounts::{HungMount, in_mount_namespace};
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT, config, linkbal, text};
use crate::kernel::{self, up_mask};

/// Longest time that the daemon takes to end.
const END: Duration = Duration::from_secs(5);

/// Lines of shell that make nft hang when they run before it.
const HANGS: [&str; 2] = ["sleep 600; exit", "kill -STOP $$"];

/// A folder with a program `nft`, which is the real one until it is told to hang, and with other
/// helpers that always hang.
struct FakeNft(TempDir);

impl FakeNft {
    fn new() -> Self {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let find = Command::new("sh").args(["-c", "command -v nft"]).output().unwrap();
        let script = format!(
            "#!/bin/sh\ntrap '' TERM INT\n. {}/before\nexec {} \"$@\"\n",
            folder.path().display(),
            text(&find.stdout).trim()
        );
        // The other helpers always hang.
        let hangs = "#!/bin/sh\nsleep 600 &\nsleep 600\n";
        let others = ["ss", "tc", "modprobe", "iptables-nft-save", "ip6tables-nft-save"];
        let programs = others.map(|name| (name, hangs)).into_iter().chain([("nft", &*script)]);
        for (name, script) in programs {
            let path = folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let fake = Self(folder);
        fake.does("");
        fake
    }

    /// Sets what `nft` does first: a part of a shell script.
    fn does(&self, first: &str) {
        let next = self.0.path().join("next");
        fs::write(&next, first).unwrap();
        fs::rename(next, self.0.path().join("before")).unwrap();
    }

    /// Starts a gateway that uses this `nft`.
    fn gateway(&self, lab: Lab) -> Gateway {
        Gateway::with(self.daemon(&lab), lab)
    }

    fn daemon(&self, lab: &Lab) -> Daemon {
        let program = daemon::find_program().unwrap();
        let mut command = lab.gateway.command(&program);
        command.env("PATH", self.path());
        Daemon::start_command(command, &program, lab, &config(lab)).unwrap()
    }

    fn path(&self) -> String {
        format!("{}:{}", self.0.path().display(), std::env::var("PATH").unwrap())
    }

    /// Returns the command lines of the helpers that run, and of the processes that they have
    /// started, by process.
    fn running(&self) -> BTreeMap<OsString, String> {
        let folder = self.0.path().to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let of_it = processes.filter_map(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let line = text(&fs::read(entry.path().join("cmdline")).unwrap_or_default());
            let helper = text(&environment).contains(folder) && !line.contains("linkbal\0run");
            helper.then(|| (entry.file_name(), line))
        });
        of_it.collect()
    }

    /// Waits until `nft` hangs; returns what runs then.
    fn wait_for_a_hang(&self) -> BTreeMap<OsString, String> {
        let nft = self.0.path().join("nft");
        let hangs = || {
            let running = self.running();
            let hangs = running.values().any(|line| line.contains(nft.to_str().unwrap()));
            Ok(hangs.then_some(running))
        };
        wait::until("an nft that hangs", LIMIT, hangs).unwrap()
    }
}

fn ends_in_time(daemon: &mut Daemon, signal: Signal) {
    let began = Instant::now();
    let status = daemon.stop(signal).unwrap();
    let took = began.elapsed();
    assert!(took < END, "{took:?}\n{}", daemon.log());
    assert!(status.success(), "{status}\n{}", daemon.log());
}

fn nothing_is_left(gateway: &Namespace) {
    assert_eq!(gateway.run("nft", &["list", "tables"]).unwrap(), "");
    let rules = kernel::rules(gateway);
    assert!(!rules.contains("proto 201"), "{rules}");
    assert!(!gateway.bpf_dir().exists());
}

fn refused<'a>(status: &'a Value, what: &str) -> &'a str {
    status["refused"][what].as_str().unwrap_or_default()
}

#[test]
fn a_hung_nft_delays_neither_failover_nor_repairs_nor_shutdown() {
    let fake = FakeNft::new();
    let mut gateway = fake.gateway(Lab::new(&UplinkSpec::pair()).unwrap());
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let namespace = gateway.lab.gateway.clone();
    let rules = kernel::rules(&namespace);
    for (round, hang) in HANGS.into_iter().enumerate() {
        fake.does(hang);
        // Another program adds a table: linkbal checks its own, and gets no answer.
        namespace.run("nft", &["add", "table", "inet", &format!("other{round}")]).unwrap();
        let hung = fake.wait_for_a_hang();
        gateway.lab.cut_cable(0).unwrap();
        gateway.wait_until_down(0);
        assert_eq!(Family::ALL.map(|family| up_mask(&namespace, family)), [0b10; 2]);
        gateway.wait_for_uplinks(&[1]);
        for family in Family::ALL {
            let best = namespace.run("ip", &[family.flag(), "route", "show", "table", "2600"]);
            let best = best.unwrap();
            assert!(best.contains("dev wan-b"), "{best}\n{}", gateway.daemon.log());
        }
        // A repair without nft is done, though nft hangs.
        namespace.run("ip", &["rule", "delete", "pref", "26199"]).unwrap();
        wait::until("the ip rule again", LIMIT, || {
            Ok((kernel::rules(&namespace) == rules).then_some(()))
        })
        .unwrap();
        // The hang is reported, nft is given up, and the processes that it has started end, too.
        let told = |status: &Value| {
            refused(status, "the program nft").contains("nft did not answer within 10 s")
        };
        gateway.daemon.wait_for("words about nft", LIMIT, told).unwrap();
        namespace.run("nft", &["delete", "table", "inet", "linkbal"]).unwrap();
        // Others may hang already: it is tried again.
        wait::until("the end of what hung", LIMIT, || {
            let running = fake.running();
            Ok(hung.keys().all(|process| !running.contains_key(process)).then_some(()))
        })
        .unwrap();
        // As soon as nft answers, all is well again.
        fake.does("");
        wait::until("the nft table again", LIMIT, || {
            let table = namespace.run("nft", &["list", "table", "inet", "linkbal"]);
            Ok(table.is_ok_and(|table| table.contains("masquerade")).then_some(()))
        })
        .unwrap();
        let none = |status: &Value| status["refused"].as_object().unwrap().is_empty();
        gateway.daemon.wait_for("nothing refused", LIMIT, none).unwrap();
        gateway.lab.plug_cable(0).unwrap();
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        namespace.run("nft", &["delete", "table", "inet", &format!("other{round}")]).unwrap();
    }
    // The end, while one nft hangs and another one is started for it.
    fake.does(HANGS[0]);
    namespace.run("nft", &["add", "table", "inet", "other"]).unwrap();
    fake.wait_for_a_hang();
    ends_in_time(&mut gateway.daemon, Signal::SIGINT);
    namespace.run("nft", &["delete", "table", "inet", "other"]).unwrap();
    nothing_is_left(&namespace);
    assert_eq!(fake.running(), BTreeMap::new());
}

#[test]
fn start_and_teardown_work_while_nft_hangs() {
    let fake = FakeNft::new();
    let mut gateway = fake.gateway(Lab::new(&UplinkSpec::pair()).unwrap());
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let namespace = gateway.lab.gateway.clone();
    // An nft that prints without end is stopped, too.
    for hang in [HANGS[0], "exec yes"] {
        fake.does(hang);
        ends_in_time(&mut gateway.daemon, Signal::SIGTERM);
        let mut next = fake.daemon(&gateway.lab);
        // The teardown of the dropped daemon is refused while its successor runs.
        next.wait_for("an answer", LIMIT, |_| true).unwrap();
        gateway.daemon = next;
        // With the previous table, packets go on.
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        gateway.lab.cut_cable(0).unwrap();
        gateway.wait_until_down(0);
        gateway.wait_for_uplinks(&[1]);
        gateway.lab.plug_cable(0).unwrap();
        gateway.daemon.wait_until_up(LIMIT).unwrap();
    }
    fake.does(HANGS[0]);
    ends_in_time(&mut gateway.daemon, Signal::SIGTERM);
    let mut teardown = namespace.command(daemon::find_program().unwrap());
    let output = teardown.arg("teardown").env("PATH", fake.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    nothing_is_left(&namespace);
}

/// Returns the number of threads of a daemon with a name.
pub(crate) fn threads(daemon: &Daemon, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap().flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|found| found.trim() == name).count()
}

#[test]
fn a_hook_on_a_hung_mount_is_started_once_and_runs_again_afterwards() {
    in_mount_namespace(|| {
        let [folder, seen] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (hook, seen) = (folder.path().join("hook"), seen.path().join("seen"));
        // Without `exec`, the shell would read its file once more after it has written.
        let script = format!("#!/bin/sh\nexec sh -c 'echo run >> {}'\n", seen.display());
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
        let lab = Lab::new(&UplinkSpec::pair()).unwrap();
        let mut gateway =
            Gateway::start(lab, |config| format!("{config}\n[hooks]\non_change = [{hook:?}]\n"));
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        let events = |gateway: &Gateway| {
            gateway.daemon.run(&["drain", "isp-a"]).unwrap();
            gateway.daemon.run(&["enable", "isp-a"]).unwrap();
        };
        events(&gateway);
        // Four addresses came up, and two requests were made.
        let runs = || fs::read_to_string(&seen).unwrap_or_default().lines().count();
        let kept = || gateway.daemon.run(&["events", "--json"]).unwrap().lines().count();
        wait::until("the hook", LIMIT, || Ok((runs() >= 6 && runs() == kept()).then_some(())))
            .unwrap();
        let dead = HungMount::new(folder.path()).unwrap();
        events(&gateway);
        let told = |words: &str| {
            wait::until(words, LIMIT, || Ok(gateway.daemon.log().contains(words).then_some(())))
                .unwrap();
        };
        told("could not be started within 10 s");
        (0..5).for_each(|_| events(&gateway));
        let left_out = |status: &Value| status["events_not_hooked"].as_u64() >= Some(10);
        gateway.daemon.wait_for("events left out", LIMIT, left_out).unwrap();
        assert_eq!(threads(&gateway.daemon, "hook"), 1);
        assert_eq!(
            gateway.daemon.log().matches("the hook ").count(),
            1,
            "{}",
            gateway.daemon.log()
        );
        drop(dead);
        wait::until("the end of the hang", LIMIT, || {
            Ok(gateway.daemon.log().contains("the hook is run again").then_some(()))
        })
        .unwrap();
        fs::remove_file(&seen).unwrap();
        events(&gateway);
        wait::until("the hook again", LIMIT, || Ok(seen.exists().then_some(()))).unwrap();
    });
}

/// Adds a rule whose prefixes come from a file to the configuration.
fn with_prefixes(config: &str, file: &Path) -> String {
    format!("{config}\n[[rule]]\nmatch.destination = {{ file = {file:?} }}\nuse = \"isp-b\"\n")
}

/// Starts `linkbal reload`, and does not wait for its end.
fn begin_reload(gateway: &Gateway) -> Child {
    let mut command = gateway.lab.gateway.command(gateway.daemon.program());
    command.arg("reload").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_configuration_on_a_hung_mount_delays_no_verdict() {
    in_mount_namespace(|| {
        let mut gateway = Gateway::pair();
        let folder = tempfile::tempdir().unwrap();
        let path = gateway.daemon.config_path();
        let good = fs::read_to_string(&path).unwrap();
        let dead = HungMount::new(folder.path()).unwrap();
        fs::write(&path, with_prefixes(&good, &folder.path().join("list"))).unwrap();
        let reload = begin_reload(&gateway);
        gateway.lab.cut_cable(0).unwrap();
        gateway.wait_until_down(0);
        gateway.wait_for_uplinks(&[1]);
        let output = reload.wait_with_output().unwrap();
        let errors = text(&output.stderr);
        assert!(errors.contains("not read within 5 s") && errors.contains("list"), "{errors}");
        // A signal, and the end while the read hangs.
        gateway.daemon.signal(Signal::SIGHUP).unwrap();
        ends_in_time(&mut gateway.daemon, Signal::SIGINT);
        nothing_is_left(&gateway.lab.gateway);
        // A check ends as well.
        let args = ["check", "--config", path.to_str().unwrap()];
        let output = linkbal(&gateway.lab, &args);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        drop(dead);
    });
}

#[test]
fn only_regular_files_are_configurations() {
    let mut gateway = Gateway::pair();
    let path = gateway.daemon.config_path();
    let folder = path.parent().unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let pipe = folder.join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let refused = |words: &str| {
        let error = gateway.daemon.run(&["reload"]).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{error:#}");
        let checked = gateway.daemon.run(&["check", "--config", path.to_str().unwrap()]);
        assert!(format!("{:#}", checked.unwrap_err()).contains(words));
    };
    for list in [&pipe, Path::new("/dev/zero"), Path::new("/dev/tty")] {
        fs::write(&path, with_prefixes(&good, list)).unwrap();
        refused("no regular file");
    }
    let sparse = folder.join("large");
    fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    fs::write(&path, with_prefixes(&good, &sparse)).unwrap();
    refused("larger than");
    fs::remove_file(&path).unwrap();
    for strange in [&pipe, Path::new("/dev/zero"), &sparse] {
        std::os::unix::fs::symlink(strange, &path).unwrap();
        refused("failed to read configuration");
        fs::remove_file(&path).unwrap();
    }
    fs::write(&path, good).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    ends_in_time(&mut gateway.daemon, Signal::SIGTERM);
}

/// Asks for the status over the socket, and returns how long that took.
fn ask(socket: &Path) -> Duration {
    let began = Instant::now();
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    began.elapsed()
}

#[test]
fn a_large_policy_is_compiled_beside_the_main_loop() {
    let mut gateway = Gateway::pair();
    let path = gateway.daemon.config_path();
    let good = fs::read_to_string(&path).unwrap();
    let list = path.with_file_name("list");
    let prefixes =
        (0..100_000_u32).map(|n| format!("{}/28\n", Ipv4Addr::from(0x1400_0000 + (n << 4))));
    fs::write(&list, prefixes.collect::<String>()).unwrap();
    fs::write(&path, with_prefixes(&good, &list)).unwrap();
    let socket = gateway.lab.gateway.socket();
    let began = Instant::now();
    let mut reload = begin_reload(&gateway);
    let mut longest = Duration::ZERO;
    while reload.try_wait().unwrap().is_none() {
        longest = longest.max(ask(&socket));
    }
    let took = began.elapsed();
    let output = reload.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    eprintln!("the longest of all answers took {longest:?} of {took:?}");
    // Not a measurement: a compilation in the main loop would make both times equal.
    assert!(longest < took / 3, "{longest:?} of {took:?}");
    // A cable that is cut during the reload is noticed before the reload is done.
    let reload = begin_reload(&gateway);
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    assert!(reload.wait_with_output().unwrap().status.success());
}

#[test]
fn an_unread_log_pipe_blocks_nothing() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("log");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let program = daemon::find_program().unwrap();
    let mut command = lab.gateway.command("sh");
    let script = format!("exec \"$0\" \"$@\" 2<>{}", pipe.display());
    command.args(["-c", &script]).arg(&program).env("RUST_LOG", "trace");
    let daemon = Daemon::start_command(command, &program, &lab, &config(&lab)).unwrap();
    let mut gateway = Gateway::with(daemon, lab);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let is_full = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let written = options.open(&pipe).unwrap().write(&[b'\n'; 4096]);
        Ok(written.is_err_and(|error| error.kind() == ErrorKind::WouldBlock).then_some(()))
    };
    wait::until("a full pipe", LIMIT, is_full).unwrap();
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
    ends_in_time(&mut gateway.daemon, Signal::SIGINT);
    nothing_is_left(&gateway.lab.gateway);
}

#[test]
fn clients_of_a_stopped_daemon_get_an_error() {
    let gateway = Gateway::pair();
    gateway.daemon.signal(Signal::SIGSTOP).unwrap();
    for args in [&["status"][..], &["disable", "isp-a"], &["events"]] {
        let error = format!("{:#}", gateway.daemon.run(args).unwrap_err());
        assert!(error.contains("does not answer within 10 s"), "{error}");
    }
    gateway.daemon.signal(Signal::SIGCONT).unwrap();
    gateway.daemon.run(&["status"]).unwrap();
}

#[test]
fn read_only_commands_end_while_nft_hangs() {
    let fake = FakeNft::new();
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let path = fake.0.path().join("linkbal.toml");
    fs::write(&path, config(&lab)).unwrap();
    fake.does(HANGS[1]);
    for args in [&["plan"][..], &["check", "--machine"]] {
        let mut command = lab.gateway.command(daemon::find_program().unwrap());
        command.args(args).arg("--config").arg(&path).env("PATH", fake.path());
        let output = command.output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("nft did not answer within 10 s"), "{errors}");
    }
}
