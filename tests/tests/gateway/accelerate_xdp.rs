//! Shortcuts at the drivers of interfaces: packets that the kernel's own stack never sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::offload::Offload;
use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::oracle;
use linkbal_lab::topology::{CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::forged::{Forger, udp};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::fixture::{
    Gateway, LIMIT, assert_undisturbed, config, is_ipv6, is_udp, on, wait_for_move,
};
use crate::kernel;
use crate::shortcuts::{taken, taken_by, wait_for_shortcuts};

const MODE: &str = "[accelerate]\nmode = \"xdp\"\n";

/// Returns a lab whose gateway's interfaces have partners like network cards.
fn lab() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.use_drivers().unwrap();
    lab
}

fn configured(text: &str) -> String {
    let (_, rest) = text.split_once("[lan]").unwrap();
    format!("{MODE}[lan]{rest}")
}

fn start(lab: Lab) -> Gateway {
    Gateway::start(lab, configured)
}

/// Returns the interfaces without programs at their drivers, with the reason, as the status has them.
fn without_xdp(gateway: &Gateway) -> BTreeMap<String, String> {
    serde_json::from_value(gateway.daemon.status().unwrap()["without_xdp"].clone()).unwrap()
}

/// Returns the interfaces of the gateway with an XDP program in the driver, as the kernel says.
fn with_programs(gateway: &Namespace) -> BTreeSet<String> {
    let links = oracle::ip_json(gateway, &["link", "show"]).unwrap();
    // 1: in the driver, 2: generic (XDP_ATTACHED_DRV in include/uapi/linux/if_link.h).
    let native = links.as_array().unwrap().iter().filter(|link| link["xdp"]["mode"] == 1);
    native.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

/// Waits until exactly these interfaces have programs at their drivers, as the kernel says, and the
/// status names exactly the `others`, each with a part of its reason.
fn wait_for_programs(gateway: &Gateway, wanted: &[&str], others: &[(&str, &str)]) {
    let (mut programs, mut reasons) = Default::default();
    let told = |reasons: &BTreeMap<String, String>| {
        let told = |(name, part): &(&str, &str)| {
            reasons.get(*name).is_some_and(|reason| reason.contains(part))
        };
        reasons.len() == others.len() && others.iter().all(told)
    };
    let result = wait::until("programs", LIMIT, || {
        programs = with_programs(&gateway.lab.gateway);
        reasons = without_xdp(gateway);
        Ok((programs == names(wanted) && told(&reasons)).then_some(()))
    });
    result.unwrap_or_else(|error| panic!("{error:#}: {programs:?}, {reasons:?}"));
}

const ALL: [&str; 3] = [LAN_INTERFACE, "wan-a", "wan-b"];

/// Returns the path of the pin of an interface's program.
fn pin(gateway: &Gateway, interface: &str) -> String {
    let index = kernel::ifindex(&gateway.lab.gateway, interface);
    gateway.lab.gateway.bpf_dir().join(format!("xdp_{index}")).display().to_string()
}

/// Returns the link and the program that are pinned for an interface.
fn ids(gateway: &Gateway, interface: &str) -> [u64; 2] {
    let pin = pin(gateway, interface);
    let link =
        oracle::bpftool_json(&gateway.lab.gateway, &["link", "show", "pinned", &pin]).unwrap();
    ["id", "prog_id"].map(|key| link[key].as_u64().unwrap())
}

fn reload(gateway: &Gateway, text: &str) {
    fs::write(gateway.daemon.config_path(), text).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A recording by tcpdump. Of the packets that a gateway sends out by an interface, those that are sent
/// at the driver are not among it.
struct Recording {
    process: Process,
    file: PathBuf,
    _dir: TempDir,
}

impl Recording {
    fn start(gateway: &Namespace, interface: &str) -> Recording {
        Recording::of(gateway, interface, "out", "tcp or udp")
    }

    /// Records the packets of a direction that a filter selects.
    fn of(namespace: &Namespace, interface: &str, direction: &str, filter: &str) -> Recording {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("packets");
        let mut command = namespace.command("tcpdump");
        command.args(["-i", interface, "-Q", direction, "-U", "-w"]).arg(&file).arg(filter);
        let process = namespace.spawn(&mut command).unwrap();
        let recording = Recording { process, file, _dir: dir };
        wait::until("a recording", LIMIT, || Ok(recording.file.exists().then_some(()))).unwrap();
        recording
    }

    /// Returns the number of packets of each source and destination.
    fn packets(&self) -> BTreeMap<String, u64> {
        let output = std::process::Command::new("tcpdump").arg("-nqtr").arg(&self.file).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut packets = BTreeMap::new();
        for line in text.lines() {
            let ends = line.split(": ").next().unwrap().to_owned();
            *packets.entry(ends).or_default() += 1;
        }
        packets
    }

    fn end(mut self) -> u64 {
        self.process.signal(Signal::SIGINT).unwrap();
        self.process.wait(LIMIT).unwrap();
        self.packets().values().sum()
    }
}

/// Checks with tcpdump that packets pass below the stack, both ways, that the kernel sees each flow again
/// and again, and that nothing is lost.
#[test]
fn most_packets_pass_at_the_drivers_and_each_flow_the_kernel_too() {
    let gateway = start(lab());
    wait_for_programs(&gateway, &ALL, &[]);
    let flows = gateway.long_flows(5);
    wait_for_shortcuts(&gateway, 200);
    let recordings = ALL.map(|interface| Recording::start(&gateway.lab.gateway, interface));
    let (before, reports) = (taken(&gateway), flows.reports());
    let seen = |recordings: &[Recording]| {
        let often = |recording: &Recording| {
            let packets = recording.packets().into_values();
            packets.filter(|count| *count >= 4).count()
        };
        recordings.iter().map(often).sum::<usize>()
    };
    wait::until("packets of each flow and way by the kernel", LIMIT, || {
        let enough = seen(&recordings[..1]) >= 20 && seen(&recordings[1..]) >= 20;
        Ok(enough.then_some(()))
    })
    .unwrap();
    let after = taken(&gateway);
    let [lan, a, b] = recordings.map(Recording::end);
    let [up, down] = [after[0] - before[0], after[1] - before[1]];
    assert!(a + b < up / 2, "{a} + {b} of {up} packets up were seen");
    assert!(lan < down / 2, "{lan} of {down} packets down were seen");
    assert_undisturbed(&flows, &reports, 20, |_| true);
}

/// Checks frames that an interface in promiscuous mode gets, as another gateway's that has taken over.
#[test]
fn frames_with_the_address_of_another_machine_are_left_alone() {
    let gateway = start(lab());
    let flows = gateway.long_flows(5);
    wait_for_shortcuts(&gateway, 200);
    let reports = flows.reports();
    let flow = reports.iter().find(|flow| is_udp(flow) && !is_ipv6(flow)).unwrap();
    let Lab { lan, gateway: ours, uplinks, .. } = &gateway.lab;
    let provider = &uplinks[flow.uplink().unwrap()].provider;
    // Translation keeps ports.
    let source = SocketAddr::new(flow.spec.source, flow.peer.unwrap().port());
    let send = |to: &Namespace, at: &str, length: usize| {
        let forger = Forger::new(lan, CLIENT_INTERFACE, to, at).unwrap();
        let packet = udp(source, flow.spec.server, &vec![0; length]).unwrap();
        (0..50).for_each(|_| forger.send(&packet).unwrap());
    };
    let arrivals = |length: usize| {
        let filter = format!("udp[4:2] = {}", length + 8);
        Recording::of(provider, CUSTOMER_INTERFACE, "in", &filter)
    };
    let [others, own] = [334, 333].map(arrivals);
    send(provider, CUSTOMER_INTERFACE, 334);
    send(ours, LAN_INTERFACE, 333);
    wait::until("the gateway's own packets", LIMIT, || {
        Ok((own.packets().values().sum::<u64>() == 50).then_some(()))
    })
    .unwrap();
    assert_eq!(others.end(), 0);
}

/// Checks that packets of this machine's own containers arrive, whose checksums no device has finished.
#[test]
fn packets_with_unfinished_checksums_are_left_to_tc() {
    let lab = lab();
    lab.lan.set_offload(CLIENT_INTERFACE, Offload::TxChecksum, true).unwrap();
    for uplink in &lab.uplinks {
        uplink.provider.set_offload(CUSTOMER_INTERFACE, Offload::TxChecksum, true).unwrap();
    }
    let gateway = start(lab);
    wait_for_programs(&gateway, &ALL, &[]);
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
}

#[test]
fn an_interface_that_sends_no_frames_is_named_and_served_by_tc() {
    let lab = lab();
    let far_end = |lab: &Lab, on| {
        let provider = &lab.uplinks[0].provider;
        provider.set_offload(CUSTOMER_INTERFACE, Offload::Gro, on).unwrap();
    };
    far_end(&lab, false);
    let gateway = start(lab);
    wait_for_programs(&gateway, &ALL, &[("wan-a", "turn on GRO at its other end")]);
    let shown = gateway.daemon.run(&["status"]).unwrap();
    assert!(shown.contains("no XDP at wan-a: "), "{shown}");
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
    assert!(taken_by(&gateway)[0].iter().all(|packets| *packets > 0));
    far_end(&gateway.lab, true);
    wait_for_programs(&gateway, &ALL, &[]);
    let before = flows.reports();
    wait_for_shortcuts(&gateway, 500);
    assert_undisturbed(&flows, &before, 40, |_| true);
}

#[test]
fn a_program_of_somebody_else_stays() {
    let mut gateway = start(lab());
    wait_for_programs(&gateway, &ALL, &[]);
    // Any program will do.
    let [_, program] = ids(&gateway, "wan-b");
    let (id, path) = (program.to_string(), format!("/sys/fs/bpf/{}", gateway.lab.gateway.name()));
    gateway.lab.gateway.run("bpftool", &["prog", "pin", "id", &id, &path]).unwrap();
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    assert_eq!(with_programs(&gateway.lab.gateway), names(&[]));
    let foreign = ["net", "attach", "xdpdrv", "pinned", &path, "dev", "wan-a"];
    gateway.lab.gateway.run("bpftool", &foreign).unwrap();
    fs::remove_file(&path).unwrap();
    let mut next = Daemon::start(&gateway.lab, &configured(&config(&gateway.lab))).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
    wait_for_programs(&gateway, &ALL, &[("wan-a", "another XDP program runs there")]);
    let links = oracle::ip_json(&gateway.lab.gateway, &["link", "show", "wan-a"]).unwrap();
    assert_eq!(links[0]["xdp"]["prog"]["id"], program);
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    assert!(taken_by(&gateway)[0].iter().all(|packets| *packets > 0));
    drop(flows);
    gateway.lab.gateway.run("bpftool", &["net", "detach", "xdpdrv", "dev", "wan-a"]).unwrap();
    wait_for_programs(&gateway, &ALL, &[]);
}

#[test]
fn a_program_that_is_detached_comes_back() {
    let gateway = start(lab());
    wait_for_programs(&gateway, &ALL, &[]);
    for interface in ALL {
        let before = ids(&gateway, interface);
        let pin = pin(&gateway, interface);
        gateway.lab.gateway.run("bpftool", &["link", "detach", "pinned", &pin]).unwrap();
        wait_for_programs(&gateway, &ALL, &[]);
        assert_ne!(ids(&gateway, interface)[0], before[0]);
        let before = ids(&gateway, interface);
        fs::remove_file(&pin).unwrap();
        let again = || Ok(fs::exists(&pin)?.then_some(()));
        wait::until("the pin", LIMIT, again).unwrap();
        assert_eq!(ids(&gateway, interface), before, "it was never detached");
    }
}

/// Checks that programs are replaced in place, and that nothing is left of them in another mode.
#[test]
fn programs_outlive_the_daemon_and_follow_the_configuration() {
    let mut gateway = start(lab());
    wait_for_programs(&gateway, &ALL, &[]);
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    let reports = flows.reports();
    let before = ids(&gateway, "wan-a");
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    assert_eq!(ids(&gateway, "wan-a"), before);
    let text = configured(&config(&gateway.lab));
    let mut next = Daemon::start(&gateway.lab, &text).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
    let after = ids(&gateway, "wan-a");
    assert!(after[0] == before[0] && after[1] != before[1], "{before:?} {after:?}");
    wait_for_shortcuts(&gateway, 200);
    reload(&gateway, &text.replace("\"xdp\"", "\"ebpf\""));
    wait_for_programs(&gateway, &[], &[]);
    wait_for_shortcuts(&gateway, 200);
    reload(&gateway, &text);
    wait_for_programs(&gateway, &ALL, &[]);
    wait_for_shortcuts(&gateway, 200);
    reload(&gateway, &text.replace("\"xdp\"", "\"off\""));
    wait_for_programs(&gateway, &[], &[]);
    assert_undisturbed(&flows, &reports, 40, |_| true);
    reload(&gateway, &text);
    wait_for_programs(&gateway, &ALL, &[]);
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    assert_eq!(with_programs(&gateway.lab.gateway), names(&[]));
}

/// Checks that packets at the driver do not slip past the black hole.
#[test]
fn a_drill_ends_the_shortcuts_of_its_uplink() {
    let mut gateway = start(lab());
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    let before = flows.reports();
    let mut drill = gateway.lab.gateway.command(gateway.daemon.program());
    drill.args(["drill", "isp-a", "--for", "10m"]).stdout(std::process::Stdio::null());
    let drill = gateway.lab.gateway.spawn(&mut drill).unwrap();
    gateway.wait_until_down(0);
    wait_for_move(&flows, &before, |report| on(0)(report) && is_udp(report), 1);
    assert_undisturbed(&flows, &before, 10, |report| on(1)(report) && is_udp(report));
    drop(drill);
}
