//! Addresses and prefixes as the maps hold them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;
use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use linkbal_common::{
    flow::Address,
    maps,
    tables::{PREFIX_FAMILY_BITS, PrefixData, prefix_data},
    uplink::{FAMILY_SLOTS, Family, family_slot},
};

use super::Datapath;
use crate::engine::command::{UplinkAddresses, UplinkMtu};

impl Datapath {
    /// Sets the destinations that the datapath does not balance, with how each is routed.
    pub fn set_bypass(&mut self, prefixes: &BTreeMap<IpNet, u32>) -> Result<()> {
        let before = std::mem::take(&mut self.bypass);
        let mut map = self.trie_mut(maps::BYPASS)?;
        for prefix in before.keys().filter(|prefix| !prefixes.contains_key(prefix)) {
            map.remove(&prefix_key(prefix))?;
        }
        for (prefix, routed_by) in prefixes {
            if before.get(prefix) != Some(routed_by) {
                map.insert(&prefix_key(prefix), *routed_by, 0)?;
            }
        }
        self.bypass.clone_from(prefixes);
        let gone = before.keys().filter(|prefix| !prefixes.contains_key(prefix));
        let hosts = gone.filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
        let gone: BTreeSet<Address> = hosts.map(|prefix| in_words(prefix.addr()).1).collect();
        if gone.is_empty() { Ok(()) } else { self.forget_asked(&gone) }
    }

    /// Forgets requests to addresses that this machine no longer has: the kernel sends nothing from
    /// them.
    fn forget_asked(&mut self, gone: &BTreeSet<Address>) -> Result<()> {
        let mut stale = Vec::new();
        self.for_each(maps::UDP_REQUESTS, |key, asked| {
            if gone.contains(&asked.address) {
                stale.push(*key);
            }
        })?;
        let mut map = self.hash_mut(maps::UDP_REQUESTS)?;
        for key in stale {
            // An entry that is gone already is as good.
            let _ = map.remove(&key);
        }
        Ok(())
    }

    pub(super) fn read_bypass(&self) -> Result<BTreeMap<IpNet, u32>> {
        let map = self.trie(maps::BYPASS)?;
        let entries = map.iter().collect::<Result<Vec<_>, _>>()?;
        Ok(entries.iter().filter_map(|(key, value)| Some((key_prefix(key)?, *value))).collect())
    }

    /// Sets the source address that local datagrams get with each uplink.
    pub fn set_uplink_addresses(&mut self, addresses: &UplinkAddresses) -> Result<()> {
        let mut wanted = [Address::default(); FAMILY_SLOTS];
        for ((uplink, family), address) in addresses {
            let (_, address) = in_words(*address);
            wanted[family_slot(*uplink, *family) as usize] = address;
        }
        let mut map = self.array_mut(maps::UPLINK_ADDRESSES)?;
        for (index, address) in wanted.into_iter().enumerate() {
            map.set(index as u32, address, 0)?;
        }
        Ok(())
    }

    /// Sets the MTU of each uplink, to which the MSS of TCP is clamped.
    pub fn set_uplink_mtu(&mut self, mtu: &UplinkMtu) -> Result<()> {
        let mut wanted = [0; FAMILY_SLOTS];
        for ((uplink, family), mtu) in mtu {
            wanted[family_slot(*uplink, *family) as usize] = *mtu;
        }
        let mut map = self.array_mut(maps::UPLINK_MTU)?;
        for (index, mtu) in wanted.into_iter().enumerate() {
            map.set(index as u32, mtu, 0)?;
        }
        Ok(())
    }

    /// Returns the address of a [`family_slot`] that [`Self::set_uplink_addresses`] stored; zero for
    /// none.
    pub fn uplink_address(&self, slot: u32) -> Result<Address> {
        Ok(self.array(maps::UPLINK_ADDRESSES)?.get(&slot, 0)?)
    }
}

/// Returns the key of a prefix in a trie.
pub(in super::super) fn prefix_key(prefix: &IpNet) -> Key<PrefixData> {
    let (family, address) = in_words(prefix.network());
    let length = PREFIX_FAMILY_BITS + u32::from(prefix.prefix_len());
    Key::new(length, prefix_data(family, &address))
}

/// Returns the family and an address as the maps hold it.
pub fn in_words(address: IpAddr) -> (Family, Address) {
    match address {
        IpAddr::V4(address) => (Family::Ipv4, [u32::from_ne_bytes(address.octets()), 0, 0, 0]),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            (Family::Ipv6, [0, 1, 2, 3].map(|at| u32::from_ne_bytes(words[at])))
        }
    }
}

/// Returns the prefix of a trie's key.
pub(in super::super) fn key_prefix(key: &Key<PrefixData>) -> Option<IpNet> {
    let [family, address @ .., _] = key.data();
    let length = key.prefix_len().checked_sub(PREFIX_FAMILY_BITS)? as u8;
    let octets: Vec<u8> = address.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let address = if u32::from_be(family) == Family::Ipv4 as u32 {
        IpAddr::from(<[u8; 4]>::try_from(&octets[..4]).ok()?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&octets[..]).ok()?)
    };
    IpNet::new(address, length).ok()
}
