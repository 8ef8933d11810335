use super::*;

fn bond(name: &str, mode: BondMode, members: &[&str]) -> Bond {
    Bond {
        name: name.into(),
        mode,
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        monitor: Monitor::Carrier { interval: 100 },
        primary: None,
        lacp_rate: LacpRate::Slow,
        xmit_hash_policy: XmitHashPolicy::Layer2,
        mac: None,
        mtu: None,
        promisc: false,
        addresses: vec![],
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("an address with a prefix length")
}

pub(super) fn of_the_full_file() -> Vec<Bond> {
    let agg = Bond {
        monitor: Monitor::Carrier { interval: 50 },
        lacp_rate: LacpRate::Fast,
        ..bond("agg", BondMode::Ieee8023ad, &["eth8"])
    };
    let bond0 = Bond {
        monitor: Monitor::Arp {
            interval: 1000,
            targets: ["192.0.2.1", "198.51.100.1"].map(|text| text.parse().expect("v4")).into(),
            validate: ArpValidate::FilterActive,
        },
        xmit_hash_policy: XmitHashPolicy::Layer34,
        mac: Some([2, 0, 0, 0, 0, 10]),
        mtu: Some(1280),
        promisc: true,
        addresses: ["192.0.2.2/30", "198.51.100.2/28", "2001:db8::2/64"].map(net).into(),
        ..bond("bond0", BondMode::BalanceXor, &["eth5", "eth6"])
    };
    vec![agg, bond0]
}

/// Checks the numbers of all modes; the names are in the order of the kernel's documentation.
#[test]
fn every_mode_has_its_name_and_number() {
    let names = [
        "balance-rr",
        "active-backup",
        "balance-xor",
        "broadcast",
        "802.3ad",
        "balance-tlb",
        "balance-alb",
    ];
    for (number, name) in (0..).zip(names) {
        let text = format!(
            "{SMALLEST}[uplink.b]\ninterface = \"b0\"\n[bond.b0]\nmode = \"{name}\"\n\
             members = [\"eth1\"]\n"
        );
        let config = parse(&text);
        assert_eq!(config.bonds[0].mode.number(), number);
        assert_eq!(config.bonds, [bond("b0", config.bonds[0].mode, &["eth1"])]);
        assert_eq!(name_of::<BondMode>(number), name);
    }
    assert_eq!(name_of::<BondMode>(7), "unknown");
}

/// Checks that a bond may be a LAN interface, and carry VLANs.
#[test]
fn a_bond_is_used_by_itself_or_by_its_vlans() {
    let text = "[lan]\ninterfaces = [\"bond1\"]\n[uplink.a]\ninterface = \"bond0.7\"\n\
                [bond.bond0]\nmode = \"broadcast\"\nmembers = [\"eth1\"]\n\
                [bond.bond1]\nmode = \"active-backup\"\nmembers = [\"eth2\", \"eth3\"]\n\
                primary = \"eth3\"\n";
    let no_files = |_: &Path| Err(io::ErrorKind::Unsupported.into());
    let parsed = Config::parse_with(text, Path::new("test.toml"), &no_files);
    let Parsed { config, warnings } = parsed.unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.problems().is_empty(), "{warnings}");
    assert_eq!(config.bonds[1].primary.as_deref(), Some("eth3"));
    assert!(!config.bonds[0].carries("bond01") && !config.bonds[0].carries("bond"));
}
