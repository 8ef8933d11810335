//! Declarations of the maps, one for each.
//!
//! From [`for_each_map`](crate::for_each_map) come the statics of the eBPF object, the types by
//! which user space opens a map, the lists of what is pinned and handed on, and the table of maps
//! in `docs/kernel-objects.md`. A new map needs its declaration here, its writer and its reader.
#![expect(non_camel_case_types, reason = "maps are named as the kernel shows them")]

pub mod asker;
pub mod bucket;
pub mod buffer;
pub mod counter;
pub mod domain;
pub mod flow;
pub mod key;
pub mod limits;
pub mod quota;
pub mod recent;
pub mod rule;
pub mod seed;
pub mod settings;
pub mod shortcut;
pub mod udp_request;
pub mod uplink;

use crate::{
    maps::{
        asker::{ASKERS as ASKER_COUNT, Asker},
        bucket::{Bucket, CAPACITY},
        buffer::{Reply, Request},
        counter::{Counters, RuleCounters, UplinkCounters},
        domain::{Domain, NameHash},
        flow::{
            Address, Flow, FlowKey, PROPOSALS as PROPOSAL_COUNT, Proposal, Session, SessionKey,
        },
        key::{HostKey, MacKey, PortKey, QueryKey},
        quota::{HOSTS as HOST_COUNT, Host, Quota},
        recent::{RECENT as RECENT_COUNT, Recent},
        rule::{ACTIONS as ACTION_COUNT, RuleAction, RuleSet},
        settings::{CLASSES, Settings, StickyClass},
        shortcut::{
            DRIVER_SLOTS, DriverAddress, SHORTCUTS as SHORTCUT_COUNT, Shortcut, ShortcutCounters,
            XDP_DEVICES as XDP_DEVICE_COUNT,
        },
        udp_request::{UDP_REQUEST_ENTRIES, UdpRequest},
        uplink::{FAMILY_SLOTS, MAX_UPLINKS},
    },
    path::{drill::Drill, tables::PrefixData},
};

