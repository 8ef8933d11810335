//! The tables that the datapath decides by, compiled from the configuration.
//!
//! Each dimension becomes a table from a flow's value to the set of rules that it satisfies (see
//! [`linkbal_common::rule`]). A rule that asks nothing in a dimension is satisfied by every value.

mod groups;
pub mod renumber;
mod sets;

use std::collections::BTreeMap;

use ipnet::IpNet;
use linkbal_common::{
    bucket::{BUCKETS, Bucket},
    classify::{MacKey, PortKey, RELATED, port_key},
    flow::NOT_STICKY,
    rule::{ACTIONS, RuleAction, RuleSet, dimension, otherwise},
    settings::{CLASSES, MAX_PORT_CLASSES, StickyClass},
};

use self::groups::Groups;
use super::{balance::buckets::rank, indexed::Indexed};
use crate::config::{
    Config, Match, Otherwise, Rule, RuleSticky, Sticky, StickyBy, pattern::is_match,
};

/// The protocols whose destination ports can be sticky: TCP and UDP.
const PROTOCOLS: [u8; 2] = [6, 17];

/// The tables, as the maps of the same names hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `BUCKETS`, from the first on.
    pub buckets: Vec<Bucket>,
    /// `ACTIONS`.
    pub actions: Vec<RuleAction>,
    /// `STICKY_CLASSES`.
    pub classes: Vec<StickyClass>,
    /// `STICKY_PORTS`: class by protocol and destination port, or [`RELATED`].
    pub sticky_ports: BTreeMap<PortKey, u32>,
    /// `RULES_SOURCE`.
    pub source: BTreeMap<IpNet, RuleSet>,
    /// `RULES_DESTINATION`.
    pub destination: BTreeMap<IpNet, RuleSet>,
    /// `DOMAIN_RULES`: rules that destinations with a name in each domain satisfy; the empty name
    /// stands for all other destinations. Empty if no rule names a domain.
    pub domain: BTreeMap<String, RuleSet>,
    /// `RULES_PROTOCOL`.
    pub protocol: Vec<RuleSet>,
    /// `RULES_SOURCE_PORT`.
    pub source_port: Vec<RuleSet>,
    /// `RULES_DESTINATION_PORT`.
    pub destination_port: Vec<RuleSet>,
    /// `RULES_DSCP`.
    pub dscp: Vec<RuleSet>,
    /// `RULES_INTERFACE`, by name or pattern; the empty name stands for all others.
    pub interface: BTreeMap<String, RuleSet>,
    /// `RULES_VLAN`; 0 stands for all others.
    pub vlan: BTreeMap<u32, RuleSet>,
    /// `RULES_MAC`; zero stands for all others.
    pub mac: BTreeMap<MacKey, RuleSet>,
    /// `SOURCE_UPLINKS`.
    pub source_uplinks: BTreeMap<IpNet, u32>,
    /// Number of rules.
    pub rules: u32,
    /// The dimensions that some rule asks for, of [`dimension`].
    pub dimensions: u32,
}

impl Policy {
    /// Returns the rules that packets from an interface satisfy; `None` if no rule names it.
    pub fn of_interface(&self, name: &str) -> Option<RuleSet> {
        let named = self.interface.iter().filter(|(pattern, _)| is_match(pattern, name));
        named.map(|(_, set)| *set).reduce(RuleSet::or)
    }

    /// Sets the weights by which flows without a rule are shared, by index of the uplink; as many
    /// buckets as possible keep their uplink.
    pub fn set_weights(&mut self, uplinks: &[Indexed], weights: &BTreeMap<u32, u32>) {
        let mut candidates = groups::all(uplinks);
        for candidate in &mut candidates {
            let weight = weights.get(&candidate.index.into());
            candidate.weight = weight.copied().unwrap_or(candidate.weight);
        }
        let buckets = &mut self.buckets[..BUCKETS as usize];
        buckets.copy_from_slice(&rank(&candidates, Some(buckets)));
    }
}

