//! Files that linkbal keeps, damaged in every way: packets go on, and so does failover.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linkbal_lab::daemon::Daemon;
use linkbal_lab::mounts::{HungMount, in_mount_namespace};
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::wait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::fixture::{Gateway, LIMIT, config, linkbal, text};
use crate::kernel::{self, up_mask};

/// Names of all files that a daemon may find, below the folder of its instance.
const FILES: [&str; 11] = [
    "uplinks.json",
    "configurations.json",
    "sysctls.json",
    "bonds.json",
    "clsact.json",
    "namespace",
    "linkbal.pid",
    "linkbal.sock",
    "state/admin.json",
    "state/trial.json",
    "state/history.jsonl",
];

/// The damage to a file, or what stands in its place.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Empty,
    Half,
    Nonsense,
    Newer,
    Huge,
    Missing,
    Folder,
    FullFolder,
    Endless,
    Astray,
    Pipe,
}

use Damage::*;

fn damage(path: &Path, how: Damage) {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let before = if is_file { fs::read(path).unwrap() } else { b"{\"something\": 12}".to_vec() };
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match how {
        Empty => fs::write(path, "").unwrap(),
        Half => fs::write(path, &before[..before.len() / 2]).unwrap(),
        Nonsense => fs::write(path, b"\xff\0\n{{{").unwrap(),
        Newer => fs::write(path, br#"{"version": 9, "isp-a": {"index": 1}}"#).unwrap(),
        // Valid for the indexes of uplinks, but with impossible values.
        Huge => fs::write(path, br#"{"isp-a": 4000000000, "isp-b": 31}"#).unwrap(),
        Missing => {}
        Folder => fs::create_dir(path).unwrap(),
        FullFolder => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "").unwrap();
        }
        Endless => symlink("/dev/zero", path).unwrap(),
        Astray => symlink("/no/such/folder/file", path).unwrap(),
        Pipe => mkfifo(path, Mode::S_IRWXU).unwrap(),
    }
}

fn folder(namespace: &Namespace) -> PathBuf {
    namespace.run_dir()
}

/// Starts a new daemon in the place of one that has ended.
fn restart_daemon(gateway: &mut Gateway) {
    let mut next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
}

#[test]
fn damaged_state_files_prevent_neither_start_nor_teardown() {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    let rules = kernel::rules(&namespace);
    let all =
        [Empty, Half, Nonsense, Newer, Huge, Missing, Folder, FullFolder, Endless, Astray, Pipe];
    for how in all {
        gateway.daemon.stop(Signal::SIGKILL).unwrap();
        for name in FILES {
            damage(&folder(&namespace).join(name), how);
            // The rest of a write that was interrupted, too.
            damage(&folder(&namespace).join(name).with_extension("new"), how);
        }
        restart_daemon(&mut gateway);
        assert_eq!(kernel::rules(&namespace), rules, "{how:?}");
        gateway.assert_uplinks(20, &[0, 1]);
        // Changes that are stored.
        gateway.daemon.run(&["drain", "isp-a"]).unwrap();
        gateway.daemon.run(&["enable", "isp-a"]).unwrap();
    }
    let forwards = |namespace: &Namespace| namespace.sysctl("net.ipv4.ip_forward").unwrap();
    assert_eq!(forwards(&namespace), "1");
    for how in [Half, Missing, FullFolder, Endless, Pipe] {
        gateway.daemon.stop(Signal::SIGKILL).unwrap();
        for name in FILES {
            damage(&folder(&namespace).join(name), how);
        }
        let output = linkbal(&gateway.lab, &["teardown"]);
        assert!(output.status.success(), "{how:?}: {}", text(&output.stderr));
        assert_eq!(namespace.run("nft", &["list", "tables"]).unwrap(), "", "{how:?}");
        assert!(!kernel::rules(&namespace).contains("proto 201"), "{how:?}");
        assert!(!namespace.bpf_dir().exists(), "{how:?}");
        restart_daemon(&mut gateway);
    }
}

