//! The tables of a gateway with four uplinks, before anything has happened.

use std::sync::LazyLock;

use linkbal::{
    config::Config,
    engine::{
        indexed::assign,
        policy::{self, Policy},
    },
};
use linkbal_common::{
    mark::DEFAULT_MASK,
    model::ModelTables,
    settings::{LAYOUT, Settings},
    tables::bypass,
    uplink::{Family, family_slot},
};

use super::{FIRST, START_S, UPLINKS};

const CONFIG: &str = r#"
    [lan]
    interfaces = ["lan0"]
    [uplink.a]
    interface = "wan0"
    weight = 2
    [uplink.b]
    interface = "wan1"
    [uplink.c]
    interface = "wan2"
    on_down = "move"
    [uplink.d]
    interface = "wan3"
    tier = 2
    on_down = "keep"
    [[rule]]
    match = { destination = "192.0.2.4" }
    use = "b"
    otherwise = "drop"
    [[rule]]
    match = { protocol = "tcp", dport = 25 }
    use = ["c", "a"]
    otherwise = "reject"
    [[rule]]
    match = { source = "10.0.0.3", vlan = 7 }
    sticky = { by = "src", idle = "10m", group = true }
"#;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let config = Config::parse(CONFIG, "packets").expect("a valid configuration");
    let uplinks = assign(&config.uplinks, &Default::default());
    policy::compile(&config, &uplinks, None)
});

pub(super) fn fresh() -> ModelTables {
    let settings = Settings {
        layout: LAYOUT,
        fwmark_mask: DEFAULT_MASK,
        seed: [3, 4],
        netns_cookie: 1,
        // As the configuration says: a and b reset, d keeps.
        on_down: 0x0008_0003,
        ..Settings::default()
    };
    let tables = policy::model::tables(&POLICY, settings, |_| 1);
    let network = |bytes: [u8; 4]| [u32::from_ne_bytes(bytes), 0, 0, 0];
    let mut tables = ModelTables {
        uplinks: (0..UPLINKS.into()).map(|uplink| (FIRST + uplink, uplink)).collect(),
        bypass: vec![
            (Family::Ipv4, network([10, 0, 0, 0]), 24, bypass::MAIN),
            (Family::Ipv4, network([192, 0, 2, 3]), 32, bypass::UPLINK),
        ],
        // Half of the IPv6 hosts have addresses of a provider.
        source_uplinks: vec![(Family::Ipv6, network([0xfd, 0, 0, 2]), 32, 1)],
        now_s: START_S,
        ..tables
    };
    tables.settings.source_prefixes = 1;
    for uplink in 0..UPLINKS.into() {
        let at = |family| family_slot(uplink, family) as usize;
        tables.uplink_addresses[at(Family::Ipv4)] = network([203, 0, 113, uplink as u8 + 1]);
        tables.uplink_addresses[at(Family::Ipv6)] = network([0x20, 1, 0x0d, uplink as u8 + 1]);
    }
    tables
}
