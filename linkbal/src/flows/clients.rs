//! Totals by client, in a bounded table.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::record::{Bytes, FlowEntry};

/// Maximum number of clients in the table: so many take about 8 MB.
pub const MAX_CLIENTS: usize = 65_536;

/// The live flows of a client together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of live flows.
    pub flows: u64,
    /// Bytes of those that are counted; `None` if none is.
    pub bytes: Option<Bytes>,
    /// The uplinks of these flows, bit `i` for uplink `i`.
    pub uplinks: u16,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.flows = self.flows.saturating_add(other.flows);
        self.bytes = match (self.bytes, other.bytes) {
            (Some(a), Some(b)) => Some(a.plus(b)),
            (a, b) => a.or(b),
        };
        self.uplinks |= other.uplinks;
    }

    /// Returns the size by which clients are put in order: bytes, then flows.
    const fn size(&self) -> (u64, u64) {
        let bytes = match self.bytes {
            Some(bytes) => bytes.total(),
            None => 0,
        };
        (bytes, self.flows)
    }
}

/// The clients with their totals. If there are too many, the smaller half falls out and is counted
/// together; who comes back after that begins anew.
#[derive(Debug)]
pub struct Clients {
    totals: HashMap<IpAddr, Totals>,
    max: usize,
    others: Others,
}

/// The clients that fell out of the table, or are below the limit, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Number of clients; one that fell out several times is counted as often.
    pub clients: u64,
    /// Totals of the clients.
    pub totals: Totals,
}

impl Others {
    fn add(&mut self, totals: &Totals) {
        self.clients = self.clients.saturating_add(1);
        self.totals.add(totals);
    }
}

impl Default for Clients {
    fn default() -> Clients {
        Clients::with_room(MAX_CLIENTS)
    }
}

impl Clients {
    fn with_room(max: usize) -> Clients {
        Clients { totals: HashMap::new(), max, others: Others::default() }
    }

    /// Adds a live flow.
    pub fn add(&mut self, entry: &FlowEntry) {
        let uplinks = 1u16.checked_shl(entry.flow.uplink).unwrap_or(0);
        let one = Totals { flows: 1, bytes: entry.bytes, uplinks };
        self.totals.entry(entry.client()).or_default().add(&one);
        if self.totals.len() > self.max {
            self.drop_smaller_half();
        }
    }

    fn drop_smaller_half(&mut self) {
        let mut sizes: Vec<_> =
            self.totals.iter().map(|(client, totals)| (totals.size(), *client)).collect();
        sizes.sort_unstable();
        sizes.truncate(self.totals.len().div_ceil(2));
        for (_, client) in sizes {
            if let Some(totals) = self.totals.remove(&client) {
                self.others.add(&totals);
            }
        }
    }

    /// Returns the largest clients, at most `limit` of them, and the others together.
    pub fn into_largest(self, limit: usize) -> (Vec<(IpAddr, Totals)>, Others) {
        let Clients { totals, mut others, .. } = self;
        let mut largest: Vec<(IpAddr, Totals)> = totals.into_iter().collect();
        largest.sort_unstable_by_key(|(client, totals)| (Reverse(totals.size()), *client));
        largest.drain(limit.min(largest.len())..).for_each(|(_, totals)| others.add(&totals));
        (largest, others)
    }
}

/// A client with its totals, as `linkbal clients --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ClientRecord<'a> {
    /// Address in the LAN; unspecified for datagrams of the gateway itself.
    #[schema(value_type = String)]
    pub client: IpAddr,
    /// Name, as its DHCP lease or the DNS has it; null if it is not known. Only the command line fills
    /// it in.
    #[serde(default)]
    pub name: Option<String>,
    /// Number of live flows.
    pub flows: u64,
    /// Names of the uplinks of these flows.
    #[serde(borrow)]
    pub uplinks: Vec<Cow<'a, str>>,
    /// Bytes from the client; null if they are not counted.
    pub bytes_up: Option<u64>,
    /// Bytes to the client; null if they are not counted.
    pub bytes_down: Option<u64>,
}

