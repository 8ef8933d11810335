//! A survey of the nft tables of others, as far as they matter here, from the listing of `nft -j`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    chains::Chains,
    each_packet::{self, Forwarded},
    forward,
    lookup::LookedUpRoute,
    source_rule::{self, Leaving},
};
use crate::{
    engine::kernel::{network::Snapshot, nft_text::flowtable::FLOWTABLE, resource::Process},
    per_family::PerFamily,
};

/// Hooks of chains that see forwarded packets, and packets with shortcuts do not meet.
const FORWARDED: [&str; 4] = ["ingress", "prerouting", "forward", "postrouting"];

/// Maximum depth of expressions; deeper ones count as changing all bits.
const DEPTH: usize = 16;

/// The nft tables of others, and the routes of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Survey {
    /// All chains: family, table and name.
    pub chains: BTreeSet<String>,
    /// Chains that change marks, each once for each kind of mark.
    pub marks: Vec<MarkChange>,
    /// Chains that set sources whatever the output interface, each once for each source.
    #[serde(default)]
    pub sources: Vec<SourceChange>,
    /// Rules that masquerade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masquerades: Vec<Masquerade>,
    /// Files with rules that mark or masquerade, which the firewall's service reads at boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<String>,
    /// Rules that can keep packets from where linkbal sends them.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Set if there are rules that only iptables-save can read.
    #[serde(default)]
    pub unread: bool,
    /// Set if others filter forwarded packets, by family.
    #[serde(default)]
    pub forward: PerFamily<bool>,
    /// The chains that can drop packets.
    #[serde(default, skip_serializing_if = "Chains::is_empty")]
    pub closing: Chains,
    /// Routes that packets would really take.
    #[serde(default)]
    pub paths: Vec<LookedUpRoute>,
}

/// A chain that sets sources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SourceChange {
    /// The chain.
    pub chain: String,
    /// The source.
    pub address: IpAddr,
}

/// A rule that masquerades.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Masquerade {
    /// The chain.
    pub chain: String,
    /// The output interface that it matches; none for all.
    pub interface: Option<String>,
    /// Set if it matches anything else.
    pub narrow: bool,
    /// The command that deletes it.
    pub delete: String,
}

/// A rule that can keep packets from where linkbal sends them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Filter {
    /// The chain of the rule.
    pub chain: String,
    /// The kind of the rule.
    pub kind: FilterKind,
    /// `ipv4` or `ipv6` if it matches one alone.
    #[serde(default)]
    pub family: Option<String>,
    /// The input interface that it matches; none for all.
    #[serde(default)]
    pub interface: Option<String>,
    /// Set if it matches addresses or ports.
    #[serde(default)]
    pub narrow: bool,
    /// The command that deletes it.
    pub delete: String,
}

/// The kind of a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterKind {
    /// A reverse path filter: it drops packets that come in by another interface than the route to
    /// their source.
    ReversePath,
    /// An exemption of packets from connection tracking.
    NoTrack,
    /// A rule that sends packets out of another interface.
    Forward,
    /// A rule that sends copies of packets.
    Duplicate,
    /// A flow table that forwards packets.
    Offload,
    /// A limit, a quota or a queue, which counts or reads each forwarded packet.
    EachPacket,
}

/// A chain that changes marks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MarkChange {
    /// The chain.
    pub chain: String,
    /// Set if it is the connection's mark, not the packet's.
    pub of_connection: bool,
    /// The bits that may change.
    pub bits: u32,
    /// The rules that change them.
    #[serde(default)]
    pub rules: Vec<MarkRule>,
    /// The process that created the chain, if that was observed.
    #[serde(default)]
    pub by: Option<Process>,
}

/// A rule that changes marks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MarkRule {
    /// The bits that may change.
    pub bits: u32,
    /// The new value of the bits, if it is always the same.
    pub value: Option<u32>,
    /// The command that deletes the rule.
    pub delete: String,
}

