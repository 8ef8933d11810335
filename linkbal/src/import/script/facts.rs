//! Facts that single commands of a script state, before they are put together.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::import::{
    model::Rule,
    note::Lines,
    shell::{Script, Variable},
};

/// Priority of the kernel's rule for the main table.
const MAIN: u32 = 32766;

/// A default route.
#[derive(Clone, Debug)]
pub(super) struct DefaultRoute {
    pub(super) gateway: Option<IpAddr>,
    pub(super) device: Option<String>,
    /// Empty for the main table.
    pub(super) table: String,
    pub(super) metric: Option<u32>,
    /// Weight of a next hop, if there are several.
    pub(super) weight: Option<u32>,
    pub(super) conditional: bool,
    /// Set for IPv6.
    pub(super) ipv6: bool,
    /// Largest packet, in bytes.
    pub(super) mtu: Option<u32>,
    pub(super) lines: Lines,
}

/// A default route that refuses what no other one of its table takes.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) table: String,
    /// The word of `otherwise`.
    pub(super) word: &'static str,
    pub(super) ipv6: bool,
    pub(super) lines: Lines,
}

/// A route to a host or a network by a gateway or a device.
#[derive(Clone, Debug)]
pub(super) struct HostRoute {
    pub(super) destination: String,
    pub(super) gateway: Option<IpAddr>,
    pub(super) device: Option<String>,
    pub(super) table: String,
    pub(super) lines: Lines,
}

/// An ip rule.
#[derive(Clone, Debug, Default)]
pub(super) struct IpRule {
    pub(super) words: Vec<(String, String)>,
    /// Empty for the main table.
    pub(super) table: String,
    /// Lower ones come first.
    pub(super) priority: u32,
    pub(super) fwmark: Option<u32>,
    /// The bits of a mark that count.
    pub(super) mask: u32,
    /// Reasons for which it can only be a comment.
    pub(super) broken: Vec<String>,
    pub(super) ipv6: bool,
    pub(super) lines: Lines,
}

impl IpRule {
    /// Returns whether packets with a mark fit it.
    pub(super) fn leads(&self, mark: u32) -> bool {
        self.fwmark.is_some_and(|own| (own ^ mark) & self.mask == 0)
    }
}

/// The target of a rule of iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Mark(u32),
    /// Leaves the chain.
    Return,
    /// Leaves the table.
    Accept,
    Jump(String),
    /// Goes to a chain that does not come back.
    Goto(String),
}

/// A rule of the table mangle.
#[derive(Clone, Debug)]
pub(super) struct Chained {
    pub(super) chain: String,
    pub(super) words: Vec<String>,
    pub(super) target: Target,
    /// Place in the chain, counted from 1, if it is not put behind all others.
    pub(super) place: Option<usize>,
    /// The bits of a mark that are set.
    pub(super) mask: u32,
    /// A reason for which it can only be a comment.
    pub(super) broken: Option<String>,
    pub(super) ipv6: bool,
    pub(super) lines: Lines,
}

/// Traffic that the script does not translate.
#[derive(Clone, Debug, Default)]
pub(super) struct Untranslated {
    /// Prefixes as TOML.
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    /// Set if the destinations are private: no uplink leads there, but a tunnel.
    pub(super) inside: bool,
    /// The device by which it leaves.
    pub(super) device: Option<String>,
    pub(super) scope: Scope,
    /// Set if it is what a rule that translates leaves out.
    pub(super) negated: bool,
    pub(super) lines: Lines,
}

/// Addresses that a rule of the table nat names.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// All of them if there are none.
    pub(super) sources: Option<Vec<IpNet>>,
    pub(super) destinations: Option<Vec<IpNet>>,
    pub(super) ipv6: bool,
}

/// A rule of the chain POSTROUTING.
#[derive(Clone, Debug)]
pub(super) enum Outward {
    Leaves(Untranslated),
    Translates {
        scope: Scope,
        device: Option<String>,
        /// Set if it has other conditions.
        others: bool,
    },
}

