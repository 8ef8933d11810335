//! Faults of an uplink: kinds of packets that do not pass.

use std::net::IpAddr;

use linkbal_common::uplink::Family;

use super::{Attempts, Complaint, Trial, own_fault::OwnFault};
use crate::{
    config::{Config, Severity, Target},
    engine::kernel::network::Snapshot,
};

/// A kind of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packets {
    Pings,
    Tcp,
    Udp,
    Dns,
}

impl Packets {
    /// Returns that they do not pass.
    const fn fault(self) -> &'static str {
        match self {
            Packets::Pings => "pings do not pass",
            Packets::Tcp => "TCP connections do not pass",
            Packets::Udp => "UDP does not pass",
            Packets::Dns => "DNS does not pass",
        }
    }
}

/// Returns what is wrong with an uplink in one family; `own` is the likely cause on this machine, if
/// there is one.
pub(super) fn find(
    config: &Config,
    snapshot: &Snapshot,
    trial: &Trial,
    own: Option<&OwnFault>,
) -> Vec<Complaint> {
    let Trial { uplink, interface, family, tried } = trial;
    let who = format!("{uplink} {}", family.name());
    let mut found = Vec::new();
    let kinds = [
        (Packets::Pings, &tried.ping),
        (Packets::Tcp, &tried.tcp),
        (Packets::Udp, &tried.udp),
        (Packets::Dns, &tried.dns),
    ];
    let passes = |attempts: &Attempts| attempts.answered > 0;
    if kinds.iter().any(|(_, attempts)| passes(attempts)) {
        let failed = kinds.iter().filter(|(_, it)| it.asked > 0 && !passes(it));
        let guessed = is_guessed(config, uplink);
        found.extend(failed.map(|(kind, attempts)| match *kind {
            Packets::Dns if guessed => unreached(&who),
            kind => partly(&who, interface, kind, attempts),
        }));
    } else if kinds.iter().any(|(_, attempts)| attempts.asked > 0) {
        found.push(nothing(&who, interface, tried.gateway, own));
    }
    found.extend(foreign_source(snapshot, trial, &who));
    found.extend(narrow(config, trial, &who));
    found.extend(double_nat(config, snapshot, trial, &who));
    found
}

/// Returns the complaint that nothing passes.
pub(super) fn nothing(
    who: &str,
    interface: &str,
    gateway: Option<bool>,
    own: Option<&OwnFault>,
) -> Complaint {
    let what = format!("{who}: nothing passes");
    if let Some(OwnFault { why, command }) = own {
        return Complaint::new(Severity::Error, what, why, command);
    }
    let (why, command) = match gateway {
        Some(false) => (
            "the gateway does not answer on the link: see to the cable and the provider's router",
            format!("ip neigh show dev {interface}"),
        ),
        Some(true) => (
            "the gateway answers: restart the modem, or call the provider, unless this machine's \
             firewall drops what it sends or gets",
            "nft list ruleset".to_owned(),
        ),
        None => ("see whether packets come back", format!("tcpdump -ni {interface}")),
    };
    Complaint::new(Severity::Error, what, why, command)
}

/// Returns whether only the system's DNS servers were asked, which may be anybody's.
fn is_guessed(config: &Config, uplink: &str) -> bool {
    let uplink = config.uplinks.iter().find(|known| known.name == uplink);
    config.dns.resolvers.is_none()
        && uplink.is_some_and(|uplink| {
            let mut targets = uplink.probe.targets.iter();
            uplink.resolvers.is_empty()
                && !targets.any(|target| matches!(target, Target::Dns { .. }))
        })
}

fn unreached(who: &str) -> Complaint {
    let what = format!("{who}: the DNS servers of /etc/resolv.conf do not answer by it");
    let advice = "they may be another provider's: name those for all uplinks in [dns], and a provider's as \
                  `resolvers` of its uplink";
    Complaint::new(Severity::Hint, what, advice, "")
}

fn partly(who: &str, interface: &str, kind: Packets, attempts: &Attempts) -> Complaint {
    let what = format!("{who}: {}, other packets do", kind.fault());
    let advice = format!(
        "none of {} answered by {interface}: this machine's firewall drops it, or the provider's",
        attempts.asked
    );
    // Many hosts and providers drop pings, and nothing else needs them.
    let severity = if kind == Packets::Pings { Severity::Hint } else { Severity::Error };
    Complaint::new(severity, what, advice, "nft list ruleset")
}

/// Reports packets that left with an address that is not the uplink's.
fn foreign_source(snapshot: &Snapshot, trial: &Trial, who: &str) -> Option<Complaint> {
    let link = snapshot.link(&trial.interface)?;
    let is_own = |source: &&IpAddr| {
        let mut own = snapshot.addresses.iter().filter(|own| own.ifindex == link.ifindex);
        own.any(|own| own.address == **source)
    };
    let source = trial.tried.sources.iter().find(|source| !is_own(source))?;
    let what =
        format!("{who}: packets leave with the address {source}, which is not on {}", link.name);
    let advice = "answers come in by another uplink, or not at all: give the interface an address of \
                  its provider";
    let command = format!("ip address show dev {}", link.name);
    Some(Complaint::new(Severity::Error, what, advice, command))
}

/// Reports a path that carries smaller packets than the interface.
fn narrow(config: &Config, trial: &Trial, who: &str) -> Option<Complaint> {
    let path = trial.tried.path_mtu?;
    let uplink = config.uplinks.iter().find(|uplink| uplink.name == trial.uplink)?;
    let used = uplink.mtu.unwrap_or(u32::MAX).min(trial.tried.device_mtu);
    if path >= used {
        return None;
    }
    let interface = &trial.interface;
    let what = format!("{who}: packets of {used} bytes do not pass, those of {path} do");
    let advice = format!(
        "large downloads hang where ICMP is filtered: set the MTU of {interface}, or write mtu = {path} \
         in [uplink.{}] of the configuration",
        trial.uplink
    );
    Some(Complaint::new(
        Severity::Warning,
        what,
        advice,
        format!("ip link set {interface} mtu {path}"),
    ))
}

/// Reports an address that the provider, or a router of its, translates once more.
fn double_nat(config: &Config, snapshot: &Snapshot, trial: &Trial, who: &str) -> Option<Complaint> {
    let link = snapshot.link(&trial.interface)?;
    let uplink = config.uplinks.iter().find(|uplink| uplink.name == trial.uplink)?;
    if trial.family != Family::Ipv4 || !uplink.nat {
        return None;
    }
    let mut own = snapshot.addresses.iter().filter(|own| own.ifindex == link.ifindex);
    let address = own.find_map(|own| match own.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })?;
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let kind = match (address.is_private(), shared) {
        (true, _) => "is private: the provider's router translates it once more",
        (_, true) => "is shared among customers (RFC 6598): the provider translates it once more",
        _ => return None,
    };
    let what = format!("{who}: its address {address} {kind}");
    let advice = "connections from outside need a port forward there, too; a router in bridge mode \
                  gives this machine its address";
    Some(Complaint::new(Severity::Hint, what, advice, ""))
}
