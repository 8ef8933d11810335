//! The state of the kernel, in the parts that tests compare.

use std::collections::BTreeSet;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::plan::Family;
use serde_json::Value;

/// A tracked TCP or UDP connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tracked {
    pub(crate) mark: u32,
    /// Protocol, then addresses and ports of both directions, as `conntrack` prints them, and the
    /// entry's id: an entry that was deleted and created again has another one.
    pub(crate) tuples: Vec<String>,
}

/// Returns the tracked connections of one family and protocol (`tcp`, `udp`, `icmp`, `icmpv6`).
pub(crate) fn tracked(gateway: &Namespace, family: Family, protocol: &str) -> BTreeSet<Tracked> {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let text = gateway.run("conntrack", &["-L", "-o", "id", "-f", family, "-p", protocol]).unwrap();
    text.lines().map(parse).collect()
}

/// Returns the tracked TCP and UDP connections of a family with the mark of an uplink.
pub(crate) fn tracked_by(gateway: &Namespace, family: Family, mark: u32) -> BTreeSet<Tracked> {
    let all = ["tcp", "udp"].into_iter().flat_map(|protocol| tracked(gateway, family, protocol));
    all.filter(|tracked| tracked.mark == mark).collect()
}

fn parse(line: &str) -> Tracked {
    let words = line.split_whitespace();
    let mark = words.clone().find_map(|word| word.strip_prefix("mark=")).unwrap();
    let directed = ["src=", "dst=", "sport=", "dport=", "id="];
    let tuples = words.clone().filter(|word| directed.iter().any(|key| word.starts_with(key)));
    let tuples = words.clone().take(1).chain(tuples).map(str::to_owned).collect();
    Tracked { mark: mark.parse().unwrap(), tuples }
}

/// Returns the index of an interface.
pub(crate) fn ifindex(namespace: &Namespace, interface: &str) -> u32 {
    let _entered = namespace.enter().unwrap();
    nix::net::if_::if_nametoindex(interface).unwrap()
}

/// Returns the fwmark of uplink `index` under the default mask.
pub(crate) fn fwmark(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap() << 24
}

/// Returns the entries of a pinned map of the gateway, as `bpftool` formats them.
pub(crate) fn map(gateway: &Namespace, name: &str) -> Value {
    let path = gateway.bpf_dir().join(name).display().to_string();
    let text = gateway.run("bpftool", &["-j", "map", "dump", "pinned", &path]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns the bytes of the only entry of a pinned array.
pub(crate) fn single_entry(gateway: &Namespace, name: &str) -> Vec<u8> {
    let entries = map(gateway, name);
    let value = entries[0]["value"].as_array().unwrap();
    let byte = |text: &Value| {
        u8::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    value.iter().map(byte).collect()
}

/// Returns the mask of usable uplinks of a family: bit `i` is uplink `i`.
pub(crate) fn up_mask(gateway: &Namespace, family: Family) -> u16 {
    let word = u32::from_ne_bytes(single_entry(gateway, "UP_MASK").try_into().unwrap());
    let half = match family {
        Family::V4 => word & 0xffff,
        Family::V6 => word >> 16,
    };
    u16::try_from(half).unwrap()
}

/// Returns the ip rules of both families.
pub(crate) fn rules(gateway: &Namespace) -> String {
    let list = |family: Family| gateway.run("ip", &[family.flag(), "rule", "show"]).unwrap();
    Family::ALL.map(list).concat()
}

/// Returns the routes of a table.
pub(crate) fn routes(gateway: &Namespace, family: Family, table: u32) -> Value {
    let table = table.to_string();
    oracle::ip_json(gateway, &[family.flag(), "route", "show", "table", &table]).unwrap()
}
