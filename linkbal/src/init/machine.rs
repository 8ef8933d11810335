//! Facts about the machine as a whole, in sentences.

use linkbal_common::uplink::Family;

use super::{facts::Facts, model::Proposal};
use crate::engine::kernel::{conflict::survey::Survey, network::forwarding};

/// Oldest kernel on which linkbal runs.
const OLDEST: (u32, u32) = (6, 1);

/// Number of tracked connections that a busy network reaches.
const FEW_CONNECTIONS: u32 = 32_768;

/// The sysctl of the most tracked connections.
const CONNTRACK: &str = "net/netfilter/nf_conntrack_max";

/// Returns what is worth saying of the machine.
pub(super) fn sentences(facts: &Facts, proposal: &Proposal) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(version) = version(&facts.kernel)
        && version < OLDEST
    {
        let (major, minor) = OLDEST;
        all.push(format!(
            "Linux {} is too old: linkbal needs {major}.{minor} or later",
            facts.kernel
        ));
    }
    let sysctl = |path: &str| facts.snapshot.sysctls.get(path).map(|value| value.trim());
    if !proposal.lan.is_empty() && sysctl(forwarding(Family::Ipv4)) == Some("0") {
        all.push("it does not forward packets yet: linkbal turns that on when it starts".into());
    }
    let strict: Vec<&str> = proposal
        .uplinks
        .iter()
        .map(|uplink| &*uplink.interface)
        .filter(|name| sysctl(&rp_filter(name)) == Some("1"))
        .collect();
    if !strict.is_empty() || sysctl(&rp_filter("all")) == Some("1") {
        all.push(
            "its reverse path filter is strict: linkbal makes it loose on the uplinks when it starts"
                .into(),
        );
    }
    let firewalls = firewalls(&facts.survey);
    if !firewalls.is_empty() {
        let verb = if firewalls.len() == 1 { "filters" } else { "filter" };
        let names = firewalls.join(" and ");
        all.push(format!("{names} {verb} packets here: what is refused there stays refused"));
    }
    if let Some(ipsec) = &facts.ipsec {
        all.push(format!(
            "{ipsec}: the networks that it reaches need an entry without uplink in `exempt` of [nat]"
        ));
    }
    let room = sysctl(CONNTRACK).and_then(|value| value.parse::<u32>().ok());
    if let Some(room) = room.filter(|room| *room < FEW_CONNECTIONS) {
        all.push(format!(
            "it tracks at most {room} connections, which a busy network fills: set net.netfilter.nf_conntrack_max \
             higher"
        ));
    }
    all
}

/// Returns the firewalls that filter what is forwarded.
fn firewalls(survey: &Survey) -> Vec<&'static str> {
    const NAMES: [(&str, &str); 4] = [
        ("firewalld", "firewalld"),
        ("ufw", "ufw"),
        ("fw4", "OpenWrt's firewall"),
        ("DOCKER", "Docker"),
    ];
    let has = |start: &str| {
        survey.chains.iter().any(|chain| chain.split(' ').any(|name| name.starts_with(start)))
    };
    let known = NAMES.iter().filter(|(start, _)| has(start)).map(|(_, name)| *name);
    let known: Vec<&str> = known.collect();
    let filtered = Family::ALL.iter().any(|family| survey.forward[*family]);
    if known.is_empty() && filtered { vec!["a firewall"] } else { known }
}

/// Returns the sysctls that are looked at.
pub(super) fn sysctls(interfaces: impl Iterator<Item = String>) -> Vec<String> {
    let own = interfaces.map(|name| rp_filter(&name));
    [forwarding(Family::Ipv4).to_owned(), rp_filter("all"), CONNTRACK.to_owned()]
        .into_iter()
        .chain(own)
        .collect()
}

fn rp_filter(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/rp_filter")
}

/// Returns the first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
