//! The gateway around the packet path, as far as marks go, and its invariants.

mod tables;

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
};

use linkbal_common::{
    counter::Counter,
    egress::egress,
    flow::{Flow, FlowKey},
    ingress::ingress,
    local::{LocalSocket, Sending},
    mark::{DEFAULT_MASK, DROP, MarkMask, REJECT, RESET},
    model::{ModelPacket, ModelTables},
    parse::{Extra, Tcp, parse},
    recent,
    uplink::{FAMILY_SLOTS, Family, UpMask, family_slot},
    verdict::{SkipReason, Verdict},
    wan_egress::wan_egress,
};

use network_types::ip::IpProto;

use self::tables::fresh;
use crate::cursor::Cursor;

/// Number of uplinks.
pub(super) const UPLINKS: u8 = 4;

const MASK: MarkMask = MarkMask(DEFAULT_MASK);
/// The first interface of an uplink.
const FIRST: u32 = 10;
/// The interface that packets come in by.
const LAN: u32 = 2;
/// The time at the beginning, in seconds since boot.
const START_S: u32 = 1000;
/// Timeout of connection tracking for protocols other than TCP, in seconds. After longer silence, what
/// begins a flow is decided anew.
const TIMEOUT_S: u32 = 120;

thread_local! {
    /// Fresh tables, while no gateway uses them: creating or even copying them takes long.
    static FRESH: Cell<Option<ModelTables>> = const { Cell::new(None) };
}

struct Connection {
    mark: u32,
    last_s: u32,
}

/// Tables, connections, and the uplinks whose flows are yet to be ended.
pub(super) struct Gateway {
    pub tables: ModelTables,
    connections: HashMap<FlowKey, Connection>,
    stale: BTreeSet<(u32, Family)>,
}

impl Gateway {
    /// Creates a gateway; the first bytes tell which uplinks work and how much one host may have.
    pub(super) fn new(cursor: &mut Cursor<'_>) -> Self {
        let mut tables = FRESH.take().unwrap_or_else(fresh);
        let up = u32::from(cursor.byte());
        tables.up_mask = UpMask(up & 0xf | (up >> 4) << 16);
        let limits = cursor.byte();
        tables.settings.domains = u32::from(limits & 1);
        tables.settings.host_flows = u32::from(limits >> 1 & 3);
        tables.settings.host_sessions = u32::from(limits >> 3 & 3);
        tables.settings.sessions = u32::from(limits >> 5 & 7);
        tables.remembers = true;
        Self { tables, connections: HashMap::new(), stale: BTreeSet::new() }
    }

    /// Resets the tables, and keeps them for the next gateway.
    pub(super) fn end(self) {
        let mut tables = self.tables;
        tables.flows.take();
        tables.sessions.take();
        tables.proposals.take();
        tables.hosts.take();
        tables.queries.take();
        tables.domains.take();
        tables.udp_requests.take();
        tables.counters.replace([0; Counter::ALL.len()]);
        tables.uplink_counters.take();
        tables.recent.take();
        tables.shortcut_counters.take();
        (tables.epochs, tables.avoid_mask, tables.now_s) = ([0; FAMILY_SLOTS], UpMask(0), START_S);
        FRESH.set(Some(tables));
    }

