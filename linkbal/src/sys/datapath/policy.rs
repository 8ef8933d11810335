//! The policy in the maps.
//!
//! An entry that stays is at most rewritten with the same value, which running programs cannot
//! notice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, LpmTrie},
};
use ipnet::IpNet;
use linkbal_common::{bucket::Bucket, names, rule::RuleSet};

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
        self.set_array(names::STICKY_CLASSES, &policy.classes)?;
        self.set_hash(names::STICKY_PORTS, &policy.sticky_ports)?;
        self.set_array(names::ACTIONS, &policy.actions)?;
        self.set_prefixes(names::SOURCE_UPLINKS, &policy.source_uplinks)?;
        // The other tables are not read before there is a rule.
        if policy.rules == 0 {
            return Ok(());
        }
        self.set_prefixes(names::RULES_SOURCE, &policy.source)?;
        self.set_prefixes(names::RULES_DESTINATION, &policy.destination)?;
        self.set_array(names::RULES_PROTOCOL, &policy.protocol)?;
        self.set_array(names::RULES_SOURCE_PORT, &policy.source_port)?;
        self.set_array(names::RULES_DESTINATION_PORT, &policy.destination_port)?;
        self.set_array(names::RULES_DSCP, &policy.dscp)?;
        self.set_hash(names::RULES_VLAN, &policy.vlan)?;
        self.set_hash(names::RULES_MAC, &policy.mac)
    }

    /// Writes the first buckets.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_buckets(&mut self, buckets: &[Bucket]) -> Result<()> {
        self.set_array(names::BUCKETS, buckets)
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
        self.set_hash(names::RULES_INTERFACE, &known.chain([(0, everywhere)]).collect())
    }

    /// Sets the uplink (by index, or `tables::SHARED`) that comes in by each interface.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_uplink_interfaces(&mut self, uplinks: &BTreeMap<u32, u32>) -> Result<()> {
        self.set_hash(names::UPLINKS, uplinks)
    }

    fn set_array<V: Pod>(&mut self, name: &str, values: &[V]) -> Result<()> {
        let indexes: Vec<u32> = (0..).take(values.len()).collect();
        batch::update(map_data(self.map(name)?)?, &indexes, values)
            .with_context(|| format!("failed to write map {name}"))
    }

    pub(super) fn set_hash<K: Pod + Ord, V: Pod>(
        &mut self,
        name: &str,
        wanted: &BTreeMap<K, V>,
    ) -> Result<()> {
        let mut map: HashMap<_, K, V> = HashMap::try_from(self.map_mut(name)?)?;
        for (key, value) in wanted {
            map.insert(key, value, 0).with_context(|| format!("failed to write map {name}"))?;
        }
        let present: Vec<K> = map.keys().collect::<Result<_, _>>()?;
        for key in present.into_iter().filter(|key| !wanted.contains_key(key)) {
            map.remove(&key)?;
        }
        Ok(())
    }

    fn set_prefixes<V: Pod>(&mut self, name: &str, wanted: &BTreeMap<IpNet, V>) -> Result<()> {
        let map = self.map(name)?;
        let trie: LpmTrie<_, [u32; 6], V> = LpmTrie::try_from(map)?;
        // Listed before they are written: a new map then has nothing to list.
        let present = trie.keys().collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = wanted.keys().map(prefix_key).collect();
        let values: Vec<_> = wanted.values().copied().collect();
        batch::update(map_data(map)?, &keys, &values)
            .with_context(|| format!("failed to write map {name}"))?;
        let present: BTreeSet<IpNet> = present.iter().filter_map(key_prefix).collect();
        let mut trie: LpmTrie<_, [u32; 6], V> = LpmTrie::try_from(self.map_mut(name)?)?;
        for prefix in present.iter().filter(|prefix| !wanted.contains_key(prefix)) {
            trie.remove(&prefix_key(prefix))?;
        }
        Ok(())
    }
}
