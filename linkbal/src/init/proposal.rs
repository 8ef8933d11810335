//! The proposal: the values, each with the fact that it comes from.

use std::collections::BTreeSet;

use linkbal_common::uplink::{Family, MAX_UPLINKS};

use super::{
    facts::Facts,
    machine,
    model::{Choice, Proposal, Uplink, Value},
    role::{Role, is_modem, leased, role},
    way::{KnownGateway, defaults, ways},
    write,
};
use crate::{
    commented::uplink_name,
    config::{Config, ConfigError},
    engine::kernel::network::{Link, TABLE_MAIN},
};

/// Highest weight that linkbal takes.
const MAX_WEIGHT: u32 = 10_000;

impl Proposal {
    /// Returns the configuration as text, tried by the reader of configurations.
    ///
    /// # Errors
    ///
    /// If there is no uplink, or if the reader refuses it, which is a fault of linkbal.
    pub fn config(&self) -> Result<(String, Config), (String, ConfigError)> {
        let text = write::text(self);
        match Config::parse(&text, "linkbal.toml") {
            Ok(config) => Ok((text, config)),
            Err(error) => Err((text, error)),
        }
    }

    /// Returns a line for each interface: what it is, and why.
    pub fn interfaces(&self) -> String {
        let uplinks = self.uplinks.iter().map(|uplink| {
            let about = format!("leads to the internet ({})", uplink.about);
            (&uplink.interface, about)
        });
        let lan =
            self.lan.iter().map(|(name, about)| (name, format!("looks like a LAN ({about})")));
        let left_out = self.left_out.iter().map(|(name, why)| (name, format!("neither: {why}")));
        let lines = uplinks.chain(lan).chain(left_out);
        let line = |(name, about): (&String, String)| {
            format!("{name:16} {about}").replace(char::is_control, " ") + "\n"
        };
        lines.map(line).collect()
    }

    /// Returns the uplinks: name, interface and weight.
    pub fn uplinks(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        self.uplinks.iter().map(|uplink| (&*uplink.name, &*uplink.interface, uplink.weight.value))
    }

    /// Returns the interfaces of the LAN.
    pub fn lan(&self) -> impl Iterator<Item = &str> {
        self.lan.iter().map(|(name, _)| &**name)
    }
}

/// Returns the sysctls to observe, by path below `/proc/sys`, for interfaces of these names.
pub fn watched(interfaces: impl Iterator<Item = String>) -> Vec<String> {
    machine::sysctls(interfaces)
}

/// Proposes a configuration for a machine.
pub fn propose(facts: &Facts, choice: &Choice) -> Proposal {
    let mut proposal = Proposal { host: facts.host.clone(), ..Proposal::default() };
    let mut seen = BTreeSet::new();
    for link in facts.snapshot.links.values().filter(|link| seen.insert(&link.name)) {
        match role(facts, choice, link) {
            Role::Uplink => add_uplinks(facts, link, &mut proposal),
            Role::Lan => {
                let about = facts.address(link).unwrap_or_else(|| "no address yet".into());
                proposal.lan.push((link.name.clone(), about));
            }
            Role::Neither(why) => proposal.left_out.push((link.name.clone(), why)),
            Role::Nothing => {}
        }
    }
    set_tiers(facts, &mut proposal);
    set_weights(choice, &mut proposal);
    proposal.kernel = super::kernel::lines(facts);
    proposal.machine = machine::sentences(facts, &proposal);
    proposal
}

/// Adds the uplinks by an interface: one for each of its IPv4 gateways.
fn add_uplinks(facts: &Facts, link: &Link, proposal: &mut Proposal) {
    let [ipv4, ipv6] = Family::ALL.map(|family| ways(facts, link, family));
    let several = ipv4.len() > 1;
    let mut ipv6 = ipv6.into_iter();
    let ipv4: Vec<Option<KnownGateway>> = match ipv4.is_empty() {
        true => vec![lease(facts, link)],
        false => ipv4.into_iter().map(Some).collect(),
    };
    for way in ipv4 {
        if proposal.uplinks.len() >= MAX_UPLINKS {
            let why = format!("an uplink beyond the {MAX_UPLINKS} that linkbal takes");
            proposal.left_out.push((link.name.clone(), why));
            return;
        }
        if several && way.as_ref().is_none_or(|way| way.address().is_none()) {
            let why = "a second gateway of it has no address that could be written down";
            proposal.left_out.push((link.name.clone(), why.into()));
            continue;
        }
        let ways = [way, ipv6.next()];
        proposal.uplinks.push(uplink(facts, link, ways, &proposal.uplinks));
    }
}

