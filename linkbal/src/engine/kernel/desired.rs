//! The desired network state, from configuration, observation and health.

mod devices;
mod firewall;
mod segments;
mod source_validation;
mod sources;
mod sysctls;
mod tables;
mod tunnels;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use ipnet::IpNet;
use linkbal_common::{
    mark::{DROP, MarkMask, REJECT},
    tables::{SHARED, bypass},
    uplink::{Family, UpMask},
};

use self::{
    devices::device_rules,
    sources::{own_addresses, source_rules},
    tables::{everything, has_held_address_only},
};
pub use self::{
    firewall::established,
    sources::{own, preferred, rank, shared_addresses, uplink_addresses, uplinks_mtu},
    sysctls::{LIBERAL, is_strict, watched as watched_sysctls},
};
use super::{
    lan,
    network::{
        IpRule, LOOPBACK, Link, PROTOCOL, Route, RouteKind, Snapshot, TABLE_LOCAL, TABLE_MAIN,
    },
    nft_text::{self, Nft, NftExempt, NftUplink, flowtable::NftFlowtable},
};
use crate::{
    config::{
        Accelerate, Bond, Config, Exempt, Otherwise, Uplink,
        kernel_numbers::{
            PRIORITY_FORWARDED, PRIORITY_FWMARK, PRIORITY_MAIN, PRIORITY_MAIN_FIRST,
            PRIORITY_UNMARKED,
        },
    },
    engine::indexed::Indexed,
};

/// Metric of an uplink's default route in its own table.
const METRIC: u32 = 1;

/// Maximum number of prefixes that the datapath leaves alone; more are left to the ip rules.
const MAX_BYPASS: usize = 16_000;

/// The desired network state, as far as it is linkbal's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Bonds.
    pub bonds: Vec<Bond>,
    /// Routes with linkbal's protocol number; exactly these.
    pub routes: BTreeSet<Route>,
    /// ip rules with linkbal's protocol number; exactly these.
    pub rules: BTreeSet<IpRule>,
    /// Sysctls that linkbal has changed and no longer needs, with their values before.
    pub given_back: Vec<(String, String)>,
    /// Values of sysctls, in the order of writing.
    pub sysctls: Vec<(String, String)>,
    /// The nft table.
    pub nft: String,
    /// The nft table of the flowtable; `None` for none.
    pub flowtable: Option<String>,
}

/// Computes the desired state.
pub fn desired(config: &Config, uplinks: &[Indexed], snapshot: &Snapshot, up: UpMask) -> Desired {
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| kernel_has(snapshot, *family)).collect();
    let mut desired = Desired { bonds: config.bonds.clone(), ..Desired::default() };
    for family in families {
        let known = tables::known_networks(snapshot, family);
        for indexed in uplinks.iter().filter(|indexed| indexed.config.carries(family)) {
            desired
                .routes
                .extend(tables::default_routes(config, uplinks, indexed, snapshot, family));
            let known = known.iter().flatten().copied().collect::<Vec<_>>();
            desired.routes.extend(tables::repeated(config, uplinks, indexed, snapshot, &known));
            desired.routes.extend(tables::link_local(config, indexed, snapshot, family));
            desired.rules.extend(source_rules(config, uplinks, indexed, snapshot, family));
            desired.rules.insert(fwmark_rule(config, indexed.index, family));
        }
        desired.rules.insert(forwarded_rule(config, family));
        desired.rules.extend(device_rules(config, uplinks, snapshot, up, family));
        for (number, kind) in blocked_kinds(config) {
            desired.routes.insert(blocked_route(config, number, kind, family));
            desired.rules.insert(fwmark_rule(config, number, family));
        }
        let (routes, rules) = tunnels::outer(config, uplinks, snapshot, up, family);
        desired.routes.extend(routes);
        desired.rules.extend(rules);
        desired.routes.extend(tables::unmarked_route(config, uplinks, snapshot, up, family));
        desired.rules.extend(main_rules(config, known.is_some(), family));
        desired.rules.insert(IpRule {
            table: config.kernel.table_unmarked(),
            ..rule(config, family, PRIORITY_UNMARKED)
        });
    }
    desired.given_back = sysctls::given_back(config, uplinks, snapshot);
    desired.sysctls = sysctls::wanted(config, uplinks, snapshot);
    let given_back: BTreeSet<_> = desired.given_back.iter().map(|(path, _)| path).collect();
    desired.sysctls.retain(|(path, _)| !given_back.contains(path));
    desired.nft = nft(config, uplinks, snapshot);
    desired.flowtable = flowtable(config, uplinks, snapshot);
    desired
}

/// Returns whether the kernel has a family. One without IPv6 shows no IPv6 rules, not even the
/// initial ones.
fn kernel_has(snapshot: &Snapshot, family: Family) -> bool {
    snapshot.rules.iter().any(|rule| rule.family == family)
}

const fn rule(config: &Config, family: Family, priority: u32) -> IpRule {
    IpRule {
        family,
        priority: config.kernel.priority(priority),
        source: None,
        destination: None,
        from_here: false,
        fwmark: None,
        device: None,
        table: 0,
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: PROTOCOL,
        more: String::new(),
    }
}