/// Hands the declarations of all maps to a macro: the meaning, the name as in the kernel, the kind
/// with key and value, the number of entries, and the [lifetime](crate::maps::Lifetime). The number is
/// that of the object; that of `FLOWS`, `UNREPLIED` and `SESSIONS` is configured.
#[macro_export]
macro_rules! for_each_map {
    ($apply:ident) => {
        $apply! {
            /// layout, mask, seed, shares
            SETTINGS: Array<u32, Settings>, 1, Configuration;
            /// usable uplinks
            UP_MASK: Array<u32, u32>, 1, Shared;
            /// usable uplinks that get no new flows while others can
            AVOID_MASK: Array<u32, u32>, 1, Shared;
            /// how often the flows of each uplink and family have ended together
            EPOCHS: Array<u32, u32>, FAMILY_SLOTS, Shared;
            /// the ranked buckets of all groups
            BUCKETS: Array<u32, Bucket>, CAPACITY as usize, Configuration;
            /// flows that were answered
            FLOWS: LruHashMap<FlowKey, Flow>, 262_144, Tables;
            /// flows without an answer yet, and those beyond their host's quota
            UNREPLIED: LruHashMap<FlowKey, Flow>, 65_536, Tables;
            /// what each host has stored of flows and sessions
            HOSTS: LruHashMap<Host, Quota>, HOST_COUNT, Tables;
            /// sticky sessions
            SESSIONS: LruHashMap<SessionKey, Session>, 65_536, Tables;
            /// the sticky classes of destination ports
            STICKY_PORTS: HashMap<PortKey, u32>, 4096, Configuration;
            /// the classes of sticky sessions
            STICKY_CLASSES: Array<u32, StickyClass>, CLASSES, Configuration;
            /// what each rule does, then what is done without a rule
            ACTIONS: Array<u32, RuleAction>, ACTION_COUNT, Configuration;
            /// rules by source prefix
            RULES_SOURCE: LpmTrie<PrefixData, RuleSet>, 1_048_576, Configuration;
            /// rules by destination prefix
            RULES_DESTINATION: LpmTrie<PrefixData, RuleSet>, 1_048_576, Configuration;
            /// rules by protocol number
            RULES_PROTOCOL: Array<u32, RuleSet>, 256, Configuration;
            /// rules by source port, in the machine's byte order
            RULES_SOURCE_PORT: Array<u32, RuleSet>, 65_536, Configuration;
            /// rules by destination port, in the machine's byte order
            RULES_DESTINATION_PORT: Array<u32, RuleSet>, 65_536, Configuration;
            /// rules by DSCP
            RULES_DSCP: Array<u32, RuleSet>, 64, Configuration;
            /// rules by interface; 0 stands for all without an entry
            RULES_INTERFACE: HashMap<u32, RuleSet>, 64, Configuration;
            /// rules by VLAN; 0 stands for untagged packets, and all without an entry
            RULES_VLAN: HashMap<u32, RuleSet>, 4096, Configuration;
            /// rules by source MAC address; zero stands for all without an entry
            RULES_MAC: HashMap<MacKey, RuleSet>, 4096, Configuration;
            /// destinations that are not balanced, and how each is routed
            BYPASS: LpmTrie<PrefixData, u32>, 16_384, Shared;
            /// source prefixes that belong to one uplink
            SOURCE_UPLINKS: LpmTrie<PrefixData, u32>, 256, Configuration;
            /// packets by what became of them
            COUNTERS: PerCpuArray<u32, Counters>, 1, Shared;
            /// traffic by uplink
            UPLINK_COUNTERS: PerCpuArray<u32, UplinkCounters>, MAX_UPLINKS, Shared;
            /// use of each rule, then of none
            RULE_COUNTERS: PerCpuArray<u32, RuleCounters>, ACTION_COUNT, Configuration;
            /// interfaces to providers, and the uplink of each
            UPLINKS: HashMap<u32, u32>, 256, Shared;
            /// addresses of the uplinks, by family
            UPLINK_ADDRESSES: Array<u32, Address>, FAMILY_SLOTS, Shared;
            /// MTU of the uplinks, by family; 0 if unknown
            UPLINK_MTU: Array<u32, u32>, FAMILY_SLOTS, Shared;
            /// the fwmarks that linkbal gave to local sockets
            SOCKET_MARKS: SkStorage<i32, u32>, 0, Shared;
            /// rules by hash of the domain; at 0, those that name none
            DOMAIN_RULES: HashMap<NameHash, RuleSet>, 4096, Configuration;
            /// names of addresses, from DNS replies
            DOMAINS: LruHashMap<HostKey, Domain>, 16_384, Shared;
            /// DNS queries without a reply, and their time
            QUERIES: LruHashMap<QueryKey, u32>, 16_384, Shared;
            /// servers whose DNS replies are trusted
            RESOLVERS: HashMap<HostKey, u32>, 256, Configuration;
            /// requests to the gateway's own UDP servers, by the flow of the answer
            UDP_REQUESTS: LruHashMap<FlowKey, UdpRequest>, UDP_REQUEST_ENTRIES, Shared;

            /// decisions on their way to the uplink, by the hash of the flow
            PROPOSALS: Array<u32, Proposal>, PROPOSAL_COUNT, Unpinned;
            /// shortcuts from the LAN to the uplinks, by the hash of the packets' tuple
            SHORTCUTS_UP: Array<u32, Shortcut>, SHORTCUT_COUNT, Unpinned;
            /// shortcuts from the uplinks to the LAN, likewise
            SHORTCUTS_DOWN: Array<u32, Shortcut>, SHORTCUT_COUNT, Unpinned;
            /// interfaces of the LAN whose packets take no shortcuts
            SHORTCUTS_LEFT_OUT: HashMap<u32, u32>, 256, Shared;
            /// traffic by uplink that took shortcuts, or a short look
            SHORTCUT_COUNTERS: PerCpuArray<u32, ShortcutCounters>, MAX_UPLINKS, Shared;
            /// interfaces that packets of shortcuts are sent out by at the driver
            XDP_DEVICES: DevMapHash<u32, u32>, XDP_DEVICE_COUNT, Unpinned;
            /// MAC addresses of the interfaces whose driver runs a program
            XDP_ADDRESSES: Array<u32, DriverAddress>, DRIVER_SLOTS, Unpinned;
            /// flows of the present window, by the hash of the packets' tuple
            RECENT: Array<u32, Recent>, RECENT_COUNT, Unpinned;
            /// DNS queries and new addresses of each host
            ASKERS: Array<u32, Asker>, ASKER_COUNT, Unpinned;
            /// the DNS reply that a processor reads
            REPLY: PerCpuArray<u32, Reply>, 1, Unpinned;
            /// a word whose value the verifier does not know
            SCRATCH: PerCpuArray<u32, u32>, 1, Unpinned;
            /// the request of a processor to the slow path
            REQUEST: PerCpuArray<u32, Request>, 1, Unpinned;
            /// the same for local traffic, since the stack has no room for it
            LOCAL_REQUEST: PerCpuArray<u32, Request>, 1, Unpinned;
            /// what a drill drops, and until when
            DRILL: Array<u32, Drill>, 1, Unpinned;
            /// how many packets drills have dropped
            DRILLED: PerCpuArray<u32, u64>, 1, Unpinned;
        }
    };
}

/// A map of the datapath, as a type: [`for_each_map`](crate::for_each_map) has them all.
pub trait Map {
    /// Type of the keys; of tries, the data behind the length of the prefix.
    type Key;
    /// Type of the values.
    type Value;
    /// Kind of the map, one of [`kind`].
    type Kind: kind::Kind;
    /// Name, as in the object and in bpffs.
    const NAME: &'static str;
    /// Number of entries, unless it is configured.
    const ENTRIES: usize;
}

