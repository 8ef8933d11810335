use std::{fs, net::IpAddr, time::Duration};

use ipnet::IpNet;
use proptest::{prelude::*, sample::Index};

use super::*;
use crate::per_family::PerFamily;

mod bond;
mod examples;
mod hooks;
mod nat;
mod notify;
mod problems;
mod quality;
mod rules;
mod targets;

mod warnings;

/// The smallest valid configuration.
const SMALLEST: &str = "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.fiber]\ninterface = \"eth0\"\n";

const DEFAULT_FILE: &str = include_str!("../../linkbal.toml");

/// Every key, in every form that it can have.
const FULL: &str = r#"
[lan]
interfaces = ["br-lan", "eth2.10"]

[local]
balance = false

[bond.bond0]
mode = "balance-xor"
members = ["eth5", "eth6"]
arp_interval = 1000
arp_ip_targets = ["192.0.2.1", "198.51.100.1"]
arp_validate = "filter_active"
xmit_hash_policy = "layer3+4"
mac = "02:00:00:00:00:0A"
mtu = 1280
promisc = true
addresses = ["192.0.2.2/30", "198.51.100.2/28", "2001:db8::2/64"]

[bond.agg]
mode = "802.3ad"
members = ["eth8"]
miimon = "50ms"
lacp_rate = "fast"

[uplink.fiber]
interface = "eth0"
weight = 0
tier = 16
capacity = { down = "2.5gbit", up = "500mbit" }
spillover = 0.85
mtu = 1492
accelerate = false
gateway = "192.0.2.1"
nat = "off"
ipv6 = "masquerade"
probe = { targets = ["192.0.2.9"], interval = "20ms", timeout = "auto" }

[uplink.Cable_1]
interface = "eth0"
capacity = "64kbit"
gateway = { ipv4 = "192.0.2.2", ipv6 = "fe80::1" }
ipv6 = "off"
probe = { targets = [] }

[uplink.dsl-2]
interface = "ppp0"
weight = 10000
tier = 16
gateway = "2001:db8::1"
ipv6 = "prefix"
prefix = ["2001:db8:a::/56", "2001:db8:b::/64", "198.51.100.64/28", "2001:db8:c::/64"]
npt = "fd00::/64"

[nat]
exempt = [
    { source = "10.0.0.0/24", destination = ["192.168.50.0/24", "192.168.60.1"] },
    { destination = "10.0.0.0/8", uplink = ["fiber", "dsl-2"] },
]

[firewall]
inbound = "established"
transit = true

[accelerate]
mode = "ebpf"
except = ["eth2.*"]

[balance]
adaptive = true

[probe]
targets = ["198.51.100.1", "198.51.100.2", "2001:db8::9"]
interval = "1h"
timeout = "10ms"
failure_count = 1
success_count = 1000
quorum = 1
hold = "0s"

[[sticky]]
ports = [443, 8443]
by = "src"
idle = "1h"

[[sticky]]
ports = [22]

[[rule]]
match = { source = "10.0.0.0/24", sport = 5000, dport = [25, "8000-8100"], dscp = "ef", vlan = 1 }
use = { fiber = 30, Cable_1 = 70 }
otherwise = "reject"
sticky = { by = "src+dst", idle = "1h", group = true }

[[rule]]
match = { destination = ["::/0", "192.0.2.1"], protocol = ["icmp", 47], interface = "eth2.10" }
use = ["dsl-2", "fiber"]
otherwise = "drop"

[[rule]]
match = { mac = "02:00:00:00:00:01", domain = ["bank.com.br", "b.br"] }
use = "fiber"

[dns]
resolvers = ["192.0.2.53", "2001:db8::53"]

[api]
listen = "[::1]:9480"
token_file = "/etc/linkbal/token"
hosts = ["Gateway.example"]

[hooks]
on_change = ["/bin/sh", "-c", "true"]

[kernel]
fwmark_mask = 0x7f
table_base = 1
rule_priority = 32_000
flow_table_size = 0x400
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn uplink(name: &str, interface: &str, weight: u32) -> Uplink {
    Uplink {
        on_up: OnUp::Drain,
        on_down: OnDown::Reset,
        name: name.into(),
        interface: interface.into(),
        weight,
        tier: 1,
        gateway: PerFamily::default(),
        over: vec![],
        endpoints: vec![],
        nat: true,
        prefixes_ipv4: Vec::new(),
        ipv6: Ipv6::Masquerade,
        virtual_addresses: Vec::new(),
        capacity: None,
        spillover: None,
        resolvers: Vec::new(),
        mtu: None,
        accelerate: true,
        probe: Probe::default(),
    }
}

