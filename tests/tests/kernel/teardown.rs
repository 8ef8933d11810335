//! Removal of everything that is linkbal's, and of nothing else.

use std::fs;

use anyhow::Result;
use linkbal::{
    engine::kernel::{
        network::{Change, IpRule, PROTOCOL, Route, RouteKind},
        nft_text::{Nft, NftFirewall, NftValidation, ruleset},
    },
    sys::Kernel,
};
use linkbal_common::{
    mark::{DEFAULT_MASK, MarkMask},
    uplink::Family,
};
use tempfile::tempdir;

use crate::{
    default_route,
    namespace::{self, output, shell},
    wan_ifindex,
};

const RP_FILTER: &str = "net/ipv4/conf/wan0.5/rp_filter";
const PROXY_ARP: &str = "net/ipv4/conf/isp0/proxy_arp";

fn sysctl(path: &str) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{path}"))?.trim().to_owned())
}

fn change(path: &str, value: &str) -> Change {
    Change::SetSysctl(path.to_owned(), value.to_owned())
}

/// Objects of others, some of them in linkbal's tables and at its priorities.
const FOREIGN: &str = "ip route add default via 192.0.2.1 metric 10 table 2601 proto static
    ip route add 10.0.0.0/8 via 192.0.2.1 table 2601
    ip -6 route add default via 2001:db8::1 metric 9 table 2601
    ip rule add fwmark 0x1000000/0x3f000000 lookup 2601 pref 26001
    ip -6 rule add fwmark 0x1000000/0x3f000000 lookup 2601 pref 26001
    nft add table inet foreign";

/// Objects of kinds that linkbal does not make, but with its protocol number.
const OURS_BY_NUMBER: &str = "ip route add blackhole 10.66.0.0/16 table 5 proto 201
    ip route add 10.67.0.0/16 dev wan0 scope global table 5 proto 201
    ip -6 route add blackhole fd66::/16 table 5 proto 201
    ip rule add blackhole from 10.66.0.0/16 pref 5 proto 201";

/// Adds a default route, an unreachable one and a rule of linkbal's in each family.
async fn add_routes_and_rules(kernel: &mut Kernel) -> Result<()> {
    let wan = wan_ifindex(&kernel.snapshot(&[]).await?)?;
    for (family, any, gateway) in
        [(Family::Ipv4, "0.0.0.0/0", "192.0.2.1"), (Family::Ipv6, "::/0", "2001:db8::1")]
    {
        let route = Route { metric: 11, ..default_route(any, Some(gateway), wan)? };
        let unreachable = Route {
            kind: RouteKind::Unreachable,
            metric: u32::MAX,
            nexthop: None,
            ifindex: None,
            ..route.clone()
        };
        kernel.apply(&Change::ReplaceRoute(route)).await?;
        kernel.apply(&Change::ReplaceRoute(unreachable)).await?;
        kernel.apply(&Change::AddRule(rule(family))).await?;
    }
    Ok(())
}

fn rule(family: Family) -> IpRule {
    IpRule {
        family,
        priority: 26001,
        source: None,
        fwmark: Some((0x200_0000, 0x1f00_0000)),
        device: None,
        destination: None,
        from_here: false,
        table: 2601,
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: PROTOCOL,
        more: String::new(),
    }
}

/// Adds linkbal's nft table, as small as it can be.
async fn add_nft_table(kernel: &mut Kernel) -> Result<()> {
    let nft = Nft {
        uplinks: Vec::new(),
        mask: MarkMask(DEFAULT_MASK),
        lan_indexes: Vec::new(),
        lan: Vec::new(),
        others: false,
        bridged: false,
        ipsec: false,
        exempt: Vec::new(),
        firewall: NftFirewall::default(),
        validation: NftValidation::default(),
    };
    kernel.apply(&Change::ReplaceNft(ruleset(&nft))).await?;
    Ok(())
}

#[test]
fn uninstall_removes_all_of_ours_and_nothing_else() {
    namespace::run(|| async {
        shell(FOREIGN)?;
        let state = || -> Result<_> {
            Ok((
                namespace::routes()?,
                namespace::rules()?,
                output("nft", &["list", "ruleset"], "")?,
            ))
        };
        let before = state()?;
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        add_routes_and_rules(&mut kernel).await?;
        shell(OURS_BY_NUMBER)?;
        add_nft_table(&mut kernel).await?;
        assert_ne!(state()?, before);

        for _ in 0..2 {
            let failures = kernel.uninstall().await;
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(state()?, before);
        }
        Ok(())
    });
}

