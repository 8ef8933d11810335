//! Providers that drop packets with foreign source addresses, as real ones do (RFC 2827).

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::plan::{self, Family};
use super::{CUSTOMER_INTERFACE, Lab};
use crate::oracle;

impl Lab {
    /// Makes each provider forward from its customer only packets with a source address of that
    /// uplink, and count both these and all others.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn filter_sources(&self) -> Result<()> {
        for (index, uplink) in self.uplinks.iter().enumerate() {
            let mut rules = String::new();
            for (family, word) in Family::ALL.into_iter().zip(["ip", "ip6"]) {
                let prefix = plan::customer_prefix(family, index);
                let _ = writeln!(rules, "{word} saddr {prefix} counter name own accept");
            }
            let table = format!(
                "table inet sources {{
                    counter own {{ }}
                    counter foreign {{ }}
                    chain forward {{
                        type filter hook forward priority 0;
                        iifname != {CUSTOMER_INTERFACE} accept
                        {rules}
                        counter name foreign drop
                    }}
                }}"
            );
            uplink.provider.load_nft(&table)?;
        }
        Ok(())
    }

    /// Returns the number of packets from the gateway with an address of the uplink, and of those
    /// with another address, since [`Lab::filter_sources`].
    ///
    /// # Errors
    /// When the provider does not filter.
    pub fn filtered(&self, uplink: usize) -> Result<(u64, u64)> {
        let rules = oracle::nft_json(&self.uplinks[uplink].provider)?;
        let count = |name: &str| {
            let all = rules["nftables"].as_array().into_iter().flatten();
            let mut counters = all.map(|item| &item["counter"]);
            let counter = counters.find(|counter| counter["name"] == name);
            let packets = counter.and_then(|counter| counter["packets"].as_u64());
            packets.with_context(|| format!("failed to find counter {name}"))
        };
        Ok((count("own")?, count("foreign")?))
    }
}