fn net(text: &str) -> ipnet::Ipv6Net {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn echo(text: &str) -> Target {
    Target::Echo(address(text))
}

#[test]
fn smallest_file_has_the_documented_defaults() {
    let config = parse(SMALLEST);
    assert_eq!(config.lan_interfaces, ["br-lan"]);
    assert!(config.local_balance && !config.adaptive);
    assert_eq!(config.uplinks, [uplink("fiber", "eth0", 1)]);
    let class = |ports: &[u16], related: &[u8]| Sticky {
        ports: ports.into(),
        by: StickyBy::SourceAndDestination,
        idle: Duration::from_secs(10 * 60),
        related: related.into(),
    };
    let control = class(&[21, 500, 554, 990, 1723, 4500, 5060, 5061], &[6, 17, 47, 50]);
    assert_eq!(config.sticky, [class(&[443], &[]), control]);
    let kernel = Kernel {
        fwmark_mask: 0x7f00_0000,
        table_base: 2600,
        rule_priority: 26_000,
        flow_table_size: None,
        hash_seed_file: None,
    };
    assert_eq!(config.kernel, kernel);
    assert_eq!(config.dns.resolvers, None);
    assert_eq!(config.hooks.on_change, None);
    let targets = [
        "1.1.1.1",
        "8.8.8.8",
        "9.9.9.9",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2620:fe::fe",
    ];
    let probe = Probe {
        targets: targets.map(echo).into(),
        interval: Duration::from_millis(200),
        timeout: None,
        failure_count: 3,
        success_count: 5,
        quorum: 1,
        hold: Duration::from_secs(5),
        hold_max: Duration::from_secs(600),
        limits: Limits::default(),
        on_degraded: OnDegraded::Avoid,
    };
    assert_eq!(config.uplinks[0].probe, probe);
}

fn default_config() -> Config {
    Config {
        bonds: vec![],
        lan_interfaces: vec!["br-lan".into()],
        local_balance: true,
        adaptive: false,
        uplinks: vec![uplink("cable", "eth1", 70), uplink("fiber", "eth0", 30)],
        sticky: vec![
            Sticky::default(),
            Sticky {
                ports: vec![21, 500, 554, 990, 1723, 4500, 5060, 5061],
                related: vec![6, 17, 47, 50],
                ..Sticky::default()
            },
        ],
        rules: vec![],
        exempt: vec![],
        firewall: Firewall::default(),
        accelerate: Accelerate::Off,
        accelerate_except: vec![],
        dns: Dns::default(),
        api: Api::default(),
        hooks: Hooks::default(),
        receivers: vec![],
        kernel: Kernel::default(),
    }
}

#[test]
fn default_file_is_the_default() {
    assert_eq!(parse(DEFAULT_FILE), default_config());
}

/// Checks that the values behind `#` in the default file are the defaults.
#[test]
fn commented_values_are_the_defaults() {
    let is_value = |line: &&str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace() && c != ':'))
    };
    let commented: Vec<&str> = DEFAULT_FILE.lines().filter(is_value).collect();
    assert_eq!(commented.len(), 52, "{commented:#?}");
    let examples = [
        "#over = [\"fiber\", \"cable\"]",
        "#endpoint = \"203.0.113.9\"",
        "#gateway = \"192.0.2.1\"",
        "#gateway = {",
        "#prefix = ",
        "#npt = ",
        "#virtual_addresses = ",
        "#hash_seed_file = ",
        "#exempt = [",
        "#capacity = ",
        "#spillover = ",
        "#probe = {",
        "#limits = {",
        "#reclaim_after = ",
        "#mtu = ",
        "#resolvers = [",
        "#on_change = [",
    ];
    let text: String = DEFAULT_FILE
        .lines()
        .filter(|line| !examples.iter().any(|example| line.starts_with(example)))
        .map(|line| if is_value(&line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(parse(&text), default_config());
}

#[test]
fn every_key_is_read() {
    let config = parse(FULL);
    assert_eq!(config.lan_interfaces, ["br-lan", "eth2.10"]);
    assert!(!config.local_balance && config.adaptive);
    let base = Probe {
        targets: vec![echo("198.51.100.1"), echo("198.51.100.2"), echo("2001:db8::9")],
        interval: Duration::from_secs(3600),
        timeout: Some(Duration::from_millis(10)),
        failure_count: 1,
        success_count: 1000,
        quorum: 1,
        hold: Duration::ZERO,
        ..Probe::default()
    };
    let cable = Uplink {
        gateway: PerFamily {
            ipv4: Gateway::Address(address("192.0.2.2")),
            ipv6: Gateway::Address(address("fe80::1")),
        },
        ipv6: Ipv6::Off,
        capacity: Some(Capacity { down: 64_000, up: 64_000 }),
        probe: Probe { targets: vec![], ..base.clone() },
        ..uplink("Cable_1", "eth0", 1)
    };
    let dsl = Uplink {
        tier: 16,
        gateway: PerFamily { ipv4: Gateway::Auto, ipv6: Gateway::Address(address("2001:db8::1")) },
        prefixes_ipv4: vec!["198.51.100.64/28".parse().expect("a prefix")],
        ipv6: Ipv6::Prefix {
            prefixes: ["2001:db8:a::/56", "2001:db8:b::/64", "2001:db8:c::/64"].map(net).into(),
            npt: Some(Npt { internal: net("fd00::/64"), external: net("2001:db8:b::/64") }),
        },
        probe: base.clone(),
        ..uplink("dsl-2", "ppp0", 10_000)
    };
    let fiber = Uplink {
        tier: 16,
        capacity: Some(Capacity { down: 2_500_000_000, up: 500_000_000 }),
        spillover: Some(850),
        mtu: Some(1492),
        accelerate: false,
        nat: false,
        gateway: PerFamily { ipv4: Gateway::Address(address("192.0.2.1")), ipv6: Gateway::Auto },
        probe: Probe {
            targets: vec![echo("192.0.2.9")],
            interval: Duration::from_millis(20),
            timeout: None,
            ..base
        },
        ..uplink("fiber", "eth0", 0)
    };
    assert_eq!(config.uplinks, [cable, dsl, fiber]);
    let web = Sticky {
        ports: vec![443, 8443],
        by: StickyBy::Source,
        idle: Duration::from_secs(3600),
        related: vec![],
    };
    assert_eq!(config.sticky, [web, Sticky { ports: vec![22], ..Sticky::default() }]);
    assert_eq!(config.exempt, nat::of_the_full_file());
    assert_eq!(config.firewall, Firewall { inbound: Inbound::Established, transit: true });
    assert_eq!(config.accelerate, Accelerate::Ebpf);
    assert_eq!(config.accelerate_except, ["eth2.*"]);
    assert_eq!(config.bonds, bond::of_the_full_file());
    assert_eq!(config.rules, rules::of_the_full_file());
    let resolvers = ["192.0.2.53", "2001:db8::53"].map(address);
    assert_eq!(config.dns, Dns { resolvers: Some(resolvers.into()) });
    let api = Api {
        listen: Some("[::1]:9480".parse().expect("an address")),
        token_file: Some("/etc/linkbal/token".into()),
        hosts: vec!["gateway.example".into()],
    };
    assert_eq!(config.api, api);
    let hook = ["/bin/sh", "-c", "true"].map(str::to_owned);
    assert_eq!(config.hooks, Hooks { on_change: Some(hook.into()) });
    let kernel = Kernel {
        fwmark_mask: 0x7f,
        table_base: 1,
        rule_priority: 32_000,
        flow_table_size: Some(1024),
        hash_seed_file: None,
    };
    assert_eq!(config.kernel, kernel);
}

#[test]
fn three_uplinks_in_two_tiers() {
    let config = parse(
        r#"
        [lan]
        interfaces = ["br-lan"]

        [uplink.fiber]
        interface = "eth0"
        weight = 30

        [uplink.cable]
        interface = "ppp0"
        weight = 70

        [uplink.lte]
        interface = "wwan0"
        tier = 2

        [probe]
        targets = ["1.1.1.1", "8.8.8.8", "2620:fe::fe"]
        interval = "200ms"
        "#,
    );
    let targets: Vec<Target> = ["1.1.1.1", "8.8.8.8", "2620:fe::fe"].map(echo).into();
    let uplinks = [
        uplink("cable", "ppp0", 70),
        uplink("fiber", "eth0", 30),
        Uplink { tier: 2, ..uplink("lte", "wwan0", 1) },
    ]
    .map(|uplink| Uplink {
        probe: Probe { targets: targets.clone(), ..Probe::default() },
        ..uplink
    });
    assert_eq!(config.uplinks, uplinks);
}

#[test]
fn sections_can_stand_in_any_order() {
    let (lan, rest) = FULL.split_once("\n\n").expect("sections");
    let mut sections: Vec<&str> = rest.split("\n\n").collect();
    sections.push(lan);
    let classes = |text: &&str| text.starts_with("[[");
    let (sticky, mut others): (Vec<_>, Vec<_>) = sections.into_iter().partition(classes);
    others.reverse();
    assert_eq!(parse(&[others, sticky].concat().join("\n\n")), parse(FULL));
}

#[test]
fn a_machine_without_a_lan_is_enough() {
    let uplink = "[uplink.fiber]\ninterface = \"eth0\"\n";
    for lan in ["", "[lan]\n", "[lan]\ninterfaces = []\n", "[local]\nbalance = true\n"] {
        let config = parse(&format!("{lan}{uplink}"));
        assert!(config.lan_interfaces.is_empty() && config.local_balance, "{lan}");
    }
}

#[test]
fn empty_sticky_turns_it_off() {
    assert_eq!(parse(&format!("sticky = []\n{SMALLEST}")).sticky, []);
}

#[test]
fn uplinks_that_differ_in_gateway_or_interface_are_accepted() {
    let pair = |first: &str, second: &str| {
        parse(&format!(
            "{SMALLEST}{first}\n[uplink.cable]\ninterface = \"eth0\"\n{second}\n\
             [uplink.lte]\ninterface = \"eth1\"\n{second}\n"
        ))
    };
    pair("gateway = \"192.0.2.1\"", "gateway = \"192.0.2.2\"");
    pair("", "gateway = \"192.0.2.1\"");
    pair("gateway = \"auto\"", "gateway = \"fe80::1\"");
    pair("gateway = { ipv6 = \"fe80::1\" }", "gateway = { ipv6 = \"fe80::2\", ipv4 = \"auto\" }");
}

#[test]
fn limits_are_inclusive() {
    for line in ["table_base = 205", "table_base = 256", "table_base = 4294967248"] {
        parse(&format!("{SMALLEST}[kernel]\n{line}\n"));
    }
    let classes: String = (1..=8).map(|port| format!("[[sticky]]\nports = [{port}]\n")).collect();
    assert_eq!(parse(&format!("{SMALLEST}{classes}")).sticky.len(), 8);
    assert_eq!(parse(&many_uplinks(16)).uplinks.len(), 16);
    let name = "n".repeat(32);
    let text = SMALLEST.replace("fiber", &name).replace("eth0", "fifteen-bytes-1");
    assert_eq!(parse(&text).uplinks[0], uplink(&name, "fifteen-bytes-1", 1));
}

/// Returns a file valid but for the number of uplinks; uplink `i` begins at line `3 + 2 * i`.
fn many_uplinks(count: usize) -> String {
    let uplinks =
        (0..count).map(|i| format!("[uplink.u{:02}]\ninterface = \"eth{i}\"\n", count - i));
    let lan = "[lan]\ninterfaces = [\"br-lan\"]\n".to_owned();
    std::iter::once(lan).chain(uplinks).collect()
}

#[test]
fn load_reads_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("linkbal.toml");
    fs::write(&path, SMALLEST).expect("a file");
    assert_eq!(Config::load(&path).expect("valid").config, parse(SMALLEST));
}