/// The other clients together, as the last line has them if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OthersRecord {
    /// Number of clients.
    pub clients: u64,
    /// Number of live flows.
    pub flows: u64,
    /// Bytes from them; null if they are not counted.
    pub bytes_up: Option<u64>,
    /// Bytes to them; null if they are not counted.
    pub bytes_down: Option<u64>,
}

impl<'a> ClientRecord<'a> {
    /// Creates the record of a client; `name` names an uplink by its index.
    pub fn new(client: IpAddr, totals: &Totals, name: impl Fn(u32) -> &'a str) -> ClientRecord<'a> {
        let used = (0..u16::BITS).filter(|index| totals.uplinks & 1 << index != 0);
        // Uplinks that are gone share their place.
        let names: HashSet<&str> = used.map(name).collect();
        let mut uplinks: Vec<Cow<'_, str>> = names.into_iter().map(Cow::Borrowed).collect();
        uplinks.sort_unstable();
        ClientRecord {
            client,
            name: None,
            flows: totals.flows,
            uplinks,
            bytes_up: totals.bytes.map(|bytes| bytes.up),
            bytes_down: totals.bytes.map(|bytes| bytes.down),
        }
    }
}

impl From<Others> for OthersRecord {
    fn from(Others { clients, totals }: Others) -> OthersRecord {
        OthersRecord {
            clients,
            flows: totals.flows,
            bytes_up: totals.bytes.map(|bytes| bytes.up),
            bytes_down: totals.bytes.map(|bytes| bytes.down),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::filter::tests::entries, *};

    /// Returns the totals of everything together.
    fn sum<'a>(all: impl Iterator<Item = &'a Totals>) -> Totals {
        all.fold(Totals::default(), |mut sum, totals| {
            sum.add(totals);
            sum
        })
    }

    #[test]
    fn a_client_has_the_names_of_its_uplinks() {
        let totals = Totals { flows: 3, bytes: None, uplinks: 0b101 };
        let names = |index: u32| if index == 0 { "isp-b" } else { "isp-a" };
        let record = ClientRecord::new(IpAddr::from([10, 0, 0, 1]), &totals, names);
        let json = serde_json::to_string(&record).expect("JSON");
        assert_eq!(
            json,
            r#"{"client":"10.0.0.1","name":null,"flows":3,"uplinks":["isp-a","isp-b"],"bytes_up":null,"bytes_down":null}"#
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_largest_come_first(
            all in prop::collection::vec(entries(), 0..80), room in 1usize..12, limit in 0usize..12,
        ) {
            let mut clients = Clients::with_room(room);
            all.iter().for_each(|entry| clients.add(entry));
            let (largest, others) = clients.into_largest(limit);
            prop_assert!(largest.len() <= limit.min(room));
            prop_assert!(largest.is_sorted_by(|(_, a), (_, b)| a.size() >= b.size()));
            let one = |entry: &FlowEntry| Totals { flows: 1, bytes: entry.bytes, uplinks: 1 << entry.flow.uplink };
            let expected: Vec<Totals> = all.iter().map(one).collect();
            let found = largest.iter().map(|(_, totals)| totals).chain([&others.totals]);
            prop_assert_eq!(sum(found), sum(expected.iter()));
        }

        #[test]
        fn with_room_for_all_each_client_has_its_own_flows(all in prop::collection::vec(entries(), 0..80)) {
            let mut clients = Clients::default();
            all.iter().for_each(|entry| clients.add(entry));
            let (largest, others) = clients.into_largest(usize::MAX);
            prop_assert_eq!(others, Others::default());
            for (client, totals) in largest {
                let flows = all.iter().filter(|entry| entry.client() == client).count();
                prop_assert_eq!(totals.flows, flows as u64);
            }
        }
    }
}