impl Survey {
    /// Reads the listing of all tables. Anything unknown is skipped.
    pub fn of(listing: &Value) -> Survey {
        let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut survey = Survey::default();
        // Chains that see all packets, and have no rule yet that depends on the output interface.
        let mut for_all_ways = BTreeSet::new();
        let mut forwarded = Forwarded::new();
        let counting_sets = each_packet::counting_sets(objects);
        let mut forwarding: BTreeMap<String, &[Family]> = BTreeMap::new();
        for object in objects {
            if let Some(chain) = object.get("chain") {
                survey.chains.extend(name(chain, "name"));
                if let Some(name) = name(chain, "name") {
                    survey.closing.read_chain(&name, chain);
                    let families = forward::families(chain);
                    survey.note_forward(if chain["policy"] == "drop" { families } else { &[] });
                    forwarding.insert(name, families);
                }
                if chain.get("hook").is_some() {
                    for_all_ways.extend(name(chain, "name"));
                }
                if chain["hook"].as_str().is_some_and(|hook| FORWARDED.contains(&hook)) {
                    name(chain, "name").into_iter().for_each(|chain| forwarded.add_base(chain));
                }
            }
            if let Some(rule) = object.get("rule")
                && let Some(chain) = name(rule, "chain")
            {
                let rule_of_others = survey.read_rule(&chain, rule, &counting_sets);
                forwarded.add_rule(&chain, rule_of_others);
                survey.closing.read_rule(&chain, rule);
                if let Some(families) = forwarding.get(&chain)
                    && forward::drops(rule)
                {
                    survey.note_forward(families);
                }
                match source_rule::read(rule) {
                    Leaving::Source(address) if for_all_ways.contains(&chain) => {
                        survey.sources.push(SourceChange { chain, address });
                    }
                    Leaving::ByWay => _ = for_all_ways.remove(&chain),
                    Leaving::Source(_) | Leaving::Other => {}
                }
            }
        }
        survey.sources.sort_by(|a, b| (&a.chain, a.address).cmp(&(&b.chain, b.address)));
        survey.sources.dedup();
        survey.closing.prune();
        survey.filters.extend(forwarded.findings());
        survey
    }

    /// Marks the families in which others filter forwarded packets in an observation.
    pub fn mark_filtered(&self, snapshot: &mut Snapshot) {
        let filters = |family: &Family| self.forward[*family];
        snapshot.filtered = Family::ALL.into_iter().filter(filters).collect();
    }

    /// Notes that forwarded packets are filtered.
    pub(super) fn note_forward(&mut self, families: &[Family]) {
        families.iter().for_each(|family| self.forward[*family] = true);
    }

    /// Reads a rule; returns what it does to packets of established connections.
    fn read_rule(
        &mut self,
        chain: &str,
        rule: &Value,
        counting_sets: &BTreeSet<String>,
    ) -> each_packet::Rule<Filter> {
        let statements = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        let handle = rule["handle"].as_u64().unwrap_or_default();
        let delete = format!("nft delete rule {chain} handle {handle}");
        for change in statements.iter().filter_map(|statement| statement.get("mangle")) {
            let of_connection = match &change["key"] {
                key if key["meta"]["key"] == "mark" => false,
                key if key["ct"]["key"] == "mark" => true,
                _ => continue,
            };
            let bits = !kept(&change["value"], &change["key"], DEPTH);
            let value = set(&change["value"]);
            self.note(chain, of_connection, MarkRule { bits, value, delete: delete.clone() });
        }
        if statements.iter().any(|statement| statement.get("masquerade").is_some()) {
            let interface = matched(statements, "oifname").or_else(|| matched(statements, "oif"));
            let matches = statements.iter().filter(|statement| statement.get("match").is_some());
            let narrow = matches.count() > usize::from(interface.is_some());
            let (chain, delete) = (chain.to_owned(), delete.clone());
            self.masquerades.push(Masquerade { chain, interface, narrow, delete });
        }
        self.unread |= statements.iter().any(|statement| statement.get("xt").is_some());
        let beside = |target: &str| match chain.rsplit_once(' ') {
            Some((table, _)) => format!("{table} {target}"),
            None => target.to_owned(),
        };
        let mut met = each_packet::read(statements, counting_sets, &beside);
        let family = matched(statements, "nfproto").or_else(|| {
            let family = rule["family"].as_str();
            family.and_then(|family| match family {
                "ip" => Some("ipv4".into()),
                "ip6" => Some("ipv6".into()),
                _ => None,
            })
        });
        let interface = matched(statements, "iifname").or_else(|| matched(statements, "iif"));
        let narrow =
            statements.iter().any(|statement| statement["match"]["left"].get("payload").is_some());
        let filter = |kind| Filter {
            chain: chain.to_owned(),
            kind,
            family: family.clone(),
            interface: interface.clone(),
            narrow,
            delete: delete.clone(),
        };
        self.filters.extend(kind(statements).map(filter));
        met.finding = met.counts.then(|| filter(FilterKind::EachPacket));
        met
    }

    /// Notes a rule that changes marks.
    pub(super) fn note(&mut self, chain: &str, of_connection: bool, rule: MarkRule) {
        let known = |change: &&mut MarkChange| {
            change.chain == chain && change.of_connection == of_connection
        };
        let bits = rule.bits;
        match self.marks.iter_mut().find(known) {
            Some(change) => {
                change.bits |= bits;
                change.rules.push(rule);
            }
            None => {
                let (chain, rules) = (chain.into(), vec![rule]);
                self.marks.push(MarkChange { chain, of_connection, bits, rules, by: None });
            }
        }
    }
}