/// A rule of the table nat that translates what leaves.
#[derive(Clone, Debug)]
pub(super) struct Translating {
    /// The source, if it names one.
    pub(super) source: Option<String>,
    /// The device, if it names one.
    pub(super) device: Option<String>,
    /// Set if it translates to an address of the script.
    pub(super) to_address: bool,
    pub(super) lines: Lines,
}

/// A question to a host.
#[derive(Clone, Debug)]
pub(super) struct Ping {
    /// The target as TOML.
    pub(super) target: String,
    pub(super) host: Option<IpAddr>,
    pub(super) device: Option<String>,
    pub(super) lines: Lines,
}

/// A bond.
#[derive(Clone, Debug, Default)]
pub(super) struct BondFacts {
    pub(super) name: String,
    pub(super) options: Vec<(String, String, Lines)>,
    pub(super) members: Vec<(String, Lines)>,
    pub(super) lines: Lines,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) variables: Vec<Variable>,
    /// Names of the script's functions.
    pub(super) functions: BTreeSet<String>,
    pub(super) defaults: Vec<DefaultRoute>,
    pub(super) hosts: Vec<HostRoute>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) rules: Vec<IpRule>,
    /// Priorities of ip rules by which all packets look up the main table, and whether they are of IPv6.
    pub(super) to_main: Vec<(bool, u32)>,
    /// Rules of the table mangle, in the order of the script.
    pub(super) chained: Vec<Chained>,
    pub(super) pings: Vec<Ping>,
    pub(super) bonds: Vec<BondFacts>,
    /// Addresses with lengths of devices.
    pub(super) addresses: Vec<(String, String, Lines)>,
    /// MAC addresses and flags of devices: `promisc`, `mtu`.
    pub(super) links: Vec<(String, &'static str, String, Lines)>,
    /// Lines of default routes with values that only a run would tell.
    pub(super) unknown_defaults: Lines,
    /// Numbers and names of routing tables.
    pub(super) tables: Vec<(String, String)>,
    /// The chain POSTROUTING, as far as it is about the translation of addresses.
    pub(super) postrouting: Vec<Outward>,
    /// Rules that translate what leaves.
    pub(super) translating: Vec<Translating>,
    /// Devices by which packets leave translated.
    pub(super) outward: BTreeSet<String>,
    /// Masks of marks, but those of all bits.
    pub(super) masks: BTreeSet<u32>,
    /// Set if connections keep marks that packets get behind the choice of a line.
    pub(super) saves_late: bool,
    /// The chain whose last rule restores marks of connections, and the conditions of that rule.
    pub(super) restored: Option<(String, Rule)>,
    /// Sources of this machine's own packets.
    pub(super) own: Vec<IpAddr>,
    /// Set if another script is run.
    pub(super) runs_others: bool,
}

impl Scope {
    /// Returns whether all that `other` names is named.
    pub(super) fn covers(&self, other: &Scope) -> bool {
        let all = |own: &Option<Vec<IpNet>>, other: &Option<Vec<IpNet>>| match (own, other) {
            (None, _) => true,
            (Some(own), Some(other)) => {
                other.iter().all(|net| own.iter().any(|one| one.contains(net)))
            }
            (Some(_), None) => false,
        };
        self.ipv6 == other.ipv6
            && all(&self.sources, &other.sources)
            && all(&self.destinations, &other.destinations)
    }

    /// Returns whether something is named by both.
    pub(super) fn meets(&self, other: &Scope) -> bool {
        let some = |own: &Option<Vec<IpNet>>, other: &Option<Vec<IpNet>>| {
            let (Some(own), Some(other)) = (own, other) else { return true };
            let meet = |one: &IpNet| other.iter().any(|net| one.contains(net) || net.contains(one));
            own.iter().any(meet)
        };
        self.ipv6 == other.ipv6
            && some(&self.sources, &other.sources)
            && some(&self.destinations, &other.destinations)
    }
}

impl Facts {
    pub(super) fn new(script: &Script) -> Facts {
        let (variables, functions) = (script.variables.clone(), script.functions.clone());
        Facts { variables, functions, ..Facts::default() }
    }

