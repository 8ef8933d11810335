//! The files of `examples/ha`, as they are: only names, addresses and paths are the lab's.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, StandbyGateway};

pub(super) const KEEPALIVED: &str = include_str!("../../../../examples/ha/keepalived.conf");
pub(super) const NOTIFY: &str = include_str!("../../../../examples/ha/notify.sh");
pub(super) const CONNTRACKD: &str = include_str!("../../../../examples/ha/conntrackd.conf");
pub(super) const LINKBAL: &str = include_str!("../../../../examples/ha/linkbal.toml");
pub(super) const FIREWALL: &str = include_str!("../../../../examples/ha/nftables.conf");

/// What an administrator changes in the files, and what the lab has instead.
pub(super) struct Replacements(Vec<(String, String)>);

impl Replacements {
    /// Returns those that have nothing to do with a single gateway.
    pub(super) fn new(lab: &Lab) -> Self {
        let mut all = Self(Vec::new());
        all.add("eth0", LAN_INTERFACE);
        all.add("eth3", StandbyGateway::sync_interface());
        all.add("192.168.1.1", plan::lan_gateway(Family::V4).to_string());
        all.add("fd00:1::1", plan::lan_gateway(Family::V6).to_string());
        let uplinks = [("eth1", "203.0.113", "2001:db8:a:"), ("eth2", "198.51.100", "2001:db8:b:")];
        for (index, (interface, ipv4, ipv6)) in uplinks.into_iter().enumerate() {
            all.add(interface, &lab.uplinks[index].spec.interface);
            let families = [(Family::V4, format!("{ipv4}.")), (Family::V6, format!("{ipv6}:"))];
            for (family, prefix) in families {
                all.add(format!("{prefix}1"), plan::nexthop(family, index).to_string());
                all.add(format!("{prefix}2"), plan::uplink_address(family, index).to_string());
            }
        }
        all
    }

    pub(super) fn add(&mut self, shipped: impl Into<String>, here: impl Into<String>) {
        self.0.push((shipped.into(), here.into()));
    }

    /// Returns `text` with all replacements made at once, so that what one writes is nothing that
    /// another one looks for. Each of `wanted` must be in the text.
    pub(super) fn apply(&self, text: &str, wanted: &[&str]) -> String {
        let mut hits = vec![false; self.0.len()];
        let mut made = String::new();
        let mut rest = text;
        let mut inside_word = false;
        while let Some(next) = rest.chars().next() {
            let fits = |(shipped, _): &&(String, String)| {
                let after = rest.strip_prefix(shipped.as_str()).map(|after| after.chars().next());
                after.is_some_and(|after| !after.is_some_and(char::is_alphanumeric))
            };
            let found = self.0.iter().filter(|pair| !inside_word && fits(pair));
            let (length, new) = match found.max_by_key(|(shipped, _)| shipped.len()) {
                Some((shipped, here)) => (shipped.len(), here.as_str()),
                None => (next.len_utf8(), &rest[..next.len_utf8()]),
            };
            for (hit, (shipped, _)) in hits.iter_mut().zip(&self.0) {
                *hit |= length > next.len_utf8() && rest[..length] == **shipped;
            }
            made.push_str(new);
            inside_word = rest[..length].ends_with(char::is_alphanumeric);
            rest = &rest[length..];
        }
        for wanted in wanted {
            let position = self.0.iter().position(|(shipped, _)| shipped == wanted);
            assert!(position.is_some_and(|position| hits[position]), "{wanted} is not in:\n{text}");
        }
        made
    }
}

#[test]
fn replacements_are_made_at_once_and_in_whole_words() {
    let mut replacements = Replacements(Vec::new());
    replacements.add("eth1", "eth2");
    replacements.add("eth2", "wan");
    replacements.add("10.0.0.1", "10.0.0.9");
    let text = "eth1 eth2/eth10, 10.0.0.1/24 via 10.0.0.12";
    let made = replacements.apply(text, &["eth1", "eth2", "10.0.0.1"]);
    assert_eq!(made, "eth2 wan/eth10, 10.0.0.9/24 via 10.0.0.12");
}
