//! The lab's gateway as a machine that systemd runs: process 1 of process, mount and network
//! namespaces of its own, as in a container.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::Result;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Servers, flows_per_uplink, open_flows};
use linkbal_lab::wait;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{LIMIT, TICK, config, text};
use crate::lines::with_slow_probes;
use crate::shipped::write_script;

/// The unit as users get it.
pub(crate) const UNIT: &str = include_str!("../../../linkbal/linkbal.service");

/// A script that starts systemd with a root of its own: what is written stays there, and is removed
/// with it. The interfaces are marked as ready where udev would do so.
const START: &str = r#"set -e
mkdir -p "$CGROUP" "$FOLDER/root"
echo 0 >"$CGROUP/cgroup.procs"
cd "$FOLDER/root"
mount --rbind / .
cd "$FOLDER/root"
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
for folder in run var etc; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir -p run/udev/data run/lock var/lib var/tmp
ln -s /run /run/lock var
for index in sys/class/net/*/ifindex; do echo I:1 >"run/udev/data/n$(cat $index)"; done
cp -r /etc/. "$FOLDER/etc/." etc
for folder in etc/systemd/system etc/systemd/network etc/linkbal; do
    if [ -d "$FOLDER/$folder" ]; then mount --bind "$FOLDER/$folder" $folder; fi
done
id systemd-network >/dev/null 2>&1 || echo systemd-network:x:998:998::/:/bin/false >>etc/passwd
grep -q ^systemd-network: etc/group || echo systemd-network:x:998: >>etc/group
echo 00112233445566778899aabbccddeeff >etc/machine-id
mount --move . /
exec chroot . /usr/lib/systemd/systemd --unit=multi-user.target --log-target=kmsg --show-status=no
"#;

/// A lab whose gateway has systemd, and linkbal as a service that is not started yet. Its parts are
/// dropped from the first to the last.
pub(crate) struct Machine {
    systemd: Process,
    _servers: Servers,
    pub(crate) lab: Lab,
    folder: TempDir,
}

impl Machine {
    /// Starts systemd in the gateway of `lab`, with linkbal's unit and a configuration; returns when it
    /// has started.
    pub(crate) fn start(lab: Lab) -> Self {
        let config = with_slow_probes(&config(&lab));
        Self::start_with(lab, &[("linkbal/linkbal.toml", config)])
    }

    /// Starts systemd in the gateway of `lab`, with linkbal's unit and files of `/etc`.
    pub(crate) fn start_with(lab: Lab, files: &[(&str, String)]) -> Self {
        let folder = folder();
        write_unit(&folder, "linkbal.service", UNIT);
        files.iter().for_each(|(name, content)| write_etc(&folder, name, content));
        Self::boot(lab, folder)
    }

    /// Starts systemd in the gateway of `lab`, and nothing of linkbal: its package comes later.
    pub(crate) fn start_without_linkbal(lab: Lab) -> Self {
        Self::boot(lab, folder())
    }

    fn boot(lab: Lab, folder: TempDir) -> Self {
        let log = log_path(&folder).display().to_string();
        let log = format!("[Service]\nStandardOutput=append:{log}\nStandardError=append:{log}\n");
        write_unit(&folder, "service.d/log.conf", &log);
        let systemd = spawn(&lab, &folder);
        let servers = Servers::start(&lab.net).unwrap();
        let machine = Self { systemd, _servers: servers, lab, folder };
        machine.wait_for_systemd();
        machine
    }

    /// Ends systemd with all services, and starts it again. Files remain that it was started with, and
    /// its own units with what enables them.
    pub(crate) fn reboot(&mut self) {
        self.power_off();
        self.systemd = spawn(&self.lab, &self.folder);
        self.wait_for_systemd();
    }

    fn wait_for_systemd(&self) {
        // Systemd cannot be asked before it listens.
        let booted = || {
            let said = self.systemctl(&["is-system-running", "--wait"]);
            Ok((text(&said.stdout).trim() == "running").then_some(()))
        };
        let result = wait::until("a running systemd", LIMIT, booted);
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
    }

    /// Kills systemd and all that it started.
    fn power_off(&mut self) {
        // With process 1, all others of its namespace end.
        self.systemd.kill();
        let cgroup = cgroup(&self.lab.gateway);
        let removed = wait::until("an empty cgroup", LIMIT, || {
            let mut find = Command::new("busybox");
            find.args(["find", &cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
            Ok(find.output()?.status.success().then_some(()))
        });
        removed.unwrap_or_else(|error| eprintln!("{error:#}"));
    }

    /// Writes a unit or a drop-in, which a `daemon-reload` makes known.
    pub(crate) fn add_unit(&self, name: &str, content: &str) {
        write_unit(&self.folder, name, content);
    }

    /// Writes a file of `/etc/systemd/network`.
    pub(crate) fn add_network(&self, name: &str, content: &str) {
        write_etc(&self.folder, &format!("systemd/network/{name}"), content);
    }

    /// Writes linkbal's configuration.
    pub(crate) fn configure(&self, content: &str) {
        fs::write(self.config_path(), content).unwrap();
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("etc/linkbal/linkbal.toml")
    }

    /// Returns what the services have logged, over all restarts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_path(&self.folder)).unwrap_or_default()
    }

    /// Returns how often the services have logged a text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Creates a command that runs on the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.lab.gateway.command("nsenter");
        command.args(["--target", &self.first_process(), "--mount", "--pid", program]);
        command
    }

    /// Returns the id of the machine's first process, as this program sees it.
    fn first_process(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.systemd.id());
        fs::read_to_string(children).unwrap_or_default().trim().to_owned()
    }

    /// Runs a program on the machine, which must succeed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {errors}\n{}", self.log());
        text(&output.stdout)
    }

    /// Writes a file of the machine.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let script = format!("printf %s '{content}' >{path}");
        self.run("sh", &["-c", &script]);
    }

    pub(crate) fn systemctl(&self, args: &[&str]) -> Output {
        self.command("systemctl").args(args).output().unwrap()
    }

    pub(crate) fn systemctl_ok(&self, args: &[&str]) {
        self.run("systemctl", args);
    }

    /// Returns a property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.run("systemctl", &["show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// Returns the status that `linkbal status --json` prints.
    pub(crate) fn status(&self) -> Result<Value> {
        // To its processes, the namespace of the first one is the host's.
        let socket = format!("/proc/{}/root/run/linkbal/linkbal.sock", self.first_process());
        linkbal_lab::daemon::status(Path::new(&socket))
    }

    /// Waits for a status that satisfies `condition`; returns it.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let result = wait::until(what, LIMIT, || Ok(self.status().ok().filter(&condition)));
        result.unwrap_or_else(|error| panic!("{error:#}: {:?}\n{}", self.status(), self.log()))
    }

    /// Starts linkbal, and waits until each uplink is up.
    pub(crate) fn start_linkbal(&self) {
        self.systemctl_ok(&["start", "linkbal"]);
        self.wait_until_up();
    }

    pub(crate) fn wait_until_up(&self) -> Value {
        self.wait_for("all uplinks up", |status| {
            let mut uplinks = status["uplinks"].as_array().unwrap().iter();
            uplinks.all(linkbal_lab::daemon::is_up)
        })
    }

    /// Opens flows from the LAN; returns their numbers by uplink, and last the number without an
    /// answer.
    fn open_flows(&self) -> [usize; 3] {
        let flows = FlowSpec::mixed(HTTP, 10);
        let counts = flows_per_uplink(&open_flows(&self.lab.lan, &flows).unwrap(), 2);
        [counts[0], counts[1], flows.len() - counts[0] - counts[1]]
    }

    /// Waits until flows from the LAN are all answered, by both uplinks.
    pub(crate) fn wait_for_spread(&self) {
        let spread = || {
            let [first, second, lost] = self.open_flows();
            Ok((first > 0 && second > 0 && lost == 0).then_some(()))
        };
        let result = wait::until("flows on both uplinks", LIMIT, spread);
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
    }

    /// Checks that flows from the LAN and local traffic are answered, by both uplinks.
    pub(crate) fn assert_spread(&self) {
        let [first, second, lost] = self.open_flows();
        let spread = first > 0 && second > 0 && lost == 0;
        assert!(spread, "{first} and {second}, {lost} lost\n{}", self.log());
        let _entered = self.lab.gateway.enter().unwrap();
        let own = (0..20).map(|number| {
            let server = SocketAddr::new(plan::server(Family::V4, number), HTTP);
            let seen =
                SocketKind::Tcp.ask(&SocketKind::Tcp.socket(server).unwrap(), server).unwrap();
            plan::uplink_of(seen.ip()).unwrap()
        });
        let own: Vec<_> = own.collect();
        assert!(own.contains(&0) && own.contains(&1), "{own:?}\n{}", self.log());
    }

    /// Starts ten flows of each kind that are kept alive.
    pub(crate) fn long_flows(&self) -> LongFlows {
        LongFlows::start(&self.lab.lan, &FlowSpec::mixed(HTTP, 10), TICK).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.power_off();
    }
}

/// Starts systemd in the gateway of `lab`.
fn spawn(lab: &Lab, folder: &TempDir) -> Process {
    let mut command = lab.gateway.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
    command.args(["bash", "-c", START]).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin").env("container", "linkbal-test");
    command.env("FOLDER", folder.path()).env("CGROUP", cgroup(&lab.gateway));
    lab.gateway.spawn(&mut command).unwrap()
}

/// Creates the folder with what the machine gets.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix("linkbal-machine-").unwrap();
    for name in ["system", "network"] {
        fs::create_dir_all(folder.path().join("etc/systemd").join(name)).unwrap();
    }
    folder
}

fn write_unit(folder: &TempDir, name: &str, content: &str) {
    write_etc(folder, &format!("systemd/system/{name}"), content);
}

/// Writes a file of `/etc`, which may be a script.
fn write_etc(folder: &TempDir, name: &str, content: &str) {
    let path = folder.path().join("etc").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match content.starts_with("#!") {
        true => write_script(path.to_str().unwrap(), content),
        false => fs::write(&path, content).unwrap(),
    }
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

fn cgroup(gateway: &Arc<Namespace>) -> String {
    format!("/sys/fs/cgroup/{}", gateway.name())
}
