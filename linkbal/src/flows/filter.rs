//! Filters: the conditions of a question, resolved to what entries hold.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use linkbal_common::flow::FlowKey;

use super::{
    query::FlowQuery,
    record::{FlowEntry, rule_number},
};
use crate::protocol;

/// The conditions that an entry must satisfy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Index of the uplink.
    pub uplink: Option<u32>,
    /// Network of the host in the LAN.
    pub client: Option<IpNet>,
    /// Network of the other end.
    pub destination: Option<IpNet>,
    /// Port of the end that was connected to.
    pub port: Option<u16>,
    /// Number of the protocol.
    pub protocol: Option<u8>,
    /// Number of the rule, from 1 on.
    pub rule: Option<u8>,
    /// Addresses of the other end.
    pub addresses: Option<HashSet<IpAddr>>,
}

/// A condition that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Name of the condition.
    pub condition: &'static str,
    /// The fault.
    pub what: String,
    /// Advice.
    pub help: String,
}

impl Filter {
    /// Creates the filter of a question. `uplink_index` finds an uplink by its name, and `addresses`
    /// are those of the domain, if one is asked for.
    ///
    /// # Errors
    ///
    /// If there is no such uplink, address or protocol. `uplink_index` has its own error.
    pub fn new<E: From<Mistake>>(
        query: &FlowQuery,
        uplink_index: impl Fn(&str) -> Result<u32, E>,
        addresses: Option<HashSet<IpAddr>>,
    ) -> Result<Filter, E> {
        let uplink = query.uplink.as_deref().map(uplink_index).transpose()?;
        let network = |condition, text: &Option<String>| {
            text.as_deref().map(|text| network(condition, text)).transpose()
        };
        Ok(Filter {
            uplink,
            client: network("client", &query.client)?,
            destination: network("destination", &query.destination)?,
            port: query.port,
            protocol: query.protocol.as_deref().map(protocol).transpose()?,
            rule: query.rule,
            addresses,
        })
    }

    /// Returns whether an entry satisfies all conditions.
    pub fn matches(&self, entry: &FlowEntry) -> bool {
        // The cheap ones first: a table has a million entries.
        fits(self.uplink.as_ref(), |uplink| *uplink == entry.flow.uplink)
            && fits(self.port.as_ref(), |port| *port == entry.server_port())
            && fits(self.rule.as_ref(), |rule| Some(*rule) == rule_number(&entry.flow))
            && self.matches_ends(entry)
    }

    /// Returns whether an entry of this tuple may satisfy all conditions.
    pub fn may_match(&self, key: &FlowKey) -> bool {
        self.matches_ends(&FlowEntry { key: *key, ..FlowEntry::default() })
    }

    fn matches_ends(&self, entry: &FlowEntry) -> bool {
        fits(self.protocol.as_ref(), |protocol| *protocol == entry.key.protocol)
            && fits(self.client.as_ref(), |network| network.contains(&entry.client()))
            && fits(self.destination.as_ref(), |network| network.contains(&entry.destination()))
            && fits(self.addresses.as_ref(), |known| known.contains(&entry.destination()))
    }
}

/// Returns whether a condition holds, or none is given.
fn fits<T>(wanted: Option<&T>, holds: impl FnOnce(&T) -> bool) -> bool {
    wanted.is_none_or(holds)
}

fn network(condition: &'static str, text: &str) -> Result<IpNet, Mistake> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| Mistake {
        condition,
        what: format!("{text:?} is no address or prefix"),
        help: "write one like 192.0.2.7 or 2001:db8::/32".into(),
    })
}

