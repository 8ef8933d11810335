//! The packet path over the maps of the kernel, for a packet that is never sent: it reads the maps as
//! the programs do, and writes nothing.

use std::cell::RefCell;

use anyhow::Result;
use aya::{Pod, maps::lpm_trie::Key};
use linkbal_common::{
    asker::Asker,
    bucket::Bucket,
    buffer::{Reply, Request, task},
    classify::port_key,
    counter::Counter,
    dns::domain::{Domain, NameHash},
    flow::{Address, Flow, FlowKey, Proposal, Reason, Session, SessionKey},
    ingress::ingress,
    key::{HostKey, QueryKey},
    local::{self, LocalSocket},
    maps::{self, kind},
    packet::model::ModelPacket,
    quota::{Host, Quota},
    recent::Recent,
    rule::{RuleAction, RuleSet},
    select::Selection,
    settings::{Settings, StickyClass},
    shortcut::{Shortcut, ShortcutCounters, Way},
    slow,
    tables::{Dimension, PREFIX_FAMILY_BITS, PrefixData, Tables, prefix_data},
    udp_request::UdpRequest,
    uplink::{Family, UpMask, family_slot},
    verdict::Verdict,
};
use nix::time::{ClockId, clock_gettime};

use super::Datapath;

/// A state that is taken for true, though it is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Assumption {
    /// Uplinks that are down.
    pub down: UpMask,
    /// Set if the flow is not in the table.
    pub is_new: bool,
}

/// The entries that the packet path looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The flow's entry.
    pub flow: Option<Flow>,
    /// The choice, and its reason, if one was made.
    pub choice: Option<(Selection, Reason)>,
    /// The value of the destination, if it is never balanced.
    pub bypass: Option<u32>,
    /// The bucket.
    pub bucket: Option<u32>,
    /// The key of a session, and its entry.
    pub session: Option<(SessionKey, Option<Session>)>,
    /// The names of the destination.
    pub domain: Option<Domain>,
}

/// Traces a packet of the LAN through the maps of a datapath.
///
/// # Errors
///
/// If the settings cannot be read. Another map that cannot be read counts as empty.
pub fn trace(
    datapath: &Datapath,
    packet: &ModelPacket<'_>,
    assumption: Assumption,
) -> Result<(Verdict, Findings)> {
    let live = Live::new(datapath, assumption)?;
    let verdict = ingress(packet, &live);
    Ok((verdict, live.findings.into_inner()))
}

/// Traces a connection of the gateway itself; returns the fwmark that its socket gets, if it needs
/// one.
///
/// # Errors
///
/// As [`trace`].
pub fn trace_local(
    datapath: &Datapath,
    key: FlowKey,
    assumption: Assumption,
) -> Result<(Option<u32>, Findings)> {
    let live = Live::new(datapath, assumption)?;
    let socket =
        LocalSocket { netns_cookie: live.settings.netns_cookie, key, ..LocalSocket::default() };
    let fwmark = local::connect(&socket, &live);
    Ok((fwmark, live.findings.into_inner()))
}

/// The maps of the kernel.
struct Live<'a> {
    datapath: &'a Datapath,
    settings: Settings,
    assumption: Assumption,
    now_ns: u64,
    findings: RefCell<Findings>,
}

impl<'a> Live<'a> {
    fn new(datapath: &'a Datapath, assumption: Assumption) -> Result<Live<'a>> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
        let seconds = u64::try_from(now.tv_sec())?;
        let nanoseconds = u64::try_from(now.tv_nsec())?;
        Ok(Live {
            datapath,
            settings: datapath.settings()?,
            assumption,
            now_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
            findings: RefCell::default(),
        })
    }

    fn at<M>(&self, map: M, index: u32) -> Option<M::Value>
    where
        M: maps::Map<Kind = kind::Array, Value: Pod>,
    {
        self.datapath.array(map).ok()?.get(&index, 0).ok()
    }

    fn entry<M>(&self, map: M, key: &M::Key) -> Option<M::Value>
    where
        M: maps::Map<Kind: kind::Hash, Key: Pod, Value: Pod>,
    {
        self.datapath.hash(map).ok()?.get(key, 0).ok()
    }