/// Returns the sort key of an uplink; the least is the best one.
fn preference(indexed: &Indexed, up: UpMask, family: Family) -> (bool, u32, Reverse<u32>, &String) {
    let Uplink { name, tier, weight, .. } = &*indexed.config;
    (!up.contains(indexed.index, family), *tier, Reverse(*weight), name)
}

/// Returns the rules of the main table but for its default routes.
///
/// Answers have no uplink's number: a rule for unmarked packets spares them those of all uplinks.
fn main_rules(config: &Config, repeated: bool, family: Family) -> Vec<IpRule> {
    let at = |priority| IpRule {
        table: TABLE_MAIN,
        suppress_prefix_length: Some(0),
        ..rule(config, family, priority)
    };
    if !repeated {
        return vec![at(PRIORITY_MAIN_FIRST)];
    }
    let number = MarkMask(config.kernel.fwmark_mask).number();
    let unmarked = IpRule { fwmark: Some((0, number)), ..at(PRIORITY_MAIN_FIRST) };
    vec![unmarked, at(PRIORITY_MAIN)]
}

/// Returns the rule that spares forwarded packets those for local traffic, of which there are as many as
/// uplinks. No sender of theirs has chosen a device.
fn forwarded_rule(config: &Config, family: Family) -> IpRule {
    IpRule {
        forwarded_goto: Some(config.kernel.priority(PRIORITY_MAIN_FIRST)),
        ..rule(config, family, PRIORITY_FORWARDED)
    }
}

/// Returns the rule by which the number of an uplink, or of what is blocked, leads to its table.
fn fwmark_rule(config: &Config, number: u32, family: Family) -> IpRule {
    let mask = MarkMask(config.kernel.fwmark_mask);
    IpRule {
        fwmark: Some((mask.encode(number), mask.number())),
        table: config.kernel.table(number),
        ..rule(config, family, PRIORITY_FWMARK + number)
    }
}

/// Returns what the user's blocking rules need: the number in the fwmark, and the kind of route.
fn blocked_kinds(config: &Config) -> Vec<(u32, RouteKind)> {
    let kinds = [
        (DROP, RouteKind::Blackhole, Otherwise::Drop),
        (REJECT, RouteKind::Unreachable, Otherwise::Reject),
    ];
    let wanted = |otherwise| config.rules.iter().any(|rule| rule.otherwise == otherwise);
    let kinds = kinds.into_iter().filter(|(_, _, otherwise)| wanted(*otherwise));
    kinds.map(|(number, kind, _)| (number, kind)).collect()
}

fn blocked_route(config: &Config, number: u32, kind: RouteKind, family: Family) -> Route {
    Route {
        table: config.kernel.table(number),
        destination: everything(family),
        metric: METRIC,
        kind,
        nexthop: None,
        ifindex: None,
        onlink: false,
        protocol: PROTOCOL,
        mtu: None,
    }
}

/// Returns whether other uplinks use the interface of an uplink.
pub fn shares_interface(uplinks: &[Indexed], indexed: &Indexed) -> bool {
    let interface = &indexed.config.interface;
    uplinks.iter().filter(|other| other.config.interface == *interface).count() > 1
}

fn nft(config: &Config, uplinks: &[Indexed], snapshot: &Snapshot) -> String {
    let mask = MarkMask(config.kernel.fwmark_mask);
    let each = uplinks.iter().map(|indexed| {
        let shared = shares_interface(uplinks, indexed);
        let own = |family| own_addresses(uplinks, indexed, snapshot, family);
        NftUplink {
            ifname: indexed.config.interface.clone(),
            ifindex: snapshot.link(&indexed.config.interface).map(|link| link.ifindex),
            index: indexed.index,
            sole_on_interface: !shared,
            addresses: Family::ALL.into_iter().flat_map(own).collect(),
            prefixes: indexed.config.prefixes().collect(),
            npt: indexed.config.npt(),
            translates: translated_families(&indexed.config),
            mtu: indexed.config.mtu,
            virtual_addresses: indexed.config.virtual_addresses.clone(),
            foreign: firewall::foreign_networks(uplinks, indexed, snapshot),
            strangers: firewall::strangers(uplinks, indexed, snapshot),
        }
    });
    let exempt = exempt(config, uplinks);
    let uplinks: Vec<_> = each.collect();
    let (lan, lan_indexes): (Vec<_>, Vec<_>) = lan::present(config, snapshot)
        .into_iter()
        .map(|link| (link.name.clone(), link.ifindex))
        .unzip();
    let known = |link: &Link| {
        link.name == LOOPBACK
            || link.port
            || lan.contains(&link.name)
            || uplinks.iter().any(|uplink| uplink.ifname == link.name)
    };
    let others = snapshot.links.values().any(|link| link.up && !known(link));
    let bridged = sysctls::bridges_call_nft(snapshot)
        && snapshot.links.values().any(|link| link.up && link.port);
    let ipsec = snapshot.sysctls.contains_key(sysctls::IPSEC);
    let firewall = firewall::firewall(config, snapshot);
    let validation = source_validation::by_nft(config, snapshot);
    nft_text::ruleset(&Nft {
        uplinks,
        mask,
        lan,
        lan_indexes,
        others,
        bridged,
        ipsec,
        exempt,
        firewall,
        validation,
    })
}

