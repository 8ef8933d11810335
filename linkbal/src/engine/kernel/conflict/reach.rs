//! Packets of the LAN that an ip rule of others can take before linkbal's rules.

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{possible_marks::Marks, survey::Survey};
use crate::{
    config::Config,
    engine::kernel::network::{IpRule, Route, RouteKind, Snapshot, TABLE_LOCAL, TABLE_MAIN},
};

/// The selectors of a rule besides source and fwmark, and its action, from the words of
/// [`IpRule::more`], and from [`IpRule::forwarded_goto`], which takes all packets of the LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selectors<'a> {
    not: bool,
    to: Option<IpNet>,
    iif: Option<&'a str>,
    oif: bool,
    l3mdev: bool,
    tunnel: bool,
    uids: Option<(u32, u32)>,
    /// Set if it matches type of service, protocol or ports: some packets have them.
    partial: bool,
    goto: Option<u32>,
    refusal: Option<&'a str>,
}

fn selectors(rule: &IpRule) -> Selectors<'_> {
    let mut found = Selectors { goto: rule.forwarded_goto, ..Selectors::default() };
    let mut words = rule.more.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "not" => found.not = true,
            "to" => found.to = words.next().and_then(|to| to.parse().ok()),
            "iif" => found.iif = words.next(),
            "oif" => found.oif = words.next().is_some(),
            "l3mdev" => found.l3mdev = true,
            "tun_id" => found.tunnel = words.next().is_some(),
            "uidrange" => {
                let range = words.next().and_then(|range| range.split_once('-'));
                found.uids =
                    range.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            }
            "tos" | "ipproto" | "sport" | "dport" => found.partial = words.next().is_some(),
            "goto" => found.goto = words.next().and_then(|to| to.parse().ok()),
            "blackhole" | "unreachable" | "prohibit" => found.refusal = Some(word),
            _ => {}
        }
    }
    found
}

/// The packets that a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All packets of the family.
    All,
    /// Packets of the LAN that the rule selects.
    OfLan,
    /// Packets with the address of an uplink.
    OfUplink,
}

/// The action of a rule on the packets that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleEffect<'a> {
    /// The table routes them somewhere.
    Table,
    /// The table delivers them on this machine: a transparent proxy.
    Here,
    /// The rule refuses or drops them.
    Refused(&'a str),
    /// The rule goes to this priority, and skips linkbal's rules.
    Skips(u32),
}

/// Returns the networks of the LAN: addresses of its interfaces, and routes that lead there.
pub(super) fn lan_networks(config: &Config, snapshot: &Snapshot) -> Vec<IpNet> {
    let lan = |ifindex: u32| {
        let link = snapshot.links.get(&ifindex);
        link.is_some_and(|link| config.lan_interfaces.contains(&link.name))
    };
    let addresses = snapshot.addresses.iter().filter(|address| lan(address.ifindex));
    let own =
        addresses.filter_map(|address| IpNet::new(address.address, address.prefix_length).ok());
    let routed = snapshot.routes.iter().filter(|route| {
        let unicast = route.kind == RouteKind::Unicast && !route.is_default();
        unicast && route.table == TABLE_MAIN && route.ifindex.is_some_and(lan)
    });
    own.chain(routed.map(|route| route.destination)).map(|net| net.trunc()).collect()
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Returns the packets of the LAN that a rule takes, if any, and the action on them. `marks` are
/// those that packets of the LAN may carry.
pub(super) fn takes<'a>(
    config: &Config,
    snapshot: &Snapshot,
    marks: &Marks<'_>,
    rule: &'a IpRule,
) -> Option<(Taken, RuleEffect<'a>)> {
    if rule.device.is_some() {
        // A forwarded packet has no output device yet.
        return None;
    }
    let asked = selectors(rule);
    let taken = selected(config, snapshot, marks, rule, &asked)?;
    let effect = match (asked.goto, asked.refusal) {
        (Some(to), _) => (to > config.kernel.rule_priority).then_some(RuleEffect::Skips(to)),
        (None, Some(refusal)) => Some(RuleEffect::Refused(refusal)),
        (None, None) => leads(snapshot, rule, asked.to, taken == Taken::OfUplink),
    }?;
    if taken == Taken::OfUplink && effect == RuleEffect::Table && leads_home(config, snapshot, rule)
    {
        return None;
    }
    Some((taken, effect))
}

fn selected(
    config: &Config,
    snapshot: &Snapshot,
    marks: &Marks<'_>,
    rule: &IpRule,
    asked: &Selectors<'_>,
) -> Option<Taken> {
    let lan: Vec<IpNet> = lan_networks(config, snapshot);
    let lan: Vec<IpNet> = lan.into_iter().filter(|net| family(*net) == rule.family).collect();
    let source = rule.source.filter(|source| source.prefix_len() != 0);
    let all = source.is_none() && asked.to.is_none() && asked.iif.is_none() && !asked.partial;
    if asked.oif || asked.l3mdev || asked.tunnel || asked.uids.is_some_and(|(from, _)| from > 0) {
        // A forwarded packet has no output device yet, no VRF unless its device has one, and root
        // for its owner (ip_route_input_slow in net/ipv4/route.c).
        return (asked.not && !asked.l3mdev).then_some(Taken::OfLan);
    }
    if asked.not {
        let everything = all && rule.fwmark.is_none();
        let whole_lan = !lan.is_empty()
            && rule.fwmark.is_none()
            && asked.to.is_none()
            && !asked.partial
            && source.is_none_or(|source| lan.iter().all(|net| source.contains(net)))
            && asked.iif.is_none_or(|iif| config.lan_interfaces == [iif]);
        return (!everything && !whole_lan).then_some(if all { Taken::All } else { Taken::OfLan });
    }
    if asked.iif.is_some_and(|iif| !config.lan_interfaces.iter().any(|lan| lan == iif)) {
        return None;
    }
    if asked.to.is_some_and(|to| is_internal(to) || is_known(snapshot, to)) {
        return None;
    }
    if rule.fwmark.is_some_and(|(value, mask)| !marks.may_be(value, mask)) {
        return None;
    }
    match source {
        None if all && rule.fwmark.is_none() => Some(Taken::All),
        None => Some(Taken::OfLan),
        Some(source) if lan.iter().any(|net| overlap(*net, source)) => Some(Taken::OfLan),
        Some(source) => uplink_of(config, snapshot, source).map(|_| Taken::OfUplink),
    }
}