/// Kinds of maps, as types.
pub mod kind {
    /// A kind of maps.
    pub trait Kind {
        /// Name of the kind, as `bpftool` shows it.
        const NAME: &'static str;
    }

    /// A kind of hash tables.
    pub trait Hash: Kind {}

    macro_rules! kinds {
        ($($kind:ident $name:literal;)*) => {
            $(
                #[doc = concat!("The kind `", $name, "`.")]
                #[derive(Clone, Copy, Debug)]
                pub struct $kind;
                impl Kind for $kind {
                    const NAME: &'static str = $name;
                }
            )*
        };
    }
    kinds! {
        Array "array";
        PerCpuArray "percpu_array";
        HashMap "hash";
        LruHashMap "lru_hash";
        LpmTrie "lpm_trie";
        SkStorage "sk_storage";
        DevMapHash "devmap_hash";
    }
    impl Hash for HashMap {}
    impl Hash for LruHashMap {}
}

/// Lifetime of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Life with linkbal's pins: one datapath hands the map to the next.
    Shared,
    /// The same, but only between datapaths of one layout.
    Tables,
    /// Life with its configuration, so that a program sees all of it or nothing. Pinned.
    Configuration,
    /// Life with its datapath, without a pin.
    Unpinned,
}

/// A declaration of a map, without its types.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Name, as in the object and in bpffs.
    pub name: &'static str,
    /// Name of the kind, as `bpftool` shows it.
    pub kind: &'static str,
    /// Number of entries in the object.
    pub entries: usize,
    /// Lifetime.
    pub lifetime: Lifetime,
    /// Meaning, in words.
    pub what: &'static str,
}

macro_rules! declare {
    ($(
        #[doc = $what:literal]
        $name:ident: $kind:ident<$key:ty, $value:ty>, $entries:expr, $lifetime:ident;
    )*) => {
        $(
            #[doc = concat!("The map `", stringify!($name), "`:", $what, ".")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl $name {
                /// Name, as in the object and in bpffs.
                pub const NAME: &'static str = stringify!($name);
            }
            impl Map for $name {
                type Key = $key;
                type Value = $value;
                type Kind = kind::$kind;
                const NAME: &'static str = stringify!($name);
                const ENTRIES: usize = $entries;
            }
        )*

        /// All maps, in the order in which they are declared.
        pub const MAPS: &[Declaration] = &[$(Declaration {
            name: stringify!($name),
            kind: <kind::$kind as kind::Kind>::NAME,
            entries: $entries,
            lifetime: Lifetime::$lifetime,
            what: $what,
        }),*];
    };
}
for_each_map!(declare);

/// Returns the names of the maps that are pinned.
pub fn pinned() -> impl Iterator<Item = &'static str> {
    MAPS.iter().filter(|map| map.lifetime != Lifetime::Unpinned).map(|map| map.name)
}

/// Returns the names of the maps that hold the configuration.
pub fn of_configuration() -> impl Iterator<Item = &'static str> {
    MAPS.iter().filter(|map| map.lifetime == Lifetime::Configuration).map(|map| map.name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs};

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kernel-objects.md");
    const HEADING: &str = "\n## Maps\n";

    /// Returns the table of maps for the document.
    fn table() -> String {
        let row = |map: &Declaration| {
            let lifetime = match map.lifetime {
                Lifetime::Shared => "shared",
                Lifetime::Tables => "layout",
                Lifetime::Configuration => "configuration",
                Lifetime::Unpinned => "unpinned",
            };
            let Declaration { name, kind, entries, what, .. } = map;
            format!("| `{name}` | {kind} | {entries} | {lifetime} |{what} |\n")
        };
        let head = "| map | type | entries | lives | what it holds |\n|---|---|---|---|---|\n";
        head.to_owned() + &MAPS.iter().map(row).collect::<String>()
    }

    /// Checks the table in the document; `LINKBAL_BLESS=1` writes it again.
    #[test]
    fn the_document_has_all_maps_as_they_are_declared() {
        let text = fs::read_to_string(DOCUMENT).expect("the document");
        let (before, maps) = text.split_once(HEADING).expect("a part about maps");
        let (introduction, _) = maps.split_once("\n| map |").expect("a table");
        let wanted = format!("{before}{HEADING}{introduction}\n{}", table());
        if env::var_os("LINKBAL_BLESS").is_some() {
            fs::write(DOCUMENT, &wanted).expect("to write the document");
        } else {
            assert_eq!(text, wanted, "LINKBAL_BLESS=1 writes the table of maps again");
        }
    }

    #[test]
    fn names_are_unique_and_in_capitals() {
        let names: BTreeSet<_> = MAPS.iter().map(|map| map.name).collect();
        assert_eq!(names.len(), MAPS.len());
        assert!(pinned().all(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')));
    }
}