/// Compiles a configuration. `previous` are the buckets in force, of which as many as possible keep
/// their uplink.
pub fn compile(config: &Config, uplinks: &[Indexed], previous: Option<&[Bucket]>) -> Policy {
    let rules = &config.rules;
    let mut groups = Groups::new(uplinks, previous);
    let mut actions = vec![RuleAction::NO_RULE; ACTIONS];
    let mut classes = vec![StickyClass::default(); CLASSES];
    for (class, sticky) in classes.iter_mut().zip(&config.sticky) {
        *class = port_class(sticky);
    }
    for (number, rule) in rules.iter().enumerate() {
        let class = MAX_PORT_CLASSES + number;
        if let Some(sticky) = &rule.sticky {
            classes[class] = rule_class(sticky);
        }
        actions[number] = RuleAction {
            sticky_class: rule.sticky.map_or(NOT_STICKY, |_| class as u32),
            otherwise: otherwise(rule),
            ..groups.action(&rule.members)
        };
    }
    Policy {
        buckets: groups.into_buckets(),
        actions,
        classes,
        sticky_ports: sticky_ports(config),
        source: sets::of_prefixes(rules, |rule| &rule.matches.source),
        destination: sets::of_prefixes(rules, |rule| &rule.matches.destination),
        domain: sets::of_domains(rules),
        protocol: sets::of_numbers(rules, 256, |rule| sets::each(&rule.matches.protocol)),
        source_port: sets::of_numbers(rules, 65_536, |rule| rule.matches.source_port.clone()),
        destination_port: sets::of_numbers(rules, 65_536, |rule| {
            rule.matches.destination_port.clone()
        }),
        dscp: sets::of_numbers(rules, 64, |rule| sets::each(&rule.matches.dscp)),
        interface: sets::of_names(rules, String::new(), |rule| rule.matches.interface.clone()),
        vlan: sets::of_names(rules, 0, |rule| {
            rule.matches.vlan.iter().map(|vlan| u32::from(*vlan)).collect()
        }),
        mac: sets::of_names(rules, MacKey::default(), |rule| {
            rule.matches.mac.iter().map(mac_key).collect()
        }),
        source_uplinks: source_uplinks(uplinks),
        rules: rules.len() as u32,
        dimensions: rules.iter().fold(0, |all, rule| all | asked(&rule.matches)),
    }
}

/// Returns the dimensions that the conditions of a rule ask for.
fn asked(matches: &Match) -> u32 {
    let all = [
        (matches.source.is_empty(), dimension::SOURCE),
        (matches.destination.is_empty(), dimension::DESTINATION),
        (matches.protocol.is_empty(), dimension::PROTOCOL),
        (matches.source_port.is_empty(), dimension::SOURCE_PORT),
        (matches.destination_port.is_empty(), dimension::DESTINATION_PORT),
        (matches.dscp.is_empty(), dimension::DSCP),
        (matches.interface.is_empty(), dimension::INTERFACE),
        (matches.vlan.is_empty(), dimension::VLAN),
        (matches.mac.is_empty(), dimension::MAC),
    ];
    all.into_iter().filter(|(empty, _)| !empty).fold(0, |bits, (_, bit)| bits | bit)
}

fn sticky_ports(config: &Config) -> BTreeMap<PortKey, u32> {
    let keys = |sticky: &Sticky| -> Vec<PortKey> {
        let ports = sticky.ports.iter();
        let ports =
            ports.flat_map(|port| PROTOCOLS.map(|protocol| port_key(protocol, port.to_be())));
        let related = sticky.related.iter().map(|protocol| port_key(*protocol, RELATED));
        ports.chain(related).collect()
    };
    let classes = (0..).zip(&config.sticky);
    classes
        .flat_map(|(class, sticky)| keys(sticky).into_iter().map(move |key| (key, class)))
        .collect()
}

fn source_uplinks(uplinks: &[Indexed]) -> BTreeMap<IpNet, u32> {
    let all = uplinks.iter().map(|indexed| (indexed.index, &indexed.config));
    all.flat_map(|(index, uplink)| uplink.prefixes().map(move |prefix| (prefix, index))).collect()
}

fn mac_key(&[a, b, c, d, e, f]: &[u8; 6]) -> MacKey {
    [a, b, c, d, e, f, 0, 0]
}

fn otherwise(rule: &Rule) -> u32 {
    match rule.otherwise {
        Otherwise::Balance => otherwise::BALANCE,
        Otherwise::Drop => otherwise::DROP,
        Otherwise::Reject => otherwise::REJECT,
    }
}

fn port_class(sticky: &Sticky) -> StickyClass {
    rule_class(&RuleSticky { by: sticky.by, idle: sticky.idle, source_bits: (32, 128) })
}

fn rule_class(sticky: &RuleSticky) -> StickyClass {
    let (ipv4, ipv6) = sticky.source_bits;
    StickyClass {
        idle_s: sticky.idle.as_secs().try_into().unwrap_or(u32::MAX),
        by_destination: u32::from(sticky.by == StickyBy::SourceAndDestination),
        source_bits_ipv4: ipv4.into(),
        source_bits_ipv6: ipv6.into(),
    }
}

#[cfg(any(test, feature = "model"))]
pub mod model;

#[cfg(test)]
mod tests;