/// Returns the device of the uplink that holds an address in `source`.
fn uplink_of(config: &Config, snapshot: &Snapshot, source: IpNet) -> Option<u32> {
    let mut addresses = snapshot.addresses.iter().filter(|address| {
        let link = snapshot.links.get(&address.ifindex);
        link.is_some_and(|link| config.uplinks.iter().any(|uplink| uplink.interface == link.name))
    });
    addresses.find(|address| source.contains(&address.address)).map(|address| address.ifindex)
}

/// Returns whether the table of a rule leads packets with an uplink's address out of that uplink's
/// device.
fn leads_home(config: &Config, snapshot: &Snapshot, rule: &IpRule) -> bool {
    let home = rule.source.and_then(|source| uplink_of(config, snapshot, source));
    let mut routes = routes(snapshot, rule).filter(|route| route.is_default());
    routes.all(|route| route.ifindex == home)
}

fn routes<'a>(snapshot: &'a Snapshot, rule: &'a IpRule) -> impl Iterator<Item = &'a Route> {
    snapshot.routes.iter().filter(|route| {
        let suppressed = rule.suppress_prefix_length;
        let counts =
            suppressed.is_none_or(|length| u32::from(route.destination.prefix_len()) > length);
        counts && route.table == rule.table && route.family() == rule.family
    })
}

fn leads<'a>(
    snapshot: &Snapshot,
    rule: &IpRule,
    to: Option<IpNet>,
    own: bool,
) -> Option<RuleEffect<'a>> {
    if rule.table == 0 || rule.table == TABLE_LOCAL || own && rule.table == TABLE_MAIN {
        return None;
    }
    let reaches = |routes: Vec<IpNet>| match to {
        Some(to) => routes.iter().any(|net| overlap(*net, to)),
        None => covers_internet(&routes),
    };
    let of = |local: bool| -> Vec<IpNet> {
        let routes =
            routes(snapshot, rule).filter(|route| (route.kind == RouteKind::Local) == local);
        routes.map(|route| route.destination).collect()
    };
    if reaches(of(true)) {
        return Some(RuleEffect::Here);
    }
    reaches(of(false)).then_some(RuleEffect::Table)
}

/// Returns whether routes to these networks take a good part of the internet: a default route, or
/// several for parts of it, as VPN clients create them.
pub(super) fn covers_internet(networks: &[IpNet]) -> bool {
    /// An eighth of the internet, as a prefix length.
    const SHARE: u32 = 3;
    let global: IpNet = "2000::/3".parse().unwrap_or_default();
    let (mut v4, mut v6) = (0_u128, 0_u128);
    for network in IpNet::aggregate(&networks.to_vec()) {
        let length = u32::from(network.prefix_len());
        match network {
            IpNet::V4(_) => v4 = v4.saturating_add(1 << 32_u32.saturating_sub(length).min(32)),
            IpNet::V6(_) if network.contains(&global) => return true,
            IpNet::V6(_) if global.contains(&network) => {
                v6 = v6.saturating_add(1 << 128_u32.saturating_sub(length).min(125));
            }
            IpNet::V6(_) => {}
        }
    }
    v4 >= 1 << (32 - SHARE) || v6 >= 1 << (125 - SHARE)
}

const fn family(net: IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::Ipv4,
        IpNet::V6(_) => Family::Ipv6,
    }
}

/// Returns whether a network has no addresses on the internet.
pub(super) fn is_internal(net: IpNet) -> bool {
    const INTERNAL: [&str; 9] = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "fc00::/7",
        "fe80::/9",
    ];
    let mut internal = INTERNAL.iter().filter_map(|net| net.parse::<IpNet>().ok());
    internal.any(|known| known.contains(&net))
}

/// Returns whether the main table has a route to a network besides wide ones: linkbal leaves that
/// alone, too.
fn is_known(snapshot: &Snapshot, net: IpNet) -> bool {
    let mut known = snapshot.routes.iter().filter(|route| route.table == TABLE_MAIN);
    known.any(|route| route.destination.prefix_len() > 1 && route.destination.contains(&net))
}

/// Returns the `ip rule delete` command for a rule.
pub(super) fn delete(rule: &IpRule) -> String {
    let program = if rule.family == Family::Ipv6 { "ip -6" } else { "ip" };
    let (not, more) = match rule.more.strip_prefix("not") {
        Some(rest) => (" not", rest.trim_start()),
        None => ("", rule.more.as_str()),
    };
    let words = IpRule { more: more.to_lowercase(), ..rule.clone() }.words();
    format!("{program} rule delete pref {}{not}{words}", rule.priority)
}

/// Returns whether a rule takes all packets.
pub(super) fn catches_everything(config: &Config, snapshot: &Snapshot, rule: &IpRule) -> bool {
    let survey = Survey::default();
    let marks = Marks::of(config, &survey);
    takes(config, snapshot, &marks, rule).is_some_and(|(taken, _)| taken == Taken::All)
}