    /// Names tables by their numbers alone, where the script says these.
    pub(super) fn join_tables(&mut self) {
        let Facts { tables, defaults, hosts, refusals, rules, .. } = self;
        let of_defaults = defaults.iter_mut().map(|route| &mut route.table);
        let of_hosts = hosts.iter_mut().map(|route| &mut route.table);
        let of_rules = rules.iter_mut().map(|rule| &mut rule.table);
        let of_refusals = refusals.iter_mut().map(|route| &mut route.table);
        for table in of_defaults.chain(of_hosts).chain(of_refusals).chain(of_rules) {
            if let Some((number, _)) = tables.iter().find(|(_, name)| name == table) {
                table.clone_from(number);
            }
        }
    }

    /// Returns whether the script is about IPv6, too.
    pub(super) fn has_ipv6(&self) -> bool {
        self.defaults.iter().any(|route| route.ipv6)
            || self.rules.iter().any(|rule| rule.ipv6)
            || self.chained.iter().any(|rule| rule.ipv6)
    }

    /// Returns the priority that the kernel gives an ip rule without one: before all others of its
    /// family (net/core/fib_rules.c, `fib_default_rule_pref`).
    pub(super) fn free_priority(&self, ipv6: bool) -> u32 {
        let known = self.rules.iter().filter(|rule| rule.ipv6 == ipv6).map(|rule| rule.priority);
        known.min().unwrap_or(MAIN).min(MAIN).saturating_sub(1)
    }

    /// Returns the priority of the first ip rule by which all packets look up the main table.
    pub(super) fn main_priority(&self, ipv6: bool) -> u32 {
        let of_family = self.to_main.iter().filter(|(six, _)| *six == ipv6);
        of_family.map(|(_, priority)| *priority).fold(MAIN, u32::min)
    }

    /// Returns whether a table has a default route by an uplink.
    pub(super) fn leads_out(&self, table: &str) -> bool {
        let table = self.number_of(table);
        !table.is_empty() && self.defaults.iter().any(|route| route.table == table)
    }

    /// Returns the number of a table, if the script says it; else the name.
    pub(super) fn number_of<'a>(&'a self, table: &'a str) -> &'a str {
        let named = self.tables.iter().find(|(_, name)| name == table);
        named.map_or(table, |(number, _)| number)
    }

    /// Returns the bond of that name; makes it if need be.
    pub(super) fn bond(&mut self, name: &str) -> &mut BondFacts {
        let at = self.bonds.iter().position(|bond| bond.name == name).unwrap_or_else(|| {
            self.bonds.push(BondFacts { name: name.into(), ..BondFacts::default() });
            self.bonds.len().saturating_sub(1)
        });
        &mut self.bonds[at]
    }

    /// Returns the device of a gateway by the names of their variables: GW1 belongs to IF1.
    pub(super) fn device_by_name(&self, gateway: IpAddr) -> Option<(String, Lines)> {
        let gateway = gateway.to_string();
        let number = |name: &str| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            (!digits.is_empty()).then(|| digits.to_owned())
        };
        let of = self.variables.iter().find(|variable| variable.values.contains(&gateway))?;
        let wanted = number(&of.name)?;
        let device = |variable: &&Variable| {
            let device = variable.values.first().is_some_and(|value| looks_like_device(value));
            device && number(&variable.name).as_ref() == Some(&wanted)
        };
        let found = self.variables.iter().find(device)?;
        Some((found.values.first()?.clone(), found.line.into()))
    }

    /// Returns the order of a gateway's variable among all variables.
    pub(super) fn order(&self, gateway: Option<IpAddr>) -> usize {
        let Some(gateway) = gateway.map(|gateway| gateway.to_string()) else { return usize::MAX };
        let at = self.variables.iter().position(|variable| variable.values.contains(&gateway));
        at.unwrap_or(usize::MAX)
    }
}

/// Returns whether a value looks like the name of a network device.
pub(super) fn looks_like_device(text: &str) -> bool {
    const PREFIXES: [&str; 17] = [
        "eth", "en", "wlan", "wl", "ppp", "br", "bond", "tun", "tap", "wg", "usb", "wwan", "vlan",
        "lan", "wan", "team", "veth",
    ];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '@' | ':');
    PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        && text.len() <= 15
        && text.chars().all(fits)
        && crate::import::values::is_device(text)
}
