//! Routes that the kernel really takes for packets of the LAN, compared with those of linkbal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{
    Conflict,
    lookup::{LookedUpRoute, RouteAnswer, RouteQuestion},
    reach,
};
use crate::{
    config::{Config, Target},
    engine::{
        indexed::Indexed,
        kernel::network::{IpRule, PROTOCOL, Route, RouteKind, Snapshot, TABLE_MAIN, table_name},
    },
};

/// Destinations on the internet to look up where no probe target will do; nothing is sent there.
const PLACES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
];

/// Maximum number of rules in between that are named.
const MAX_RULES: usize = 4;

/// Returns the questions: for each uplink and family whose rules are in force, and for packets
/// without a mark. There are none in a family that is not forwarded: the kernel has no way for any
/// packet of the LAN then (`ip_route_input_slow` in net/ipv4/route.c), whatever the routes.
pub fn questions(config: &Config, uplinks: &[Indexed], snapshot: &Snapshot) -> Vec<RouteQuestion> {
    let mask = MarkMask(config.kernel.fwmark_mask);
    let each = uplinks.iter().map(|indexed| {
        let name = Some(indexed.config.name.clone());
        (name, mask.encode(indexed.index), config.kernel.table(indexed.index))
    });
    let each: Vec<_> = each.chain([(None, 0, config.kernel.table_unmarked())]).collect();
    let mut questions = Vec::new();
    for family in Family::ALL.into_iter().filter(|family| snapshot.forwards(*family)) {
        let destination = destination(config, snapshot, family);
        let (Some((iif, source)), Some(destination)) =
            (source(config, snapshot, family), destination)
        else {
            continue;
        };
        for (uplink, fwmark, table) in each.iter().cloned() {
            if let Some(route) = default_of(snapshot, family, fwmark, table)
                && let Some(oif) = route.ifindex
            {
                let gateway = route.nexthop;
                questions.push(RouteQuestion {
                    family,
                    uplink,
                    fwmark,
                    iif,
                    source,
                    destination,
                    table,
                    oif,
                    gateway,
                });
            }
        }
    }
    questions
}

/// Returns the default route that linkbal's rules lead a mark to, if both are in force.
fn default_of(snapshot: &Snapshot, family: Family, fwmark: u32, table: u32) -> Option<&Route> {
    let leads = |rule: &IpRule| {
        let (value, mask) = rule.fwmark.unwrap_or_default();
        let ours = rule.protocol == PROTOCOL && rule.family == family && rule.table == table;
        ours && rule.source.is_none() && fwmark & mask == value
    };
    snapshot.rules.iter().any(leads).then_some(())?;
    snapshot.routes.iter().find(|route| {
        let ours = route.protocol == PROTOCOL && route.kind == RouteKind::Unicast;
        ours && route.is_default() && route.table == table && route.family() == family
    })
}

const fn is_of(family: Family, address: IpAddr) -> bool {
    matches!(family, Family::Ipv4) == address.is_ipv4()
}

/// Returns an interface of the LAN, and a host there.
fn source(config: &Config, snapshot: &Snapshot, family: Family) -> Option<(u32, IpAddr)> {
    let addresses = snapshot.addresses.iter().filter(|address| {
        let link = snapshot.links.get(&address.ifindex);
        let lan = link.is_some_and(|link| link.up && config.lan_interfaces.contains(&link.name));
        let link_local = matches!(address.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        lan && is_of(family, address.address) && !link_local
    });
    let own = |host: IpAddr| snapshot.addresses.iter().any(|address| address.address == host);
    // Addresses of providers have rules of their own.
    let leads = |host: IpAddr| {
        let mut rules = snapshot.rules.iter().filter(|rule| rule.protocol == PROTOCOL);
        rules.any(|rule| rule.source.is_some_and(|source| source.contains(&host)))
    };
    let mut hosts = addresses.filter_map(|address| {
        let net = IpNet::new(address.address, address.prefix_length).ok()?;
        let host = (1..4).filter_map(|bits| neighbour(address.address, bits)).find(|host| {
            let edge = *host == net.network() || *host == net.broadcast();
            net.contains(host) && !edge && !own(*host) && !leads(*host)
        })?;
        Some((address.ifindex, host))
    });
    hosts.next()
}

/// Returns an address with some of its last bits flipped.
fn neighbour(address: IpAddr, bits: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() ^ u32::from(bits)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() ^ u128::from(bits)).into(),
    })
}

