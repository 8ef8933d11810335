//! Router solicitations, which are sent once advertisements are accepted.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use linkbal::{engine::kernel::network::Change, sys::Kernel};
use tempfile::tempdir;
use tokio::time::sleep;

use crate::namespace::{self, shell, wait_for_routes};

/// Returns the number of router solicitations that came in by an interface.
fn solicitations(interface: &str) -> Result<u32> {
    let counters = fs::read_to_string(format!("/proc/thread-self/net/dev_snmp6/{interface}"))?;
    let line = counters.lines().find_map(|line| line.strip_prefix("Icmp6InRouterSolicits"));
    Ok(line.context("no such counter")?.trim().parse()?)
}

#[test]
fn a_link_that_is_up_solicits_once_advertisements_are_accepted() {
    namespace::run(|| async {
        let folder = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(folder.path())?;
        // Where the kernel forwards, it does not ask by new interfaces, and hears what others ask.
        shell(
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            ip link add wan1 type veth peer name isp1
            ip link set wan1 up
            ip link set isp1 up",
        )?;
        // Each has its own address, and the anycast one that every router of a network has.
        wait_for_routes("local fe80::", 8)?;
        assert_eq!(solicitations("isp1")?, 0);
        let accept = Change::SetSysctl("net/ipv6/conf/wan1/accept_ra".into(), "2".into());
        kernel.apply(&accept).await?;
        while solicitations("isp1")? == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    });
}
