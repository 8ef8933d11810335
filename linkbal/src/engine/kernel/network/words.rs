//! Names in place of numbers, as `ip` shows them.

use std::borrow::Cow;

use linkbal_common::uplink::Family;

use super::{IpRule, LOOPBACK, Route, Snapshot, TABLE_LOCAL, TABLE_MAIN};

/// The table of default routes that count last (`RT_TABLE_DEFAULT`).
const TABLE_DEFAULT: u32 = 253;

/// Returns the name of a routing table, or its number if it has none.
pub fn table_name(table: u32) -> Cow<'static, str> {
    match table {
        TABLE_DEFAULT => "default".into(),
        TABLE_MAIN => "main".into(),
        TABLE_LOCAL => "local".into(),
        other => other.to_string().into(),
    }
}

/// Returns the command that adds a default route by an interface to the main table again.
pub fn route_command(route: &Route, interface: &str) -> String {
    let program = if route.family() == Family::Ipv6 { "ip -6" } else { "ip" };
    let via = route.nexthop.map_or(String::new(), |gateway| format!(" via {gateway}"));
    // The kernel gives its own to IPv6 routes without one (IP6_RT_PRIO_USER).
    let metric = match route.metric {
        0 => String::new(),
        metric => format!(" metric {metric}"),
    };
    format!("{program} route add default{via} dev {interface}{metric}")
}

impl IpRule {
    /// Returns all conditions and the action, each after a blank, as `ip rule` takes and shows them.
    pub fn words(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            text += &value.map_or(String::new(), |value| format!(" {name} {value}"));
        };
        add("from", self.source.map(|source| source.to_string()));
        add("to", self.destination.map(|destination| destination.to_string()));
        add("iif", self.from_here.then(|| LOOPBACK.to_owned()));
        add("fwmark", self.fwmark.map(|(fwmark, mask)| format!("{fwmark:#x}/{mask:#x}")));
        add("oif", self.device.clone());
        add("not iif lo goto", self.forwarded_goto.map(|priority| priority.to_string()));
        if !self.more.is_empty() {
            text += &format!(" {}", self.more);
        }
        if self.table != 0 {
            text += &format!(" lookup {}", table_name(self.table));
        }
        if let Some(length) = self.suppress_prefix_length {
            text += &format!(" suppress_prefixlength {length}");
        }
        text
    }
}

impl Snapshot {
    /// Puts names in place of the indexes of devices in a text that has routes, as `dev 3`.
    pub fn with_device_names(&self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let before = std::iter::once("").chain(words.iter().copied());
        let named = before.zip(&words).map(|(before, word)| {
            let link = word.parse().ok().and_then(|index: u32| self.links.get(&index));
            link.filter(|_| before == "dev").map_or(*word, |link| link.name.as_str())
        });
        named.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::kernel::network::Link, per_family::PerFamily};

    #[test]
    fn a_route_is_set_again_by_one_command() {
        let route = |destination: &str, gateway: &str, metric| Route {
            table: TABLE_MAIN,
            destination: destination.parse().expect("a network"),
            metric,
            kind: crate::engine::kernel::network::RouteKind::Unicast,
            nexthop: gateway.parse().ok(),
            ifindex: Some(3),
            onlink: false,
            protocol: 0,
            mtu: None,
        };
        let command = route_command(&route("0.0.0.0/0", "192.0.2.1", 100), "wan-a");
        assert_eq!(command, "ip route add default via 192.0.2.1 dev wan-a metric 100");
        assert_eq!(
            route_command(&route("::/0", "", 0), "ppp0"),
            "ip -6 route add default dev ppp0"
        );
    }

    #[test]
    fn a_rule_has_all_its_parts() {
        let rule = IpRule {
            family: Family::Ipv4,
            priority: 9,
            source: "10.0.0.0/8".parse().ok(),
            destination: "192.0.2.7/32".parse().ok(),
            from_here: true,
            fwmark: Some((1, 0xff)),
            device: Some("wan-a".into()),
            table: TABLE_MAIN,
            suppress_prefix_length: Some(0),
            forwarded_goto: None,
            protocol: 3,
            more: "ipproto tcp".into(),
        };
        let words = " from 10.0.0.0/8 to 192.0.2.7/32 iif lo fwmark 0x1/0xff oif wan-a ipproto tcp \
                     lookup main suppress_prefixlength 0";
        assert_eq!(rule.words(), words);
        assert_eq!(rule.to_string(), format!("9: ipv4{words}"));
    }

    #[test]
    fn known_devices_and_tables_have_names() {
        let link = Link {
            ifindex: 3,
            name: "wan-a".into(),
            up: true,
            carrier: true,
            point_to_point: false,
            ethernet: true,
            port: false,
            vrf: None,
            mtu: PerFamily::default(),
        };
        let snapshot = Snapshot { links: [(3, link)].into(), ..Snapshot::default() };
        let text = "route 0.0.0.0/0 via 192.0.2.3 dev 3 table 3 and dev 4";
        let named = "route 0.0.0.0/0 via 192.0.2.3 dev wan-a table 3 and dev 4";
        assert_eq!(snapshot.with_device_names(text), named);
        assert_eq!([253, 254, 255, 3].map(table_name), ["default", "main", "local", "3"]);
    }
}