#[test]
fn a_teardown_restores_sysctls_despite_a_damaged_namespace_file() {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    damage(&folder(&namespace).join("namespace"), Half);
    let output = linkbal(&gateway.lab, &["teardown"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(namespace.sysctl("net.ipv4.ip_forward").unwrap(), "0");
}

fn remount(path: &Path, flags: MsFlags) {
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
}

/// Starts a gateway whose files are in a small file system of their own.
fn on_a_small_disk() -> (Gateway, SmallDisk) {
    let mut gateway = Gateway::pair();
    let folder = folder(&gateway.lab.gateway);
    // Torn down first, so that the new files record the state before linkbal.
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    fs::create_dir_all(&folder).unwrap();
    mount(Some("small"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
    restart_daemon(&mut gateway);
    (gateway, SmallDisk(folder))
}

/// A file system that is unmounted when this is dropped.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

fn fill(folder: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(folder.join("full")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Lets an uplink die and come back, as the datapath sees it: the daemon may not answer.
fn fail_over(gateway: &Gateway) {
    let masks = |expected: [u16; 2]| {
        let mask = || Family::ALL.map(|family| up_mask(&gateway.lab.gateway, family));
        let what = format!("usable uplinks {expected:?}");
        wait::until(&what, LIMIT, || Ok((mask() == expected).then_some(())))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    };
    masks([0b11, 0b11]);
    gateway.lab.cut_cable(0).unwrap();
    masks([0b10, 0b10]);
    gateway.wait_for_uplinks(&[1]);
    gateway.lab.plug_cable(0).unwrap();
    masks([0b11, 0b11]);
}

fn wait_for_words(daemon: &Daemon, words: &[&str]) {
    let all = || words.iter().all(|words| daemon.log().contains(words));
    wait::until(&format!("{words:?} in the log"), LIMIT, || Ok(all().then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
}

#[test]
fn a_full_disk_prevents_neither_start_nor_failover() {
    in_mount_namespace(|| {
        let (mut gateway, disk) = on_a_small_disk();
        let folder = disk.0.clone();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            fill(&folder);
            gateway.daemon.stop(signal).unwrap();
            restart_daemon(&mut gateway);
            fail_over(&gateway);
            let path = folder.join("configurations.json").display().to_string();
            wait_for_words(&gateway.daemon, &[&path, "No space left on device"]);
            // The setting takes effect, though it cannot be stored.
            let namespace = gateway.lab.gateway.clone();
            let said = namespace.run(
                "sh",
                &["-c", &format!("{} disable isp-a 2>&1", gateway.daemon.program().display())],
            );
            let said = said.unwrap();
            assert!(
                said.contains("isp-a is now disabled") && said.contains("admin.json"),
                "{said}"
            );
            gateway.wait_for_uplinks(&[1]);
            fs::remove_file(folder.join("full")).unwrap();
            wait_for_words(&gateway.daemon, &["admin.json is up to date again"]);
            wait_for_words(&gateway.daemon, &["configurations.json is up to date again"]);
            let kept = fs::read_to_string(folder.join("state/admin.json")).unwrap();
            assert!(kept.contains("isp-a"), "{kept}");
            gateway.daemon.run(&["enable", "isp-a"]).unwrap();
        }
    });
}

#[test]
fn a_read_only_disk_prevents_neither_start_nor_failover() {
    in_mount_namespace(|| {
        let (mut gateway, disk) = on_a_small_disk();
        let folder = disk.0.clone();
        gateway.daemon.stop(Signal::SIGTERM).unwrap();
        remount(&folder, MsFlags::MS_RDONLY);
        let next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
        wait_for_words(&next, &["Read-only file system", "running with 2 uplinks"]);
        // Nothing else may take the place of the running daemon.
        let output = linkbal(&gateway.lab, &["teardown"]);
        assert!(text(&output.stderr).contains("already runs"), "{}", text(&output.stderr));
        gateway.daemon = next;
        fail_over(&gateway);
        // The socket is created as soon as that is possible.
        remount(&folder, MsFlags::empty());
        gateway.daemon.wait_until_up(LIMIT).unwrap();
        // A teardown needs no file.
        remount(&folder, MsFlags::MS_RDONLY);
        gateway.daemon.stop(Signal::SIGINT).unwrap();
        let namespace = gateway.lab.gateway.clone();
        assert_eq!(namespace.run("nft", &["list", "tables"]).unwrap(), "");
        assert!(!kernel::rules(&namespace).contains("proto 201"));
        assert_eq!(namespace.sysctl("net.ipv4.ip_forward").unwrap(), "0");
        remount(&folder, MsFlags::empty());
    });
}

#[test]
fn a_hung_disk_prevents_neither_start_nor_failover_nor_shutdown() {
    in_mount_namespace(|| {
        let mut gateway = Gateway::pair();
        let state = folder(&gateway.lab.gateway).join("state");
        gateway.daemon.stop(Signal::SIGTERM).unwrap();
        fs::create_dir_all(&state).unwrap();
        let dead = HungMount::new(&state).unwrap();
        restart_daemon(&mut gateway);
        wait_for_words(&gateway.daemon, &["admin.json cannot be read (not read within 5 s"]);
        let words = format!("{} disable isp-a 2>&1", gateway.daemon.program().display());
        let said = gateway.lab.gateway.run("sh", &["-c", &words]).unwrap();
        assert!(said.contains("isp-a is now disabled"), "{said}");
        assert!(said.contains("the disk does not answer"), "{said}");
        gateway.daemon.run(&["enable", "isp-a"]).unwrap();
        gateway.daemon.run(&["reload", "--confirm", "60s"]).unwrap();
        gateway.daemon.run(&["confirm"]).unwrap();
        fail_over(&gateway);
        let began = Instant::now();
        gateway.daemon.stop(Signal::SIGINT).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{}", gateway.daemon.log());
        drop(dead);
    });
}

/// Kills the daemon at twelve moments of its start, 25 ms apart.
#[test]
fn a_kill_between_two_writes_leaves_a_state_that_the_next_start_can_use() {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    let rules = kernel::rules(&namespace);
    for step in 0..12 {
        gateway.daemon.stop(Signal::SIGKILL).unwrap();
        let mut short = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
        // The moment of the kill is the point here, and no condition names it.
        std::thread::sleep(Duration::from_millis(25 * step));
        short.stop(Signal::SIGKILL).unwrap();
        restart_daemon(&mut gateway);
        drop(short);
        assert_eq!(kernel::rules(&namespace), rules, "after {step} steps");
        let leftovers = fs::read_dir(folder(&namespace)).unwrap().flatten();
        let drafts =
            leftovers.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "new"));
        assert_eq!(drafts.count(), 0, "after {step} steps");
    }
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    assert_eq!(namespace.sysctl("net.ipv4.ip_forward").unwrap(), "0");
}
