//! Data by which the datapath learns the addresses of domains, and addresses that are known
//! beforehand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use linkbal_common::{
    dns::{HostKey, domain::name_hash},
    hash::Seed,
    maps,
    rule::RuleSet,
};
use nix::time::{ClockId, clock_gettime};

use super::{Datapath, in_words};

impl Datapath {
    /// Sets the rules that the addresses of each domain satisfy; those of the empty name hold for
    /// any address.
    ///
    /// # Errors
    ///
    /// If the map cannot be written; the same holds for all below.
    pub fn set_domain_rules(
        &mut self,
        seed: Seed,
        rules: &BTreeMap<String, RuleSet>,
    ) -> Result<()> {
        let hashed = rules.iter().map(|(name, set)| (name_hash(seed, name), *set));
        self.set_hash(maps::DOMAIN_RULES, &hashed.collect())
    }

    /// Sets the resolvers whose DNS replies are believed, besides the gateway's own.
    pub fn set_resolvers(&mut self, resolvers: &BTreeSet<IpAddr>) -> Result<()> {
        let keys = resolvers.iter().map(|address| (host_key(*address), 1u32));
        self.set_hash(maps::RESOLVERS, &keys.collect())
    }

    /// Adds addresses of a configured domain, each with its time to live, as a DNS reply does.
    pub fn learn(&mut self, name: &str, addresses: &[(IpAddr, Duration)]) -> Result<()> {
        let name = name_hash(self.settings()?.seed, name);
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now_s = u32::try_from(now.tv_sec()).context("failed to read the clock")?;
        let mut map = self.hash_mut(maps::DOMAINS)?;
        for (address, ttl) in addresses {
            let key = host_key(*address);
            let known = map.get(&key, 0).unwrap_or_default();
            let ttl_s = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
            map.insert(key, known.with(name, ttl_s, now_s), 0)?;
        }
        Ok(())
    }
}

fn host_key(address: IpAddr) -> HostKey {
    let (family, address) = in_words(address);
    HostKey::new(family, &address)
}