fn protocol(text: &str) -> Result<u8, Mistake> {
    protocol::number(text).ok_or_else(|| Mistake {
        condition: "protocol",
        what: format!("{text:?} is no protocol"),
        help: "write tcp, udp, icmp or a number to 255".into(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use linkbal_common::{
        flow::{Flow, FlowKey, INBOUND, NOT_STICKY, Reason, reason},
        uplink::Family,
    };
    use proptest::prelude::*;

    use super::*;

    /// Generates entries of few different values, so that many of them match.
    pub(crate) fn entries() -> impl Strategy<Value = FlowEntry> {
        let key = (any::<bool>(), 0..4u8, 0..4u8, 0..4u16, 0..4u16, 0..3u8);
        let flow = (0..4u32, any::<bool>(), any::<u32>(), any::<u32>());
        let bytes = prop::option::of((0..50u64, 0..50u64));
        (key, flow, bytes).prop_map(|(key, flow, bytes)| {
            let (v6, client, server, client_port, server_port, protocol) = key;
            let (uplink, inbound, first_seen_ms, last_seen_s) = flow;
            let address = |octet: u8| {
                if v6 {
                    [
                        u32::from_ne_bytes([0x20, 1, 0xd, 0xb8]),
                        0,
                        0,
                        u32::from_ne_bytes([0, 0, 0, octet]),
                    ]
                } else {
                    [u32::from_ne_bytes([192, 0, 2, octet]), 0, 0, 0]
                }
            };
            let key = FlowKey {
                source: address(client),
                destination: address(server),
                source_port: client_port.to_be(),
                destination_port: server_port.to_be(),
                protocol: [1, 6, 17][usize::from(protocol)],
                family: if v6 { Family::Ipv6 } else { Family::Ipv4 } as u8,
                reserved: 0,
            };
            let sticky_class = if inbound { INBOUND } else { NOT_STICKY };
            let reason = Reason { kind: reason::BUCKET, rule: (first_seen_ms % 3) as u8 };
            let flow = Flow {
                uplink,
                sticky_class,
                first_seen_ms,
                last_seen_s,
                reason,
                ..Flow::default()
            };
            let bytes = bytes.map(|(up, down)| super::super::record::Bytes { up, down });
            FlowEntry { key, flow, bytes }
        })
    }

    fn filter(query: &FlowQuery) -> Result<Filter, Mistake> {
        let unknown =
            |name: &str| Mistake { condition: "uplink", what: name.into(), help: String::new() };
        let index = |name: &str| name.parse().map_err(|_| unknown(name));
        Filter::new(query, index, None)
    }

    #[test]
    fn mistakes_are_said_with_what_to_write() {
        let with = |set: &dyn Fn(&mut FlowQuery)| {
            let mut query = FlowQuery::default();
            set(&mut query);
            let Mistake { condition, what, help } = filter(&query).expect_err("a mistake");
            format!("{condition}: {what}: {help}")
        };
        assert!(with(&|query| query.client = Some("10.0.0".into())).contains("192.0.2.7"));
        assert!(with(&|query| query.destination = Some("::/129".into())).contains("2001:db8"));
        assert!(with(&|query| query.protocol = Some("tpc".into())).contains("write tcp"));
        assert!(with(&|query| query.uplink = Some("isp-x".into())).contains("isp-x"));
    }

    proptest! {
        #[test]
        fn each_condition_leaves_exactly_the_entries_that_satisfy_it(entry in entries(), other in entries()) {
            let queries = [
                FlowQuery { uplink: Some(other.flow.uplink.to_string()), ..FlowQuery::default() },
                FlowQuery { client: Some(other.client().to_string()), ..FlowQuery::default() },
                FlowQuery { destination: Some(format!("{}/31", other.destination())), ..FlowQuery::default() },
                FlowQuery { port: Some(other.server_port()), ..FlowQuery::default() },
                FlowQuery { protocol: Some(other.key.protocol.to_string()), ..FlowQuery::default() },
                FlowQuery { rule: rule_number(&other.flow), ..FlowQuery::default() },
            ];
            let last = |entry: &FlowEntry| match entry.destination() {
                IpAddr::V4(address) => u128::from(u32::from(address) / 2),
                IpAddr::V6(_) if other.destination().is_ipv6() => 0,
                IpAddr::V6(_) => 1,
            };
            let expected = [
                entry.flow.uplink == other.flow.uplink,
                entry.client() == other.client(),
                entry.destination().is_ipv4() == other.destination().is_ipv4()
                    && last(&entry) == last(&other),
                entry.server_port() == other.server_port(),
                entry.key.protocol == other.key.protocol,
                entry.flow.first_seen_ms % 3 == other.flow.first_seen_ms % 3,
            ];
            let filters = queries.each_ref().map(|query| filter(query).expect("a filter"));
            for ((filter, query), expected) in filters.iter().zip(&queries).zip(expected) {
                prop_assert_eq!(filter.matches(&entry), expected, "{:?}", query);
                prop_assert!(filter.matches(&other) && filter.may_match(&other.key));
                prop_assert!(filter.may_match(&entry.key) || !filter.matches(&entry));
            }
            let query = FlowQuery {
                client: queries[1].client.clone(), port: queries[3].port, ..queries[0].clone()
            };
            let all = filter(&query).expect("a filter");
            prop_assert_eq!(all.matches(&entry), expected[0] && expected[1] && expected[3]);
        }
    }
}