    /// Sends a frame of the LAN, which leaves by an uplink if it is not dropped.
    pub(super) fn send(&mut self, bytes: &[u8], fwmark: u32) {
        let packet = ModelPacket { fwmark, ..ModelPacket::frame(bytes) };
        let mut key = FlowKey::default();
        let parsed = parse(&packet, &mut key);
        let before = self.tables.flows.borrow().clone();
        let known = before.get(&key).copied().filter(|_| parsed.is_ok());
        let begins = begins(&parsed, key.protocol);
        let counted = self.counted();
        if let Some(short) = self.short_look(&packet) {
            assert_eq!(self.counted(), counted, "it is counted elsewhere");
            let usable = known.is_none_or(|flow| self.is_usable(&key, &flow));
            assert!(usable, "a short look at a flow that is over");
            assert_eq!(before, *self.tables.flows.borrow(), "a short look changes a flow");
            self.check_ingress(&before, &key, fwmark, Verdict::Mark(short), begins);
            let uplink = MASK.decode(short).expect("a short look knows the uplink");
            return self.leave(bytes, &key, uplink, short, 0);
        }
        let verdict = ingress(&packet, &self.tables);
        assert_eq!(self.counted(), counted + 1, "a packet is counted once: {verdict:?}");
        self.check_ingress(&before, &key, fwmark, verdict, begins);
        let tcp = parsed.map(|(_, tcp)| tcp).unwrap_or_default();
        for gone in before.keys().filter(|key| !self.tables.flows.borrow().contains_key(key)) {
            let main = matches!(verdict, Verdict::Skip(SkipReason::Bypass))
                || matches!(verdict, Verdict::Propose { fwmark, .. } if fwmark & MASK.number() == 0);
            assert!(*gone == key && (tcp.is_reset() || main), "forgotten, though alive: {gone:?}");
        }
        let (fwmark, hash) = match verdict {
            Verdict::Skip(_) => return,
            Verdict::Mark(fwmark) => (fwmark, 0),
            Verdict::Propose { fwmark, hash } => (self.prerouting(&key, fwmark), hash),
        };
        if let Some(flow) = known
            && self.is_lasting(&key, &flow, begins)
        {
            let own =
                self.connections.get(&key).and_then(|connection| MASK.decode(connection.mark));
            let leaves = MASK.decode(fwmark);
            assert!(leaves == Some(flow.uplink) || leaves == own, "{leaves:?} {flow:?} {own:?}");
        }
        if tcp.is_quoted() {
            // Any host may have sent it: nothing is learned of it, and it begins no connection.
            let stored = self.tables.flows.borrow().clone();
            wan_egress(&ModelPacket { fwmark, hash, ifindex: FIRST, ..packet }, &self.tables, LAN);
            assert_eq!(stored, *self.tables.flows.borrow());
            return;
        }
        let Some(uplink) = self.route(&key, fwmark) else { return };
        self.leave(bytes, &key, uplink, fwmark, hash);
    }

    /// Takes the short look at a packet of the LAN; returns its fwmark if that is enough.
    fn short_look(&self, packet: &ModelPacket<'_>) -> Option<u32> {
        match family(packet.bytes)? {
            Family::Ipv4 => recent::from_lan::<false, _, _>(packet, &self.tables),
            Family::Ipv6 => recent::from_lan::<true, _, _>(packet, &self.tables),
        }
    }

    /// Passes a frame with a foreign mark to the program at the LAN, and restores the flows.
    pub(super) fn show(&self, bytes: &[u8], fwmark: u32) {
        let packet = ModelPacket { fwmark, ..ModelPacket::frame(bytes) };
        let (flows, counted) = (self.tables.flows.borrow().clone(), self.counted());
        let mut key = FlowKey::default();
        let parsed = parse(&packet, &mut key);
        let begins = begins(&parsed, key.protocol);
        let verdict = ingress(&packet, &self.tables);
        assert_eq!(self.counted(), counted + 1, "a packet is counted once: {verdict:?}");
        self.check_ingress(&flows, &key, fwmark, verdict, begins);
        self.tables.flows.replace(flows);
    }

    /// Checks the effects of the program at the LAN.
    fn check_ingress(
        &self,
        before: &HashMap<FlowKey, Flow>,
        key: &FlowKey,
        old_fwmark: u32,
        verdict: Verdict,
        begins: bool,
    ) {
        for (key, flow) in self.tables.flows.borrow().iter() {
            let old = before.get(key).expect("the program at the LAN stores no flow");
            let same = (old.uplink, old.epoch, old.sticky_class, old.replied);
            assert_eq!((flow.uplink, flow.epoch, flow.sticky_class, flow.replied), same);
        }
        let (fwmark, proposed) = match verdict {
            Verdict::Skip(reason) => return assert_ne!(self.tables.counter(reason.counter()), 0),
            Verdict::Mark(fwmark) => (fwmark, false),
            Verdict::Propose { fwmark, .. } => (fwmark, true),
        };
        assert_eq!(MASK.clear(fwmark), MASK.clear(old_fwmark), "bits of others");
        // That of a SYN which was here before still asks.
        let asks = fwmark & MASK.proposal() != 0;
        assert!(asks == proposed || asks && old_fwmark & MASK.proposal() != 0);
        assert_eq!(fwmark & MASK.inbound(), 0);
        let uplink = MASK.decode(fwmark);
        assert!(proposed || uplink.is_some());
        assert!(uplink.is_none_or(|uplink| uplink < UPLINKS.into()));
        match before.get(key) {
            Some(flow) if self.is_lasting(key, flow, begins) => {
                assert_eq!(uplink, Some(flow.uplink), "a live flow moves");
            }
            Some(_) => {}
            None => {
                let usable =
                    uplink.is_none_or(|uplink| self.tables.up_mask.contains(uplink, key.family()));
                assert!(usable, "a new flow for a dead uplink");
                assert_ne!(fwmark & MASK.number(), MASK.encode(RESET), "a reset without a flow");
            }
        }
    }