/// Returns the text of the flowtable's table, if flows use one. Uplinks that share an interface are
/// left out: who tells the datapath which of them a packet has is nft, which these packets pass by
/// (see [`linkbal_common::learn`]).
fn flowtable(config: &Config, uplinks: &[Indexed], snapshot: &Snapshot) -> Option<String> {
    if config.accelerate != Accelerate::Flowtable {
        return None;
    }
    let used =
        |indexed: &&Indexed| indexed.config.accelerate && !shares_interface(uplinks, indexed);
    let used: Vec<&Indexed> = uplinks.iter().filter(used).collect();
    let outside = used.iter().filter_map(|indexed| snapshot.link(&indexed.config.interface));
    let inside = lan::present(config, snapshot).into_iter();
    let inside = inside.filter(|link| !lan::is_excepted(config, &link.name));
    let links = inside.chain(outside);
    let table = NftFlowtable {
        devices: links.map(|link| (link.name.clone(), link.ifindex)).collect(),
        uplinks: used.iter().map(|indexed| indexed.index).collect(),
    };
    Some(nft_text::flowtable::ruleset(&table, MarkMask(config.kernel.fwmark_mask)))
}

/// Returns the families in which an uplink translates sources that are not its own.
pub(in crate::engine) fn translated_families(uplink: &Uplink) -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| uplink.translates(*family)).collect()
}

/// Returns the exemptions from translation, with uplinks by index. An uplink that is named only
/// while another configuration is in force matches nothing.
pub(in crate::engine) fn exempt(config: &Config, uplinks: &[Indexed]) -> Vec<NftExempt> {
    let indexes = |exempt: &Exempt| -> Vec<u32> {
        let named = uplinks.iter().filter(|of| exempt.uplinks.contains(&of.config.name));
        named.map(|indexed| indexed.index).collect()
    };
    let each = config.exempt.iter().map(|exempt| NftExempt {
        source: exempt.source.clone(),
        destination: exempt.destination.clone(),
        uplinks: (!exempt.uplinks.is_empty()).then(|| indexes(exempt)),
    });
    each.collect()
}

/// Returns the index of the uplink on each interface, or [`SHARED`], as the datapath needs it.
pub fn uplink_interfaces(uplinks: &[Indexed], snapshot: &Snapshot) -> BTreeMap<u32, u32> {
    let each = uplinks.iter().filter_map(|indexed| {
        let link = snapshot.link(&indexed.config.interface)?;
        let shared = shares_interface(uplinks, indexed);
        Some((link.ifindex, if shared { SHARED } else { indexed.index }))
    });
    each.collect()
}

/// Returns the destinations that the main table or this machine itself takes, with who routes them,
/// and by which interface: [`linkbal_common::tables::bypass`]. The datapath balances none of these.
///
/// Destinations that are exempt from translation without an uplink are among them: IPsec policies
/// lead there, whatever the route. Connections in a tunnel have no uplink's address, so they go on
/// when the tunnel finds another way, and must not end with an uplink.
pub fn bypass(exempt: &[Exempt], uplinks: &[Indexed], snapshot: &Snapshot) -> BTreeMap<IpNet, u32> {
    let of_uplinks = uplinks.iter().map(|indexed| &indexed.config.interface);
    let of_uplinks: BTreeSet<u32> =
        of_uplinks.filter_map(|name| Some(snapshot.link(name)?.ifindex)).collect();
    let in_table = |table| {
        let routes = snapshot.routes.iter();
        routes.filter(move |route| route.table == table && !route.is_default())
    };
    // Of routes to one destination, the best comes last, and so prevails.
    let mut of_main: Vec<_> = in_table(TABLE_MAIN).collect();
    of_main.sort_by_key(|route| Reverse(route.metric));
    let of_main = of_main.into_iter().map(|route| {
        let leads_out = route.ifindex.is_some_and(|ifindex| of_uplinks.contains(&ifindex));
        let routed_by = if leads_out { bypass::UPLINK } else { bypass::MAIN };
        let known = route.ifindex.filter(|ifindex| *ifindex < bypass::NOWHERE);
        (route.destination.trunc(), bypass::by(routed_by, known.unwrap_or(bypass::NOWHERE)))
    });
    let local = in_table(TABLE_LOCAL).map(|route| (route.destination.trunc(), bypass::MAIN));
    // Addresses of this machine come last, and so prevail.
    let own: BTreeMap<IpNet, u32> = local.collect();
    let room = MAX_BYPASS.saturating_sub(own.len());
    let exempt = exempt.iter().filter(|exempt| exempt.follows_routes());
    let exempt = exempt.flat_map(|exempt| &exempt.destination);
    let exempt = exempt.map(|destination| (*destination, bypass::UPLINK));
    let main: BTreeMap<IpNet, u32> = exempt.chain(of_main).collect();
    main.into_iter().take(room).chain(own).collect()
}

#[cfg(test)]
mod tests;