/// Returns the gateway of a lease that made no default route.
fn lease(facts: &Facts, link: &Link) -> Option<KnownGateway> {
    let router = leased(facts, link)?;
    let client = facts.clients.get(&link.name)?;
    Some(KnownGateway::Fixed(router, format!("router in the lease of {}", client.seen)))
}

fn uplink(
    facts: &Facts,
    link: &Link,
    ways: [Option<KnownGateway>; 2],
    others: &[Uplink],
) -> Uplink {
    let taken: Vec<String> = others.iter().map(|other| other.name.clone()).collect();
    let about = match (facts.address(link), link.up) {
        (_, false) => "it is down now".into(),
        (None, true) => "it has no address now".into(),
        (Some(address), true) => address,
    };
    let mut remarks = Vec::new();
    let has_route = Family::ALL.iter().any(|family| !defaults(facts, link, *family).is_empty());
    if leased(facts, link).is_some() && !has_route {
        remarks.push(
            "Its DHCP client made no default route, since another one was there. Give it a metric of its \
             own (`metric` in /etc/network/interfaces, RouteMetric= of networkd), then write gateway = \
             \"auto\", which follows a lease that changes."
                .into(),
        );
    }
    let gateway = ways[0].as_ref().and_then(KnownGateway::address);
    let weight = facts.weight(link.ifindex, gateway);
    let weight = weight.map(|value| (value, "weight of the next hop in the default route"));
    let (value, why) = weight.unwrap_or((1, ""));
    let weight = Value { value: value.clamp(1, MAX_WEIGHT), why: why.into() };
    let name = uplink_name(&link.name, &taken);
    Uplink { name, interface: link.name.clone(), about, ways, tier: None, weight, remarks }
}

/// Puts modems behind the lines, and says where metrics made an order.
fn set_tiers(facts: &Facts, proposal: &mut Proposal) {
    let link = |uplink: &Uplink| facts.snapshot.link(&uplink.interface);
    let modem = |uplink: &Uplink| link(uplink).is_some_and(|link| is_modem(facts, link));
    let is_line = |uplink: &Uplink| !modem(uplink);
    let metric = |uplink: &Uplink| {
        let gateway = uplink.ways[0].as_ref().and_then(KnownGateway::address);
        let routes = defaults(facts, link(uplink)?, Family::Ipv4).into_iter();
        let mut main = routes.filter(|route| route.table == TABLE_MAIN);
        let main = main.find(|route| gateway.is_none() || route.nexthop == gateway)?;
        [0, 3, 4].contains(&main.protocol).then_some(main.metric)
    };
    let lines = proposal.uplinks.iter().any(is_line);
    let metrics: Vec<Option<u32>> = proposal.uplinks.iter().map(metric).collect();
    let modems: Vec<bool> = proposal.uplinks.iter().map(modem).collect();
    let best =
        metrics.iter().zip(&modems).filter(|(_, modem)| !**modem).filter_map(|(one, _)| *one).min();
    for ((uplink, metric), modem) in proposal.uplinks.iter_mut().zip(metrics).zip(modems) {
        if modem && lines {
            let why = "a modem: used only while all of tier 1 are down";
            uplink.tier = Some(Value { value: 2, why: why.into() });
            let hint = "If it costs by the megabyte, `linkbal example lte-backup` shows how to ask it less \
                        often.";
            uplink.remarks.push(hint.into());
        } else if let (Some(metric), Some(best)) = (metric, best)
            && metric > best
        {
            uplink.remarks.push(format!(
                "Its default route has metric {metric}, another one {best}: the kernel used it only \
                 without that one. Write tier = 2 to keep it so."
            ));
        }
    }
}

/// Sets the weights that a person says, and says how weights are set.
fn set_weights(choice: &Choice, proposal: &mut Proposal) {
    for uplink in &mut proposal.uplinks {
        if let Some(weight) = choice.weights.get(&uplink.name) {
            let value = (*weight).clamp(1, MAX_WEIGHT);
            uplink.weight = Value { value, why: "as you said".into() };
        }
    }
    // A weight of one route means nothing beside uplinks without.
    let unknown =
        proposal.uplinks.iter().any(|uplink| uplink.tier.is_none() && uplink.weight.why.is_empty());
    let chosen = !choice.weights.is_empty();
    let tiers: Vec<u32> = proposal.uplinks.iter().map(Uplink::tier_number).collect();
    for uplink in &mut proposal.uplinks {
        if unknown && !chosen {
            uplink.weight = Value { value: 1, why: String::new() };
        }
        let tier = uplink.tier_number();
        let alone = tiers.iter().filter(|other| **other == tier).count() == 1;
        if uplink.weight.why.is_empty() {
            let why = match alone {
                true => "the only one of its tier, whatever its number",
                false => "equal shares; or the Mbit/s of the line, like 100",
            };
            uplink.weight.why = why.into();
        }
    }
}
