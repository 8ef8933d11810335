//! The sysctls that linkbal needs, and the values that it gives them.

use std::collections::BTreeSet;

use linkbal_common::uplink::Family;

use super::{Indexed, segments, source_validation};
use crate::{
    config::Config,
    engine::kernel::network::{Snapshot, forwarding},
};

pub(super) const REFLECTION: [&str; 2] = ["net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];
/// A sysctl that is there if the kernel has IPsec (`xfrm_sysctl_init` in net/xfrm/xfrm_sysctl.c).
pub(super) const IPSEC: &str = "net/core/xfrm_acq_expires";
const RP_FILTER: &str = "net/ipv4/conf/all/rp_filter";
/// The sysctl that has connection tracking take TCP packets whose numbers it does not expect
/// (Documentation/networking/nf_conntrack-sysctl.rst): it sees few of the packets of flows with
/// shortcuts.
pub const LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
/// The same for a reset, which would be invalid, and so dropped, after 2 GiB that it has not seen
/// (`nf_conntrack_tcp_packet` in net/netfilter/nf_conntrack_proto_tcp.c, since Linux 5.14).
const RESETS: &str = "net/netfilter/nf_conntrack_tcp_ignore_invalid_rst";
/// Seconds that a connection lives whose last data was not acknowledged, as far as connection tracking
/// has seen: with shortcuts any connection, for an idle one has no packet that acknowledges what it knows.
const UNACKNOWLEDGED: &str = "net/netfilter/nf_conntrack_tcp_timeout_unacknowledged";
/// The least time that an idle connection may be given (RFC 5382 section 5), in seconds.
const IDLE: u64 = 7440;
const BRIDGES: [&str; 2] =
    ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];

/// End of the path of the sysctl by which an interface accepts router advertisements.
const ACCEPT_RA: &str = "/accept_ra";

/// Returns the sysctls that `desired` wants to see in a snapshot.
pub fn watched(config: &Config) -> Vec<String> {
    let mut paths: Vec<String> = Family::ALL
        .map(forwarding)
        .into_iter()
        .chain(REFLECTION)
        .chain([IPSEC, LIBERAL, RESETS, UNACKNOWLEDGED])
        .chain(BRIDGES)
        .map(String::from)
        .collect();
    paths.extend(source_validation::watched(config));
    for interface in interfaces(config) {
        paths.push(format!("net/ipv6/conf/{interface}{ACCEPT_RA}"));
    }
    paths.extend(of_segments(config));
    paths
}

fn of_segments(config: &Config) -> impl Iterator<Item = String> {
    let mut neighbours = interfaces(config);
    neighbours.extend(config.lan_interfaces.iter().map(String::as_str));
    neighbours.into_iter().chain(["all"]).flat_map(segments::watched)
}

fn interfaces(config: &Config) -> BTreeSet<&str> {
    config.uplinks.iter().map(|uplink| uplink.interface.as_str()).collect()
}

/// Returns whether packets of bridges pass nft before they reach the bridge itself.
pub(super) fn bridges_call_nft(snapshot: &Snapshot) -> bool {
    BRIDGES.iter().any(|path| snapshot.sysctls.get(*path).is_some_and(|value| value != "0"))
}

/// Returns whether connection tracking would take packets of flows with shortcuts for invalid.
pub fn is_strict(snapshot: &Snapshot) -> bool {
    snapshot.sysctls.get(LIBERAL).is_some_and(|value| value == "0")
}

/// Returns the sysctls to set: forwarding on where there is a LAN; loose source validation where it
/// is strict, since answers to an uplink's packets come in by a device that the main table would
/// not choose; router advertisements still accepted, which forwarding would otherwise end; the
/// kernel's own answers, such as a reset, with the mark of what they answer to
/// (Documentation/networking/ip-sysctl.rst, `accept_ra`, `fwmark_reflect`).
pub(super) fn wanted(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
) -> Vec<(String, String)> {
    let value = |path: &str| snapshot.sysctls.get(path).map(String::as_str);
    let strict = |path: &str| value(path) == Some("1");
    let all_strict = strict(RP_FILTER);
    let has_lan = !config.lan_interfaces.is_empty();
    let mut wanted = source_validation::wanted(config, snapshot);
    let by_nft = source_validation::by_nft(config, snapshot).uplinks;
    for interface in interfaces(config) {
        let rp_filter = format!("net/ipv4/conf/{interface}/rp_filter");
        // The higher value of `all` and the device counts: loose (2) is higher than strict (1).
        let too_strict =
            value(&rp_filter).is_some_and(|own| own == "1" || own == "0" && all_strict);
        if too_strict && !by_nft.contains(interface) {
            wanted.push((rp_filter, "2".into()));
        }
        let accept_ra = format!("net/ipv6/conf/{interface}{ACCEPT_RA}");
        if has_lan && strict(&accept_ra) {
            wanted.push((accept_ra, "2".into()));
        }
    }
    wanted.extend(segments::wanted(config, uplinks, snapshot));
    let forwarding =
        Family::ALL.map(forwarding).into_iter().filter(|_| has_lan && !uplinks.is_empty());
    let reflection = REFLECTION.into_iter().filter(|_| config.local_balance);
    let shortcuts = config.accelerate.takes_shortcuts();
    let liberal = [LIBERAL, RESETS].into_iter().filter(|_| shortcuts);
    let off = forwarding.chain(reflection).chain(liberal).filter(|path| value(path) == Some("0"));
    wanted.extend(off.map(|path| (path.to_string(), "1".into())));
    let idle = value(UNACKNOWLEDGED).and_then(|seconds| seconds.parse().ok());
    if shortcuts && idle.is_some_and(|seconds: u64| seconds < IDLE) {
        wanted.push((UNACKNOWLEDGED.into(), IDLE.to_string()));
    }
    wanted
}

/// Returns the sysctls that still have linkbal's value, and that nothing needs any more, with their
/// values before: those of an interface that is no uplink and no LAN now, above all.
///
/// Some stay until linkbal goes:
///
/// - What connection tracking is told for shortcuts: it has not seen most packets of flows that took
///   some, and would take the next ones for invalid.
/// - What interfaces need that share a segment: an address that is away for a moment comes back.
/// - That an interface accepts router advertisements: linkbal's forwarding would end it.
pub(super) fn given_back(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
) -> Vec<(String, String)> {
    let mut as_before = Snapshot {
        sysctls: snapshot.sysctls.clone(),
        sysctls_before: snapshot.sysctls_before.clone(),
        ..Snapshot::default()
    };
    as_before.sysctls.extend(snapshot.sysctls_before.clone());
    let wanted: Vec<String> =
        wanted(config, uplinks, &as_before).into_iter().map(|(path, _)| path).collect();
    let forwards = wanted.iter().any(|path| path == forwarding(Family::Ipv6));
    let segments: BTreeSet<String> = of_segments(config).collect();
    let stays = |path: &String| {
        wanted.contains(path)
            || [LIBERAL, RESETS, UNACKNOWLEDGED].contains(&&**path)
            || segments.contains(path)
            || forwards && path.ends_with(ACCEPT_RA)
    };
    let ours = snapshot
        .sysctls_set
        .iter()
        .filter(|(path, value)| snapshot.sysctls.get(*path) == Some(value) && !stays(path));
    let before = ours.filter_map(|(path, value)| {
        let before = snapshot.sysctls_before.get(path).filter(|before| *before != value)?;
        Some((path.clone(), before.clone()))
    });
    before.collect()
}

#[cfg(test)]
mod tests;