    /// Returns whether a packet belongs to a flow that goes on where it is. One that `begins` a flow after
    /// long silence need not.
    fn is_lasting(&self, key: &FlowKey, flow: &Flow, begins: bool) -> bool {
        let silent_s = self.tables.now_s.saturating_sub(flow.last_seen_s);
        self.is_usable(key, flow) && !(begins && silent_s > TIMEOUT_S)
    }

    fn is_usable(&self, key: &FlowKey, flow: &Flow) -> bool {
        let family = key.family();
        self.tables.up_mask.contains(flow.uplink, family)
            && self.tables.epochs[family_slot(flow.uplink, family) as usize] == flow.epoch
    }

    /// Replaces a proposal by the mark of the connection, as nft does.
    fn prerouting(&self, key: &FlowKey, fwmark: u32) -> u32 {
        let own = self.connections.get(key);
        own.map_or(fwmark, |connection| MASK.clear(fwmark) | connection.mark | MASK.proposal())
    }

    /// Returns the uplink that the ip rules lead to; `None` if the packet ends here.
    fn route(&self, key: &FlowKey, fwmark: u32) -> Option<u32> {
        let number = fwmark & MASK.number();
        let ends = [DROP, REJECT, RESET].map(|number| MASK.encode(number));
        if ends.contains(&number) {
            return None;
        }
        let best = self.tables.up_mask.family(key.family()).trailing_zeros();
        Some(MASK.decode(fwmark).unwrap_or(if best < UPLINKS.into() { best } else { 0 }))
    }

    /// Runs the program at the egress of the uplink.
    fn leave(&mut self, bytes: &[u8], key: &FlowKey, uplink: u32, fwmark: u32, hash: u32) {
        let now_s = self.tables.now_s;
        let new = Connection { mark: MASK.encode(uplink), last_s: now_s };
        let connection = self.connections.entry(*key).or_insert(new);
        connection.last_s = now_s;
        assert_eq!(MASK.decode(connection.mark), Some(uplink), "it leaves by another uplink");
        let before = self.tables.flows.borrow().clone();
        let ifindex = FIRST + uplink;
        let packet = ModelPacket { fwmark, hash, ifindex, ..ModelPacket::frame(bytes) };
        let counted = self.counted();
        let learned = wan_egress(&packet, &self.tables, LAN).fwmark;
        assert_eq!(counted, self.counted(), "it is counted already");
        assert_eq!(learned.is_some(), fwmark & MASK.proposal() != 0);
        assert!(learned.is_none_or(|fwmark| fwmark & (MASK.proposal() | MASK.inbound()) == 0));
        for (other, flow) in self.tables.flows.borrow().iter() {
            let old = before.get(other);
            if other != key {
                assert_eq!(Some(flow), old, "a flow changes with the packet of another one");
            } else if old != Some(flow) {
                assert_eq!(flow.uplink, uplink, "what is learned is where it left");
                let epoch = self.tables.epochs[family_slot(uplink, key.family()) as usize];
                assert_eq!(flow.epoch, epoch);
                assert_eq!(flow.replied, old.map_or(0, |old| old.replied));
            }
        }
    }

    /// Passes a frame to the LAN that came in by an uplink, by the LAN, or is local traffic.
    pub(super) fn answer(&mut self, bytes: &[u8], uplink: u32) {
        let before = self.tables.flows.borrow().clone();
        let counted = self.counted();
        let ifindex =
            if uplink < UPLINKS.into() { FIRST + uplink } else { uplink - u32::from(UPLINKS) };
        let packet = ModelPacket::frame(bytes);
        let short = match family(bytes) {
            Some(Family::Ipv4) => recent::to_lan::<false, _, _>(&packet, &self.tables, ifindex),
            Some(Family::Ipv6) => recent::to_lan::<true, _, _>(&packet, &self.tables, ifindex),
            None => None,
        };
        if short.is_none() {
            egress(&packet, &self.tables, ifindex);
        }
        assert_eq!(counted, self.counted(), "what comes back is not counted as going");
        let flows = self.tables.flows.borrow();
        assert_eq!(flows.len(), before.len());
        for (key, flow) in flows.iter() {
            let old = before.get(key).expect("an answer stores no flow");
            let may_differ = Flow { replied: flow.replied, tcp_state: flow.tcp_state, ..*old };
            assert_eq!(*flow, may_differ);
            assert!(flow.replied >= old.replied, "an answer is taken back");
        }
    }

