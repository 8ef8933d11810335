//! The first flows in some order, in bounded memory.

use std::{cmp::Ordering, collections::BinaryHeap, net::IpAddr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{live::Situation, record::FlowEntry};

/// An order of flows. Flows that are the same in it are in the order of their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowOrder {
    /// Most bytes of both ways first
    Bytes,
    /// Most bytes from the LAN first
    Up,
    /// Most bytes to the LAN first
    Down,
    /// Oldest flow first
    Age,
    /// Longest idle first
    Idle,
    /// By address of the LAN host
    Client,
    /// By address of the remote end
    Destination,
    /// By uplink
    Uplink,
}

/// Maximum number of flows that are put in order: so many take about 15 MB.
pub const MAX_SORTED: usize = 100_000;

/// The first flows in an order.
#[derive(Debug)]
pub struct First {
    order: FlowOrder,
    reverse: bool,
    limit: usize,
    kept: BinaryHeap<Ranked>,
}

#[derive(Debug)]
struct Ranked {
    rank: Rank,
    entry: FlowEntry,
}

/// Place in the order: what it is by, then addresses, ports and protocol.
type Rank = (u128, [u128; 2], [u16; 2], u8);

impl First {
    /// Creates an empty list of at most `limit` flows, or [`MAX_SORTED`] if that is less.
    pub fn new(order: FlowOrder, reverse: bool, limit: usize) -> First {
        First { order, reverse, limit: limit.min(MAX_SORTED), kept: BinaryHeap::new() }
    }

    /// Adds a flow, if it is among the first.
    pub fn add(&mut self, entry: FlowEntry, situation: &Situation) {
        let value = self.order.value(&entry, situation);
        let value = if self.reverse { u128::MAX.wrapping_sub(value) } else { value };
        let key = &entry.key;
        let ports = [key.source_port, key.destination_port].map(u16::from_be);
        let ends = [entry.client(), entry.destination()].map(place);
        let ranked = Ranked { rank: (value, ends, ports, key.protocol), entry };
        if self.kept.len() < self.limit {
            self.kept.push(ranked);
        } else if let Some(mut last) = self.kept.peek_mut()
            && ranked < *last
        {
            *last = ranked;
        }
    }

    /// Returns the flows in order.
    pub fn into_sorted(self) -> impl Iterator<Item = FlowEntry> {
        self.kept.into_sorted_vec().into_iter().map(|ranked| ranked.entry)
    }
}

impl FlowOrder {
    /// Returns the number by which a flow is put in order; lower ones come first.
    fn value(self, entry: &FlowEntry, situation: &Situation) -> u128 {
        let most = |value: u64| u128::from(u64::MAX.wrapping_sub(value));
        // Those that are not counted come behind all others.
        let bytes = |of: fn(&super::record::Bytes) -> u64| {
            entry.bytes.as_ref().map_or(u128::MAX, |bytes| most(of(bytes)))
        };
        match self {
            FlowOrder::Bytes => bytes(|bytes| bytes.total()),
            FlowOrder::Up => bytes(|bytes| bytes.up),
            FlowOrder::Down => bytes(|bytes| bytes.down),
            FlowOrder::Age => most(situation.age_s(&entry.flow).into()),
            FlowOrder::Idle => most(situation.idle_s(&entry.flow).into()),
            FlowOrder::Client => place(entry.client()),
            FlowOrder::Destination => place(entry.destination()),
            FlowOrder::Uplink => entry.flow.uplink.into(),
        }
    }
}

/// Returns the place of an address among others; IPv4 comes before IPv6.
fn place(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use linkbal_common::{
        settings::Settings,
        uplink::{FAMILY_SLOTS, UpMask},
    };
    use proptest::prelude::*;

    use super::{super::filter::tests::entries, *};

    fn situation() -> Situation {
        let (up, settings) = (UpMask(1), Settings::default());
        Situation { up, epochs: [0; FAMILY_SLOTS], settings, now_ms: 5_000_000_000 }
    }

    const ORDERS: [FlowOrder; 8] = [
        FlowOrder::Bytes,
        FlowOrder::Up,
        FlowOrder::Down,
        FlowOrder::Age,
        FlowOrder::Idle,
        FlowOrder::Client,
        FlowOrder::Destination,
        FlowOrder::Uplink,
    ];

    proptest! {
        #[test]
        fn the_first_are_those_of_the_whole_list_in_order(
            all in prop::collection::vec(entries(), 0..60), limit in 0usize..70, order in 0..ORDERS.len(),
            reverse: bool,
        ) {
            let order = ORDERS[order];
            let mut first = First::new(order, reverse, limit);
            all.iter().for_each(|entry| first.add(*entry, &situation()));
            let value = |entry: &FlowEntry| {
                let value = order.value(entry, &situation());
                if reverse { u128::MAX - value } else { value }
            };
            let kept: Vec<u128> = first.into_sorted().map(|entry| value(&entry)).collect();
            let mut expected: Vec<u128> = all.iter().map(value).collect();
            expected.sort_unstable();
            expected.truncate(limit);
            prop_assert_eq!(kept, expected);
        }

        #[test]
        fn more_bytes_come_first_and_uncounted_ones_last(one in entries(), other in entries()) {
            let value = |entry: &FlowEntry| FlowOrder::Bytes.value(entry, &situation());
            let bytes = |entry: &FlowEntry| entry.bytes.map(super::super::record::Bytes::total);
            prop_assert_eq!(value(&one) < value(&other), bytes(&one) > bytes(&other));
        }
    }
}