/// A piece of the text, or of TOML, for a random change.
const PIECES: [&str; 16] = [
    "", "\"", "[", "]", "[[", "{", "}", "=", "\n", "\r", ".", "-1", "0x", "ü", "\u{feff}",
    "[uplink]",
];

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        if let Err(error) = Config::parse(&text, "test.toml") {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.to_string().contains("test.toml"));
        }
    }

    #[test]
    fn damaged_files_never_panic(
        default: bool,
        damage in prop::collection::vec((any::<Index>(), 0usize..12, any::<Index>()), 1..4),
    ) {
        let mut chars: Vec<char> = if default { DEFAULT_FILE } else { FULL }.chars().collect();
        for (at, length, piece) in damage {
            let start = at.index(chars.len());
            let end = (start + length).min(chars.len());
            chars.splice(start..end, piece.get(&PIECES).chars());
        }
        let text: String = chars.into_iter().collect();
        if let Err(error) = Config::parse(&text, "test.toml") {
            let starts: Vec<_> =
                error.problems().iter().filter_map(|p| p.location.as_ref()).map(|at| at.span.start).collect();
            prop_assert!(starts.is_sorted());
            prop_assert!(!starts.is_empty());
            prop_assert!(error.to_string().contains("test.toml:"));
        }
    }
}
