//! ip rules over rtnetlink.

use std::io;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use linkbal_common::uplink::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{Netlink, address_family};
use crate::engine::kernel::network::IpRule;

/// The interface that local traffic comes in by.
const LOOPBACK: &str = "lo";

/// Value that the kernel tells if a rule suppresses nothing: -1.
const NO_SUPPRESSION: u32 = u32::MAX;

impl Netlink {
    /// Lists the ip rules.
    pub async fn rules(&self, family: Family) -> Result<Vec<IpRule>> {
        let mut request = RuleMessage::default();
        request.header.family = address_family(family);
        let messages = self.dump(RouteNetlinkMessage::GetRule(request)).await;
        let messages =
            messages.with_context(|| format!("failed to list {} rules", family.name()))?;
        let rules = messages.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(message) => Some(parse(family, &message)),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Adds an ip rule; an existing one is a success.
    ///
    /// The kernel does not compare the protocol: the same rule of another program counts.
    pub async fn add_rule(&self, rule: &IpRule) -> Result<()> {
        let request = RouteNetlinkMessage::NewRule(build(rule));
        let added = self.change(request, NLM_F_CREATE | NLM_F_EXCL).await;
        match added.as_ref().err().and_then(io::Error::raw_os_error) {
            // Without NLM_F_EXCL the kernel would add it once more.
            Some(libc::EEXIST) => Ok(()),
            _ => added.with_context(|| format!("failed to add rule {rule}")),
        }
    }

    /// Deletes an ip rule; a missing one is a success.
    ///
    /// The kernel takes the first rule that has everything that is asked for: a request without a
    /// source may hit another rule of the same priority, table and fwmark that has one.
    pub async fn delete_rule(&self, rule: &IpRule) -> Result<()> {
        let deleted = self.change(RouteNetlinkMessage::DelRule(build(rule)), 0).await;
        match deleted.as_ref().err().and_then(io::Error::raw_os_error) {
            // ENOENT: no such rule. ESRCH: no rules of this family at all.
            Some(libc::ENOENT | libc::ESRCH) => Ok(()),
            _ => deleted.with_context(|| format!("failed to delete rule {rule}")),
        }
    }
}

fn build(rule: &IpRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    if rule.table != 0 {
        message.header.action = RuleAction::ToTable;
        // The header's table has eight bits only.
        message.attributes.push(RuleAttribute::Table(rule.table));
    }
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Protocol(rule.protocol.into()));
    if let Some(source) = rule.source {
        message.header.src_len = source.prefix_len();
        message.attributes.push(RuleAttribute::Source(source.network()));
    }
    if let Some(destination) = rule.destination {
        message.header.dst_len = destination.prefix_len();
        message.attributes.push(RuleAttribute::Destination(destination.network()));
    }
    if let Some(priority) = rule.forwarded_goto {
        message.header.flags |= RuleFlags::Invert;
        message.header.action = RuleAction::Goto;
        message.attributes.push(RuleAttribute::Goto(priority));
    }
    if rule.from_here || rule.forwarded_goto.is_some() {
        message.attributes.push(RuleAttribute::Iifname(LOOPBACK.into()));
    }
    if let Some((fwmark, mask)) = rule.fwmark {
        message.attributes.extend([RuleAttribute::FwMark(fwmark), RuleAttribute::FwMask(mask)]);
    }
    message.attributes.extend(rule.device.clone().map(RuleAttribute::Oifname));
    message.attributes.extend(rule.suppress_prefix_length.map(RuleAttribute::SuppressPrefixLen));
    message
}

pub(in crate::sys) fn parse(family: Family, message: &RuleMessage) -> IpRule {
    let is_lookup = message.header.action == RuleAction::ToTable;
    let mut rule = IpRule {
        family,
        priority: 0,
        source: None,
        destination: None,
        from_here: false,
        fwmark: None,
        device: None,
        table: if is_lookup { message.header.table.into() } else { 0 },
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: 0,
        more: more(message),
    };
    let (mut fwmark, mut mask, mut goto) = (0, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
            RuleAttribute::Table(table) if is_lookup => rule.table = *table,
            RuleAttribute::Source(source) => {
                rule.source = IpNet::new(*source, message.header.src_len).ok();
            }
            RuleAttribute::Oifname(name) => rule.device = Some(name.clone()),
            RuleAttribute::Destination(to) => {
                rule.destination = IpNet::new(*to, message.header.dst_len).ok();
            }
            RuleAttribute::Iifname(name) if name == LOOPBACK => rule.from_here = true,
            RuleAttribute::FwMark(value) => fwmark = *value,
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Goto(priority) => goto = Some(*priority),
            RuleAttribute::SuppressPrefixLen(length) if *length != NO_SUPPRESSION => {
                rule.suppress_prefix_length = Some(*length);
            }
            _ => {}
        }
    }
    rule.fwmark = (mask != 0).then_some((fwmark, mask));
    let selects_origin_alone = rule.from_here
        && rule.source.is_none()
        && rule.destination.is_none()
        && rule.fwmark.is_none()
        && rule.device.is_none();
    if let Some(priority) = goto
        && selects_origin_alone
        && rule.more == format!("not goto {priority}")
    {
        return IpRule {
            from_here: false,
            forwarded_goto: Some(priority),
            more: String::new(),
            ..rule
        };
    }
    rule
}

/// Describes the selectors and actions that linkbal's rules do not have.
fn more(message: &RuleMessage) -> String {
    let header = &message.header;
    let not = header.flags.contains(RuleFlags::Invert).then(|| "not".to_owned());
    let tos = (header.tos != 0).then(|| format!("tos {:#x}", header.tos));
    let attributes = message.attributes.iter().filter_map(|attribute| match attribute {
        RuleAttribute::Iifname(name) if name != LOOPBACK => Some(format!("iif {name}")),
        RuleAttribute::L3MDev(true) => Some("l3mdev".into()),
        RuleAttribute::UidRange(range) => Some(format!("uidrange {}-{}", range.start, range.end)),
        RuleAttribute::IpProtocol(protocol) => Some(format!("ipproto {protocol:?}")),
        RuleAttribute::SourcePortRange(ports) => {
            Some(format!("sport {}-{}", ports.start, ports.end))
        }
        RuleAttribute::DestinationPortRange(ports) => {
            Some(format!("dport {}-{}", ports.start, ports.end))
        }
        RuleAttribute::TunId(id) if *id != 0 => Some(format!("tun_id {id}")),
        RuleAttribute::Goto(priority) => Some(format!("goto {priority}")),
        _ => None,
    });
    let action = match header.action {
        RuleAction::ToTable | RuleAction::Goto => None,
        RuleAction::Nop => Some("nop".to_owned()),
        RuleAction::Blackhole => Some("blackhole".into()),
        RuleAction::Unreachable => Some("unreachable".into()),
        RuleAction::Prohibit => Some("prohibit".into()),
        action => Some(format!("action {}", u8::from(action))),
    };
    not.into_iter().chain(tos).chain(attributes).chain(action).collect::<Vec<_>>().join(" ")
}
