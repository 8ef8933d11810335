//! The policy in the maps.
//!
//! An entry that stays is at most rewritten with the same value, which running programs cannot
//! notice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::Pod;
use ipnet::IpNet;
use linkbal_common::{
    bucket::Bucket,
    maps::{self, Map, kind},
    rule::RuleSet,
    tables::PrefixData,
};

use super::{Datapath, batch, key_prefix, map_data, prefix_key};
use crate::engine::{kernel::network::Link, policy::Policy};

impl Datapath {
    /// Writes all tables but that of the interfaces, which are known later.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn set_policy(&mut self, policy: &Policy) -> Result<()> {
        self.set_buckets(&policy.buckets)?;
        self.set_array(maps::STICKY_CLASSES, &policy.classes)?;
        self.set_hash(maps::STICKY_PORTS, &policy.sticky_ports)?;
        self.set_array(maps::ACTIONS, &policy.actions)?;
        self.set_prefixes(maps::SOURCE_UPLINKS, &policy.source_uplinks)?;
        // The other tables are not read before there is a rule.
        if policy.rules == 0 {
            return Ok(());
        }
        self.set_prefixes(maps::RULES_SOURCE, &policy.source)?;
        self.set_prefixes(maps::RULES_DESTINATION, &policy.destination)?;
        self.set_array(maps::RULES_PROTOCOL, &policy.protocol)?;
        self.set_array(maps::RULES_SOURCE_PORT, &policy.source_port)?;
        self.set_array(maps::RULES_DESTINATION_PORT, &policy.destination_port)?;
        self.set_array(maps::RULES_DSCP, &policy.dscp)?;
        self.set_hash(maps::RULES_VLAN, &policy.vlan)?;
        self.set_hash(maps::RULES_MAC, &policy.mac)
    }

    /// Writes the first buckets.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_buckets(&mut self, buckets: &[Bucket]) -> Result<()> {
        self.set_array(maps::BUCKETS, buckets)
    }

    /// Writes the rules that each LAN interface satisfies.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_rule_interfaces<'a>(
        &mut self,
        policy: &Policy,
        links: impl IntoIterator<Item = &'a Link>,
    ) -> Result<()> {
        let everywhere = policy.interface.get("").copied().unwrap_or(RuleSet::NONE);
        let named = |link: &Link| Some((link.ifindex, policy.of_interface(&link.name)?));
        let known = links.into_iter().filter_map(named);
        self.set_hash(maps::RULES_INTERFACE, &known.chain([(0, everywhere)]).collect())
    }

    /// Sets the uplink (by index, or `tables::SHARED`) that comes in by each interface.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_uplink_interfaces(&mut self, uplinks: &BTreeMap<u32, u32>) -> Result<()> {
        self.set_hash(maps::UPLINKS, uplinks)
    }

    fn set_array<M>(&mut self, _: M, values: &[M::Value]) -> Result<()>
    where
        M: Map<Kind = kind::Array, Value: Pod>,
    {
        let indexes: Vec<u32> = (0..).take(values.len()).collect();
        batch::update(map_data(self.map(M::NAME)?)?, &indexes, values)
            .with_context(|| format!("failed to write map {}", M::NAME))
    }

    pub(super) fn set_hash<M>(
        &mut self,
        which: M,
        wanted: &BTreeMap<M::Key, M::Value>,
    ) -> Result<()>
    where
        M: Map<Kind = kind::HashMap, Key: Pod + Ord, Value: Pod>,
    {
        let mut map = self.hash_mut(which)?;
        for (key, value) in wanted {
            map.insert(key, value, 0)
                .with_context(|| format!("failed to write map {}", M::NAME))?;
        }
        let present: Vec<M::Key> = map.keys().collect::<Result<_, _>>()?;
        for key in present.into_iter().filter(|key| !wanted.contains_key(key)) {
            map.remove(&key)?;
        }
        Ok(())
    }

    fn set_prefixes<M>(&mut self, which: M, wanted: &BTreeMap<IpNet, M::Value>) -> Result<()>
    where
        M: Map<Kind = kind::LpmTrie, Key = PrefixData, Value: Pod> + Copy,
    {
        self.used.insert(M::NAME, wanted.len());
        // Listed before they are written: a new map then has nothing to list.
        let present = self.trie(which)?.keys().collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = wanted.keys().map(prefix_key).collect();
        let values: Vec<_> = wanted.values().copied().collect();
        batch::update(map_data(self.map(M::NAME)?)?, &keys, &values)
            .with_context(|| format!("failed to write map {}", M::NAME))?;
        let present: BTreeSet<IpNet> = present.iter().filter_map(key_prefix).collect();
        let mut trie = self.trie_mut(which)?;
        for prefix in present.iter().filter(|prefix| !wanted.contains_key(prefix)) {
            trie.remove(&prefix_key(prefix))?;
        }
        Ok(())
    }
}
