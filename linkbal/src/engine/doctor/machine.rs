//! Faults of the machine: settings, programs and tables.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Complaint, Machine};
use crate::{
    config::{Config, Severity},
    engine::kernel::network::{Address, Snapshot},
};

/// Number of tracked connections, and of those that there may be.
const CONNTRACK: [&str; 2] = ["net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max"];

/// The most bytes that a program may ask for as the receive buffer of a socket.
const RECEIVE_BUFFER: &str = "net/core/rmem_max";

/// The kernel's default of that, in bytes: less loses news of the kernel.
const MIN_BUFFER: u64 = 212_992;

/// Open files that a gateway needs with many uplinks and interfaces, and in a flood of requests.
const MIN_FILES: u64 = 4096;

/// A year in which no clock can be that is right.
const LONG_AGO: u32 = 2025;

/// Share of the connection tracking table, in percent, from which on it is nearly full.
const NEARLY_FULL: u64 = 80;

/// Returns the sysctls to observe.
pub(super) fn watched(config: &Config) -> Vec<String> {
    let mut paths: Vec<String> =
        CONNTRACK.iter().chain([&RECEIVE_BUFFER]).map(|path| (*path).to_owned()).collect();
    let interfaces: BTreeSet<&str> =
        config.uplinks.iter().map(|uplink| &*uplink.interface).chain(["all"]).collect();
    for interface in interfaces {
        let names = ["rp_filter", "arp_ignore", "arp_announce", "arp_filter"];
        paths.extend(names.map(|name| conf(interface, name)));
    }
    paths
}

fn conf(interface: &str, name: &str) -> String {
    format!("net/ipv4/conf/{interface}/{name}")
}

/// Returns a sysctl as `sysctl -w` takes it, whatever dots an interface has in its name.
fn set(interface: &str, name: &str, value: u32) -> String {
    format!("net/ipv4/conf/{interface}/{name}={value}")
}

/// Returns what is wrong with the machine.
pub(super) fn find(config: &Config, snapshot: &Snapshot, machine: &Machine) -> Vec<Complaint> {
    let each = [
        daemon(machine),
        open_files(machine),
        clock(machine),
        conntrack(machine),
        buffer(machine),
        programs(machine),
    ];
    let strict = strict_filters(config, machine);
    each.into_iter().flatten().chain(strict).chain(arp_flux(config, snapshot, machine)).collect()
}

fn daemon(machine: &Machine) -> Option<Complaint> {
    if machine.daemon.is_some() {
        return None;
    }
    let advice = "packets go on with the last state, if there is one, but without failover";
    Some(Complaint::new(
        Severity::Error,
        "linkbal is not running in this network namespace",
        advice,
        "systemctl start linkbal",
    ))
}

fn open_files(machine: &Machine) -> Option<Complaint> {
    let daemon = machine.daemon?;
    let (files, most) = daemon.open_files.filter(|(files, _)| *files < MIN_FILES)?;
    let what = format!("linkbal may have only {files} files open");
    let advice =
        "a flood of requests could keep it from probing: LimitNOFILE= of the unit keeps it";
    let limits = if most < MIN_FILES { "65536:65536".into() } else { format!("{most}:") };
    let command = format!("prlimit --pid {} --nofile={limits}", daemon.pid);
    Some(Complaint::new(Severity::Warning, what, advice, command))
}

fn clock(machine: &Machine) -> Option<Complaint> {
    let command = "timedatectl set-ntp true";
    if machine.year < LONG_AGO {
        let what = format!("the clock says that it is the year {}", machine.year);
        let advice = "certificates of HTTPS targets are not valid yet, and events have wrong times";
        return Some(Complaint::new(Severity::Warning, what, advice, command));
    }
    let advice = "events may have wrong times: a container is kept right by its host";
    machine
        .unsynchronised
        .then(|| Complaint::new(Severity::Hint, "nothing keeps the clock right", advice, command))
}

fn conntrack(machine: &Machine) -> Option<Complaint> {
    let [count, most] = CONNTRACK.map(|path| machine.number(path));
    let (count, most) = (count?, most.filter(|most| *most > 0)?);
    let percent = count.saturating_mul(100).checked_div(most)?;
    if percent < NEARLY_FULL {
        return None;
    }
    let what = format!("connection tracking is {percent} % full: {count} of {most} connections");
    let advice = "when it is full, new connections are dropped: `conntrack -S` counts them; to raise it at \
                  each boot, too, see 60-linkbal.conf of the package";
    let command = format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(2));
    Some(Complaint::new(Severity::Error, what, advice, command))
}