/// Returns a destination that neither the main nor the local table knows.
fn destination(config: &Config, snapshot: &Snapshot, family: Family) -> Option<IpAddr> {
    let targets = config.uplinks.iter().flat_map(|uplink| &uplink.probe.targets);
    let targets = targets.filter_map(Target::address);
    let mut places = targets.chain(PLACES).filter(|place| is_of(family, *place));
    places.find(|place| {
        let mut known = snapshot.routes.iter().filter(|route| route.table <= TABLE_MAIN + 1);
        !known.any(|route| {
            // Wide routes of others are what this is to find.
            let network = route.destination.prefix_len() > 7;
            network && route.table >= TABLE_MAIN && route.destination.contains(place)
        })
    })
}

/// Returns packets that go elsewhere, though linkbal's rules and routes are in force.
pub fn find(config: &Config, snapshot: &Snapshot, paths: &[LookedUpRoute]) -> Vec<Conflict> {
    let astray = paths.iter().filter(|path| {
        let RouteQuestion { family, fwmark, table, oif, gateway, .. } = &path.question;
        // A route that has changed in the meantime is no conflict.
        let now = default_of(snapshot, *family, *fwmark, *table);
        let current = now.is_some_and(|now| now.ifindex == Some(*oif) && now.nexthop == *gateway);
        let other = match &path.answer {
            RouteAnswer::Route { table, .. } => !config.kernel.has_table(*table),
            RouteAnswer::Refused(_) => true,
        };
        path.astray() && current && other && snapshot.forwards(*family)
    });
    astray.map(|path| conflict(config, snapshot, path)).collect()
}

fn conflict(config: &Config, snapshot: &Snapshot, path: &LookedUpRoute) -> Conflict {
    let RouteQuestion { family, uplink, fwmark, iif, source, destination, .. } = &path.question;
    let device = |ifindex: &u32| {
        let link = snapshot.links.get(ifindex);
        link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
    };
    let wanted = uplink.as_ref().map_or("the best uplink".into(), |name| format!("uplink {name}"));
    let (goes, table) = match &path.answer {
        RouteAnswer::Route { table, oif, gateway } => {
            let out = oif.as_ref().map_or("this machine".into(), device);
            let by = gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            (format!("it goes to {out}{by}, by table {}", table_name(*table)), Some(*table))
        }
        RouteAnswer::Refused(words) => (format!("the kernel has no way for it: {words}"), None),
    };
    let between = between(config, snapshot, *family, table);
    let rules: Vec<String> =
        between.iter().map(|rule| format!("`{}`", reach::delete(rule))).collect();
    let advice = match rules.len() {
        0 => format!(
            "see `ip rule` and `ip route show table {}`",
            table_name(table.unwrap_or(TABLE_MAIN))
        ),
        _ => format!("delete the rules that come before linkbal's: {}", rules.join(", ")),
    };
    let named: Vec<String> = between.iter().map(|rule| format!("ip rule {rule}")).collect();
    Conflict {
        what: format!(
            "ip route get {destination} from {source} iif {}{}",
            device(iif),
            if *fwmark == 0 { String::new() } else { format!(" mark {fwmark:#x}") }
        ),
        owner: if named.is_empty() { "asked of the kernel".into() } else { named.join(", ") },
        meaning: format!(
            "a packet of the LAN that {wanted} should carry does not go there: {goes}"
        ),
        advice,
        compatible: false,
    }
}

/// Returns rules of others that come before linkbal's last one: only those that lead to `table`, if
/// there are any.
fn between<'a>(
    config: &Config,
    snapshot: &'a Snapshot,
    family: Family,
    table: Option<u32>,
) -> Vec<&'a IpRule> {
    let last = config.kernel.last_priority();
    let foreign = snapshot.rules.iter().filter(|rule| {
        let before = rule.priority > 0 && rule.priority <= last;
        before && rule.protocol != PROTOCOL && rule.family == family
    });
    let (exact, others): (Vec<_>, Vec<_>) =
        foreign.partition(|rule| table.is_some_and(|table| rule.table == table));
    let named = if exact.is_empty() { others } else { exact };
    named.into_iter().take(MAX_RULES).collect()
}
