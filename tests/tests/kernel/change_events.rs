//! Events beside the usual groups of rtnetlink: nft tables, sysctls, filters, pins.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use linkbal::{
    engine::kernel::{
        network::NetworkEvent,
        resource::{Process, ResourceKind},
    },
    sys::events::NetworkEvents,
};

use crate::namespace::{self, ip, shell};

/// Returns the first event beside those about links, routes and rules.
async fn next(events: &mut NetworkEvents) -> Result<NetworkEvent> {
    loop {
        let event = events.next().await.context("the events ended")?;
        if !matches!(event, NetworkEvent::Link(_) | NetworkEvent::Changed) {
            return Ok(event);
        }
    }
}

const SYSCTLS: NetworkEvent =
    NetworkEvent::ResourceChanged { what: ResourceKind::Sysctls, by: None };

#[test]
fn nft_changes_are_reported_with_the_process_that_made_them() {
    namespace::run(|| async {
        shell("nft add table inet linkbal; nft add chain inet linkbal a")?;
        for script in ["nft flush chain inet linkbal a", "nft delete table inet linkbal"] {
            shell("nft add table inet linkbal; nft add chain inet linkbal a")?;
            shell("nft add rule inet linkbal a accept")?;
            let mut events = NetworkEvents::subscribe()?;
            shell(script)?;
            let event = next(&mut events).await?;
            let NetworkEvent::ResourceChanged { what: ResourceKind::Nft, by: Some(by) } = &event
            else {
                anyhow::bail!("{script}: {event:?}");
            };
            ensure!(matches!(by, Process { name: Some(name), .. } if name == "nft"), "{by:?}");
        }
        let mut events = NetworkEvents::subscribe()?;
        shell("nft add table ip other")?;
        let event = next(&mut events).await?;
        assert!(matches!(event, NetworkEvent::OtherTables { by: Some(_) }), "{event:?}");
        Ok(())
    });
}

#[test]
fn sysctl_writes_are_reported() {
    namespace::run(|| async {
        // Rtnetlink reports these, whoever writes them.
        for path in ["ipv4/conf/wan0/rp_filter", "ipv6/conf/all/forwarding"] {
            let mut events = NetworkEvents::subscribe()?;
            shell(&format!("echo 2 > /proc/sys/net/{path}"))?;
            assert_eq!(next(&mut events).await?, SYSCTLS, "{path}");
        }
        // Only inotify reports these.
        for path in ["ipv4/fwmark_reflect", "ipv6/conf/wan0/accept_ra"] {
            let mut events = NetworkEvents::subscribe()?;
            let paths = [format!("net/{path}"), "net/ipv4/of_no_kernel".to_owned()];
            events.watch().sysctls(&paths);
            events.watch().sysctls(&paths);
            shell(&format!("echo 2 > /proc/sys/net/{path}"))?;
            assert_eq!(next(&mut events).await?, SYSCTLS, "{path}");
        }
        Ok(())
    });
}

#[test]
fn removed_filters_and_pins_are_reported() {
    namespace::run(|| async {
        shell("tc qdisc add dev wan0 clsact")?;
        let mut events = NetworkEvents::subscribe()?;
        shell("tc qdisc del dev wan0 clsact")?;
        let ifindex = ip("link show wan0")?[0]["ifindex"].as_u64().map(|ifindex| ifindex as u32);
        assert_eq!(next(&mut events).await?, NetworkEvent::Datapath { ifindex });
        // A folder like any other, as inotify sees it.
        let folder = tempfile::tempdir()?;
        events.watch().pins(folder.path())?;
        fs::write(folder.path().join("FLOWS"), "")?;
        fs::remove_file(folder.path().join("FLOWS"))?;
        assert_eq!(next(&mut events).await?, NetworkEvent::Datapath { ifindex: None });
        Ok(())
    });
}
