//! Any text as a configuration. An accepted one must compile into tables of their sizes and an nft
//! table that is whole; a refusal must have a reason.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linkbal::{
    config::{Config, Parsed},
    engine::{
        indexed::{Indexed, assign},
        kernel::{
            conflict::survey::Survey,
            network::{Address, IpRule, Link, Route, RouteKind, Snapshot, TABLE_MAIN},
        },
        plan, policy,
    },
    per_family::PerFamily,
};
use linkbal_common::{
    bucket::CAPACITY,
    mark::{BLOCKED, DEFAULT_MASK, MarkMask},
    model::{ModelPacket, ModelTables, forward},
    rule::{ACTIONS, MAX_RULES},
    settings::{CLASSES, LAYOUT, Settings},
    uplink::{Family, MAX_UPLINKS, UpMask},
    verdict::Verdict,
};
use network_types::eth::EtherType;

/// Separator before the contents of the files that the text names, all of which are the same.
const FILE: &str = "%%\n";

/// Number of texts of which one is compiled: that takes ten times as long as all else.
const COMPILED: usize = 8;

/// Parses the text, and checks all that follows from it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, file) = text.split_once(FILE).unwrap_or((text, ""));
    let read_file = |_: &Path| Ok(file.to_owned());
    match Config::parse_with(text, Path::new("etc/linkbal.toml"), &read_file) {
        Err(error) => {
            assert!(!error.problems().is_empty(), "refused without a reason");
            assert!(!error.to_string().is_empty());
        }
        Ok(parsed) => accepted(&parsed, text.len().is_multiple_of(COMPILED)),
    }
}

fn accepted(parsed: &Parsed, compiled: bool) {
    let Parsed { config, warnings } = parsed;
    let _ = warnings.to_string();
    assert_eq!(warnings.lines().count(), warnings.problems().len());
    assert!(config.uplinks.len() <= MAX_UPLINKS);
    let indexed = assign(&config.uplinks, &BTreeMap::new());
    assert_eq!(indexed.len(), config.uplinks.len(), "an uplink without an index");
    if compiled {
        tables(config, &indexed);
    }
    let snapshot = machine(config);
    let decided =
        plan::decide(config, indexed, UpMask(u32::MAX), snapshot.clone(), Survey::default());
    decided.network(&snapshot).iter().for_each(|difference| drop(difference.line()));
    whole(decided.nft().expect("a table that is not there is written"));
}

/// Checks the tables of the datapath, and their verdicts on a few packets.
fn tables(config: &Config, indexed: &[Indexed]) {
    let policy = policy::compile(config, indexed, None);
    assert!(policy.buckets.len() <= CAPACITY as usize);
    assert!(policy.rules as usize <= MAX_RULES);
    assert_eq!((policy.actions.len(), policy.classes.len()), (ACTIONS, CLASSES));
    let again = policy::compile(config, indexed, Some(&policy.buckets));
    assert_eq!(policy, again, "compiled again, something moved");
    let settings =
        Settings { layout: LAYOUT, fwmark_mask: DEFAULT_MASK, seed: [1, 2], ..Settings::default() };
    let tables = policy::model::tables(&policy, settings, |_| 2);
    let tables = ModelTables { up_mask: UpMask(u32::MAX), now_s: 1000, ..tables };
    for (l3_ether_type, bytes) in [(EtherType::Ipv4, IPV4.as_slice()), (EtherType::Ipv6, &IPV6)] {
        let l3_ether_type = Some(l3_ether_type as u16);
        let packet = ModelPacket { l3_ether_type, ..ModelPacket::frame(bytes) };
        let number = match forward(&packet, &tables) {
            Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => fwmark,
            Verdict::Skip(reason) => panic!("skipped: {reason:?}"),
        };
        let mask = MarkMask(DEFAULT_MASK);
        let blocked = BLOCKED.map(|number| mask.propose(0, number));
        let known = mask
            .decode(number)
            .is_some_and(|uplink| indexed.iter().any(|indexed| indexed.index == uplink));
        assert!(known || blocked.contains(&number) || number == mask.ask(0), "{number:#x}");
    }
}

/// A UDP packet from 10.0.0.9 to port 53 of 192.0.2.1.
const IPV4: [u8; 28] = [
    0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 192, 0, 2, 1, 0x9c, 0x40, 0, 53, 0, 8,
    0, 0,
];

/// A UDP packet from fd00::9 to port 53 of 2001:db8::1.
const IPV6: [u8; 48] = [
    0x60, 0, 0, 0, 0, 8, 17, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 1, 0x0d,
    0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x9c, 0x40, 0, 53, 0, 8, 0, 0,
];

/// Returns a machine where all interfaces of the configuration work.
fn machine(config: &Config) -> Snapshot {
    let lan = config.lan_interfaces.iter().cloned();
    let uplinks = config.uplinks.iter().map(|uplink| uplink.interface.clone());
    let mut snapshot = Snapshot { rules: Family::ALL.map(born_rule).into(), ..Snapshot::default() };
    for (ifindex, name) in (2..).zip(lan.chain(uplinks)) {
        if snapshot.link(&name).is_none() {
            snapshot.links.insert(ifindex, link(ifindex, name));
            snapshot.addresses.extend(addresses(ifindex));
            snapshot.routes.extend(addresses(ifindex).map(|own| default_route(&own)));
        }
    }
    snapshot
}

fn born_rule(family: Family) -> IpRule {
    IpRule {
        family,
        priority: 32_766,
        source: None,
        destination: None,
        from_here: false,
        fwmark: None,
        device: None,
        table: TABLE_MAIN,
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: 2,
        more: String::new(),
    }
}

const fn link(ifindex: u32, name: String) -> Link {
    Link {
        ifindex,
        name,
        up: true,
        carrier: true,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    }
}

fn addresses(ifindex: u32) -> [Address; 2] {
    let own = [
        IpAddr::from([203, 0, ifindex as u8, 2]),
        [0x2001, 0xdb8, ifindex as u16, 0, 0, 0, 0, 2].into(),
    ];
    own.map(|address| Address {
        ifindex,
        address,
        prefix_length: if address.is_ipv4() { 24 } else { 64 },
        deprecated: false,
        temporary: false,
        held: false,
    })
}

fn default_route(own: &Address) -> Route {
    let (destination, nexthop): (IpNet, IpAddr) = match own.address {
        IpAddr::V4(_) => (Ipv4Net::default().into(), [203, 0, own.ifindex as u8, 1].into()),
        IpAddr::V6(_) => (Ipv6Net::default().into(), [0xfe80, 0, 0, 0, 0, 0, 0, 1].into()),
    };
    Route {
        table: TABLE_MAIN,
        destination,
        metric: 100,
        kind: RouteKind::Unicast,
        nexthop: Some(nexthop),
        ifindex: Some(own.ifindex),
        onlink: false,
        protocol: 16,
        mtu: None,
    }
}

/// Checks that nothing in a configuration ends a string or a block of the nft table.
fn whole(nft: &str) {
    let mut depth = 0i32;
    for line in nft.lines() {
        for (number, part) in line.split('"').enumerate() {
            if number % 2 == 0 {
                depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
            } else {
                assert!(!part.is_empty(), "an empty string: {line}");
            }
            assert!(depth >= 0, "a block ends that did not begin: {line}");
        }
        assert!(line.matches('"').count() % 2 == 0, "a string has no end: {line}");
    }
    assert_eq!(depth, 0, "a block has no end");
}
