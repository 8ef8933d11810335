//! Providers with a pool of addresses, and gateways that have none of their own yet.

use std::net::IpAddr;

use anyhow::Result;

use super::plan::{self, Family};
use super::{CORE_INTERFACE, CUSTOMER_INTERFACE, Lab, Uplink};

impl Lab {
    /// Removes the IPv4 address of an uplink and the route by it from the gateway, and gives its
    /// provider a pool of addresses.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn use_pool(&self, uplink: usize) -> Result<()> {
        let Uplink { spec, provider } = &self.uplinks[uplink];
        self.gateway.run("ip", &["-4", "address", "flush", "dev", &spec.interface])?;
        let own = format!("{}/24", plan::pool(uplink, 1));
        provider.run("ip", &["address", "add", &own, "dev", CUSTOMER_INTERFACE])?;
        self.route_pool(uplink)
    }

    /// Routes the pool of a provider to that provider.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn route_pool(&self, uplink: usize) -> Result<()> {
        let pool = format!("{}/24", plan::pool(uplink, 0));
        let provider = plan::core_net(Family::V4, uplink, 2).to_string();
        self.net.run("ip", &["route", "add", &pool, "via", &provider]).map(drop)
    }

    /// Routes the traffic between customers of different providers through the core.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn route_customers(&self) -> Result<()> {
        for (index, Uplink { provider, .. }) in self.uplinks.iter().enumerate() {
            for other in (0..self.uplinks.len()).filter(|other| *other != index) {
                for family in Family::ALL {
                    let customers = plan::customer_prefix(family, other);
                    let core = plan::core_net(family, index, 1).to_string();
                    let route = [family.flag(), "route", "add", &customers, "via", &core];
                    provider.run("ip", &route)?;
                }
            }
        }
        self.net.set_sysctl("net.ipv4.ip_forward", "1")?;
        self.net.set_sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Makes a provider route an address to its customer.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn route_to_customer(&self, uplink: usize, address: IpAddr) -> Result<()> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let own = plan::uplink_address(family, uplink).to_string();
        let address = address.to_string();
        let route = [family.flag(), "route", "add", &address, "via", &own];
        self.uplinks[uplink].provider.run("ip", &route).map(drop)
    }

    /// Gives an uplink a private network, which may be the same for several uplinks, as providers
    /// do whose routers do NAT: servers see the same address as before.
    ///
    /// # Errors
    /// When `ip` or `nft` refuses.
    pub fn use_private_network(&self, uplink: usize, own: &str, router: &str) -> Result<()> {
        let Uplink { spec, provider } = &self.uplinks[uplink];
        let interface = &spec.interface;
        self.gateway.run("ip", &["-4", "address", "flush", "dev", interface])?;
        let router_address = format!("{router}/24");
        provider.run("ip", &["address", "add", &router_address, "dev", CUSTOMER_INTERFACE])?;
        let seen = plan::uplink_address(Family::V4, uplink);
        let table = format!(
            "table ip private {{
                chain leaving {{
                    type nat hook postrouting priority srcnat;
                    oifname {CORE_INTERFACE} ip saddr 192.168.0.0/16 snat to {seen}
                }}
            }}"
        );
        provider.load_nft(&table)?;
        let metric = (100 * (uplink + 1)).to_string();
        self.gateway.run("ip", &["address", "add", &format!("{own}/24"), "dev", interface])?;
        let route = ["route", "add", "default", "via", router, "dev", interface, "metric", &metric];
        self.gateway.run("ip", &route).map(drop)
    }
}