    /// Returns the entry of the longest prefix.
    fn prefix<M>(&self, map: M, family: Family, address: &[u32; 4]) -> Option<M::Value>
    where
        M: maps::Map<Kind = kind::LpmTrie, Key = PrefixData, Value: Pod>,
    {
        let key = Key::new(PREFIX_FAMILY_BITS + 128, prefix_data(family, address));
        self.datapath.trie(map).ok()?.get(&key, 0).ok()
    }
}

impl Tables for Live<'_> {
    type FlowSlot = ();
    type SessionSlot = ();

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn up_mask(&self) -> UpMask {
        UpMask(self.at(maps::UP_MASK, 0).unwrap_or(0)).without(self.assumption.down)
    }

    fn avoid_mask(&self) -> UpMask {
        UpMask(self.at(maps::AVOID_MASK, 0).unwrap_or(0))
    }

    fn epoch(&self, slot: u32) -> u32 {
        self.at(maps::EPOCHS, slot).unwrap_or(0)
    }

    fn bucket(&self, number: u32) -> Bucket {
        self.findings.borrow_mut().bucket = Some(number);
        self.at(maps::BUCKETS, number).unwrap_or(Bucket::EMPTY)
    }

    fn sticky_class(&self, index: u32) -> Option<StickyClass> {
        self.at(maps::STICKY_CLASSES, index)
    }

    fn action(&self, rule: u32) -> RuleAction {
        self.at(maps::ACTIONS, rule).unwrap_or(RuleAction::NO_RULE)
    }

    fn rules(&self, dimension: Dimension<'_>) -> RuleSet {
        let set = match dimension {
            Dimension::Source(family, address) => self.prefix(maps::RULES_SOURCE, family, address),
            Dimension::Destination(family, address) => {
                self.prefix(maps::RULES_DESTINATION, family, address)
            }
            Dimension::Protocol(protocol) => self.at(maps::RULES_PROTOCOL, protocol.into()),
            Dimension::SourcePort(port) => self.at(maps::RULES_SOURCE_PORT, port.into()),
            Dimension::DestinationPort(port) => self.at(maps::RULES_DESTINATION_PORT, port.into()),
            Dimension::Dscp(dscp) => self.at(maps::RULES_DSCP, dscp.into()),
            Dimension::Interface(ifindex) => self
                .entry(maps::RULES_INTERFACE, &ifindex)
                .or_else(|| self.entry(maps::RULES_INTERFACE, &0)),
            Dimension::Vlan(vlan) => self
                .entry(maps::RULES_VLAN, &vlan.into())
                .or_else(|| self.entry(maps::RULES_VLAN, &0)),
            Dimension::Mac(mac) => {
                self.entry(maps::RULES_MAC, &mac).or_else(|| self.entry(maps::RULES_MAC, &[0; 8]))
            }
        };
        set.unwrap_or(RuleSet::NONE)
    }

    fn sticky_port(&self, protocol: u8, port: u16) -> Option<u32> {
        self.entry(maps::STICKY_PORTS, &port_key(protocol, port))
    }

    fn bypass(&self, family: Family, destination: &[u32; 4]) -> Option<u32> {
        let value = self.prefix(maps::BYPASS, family, destination);
        self.findings.borrow_mut().bypass = value;
        value
    }

    fn source_uplink(&self, family: Family, source: &[u32; 4]) -> Option<u32> {
        self.prefix(maps::SOURCE_UPLINKS, family, source)
    }

    fn uplink_address(&self, uplink: u32, family: Family) -> Address {
        self.at(maps::UPLINK_ADDRESSES, family_slot(uplink, family)).unwrap_or_default()
    }

    fn uplink_mtu(&self, uplink: u32, family: Family) -> u32 {
        self.at(maps::UPLINK_MTU, family_slot(uplink, family)).unwrap_or(0)
    }

    fn uplink_on(&self, ifindex: u32) -> Option<u32> {
        self.entry(maps::UPLINKS, &ifindex)
    }

    fn flow(&self, key: &FlowKey) -> Option<(Flow, ())> {
        if self.assumption.is_new {
            return None;
        }
        let flow = self.entry(maps::FLOWS, key).or_else(|| self.entry(maps::UNREPLIED, key));
        self.findings.borrow_mut().flow = flow;
        flow.map(|flow| (flow, ()))
    }

    fn touch_flow(&self, _slot: (), _now_s: u32) {}

    fn touch_tcp(&self, _slot: (), _ack: u32, _end: u32) {}

    fn touch_state(&self, _slot: (), _state: u32) {}

    fn forget_flow(&self, _key: &FlowKey) {}

    fn store_flow(&self, _key: &FlowKey, _flow: &Flow) -> bool {
        true
    }

    fn store_new_flow(&self, _key: &FlowKey, _flow: &Flow) -> bool {
        true
    }

    fn settle_flow(&self, _key: &FlowKey, _slot: ()) {}

    fn with_quota<R>(&self, _host: Host, _with: impl FnOnce(&mut Quota) -> R) -> Option<R> {
        None
    }

    fn write_proposal(&self, _hash: u32, _write: impl FnOnce(&mut Proposal)) {}

    fn proposal(&self, _hash: u32) -> Option<Proposal> {
        None
    }

    fn with_shortcut<R>(
        &self,
        _way: Way,
        _hash: u32,
        _with: impl FnOnce(&mut Shortcut) -> R,
    ) -> Option<R> {
        None
    }

    fn is_left_out(&self, _ifindex: u32) -> bool {
        true
    }

    fn with_shortcut_counters<R>(
        &self,
        _uplink: u32,
        _with: impl FnOnce(&mut ShortcutCounters) -> R,
    ) -> Option<R> {
        None
    }

    fn remembers(&self) -> bool {
        false
    }

    fn with_recent<R>(&self, _hash: u32, _with: impl FnOnce(&mut Recent) -> R) -> Option<R> {
        None
    }

    fn session(&self, key: &SessionKey) -> Option<(Session, ())> {
        let session = self.entry(maps::SESSIONS, key);
        self.findings.borrow_mut().session = Some((*key, session));
        session.map(|session| (session, ()))
    }

    fn touch_session(&self, _slot: (), _now_s: u32) {}

    fn store_session(&self, _key: &SessionKey, _session: &Session) -> bool {
        true
    }

    fn store_query(&self, _key: &QueryKey, _now_s: u32) -> bool {
        true
    }

    fn query(&self, _key: &QueryKey) -> Option<u32> {
        None
    }

    fn forget_query(&self, _key: &QueryKey) {}

    fn with_asker<R>(&self, _index: u32, _change: impl FnOnce(&mut Asker) -> R) -> Option<R> {
        None
    }

    fn is_resolver(&self, _family: Family, _server: &Address) -> bool {
        false
    }

    fn domain_rules(&self, name: NameHash) -> Option<RuleSet> {
        self.entry(maps::DOMAIN_RULES, &name)
    }

    fn domain(&self, key: &HostKey) -> Option<Domain> {
        let domain = self.entry(maps::DOMAINS, key);
        self.findings.borrow_mut().domain = domain;
        domain
    }

    fn store_domain(&self, _key: &HostKey, _domain: &Domain) -> bool {
        true
    }

    fn udp_request(&self, _key: &FlowKey) -> Option<UdpRequest> {
        None
    }

    fn store_udp_request(&self, _key: &FlowKey, _request: &UdpRequest) {}

    fn with_request<R>(&self, make: impl FnOnce(&mut Request) -> R) -> Option<R> {
        Some(make(&mut Request::default()))
    }

    fn run(&self, request: &mut Request) -> u32 {
        let word = slow::run(self, request);
        if request.task != task::KEEP && request.task != task::RECHECK {
            let choice = (Selection::decode(word), request.reason);
            self.findings.borrow_mut().choice = Some(choice);
        }
        word
    }

    fn with_reply<R>(&self, _read: impl FnOnce(&mut Reply) -> R) -> Option<R> {
        None
    }

    fn read_reply(&self, _reply: &mut Reply) {}

    fn jiffies(&self) -> u32 {
        0
    }

    fn window_jiffies(&self) -> u32 {
        1
    }

    fn window(&self) -> u32 {
        0
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn count(&self, _counter: Counter) {}

    fn count_uplink(&self, _uplink: u32, _bytes: u32, _counter: Counter) {}

    fn count_rule(&self, _rule: u8) {}

    fn count_blocked(&self, _rule: u8) {}

    fn count_connect(&self, _uplink: u32) {}

    fn count_answer(&self, _uplink: u32, _bytes: u32, _network: (usize, usize), _settled: bool) {}

    fn count_connected(&self, _uplink: u32, _after_ms: u32) {}
}