fn buffer(machine: &Machine) -> Option<Complaint> {
    let most = machine.number(RECEIVE_BUFFER).filter(|most| *most < MIN_BUFFER)?;
    let what = format!("programs get at most {most} bytes for what a socket receives");
    let advice = "answers to probes may be lost in bursts";
    let command = format!("sysctl -w net.core.rmem_max={MIN_BUFFER}");
    Some(Complaint::new(Severity::Warning, what, advice, command))
}

fn programs(machine: &Machine) -> Option<Complaint> {
    if machine.missing.is_empty() {
        return None;
    }
    let package = |program: &String| if program == "ss" { "iproute2" } else { "nftables" };
    let packages: BTreeSet<&str> = machine.missing.iter().map(package).collect();
    let missing: Vec<&str> = machine.missing.iter().map(String::as_str).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let what = format!("not installed: {}", missing.join(", "));
    let advice = "linkbal runs nft for its table, and ss to end connections at a failover";
    let command = format!("apt-get install {}", packages.join(" "));
    Some(Complaint::new(Severity::Error, what, advice, command))
}

/// Returns whether an interface drops what comes in by another way than packets to its source would
/// go: of `all` and the interface, the higher value counts.
pub(super) fn is_strict(machine: &Machine, interface: &str) -> bool {
    let value = |interface: &str| machine.number(&conf(interface, "rp_filter")).unwrap_or(0);
    value("all").max(value(interface)) == 1
}

/// Reports interfaces with a strict reverse path filter.
fn strict_filters(config: &Config, machine: &Machine) -> Vec<Complaint> {
    let interfaces: BTreeSet<&str> =
        config.uplinks.iter().map(|uplink| &*uplink.interface).collect();
    let strict = interfaces.into_iter().filter(|name| is_strict(machine, name));
    let complaint = |name: &str| {
        let what = format!("{name} has a strict reverse path filter");
        let advice = "answers by this uplink are dropped while the main table leads by another one";
        // The higher one counts, so that one of them is enough.
        let command = format!("sysctl -w {}", set(name, "rp_filter", 2));
        Complaint::new(Severity::Error, what, advice, command)
    };
    strict.map(complaint).collect()
}

/// Reports interfaces in one network that answer ARP for each other's addresses.
fn arp_flux(config: &Config, snapshot: &Snapshot, machine: &Machine) -> Vec<Complaint> {
    let value = |interface: &str, name: &str| {
        let at = |interface| machine.number(&conf(interface, name)).unwrap_or(0);
        at("all").max(at(interface))
    };
    let interfaces: BTreeSet<&str> =
        config.uplinks.iter().map(|uplink| &*uplink.interface).collect();
    let mut found = Vec::new();
    for name in &interfaces {
        let twin = interfaces.iter().find(|other| *other != name && is_one(snapshot, name, other));
        let quiet = value(name, "arp_ignore") >= 1 && value(name, "arp_announce") >= 2
            || value(name, "arp_filter") >= 1;
        let Some(twin) = twin.filter(|_| !quiet) else { continue };
        let what = format!("{name} and {twin} are in one network, and {name} answers ARP for both");
        let advice = "the provider's router sends what is for one to the other";
        let command =
            format!("sysctl -w {} {}", set(name, "arp_ignore", 1), set(name, "arp_announce", 2));
        found.push(Complaint::new(Severity::Warning, what, advice, command));
    }
    found
}

/// Returns whether two interfaces have an IPv4 network in common.
fn is_one(snapshot: &Snapshot, one: &str, other: &str) -> bool {
    let networks = |name: &str| -> BTreeSet<IpNet> {
        let index = snapshot.link(name).map(|link| link.ifindex);
        let own = snapshot.addresses.iter().filter(|own| Some(own.ifindex) == index);
        own.filter(|own| own.address.is_ipv4()).filter_map(network).collect()
    };
    !networks(one).is_disjoint(&networks(other))
}

fn network(own: &Address) -> Option<IpNet> {
    let network = IpNet::new(own.address, own.prefix_length).ok()?.trunc();
    (network.prefix_len() < network.max_prefix_len()).then_some(network)
}