/// Returns the kind of filter that a rule is, if it is one.
fn kind(statements: &[Value]) -> Option<FilterKind> {
    let has = |name: &str| statements.iter().any(|statement| statement.get(name).is_some());
    let named = statements.iter().find_map(|statement| {
        let kinds = [
            ("notrack", FilterKind::NoTrack),
            ("fwd", FilterKind::Forward),
            ("dup", FilterKind::Duplicate),
            ("flow", FilterKind::Offload),
        ];
        kinds.into_iter().find(|(name, _)| statement.get(*name).is_some()).map(|(_, kind)| kind)
    });
    let reverse = statements.iter().any(|statement| {
        let fib = &statement["match"]["left"]["fib"];
        let flags = fib["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asks = |flag: &str| flags.iter().any(|known| known == flag);
        let missing = [Value::from(false), Value::from(0), Value::from("0")];
        let missing = missing.contains(&statement["match"]["right"]);
        fib["result"] == "oif" && asks("saddr") && asks("iif") && missing
    });
    let ends = ["drop", "reject", "jump", "goto"].into_iter().any(has);
    named.or((reverse && ends).then_some(FilterKind::ReversePath))
}

/// Returns the text that a rule matches with a key of `meta`.
fn matched(statements: &[Value], key: &str) -> Option<String> {
    let mut matches = statements.iter().filter_map(|statement| statement.get("match"));
    let found = matches.find(|found| found["left"]["meta"]["key"] == key && found["op"] == "==")?;
    found["right"].as_str().map(str::to_owned)
}

/// Returns the new value of the bits that change, if it is known.
fn set(value: &Value) -> Option<u32> {
    let operand = |operator: &str| value.get(operator)?.as_array()?.get(1)?.as_u64();
    let number = match value.as_u64() {
        Some(number) => Some(number),
        None if value.get("&").is_some() => operand("&").map(|_| 0),
        None => operand("|").or_else(|| operand("^")),
    };
    let from_connection = value.get("&").is_some_and(|and| and[0].get("ct").is_some());
    number.filter(|_| !from_connection).map(|number| number as u32)
}

/// Returns family, table and chain; `None` for linkbal's own, and for objects of no table.
fn name(object: &Value, key: &str) -> Option<String> {
    let text = |key: &str| object[key].as_str();
    let (family, table, chain) = (text("family")?, text("table")?, text(key)?);
    let ours = family == "inet" && ["linkbal", FLOWTABLE].contains(&table);
    (!ours).then(|| format!("{family} {table} {chain}"))
}

/// Returns the bits of the mark `key` that a new value keeps from the old one, whatever that was.
fn kept(value: &Value, key: &Value, depth: usize) -> u32 {
    if value == key {
        return u32::MAX;
    }
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let operands = |operator: &str| {
        let both = value.get(operator)?.as_array()?;
        let number = both.get(1)?.as_u64()? as u32;
        Some((kept(both.first()?, key, depth), number))
    };
    if let Some((bits, mask)) = operands("&") {
        bits & mask
    } else if let Some((bits, set)) = operands("|").or_else(|| operands("^")) {
        bits & !set
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bits(value: &Value) -> u32 {
        let rule = |table: &str| {
            json!({"rule": {"family": "inet", "table": table, "chain": "pre", "expr": [
                {"match": {}},
                {"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}},
            ]}})
        };
        let listing = json!({"nftables": [{"metainfo": {}}, rule("fw"), rule("linkbal")]});
        let survey = Survey::of(&listing);
        assert_eq!(survey.marks.len(), 1, "{survey:?}");
        assert_eq!(survey.marks[0].chain, "inet fw pre");
        survey.marks[0].bits
    }

    #[test]
    fn the_bits_that_a_rule_changes() {
        let mark = json!({"meta": {"key": "mark"}});
        assert_eq!(bits(&json!(1)), u32::MAX, "all others are cleared");
        assert_eq!(bits(&json!({"|": [mark, 0x100]})), 0x100);
        assert_eq!(bits(&json!({"^": [mark, 0x300]})), 0x300);
        assert_eq!(bits(&json!({"&": [mark, 0xff00_ffff_u32]})), 0x00ff_0000);
        let both = json!({"|": [{"&": [mark, 0xff00_ffff_u32]}, 0x0004_0000]});
        assert_eq!(bits(&both), 0x00ff_0000);
        assert_eq!(bits(&json!({"ct": {"key": "mark"}})), u32::MAX, "the connection's mark");
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u64>().prop_map(Value::from),
            "[a-z|&^]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            let keys = prop_oneof![
                Just("nftables"),
                Just("rule"),
                Just("chain"),
                Just("expr"),
                Just("mangle"),
                Just("key"),
                Just("value"),
                Just("|"),
                Just("&"),
                Just("family"),
                Just("table"),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((keys.prop_map(str::to_owned), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_listing_is_read(listing in anything()) {
            Survey::of(&listing);
        }
    }
}
