//! Flows of the present window on the host.

use etherparse::PacketBuilder;

use super::*;
use crate::{
    maps::{
        counter::Counter,
        flow::NOT_STICKY,
        settings::{LAYOUT, Settings},
        uplink::UpMask,
    },
    mark::DEFAULT_MASK,
    model::{ModelPacket, ModelTables},
    path::{egress::egress, ingress::ingress, verdict::Verdict},
};

const LAN: u32 = 2;
const WAN: u32 = 3;
const UPLINK: u32 = 1;
type End = ([u8; 4], u16);
const HOST: End = ([10, 0, 0, 9], 40_000);
const SERVER: End = ([198, 51, 100, 7], 4433);
const RESOLVER: End = ([198, 51, 100, 7], 53);

fn udp(from: End, to: End) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64);
    let mut bytes = Vec::new();
    builder.udp(from.1, to.1).write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

fn key(from: End, to: End) -> FlowKey {
    FlowKey {
        source: [u32::from_ne_bytes(from.0), 0, 0, 0],
        destination: [u32::from_ne_bytes(to.0), 0, 0, 0],
        source_port: from.1.to_be(),
        destination_port: to.1.to_be(),
        protocol: IpProto::Udp as u8,
        family: 4,
        reserved: 0,
    }
}

/// A gateway that knows flows of [`HOST`].
struct Gateway(ModelTables);

impl Gateway {
    fn new() -> Gateway {
        let tables = ModelTables {
            settings: Settings {
                layout: LAYOUT,
                fwmark_mask: DEFAULT_MASK,
                seed: [5, 6],
                ..Settings::default()
            },
            up_mask: UpMask(0x0003_0003),
            uplinks: [(WAN, UPLINK)].into(),
            now_s: 1000,
            remembers: true,
            ..ModelTables::default()
        };
        let flow = Flow {
            uplink: UPLINK,
            sticky_class: NOT_STICKY,
            first_seen_ms: 1_000_000,
            last_seen_s: 999,
            replied: 1,
            ..Flow::default()
        };
        for to in [SERVER, RESOLVER] {
            tables.flows.borrow_mut().insert(key(HOST, to), flow);
        }
        Gateway(tables)
    }

    /// Sends a packet of the host; returns whether the short look at it was enough.
    fn up(&self, to: End) -> bool {
        let bytes = udp(HOST, to);
        let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        let fwmark = MarkMask(DEFAULT_MASK).encode(UPLINK);
        if let Some(marked) = from_lan::<false, _, _>(&frame, &self.0) {
            assert_eq!(marked, fwmark);
            return true;
        }
        if self.0.up_mask.0 != 0 {
            assert_eq!(ingress(&frame, &self.0), Verdict::Mark(fwmark));
        }
        false
    }

    /// Sends an answer that came in by an interface; returns whether the short look was enough.
    fn down(&self, from: End, ingress_ifindex: u32) -> bool {
        let bytes = udp(from, HOST);
        let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        let known = to_lan::<false, _, _>(&frame, &self.0, ingress_ifindex).is_some();
        if !known {
            egress(&frame, &self.0, ingress_ifindex);
        }
        known
    }

    /// Returns packets and bytes from the LAN, and answers with their bytes, by either look.
    fn counted(&self) -> [u64; 4] {
        let counters = self.0.uplink_counters.borrow();
        let short = self.0.shortcut_counters.borrow();
        let (long, short) = (&counters[UPLINK as usize], &short[UPLINK as usize].traffic);
        [
            long.packets + short.packets,
            long.bytes + short.bytes,
            long.answers + short.answers,
            long.answer_bytes + short.answer_bytes,
        ]
    }
}

#[test]
fn the_first_packets_of_a_tick_stand_for_the_others_which_are_counted() {
    let mut gateway = Gateway::new();
    for second in 1..4 {
        let looks: Vec<_> =
            (0..3).map(|_| [gateway.up(SERVER), gateway.down(SERVER, WAN)]).collect();
        // Of packets from the LAN, the second one: most flows have no more than one in a second.
        assert_eq!(looks, [[false; 2], [false, true], [true; 2]], "{second}");
        let length = udp(HOST, SERVER).len() as u64;
        let all = 3 * second;
        assert_eq!(gateway.counted(), [all, all * length, all, all * length]);
        assert_eq!(gateway.0.counter(Counter::FlowKnown), 2 * second);
        let last_seen_s = gateway.0.flows.borrow()[&key(HOST, SERVER)].last_seen_s;
        assert_eq!(last_seen_s, gateway.0.now_s);
        gateway.0.now_s += 1;
    }
}

#[test]
fn an_uplink_that_is_not_usable_or_another_interface_ends_it_at_once() {
    let mut gateway = Gateway::new();
    let begin = |gateway: &Gateway| {
        gateway.up(SERVER);
        gateway.up(SERVER);
        gateway.down(SERVER, WAN);
        assert!(gateway.up(SERVER) && gateway.down(SERVER, WAN));
    };
    begin(&gateway);
    assert!(!gateway.down(SERVER, WAN + 1));
    begin(&gateway);
    let up = gateway.0.up_mask;
    gateway.0.up_mask = UpMask(0);
    assert!(!gateway.up(SERVER) && !gateway.down(SERVER, WAN));
    gateway.0.up_mask = up;
    begin(&gateway);
    gateway.0.epochs[family_slot(UPLINK, Family::Ipv4) as usize] += 1;
    let bytes = udp(HOST, SERVER);
    let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
    assert_eq!(from_lan::<false, _, _>(&frame, &gateway.0), None);
}

#[test]
fn packets_that_are_read_are_always_looked_at_in_full() {
    let gateway = Gateway::new();
    for _ in 0..3 {
        assert!(!gateway.up(RESOLVER) && !gateway.down(RESOLVER, WAN));
    }
}

#[test]
fn with_shortcuts_nothing_is_remembered() {
    let mut gateway = Gateway::new();
    gateway.0.remembers = false;
    assert!((0..3).all(|_| !gateway.up(SERVER) && !gateway.down(SERVER, WAN)));
    assert!(gateway.0.recent.borrow().values().all(|recent| recent.state == 0));
}

#[test]
fn a_state_is_one_word() {
    let state = State { window: 0xffff_fff0, hash: 0xfedc, epoch: 0xba, slot: 31, answer_kind: 2 };
    assert_eq!(State::of(state.word()), state);
}