    /// Tracks a connection that comes in by an uplink, if it is not tracked already.
    pub(super) fn arrive(&mut self, bytes: &[u8], uplink: u32) {
        let mut key = FlowKey::default();
        if parse(&ModelPacket::frame(bytes), &mut key).is_err() || !matches!(key.protocol, 6 | 17) {
            return;
        }
        let back = FlowKey {
            source: key.destination,
            destination: key.source,
            source_port: key.destination_port,
            destination_port: key.source_port,
            ..key
        };
        let (mark, last_s) = (MASK.encode(uplink) | MASK.inbound(), self.tables.now_s);
        self.connections.entry(back).or_insert(Connection { mark, last_s }).last_s = last_s;
    }

    /// Lets time pass, and ends idle connections that are not TCP.
    pub(super) fn pass(&mut self, seconds: u32) {
        self.tables.now_s += seconds;
        let now_s = self.tables.now_s;
        self.connections
            .retain(|key, connection| key.protocol == 6 || now_s - connection.last_s <= TIMEOUT_S);
    }

    /// Sets an uplink down; its flows end once another uplink is usable.
    pub(super) fn down(&mut self, uplink: u32, family: Family) {
        if self.tables.up_mask.contains(uplink, family) {
            self.tables.up_mask = self.tables.up_mask.with(uplink, family, false);
            self.stale.insert((uplink, family));
            self.end_stale();
        }
    }

    /// Sets an uplink up again.
    pub(super) fn up(&mut self, uplink: u32, family: Family) {
        self.tables.up_mask = self.tables.up_mask.with(uplink, family, true);
        self.stale.remove(&(uplink, family));
        self.end_stale();
    }

    fn end_stale(&mut self) {
        let Self { tables, connections, stale } = self;
        stale.retain(|(uplink, family)| {
            if tables.up_mask.family(*family) == 0 {
                return true;
            }
            if tables.settings.resets(*uplink) {
                tables.epochs[family_slot(*uplink, *family) as usize] += 1;
            }
            if !tables.settings.keeps(*uplink) {
                connections.retain(|key, connection| {
                    key.family() != *family || connection.mark != MASK.encode(*uplink)
                });
            }
            false
        });
    }

    /// Sets the uplinks that get no new flows.
    pub(super) fn avoid(&mut self, mask: u32) {
        self.tables.avoid_mask = UpMask(mask);
    }

    /// Evicts flows, sessions or proposals.
    pub(super) fn evict(&mut self, which: u8) {
        if which & 1 == 0 {
            self.tables.flows.borrow_mut().clear();
            // For the rest of the second it may outlive its flow, and even the connection.
            self.tables.recent.borrow_mut().clear();
        }
        if which & 2 == 0 {
            self.tables.sessions.borrow_mut().clear();
        }
        if which & 4 == 0 {
            self.tables.proposals.borrow_mut().clear();
        }
    }

    /// Checks the fwmark that a connecting socket gets.
    pub(super) fn check_connect(&self, socket: &LocalSocket, fwmark: Option<u32>) {
        if let Some(fwmark) = fwmark {
            assert_eq!(MASK.clear(fwmark), MASK.clear(socket.fwmark), "bits of others");
            let known = MASK.decode(fwmark).is_none_or(|uplink| uplink < UPLINKS.into());
            assert!(known, "{fwmark:#x}");
        }
    }

    /// Checks the source address that a datagram gets.
    pub(super) fn check_sending(&self, sending: Sending, family: Family) {
        if let Sending::From(address) = sending {
            let all = (0..UPLINKS.into()).map(|uplink| family_slot(uplink, family) as usize);
            assert!(all.into_iter().any(|at| self.tables.uplink_addresses[at] == address));
        }
    }

    /// Returns the number of packets of the LAN, of all outcomes together.
    fn counted(&self) -> u64 {
        let outcomes =
            Counter::ALL.iter().take_while(|counter| **counter as u32 <= Counter::NoUplink as u32);
        outcomes.map(|counter| self.tables.counter(*counter)).sum()
    }
}

/// Returns whether a packet may be the first one of a flow: all but TCP that does not open a connection, and
/// what quotes another one.
fn begins(parsed: &Result<(Extra, Tcp), SkipReason>, protocol: u8) -> bool {
    parsed.is_ok_and(|(_, segment)| {
        !segment.is_quoted() && (protocol != IpProto::Tcp as u8 || segment.is_connect())
    })
}

/// Returns the family that a frame's Ethernet header tells, as the program reads it of the packet.
fn family(bytes: &[u8]) -> Option<Family> {
    match bytes.get(12..14)? {
        [0x08, 0x00] => Some(Family::Ipv4),
        [0x86, 0xdd] => Some(Family::Ipv6),
        _ => None,
    }
}
