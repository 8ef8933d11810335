//! Providers with a pool of addresses, and gateways that have none of their own yet.

use anyhow::Result;

use super::plan::{self, Family};
use super::{CUSTOMER_INTERFACE, Lab, Uplink};

impl Lab {
    /// Takes the IPv4 address of an uplink from the gateway, and with it the route by it, and gives
    /// its provider a pool of others.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn use_pool(&self, uplink: usize) -> Result<()> {
        let Uplink { spec, provider } = &self.uplinks[uplink];
        self.gateway.run("ip", &["-4", "address", "flush", "dev", &spec.interface])?;
        let own = format!("{}/24", plan::pool(uplink, 1));
        provider.run("ip", &["address", "add", &own, "dev", CUSTOMER_INTERFACE])?;
        let pool = format!("{}/24", plan::pool(uplink, 0));
        let provider = plan::core_net(Family::V4, uplink, 2).to_string();
        self.net.run("ip", &["route", "add", &pool, "via", &provider])?;
        Ok(())
    }
}