#[test]
fn sysctls_get_their_original_values_back_even_after_a_restart() {
    namespace::run(|| async {
        shell("ip link set wan0 down; ip link set wan0 name wan0.5; ip link set wan0.5 up")?;
        let before = (sysctl(RP_FILTER)?, sysctl(PROXY_ARP)?);
        assert_eq!(before.1, "0");
        let directory = tempdir()?;
        let state_dir = directory.path().join("not/yet/there");
        let (mut first, _events) = Kernel::connect(&state_dir)?;
        first.apply(&change(RP_FILTER, "2")).await?;
        first.apply(&change(RP_FILTER, "1")).await?;
        let (mut second, _events) = Kernel::connect(&state_dir)?;
        second.apply(&change(RP_FILTER, "2")).await?;
        second.apply(&change(PROXY_ARP, "1")).await?;
        assert_eq!((sysctl(RP_FILTER)?, sysctl(PROXY_ARP)?), ("2".into(), "1".into()));

        let failures = second.uninstall().await;
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!((sysctl(RP_FILTER)?, sysctl(PROXY_ARP)?), before);
        assert_eq!(fs::read_dir(&state_dir)?.count(), 0);
        Ok(())
    });
}

#[test]
fn a_sysctl_that_others_have_changed_since_is_not_restored() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let filter = "net/ipv4/conf/wan0/rp_filter";
        fs::write(format!("/proc/sys/{filter}"), "1")?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        kernel.apply(&change(filter, "2")).await?;
        kernel.apply(&change(PROXY_ARP, "1")).await?;
        fs::write(format!("/proc/sys/{filter}"), "0")?;
        let failures = kernel.uninstall().await;
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!((sysctl(filter)?, sysctl(PROXY_ARP)?), ("0".into(), "0".into()));
        Ok(())
    });
}

#[test]
fn a_sysctl_that_is_given_back_is_no_more_of_linkbal() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        kernel.apply(&change(PROXY_ARP, "1")).await?;
        // Whether anybody asks for it or not.
        let seen = kernel.snapshot(&[]).await?;
        assert_eq!(seen.sysctls.get(PROXY_ARP).map(String::as_str), Some("1"));
        assert_eq!(seen.sysctls_set, seen.sysctls);
        kernel.apply(&change(PROXY_ARP, "0")).await?;
        let seen = kernel.snapshot(&[]).await?;
        assert!(seen.sysctls_before.is_empty() && seen.sysctls_set.is_empty(), "{seen:?}");
        fs::write(format!("/proc/sys/{PROXY_ARP}"), "1")?;
        let (mut next, _events) = Kernel::connect(directory.path())?;
        assert!(next.uninstall().await.is_empty());
        assert_eq!(sysctl(PROXY_ARP)?, "1", "it is somebody else's");
        Ok(())
    });
}

#[test]
fn damaged_files_do_not_stop_a_teardown() {
    namespace::run(|| async {
        let directory = tempdir()?;
        for name in ["sysctls.json", "bonds.json"] {
            fs::write(directory.path().join(name), "{\"wan0\": {\"")?;
        }
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let failures = kernel.uninstall().await;
        assert!(failures.is_empty(), "{failures:?}");
        assert!(!directory.path().join("sysctls.json").exists());
        Ok(())
    });
}

#[test]
fn a_failure_does_not_stop_the_rest_of_the_teardown() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let file = directory.path().join("sysctls.json");
        fs::write(
            &file,
            format!(
                r#"{{"{PROXY_ARP}": "1", "net/ipv4/conf/gone0/rp_filter": "1",
                "net/ipv4/conf/all/rp_filter": "nonsense"}}"#
            ),
        )?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let failures: Vec<_> =
            kernel.uninstall().await.iter().map(|error| format!("{error:#}")).collect();
        assert_eq!(
            failures,
            ["failed to set sysctl net/ipv4/conf/all/rp_filter to nonsense: \
              Invalid argument (os error 22)"]
        );
        assert_eq!(sysctl(PROXY_ARP)?, "1");
        assert!(!file.exists());
        Ok(())
    });
}

#[test]
fn own_addresses_are_no_sources_before_the_nft_table_validates_them() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let path = "net/ipv4/conf/wan0/accept_local";
        let refusal = kernel.apply(&change(path, "1")).await.expect_err("there is no table");
        let words = refusal.explain();
        assert!(words.contains("nft table") && words.contains("tried again"), "{words}");
        assert_eq!(sysctl(path)?, "0");
        add_nft_table(&mut kernel).await?;
        kernel.apply(&change(path, "1")).await?;
        assert_eq!(sysctl(path)?, "1");
        Ok(())
    });
}

#[test]
fn setting_a_missing_sysctl_fails_and_saves_nothing() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        let error = kernel
            .apply(&change("net/ipv4/conf/gone0/rp_filter", "2"))
            .await
            .expect_err("there is no such interface");
        assert_eq!(
            format!("{error:#}"),
            "failed to set sysctl net/ipv4/conf/gone0/rp_filter to 2: \
             No such file or directory (os error 2)"
        );
        assert_eq!(fs::read_dir(directory.path())?.count(), 0);
        Ok(())
    });
}
