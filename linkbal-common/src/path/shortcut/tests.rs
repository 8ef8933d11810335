//! Shortcuts on the host, with a kernel that translates.

mod translations;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        flow::FlowKey,
        settings::{LAYOUT, LEFT_OUT, Settings},
        uplink::UpMask,
    },
    mark::DEFAULT_MASK,
    model::{ModelPacket, ModelTables},
    path::{egress::egress, ingress::ingress, verdict::Verdict, wan_egress::wan_egress},
};

const MASK: MarkMask = MarkMask(DEFAULT_MASK);
const LAN: u32 = 2;
/// The interfaces of the uplinks.
const WAN: [u32; 2] = [3, 4];
const HOST: ([u8; 4], u16) = ([10, 0, 0, 9], 40_000);
const SERVER: ([u8; 4], u16) = ([198, 51, 100, 7], 4433);
/// The host as the server sees it by the first uplink.
const OUTSIDE: ([u8; 4], u16) = ([203, 0, 113, 2], 50_000);
/// MAC addresses: of the gateway in the LAN, of the host, of the gateway outside, of its router.
const MACS: [[u8; 6]; 4] = [[2; 6], [4; 6], [6; 6], [8; 6]];

type End = ([u8; 4], u16);

/// Returns a UDP packet of a link, from one end to another.
fn packet(macs: [usize; 2], from: End, to: End) -> Vec<u8> {
    let [source, destination] = macs.map(|mac| MACS[mac]);
    let builder = PacketBuilder::ethernet2(source, destination).ipv4(from.0, to.0, 64);
    let mut bytes = Vec::new();
    builder.udp(from.1, to.1).write(&mut bytes, b"payload").expect("a vector takes all");
    bytes
}

/// Bits of a mark that the administrator sets by himself.
const OTHERS: u32 = 5;

/// A gateway whose kernel translates the host to [`OUTSIDE`], by the first uplink.
struct Gateway(ModelTables);

impl Gateway {
    fn new() -> Gateway {
        let mut bucket = Bucket::EMPTY;
        bucket.rank[..2].copy_from_slice(&[0, 1]);
        Gateway(ModelTables {
            settings: Settings {
                layout: LAYOUT,
                fwmark_mask: DEFAULT_MASK,
                seed: [5, 6],
                shortcuts: 0b11,
                ..Settings::default()
            },
            up_mask: UpMask(0x0003_0003),
            buckets: vec![bucket; BUCKETS as usize],
            uplinks: WAN.into_iter().zip([0, 1]).collect(),
            now_s: 1000,
            ..ModelTables::default()
        })
    }

    /// Sends a packet of the host; returns the changes if it takes the shortcut.
    fn up(&self) -> Option<Target> {
        let bytes = packet([1, 0], HOST, SERVER);
        let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        if let Some(taken) = take::<true, false, _, _>(&frame, &self.0) {
            assert_eq!(taken.fwmark, MASK.encode(0) | OTHERS);
            assert!(taken.udp, "the packet is");
            return Some(taken.target);
        }
        let (fwmark, hash) = match ingress(&frame, &self.0) {
            Verdict::Mark(fwmark) => (fwmark, 0),
            Verdict::Propose { fwmark, hash } => (fwmark, hash),
            Verdict::Skip(reason) => panic!("{reason:?}"),
        };
        if fwmark & MASK.proposal() != 0 {
            let bytes = packet([2, 3], OUTSIDE, SERVER);
            let leaving = ModelPacket {
                ifindex: WAN[0],
                fwmark: fwmark | OTHERS,
                hash,
                ..ModelPacket::frame(&bytes)
            };
            let _ = wan_egress(&leaving, &self.0, LAN);
            store_up(&leaving, &self.0, LAN);
        }
        None
    }

    /// Sends an answer in by an interface; returns the changes if it takes the shortcut.
    fn down_by(&self, ifindex: u32) -> Option<Target> {
        let bytes = packet([3, 2], SERVER, OUTSIDE);
        let arriving = ModelPacket { ifindex, ..ModelPacket::frame(&bytes) };
        let bytes = packet([0, 1], SERVER, HOST);
        let leaving = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        if let Some(Taken { fwmark, target, .. }) = take::<false, false, _, _>(&arriving, &self.0) {
            let leaving = ModelPacket { fwmark, ..leaving };
            assert_eq!(taken_mark(&leaving, &self.0, ifindex), Some(0), "it is counted already");
            return Some(target);
        }
        if egress(&leaving, &self.0, ifindex) {
            let mut key = FlowKey::default();
            parse(&leaving, &mut key).expect("the packet is valid");
            store_down(&leaving, &self.0, &key, ifindex);
        }
        None
    }

    fn down(&self) -> Option<Target> {
        self.down_by(WAN[0])
    }

    /// Lets jiffies go by.
    fn wait(&mut self, jiffies: u32) {
        let second = self.0.window_jiffies();
        let jiffies = self.0.jiffies + jiffies;
        self.0.now_s += jiffies / second;
        self.0.jiffies = jiffies % second;
    }

    /// Sends one packet of each way and second by the kernel, and returns whether the next ones take
    /// shortcuts.
    fn take(&mut self) -> [bool; 2] {
        self.up();
        self.down();
        self.wait(REORDER_JIFFIES);
        [self.up().is_some(), self.down().is_some()]
    }
}

fn words(macs: [usize; 2]) -> [u32; 3] {
    let bytes = [MACS[macs[1]], MACS[macs[0]]].concat();
    std::array::from_fn(|at| {
        u32::from_ne_bytes(bytes[4 * at..][..4].try_into().expect("four bytes"))
    })
}

#[test]
fn packets_are_changed_as_the_kernel_changed_those_before() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.take(), [true; 2]);
    let up = gateway.up().expect("a shortcut");
    assert_eq!(
        (up.address, up.port),
        ([u32::from_ne_bytes(OUTSIDE.0), 0, 0, 0], OUTSIDE.1.to_be())
    );
    assert_eq!((up.ifindex, up.mac, up.priority), (WAN[0], words([2, 3]), 6));
    let down = gateway.down().expect("a shortcut");
    assert_eq!((down.address, down.port), ([u32::from_ne_bytes(HOST.0), 0, 0, 0], HOST.1.to_be()));
    assert_eq!((down.ifindex, down.mac), (LAN, words([0, 1])));
    // Each packet is counted once, whatever its way.
    let counters = gateway.0.uplink_counters.borrow()[0];
    assert_eq!((counters.packets, counters.answers), (1, 1));
    let ShortcutCounters { traffic, down } = gateway.0.shortcut_counters.borrow()[0];
    assert_eq!((traffic.packets, traffic.answers, down), (2, 2, 2));
}

#[test]
fn a_flow_without_answers_has_no_shortcut() {
    let gateway = Gateway::new();
    for _ in 0..3 {
        assert_eq!(gateway.up(), None);
    }
}

#[test]
fn the_first_packet_of_a_second_is_left_to_the_kernel() {
    let mut gateway = Gateway::new();
    for _ in 0..4 {
        assert_eq!((gateway.up(), gateway.down()), (None, None));
        gateway.wait(REORDER_JIFFIES);
        assert!(gateway.up().is_some() && gateway.down().is_some());
        gateway.0.now_s += 1;
    }
}

/// Checks that no packet overtakes one that the kernel has not forwarded yet.
#[test]
fn packets_that_come_together_with_one_for_the_kernel_go_the_same_way() {
    let mut gateway = Gateway::new();
    gateway.take();
    for _ in 0..3 {
        gateway.0.now_s += 1;
        for _ in 0..REORDER_JIFFIES {
            for _ in 0..3 {
                assert_eq!((gateway.up(), gateway.down()), (None, None));
            }
            gateway.wait(1);
        }
        assert!(gateway.up().is_some() && gateway.down().is_some());
    }
}

/// Checks that packets for the kernel are at most a second apart, whenever the flow's packets come, and that
/// the shortcut lasts in between: of the answers, too, whose second is another one.
#[test]
fn the_seconds_of_a_flow_begin_with_its_packets() {
    let mut gateway = Gateway::new();
    let second = gateway.0.window_jiffies();
    // The number of jiffies wraps soon.
    gateway.0.now_s = u32::MAX / second - 5;
    for up_every in [10, 60, 100, second / 2 + 1] {
        let (mut left, mut since) = ([0; 2], [0; 2]);
        for at in 0..40 * second {
            for (way, every) in [(0, up_every), (1, 7)] {
                if at % every != 0 {
                    continue;
                }
                let taken = if way == 0 { gateway.up() } else { gateway.down() };
                if taken.is_some() {
                    since[way] += every;
                    assert!(since[way] < second, "{up_every}: way {way} at {at}");
                } else {
                    (left[way], since[way]) = (left[way] + 1, 0);
                }
            }
            gateway.wait(1);
        }
        // The first ones of all, and then about one in a second.
        assert!(left[0] <= 2 * 42 && left[1] <= 2 * 42, "{up_every}: {left:?}");
    }
}

#[test]
fn a_packet_gets_back_the_hash_that_it_came_in_with() {
    let gateway = Gateway::new();
    for packet_hash in [0, 77] {
        let bytes = packet([1, 0], HOST, SERVER);
        let frame = ModelPacket { ifindex: LAN, hash: packet_hash, ..ModelPacket::frame(&bytes) };
        let Verdict::Propose { fwmark, hash } = ingress(&frame, &gateway.0) else {
            panic!("the flow is new");
        };
        let bytes = packet([2, 3], OUTSIDE, SERVER);
        let frame = ModelPacket::frame(&bytes);
        let leaving = ModelPacket { ifindex: WAN[0], fwmark, hash, ..frame };
        assert_eq!(wan_egress(&leaving, &gateway.0, LAN).hash, Some(packet_hash));
        let known = ModelPacket { fwmark: MASK.encode(0), ..leaving };
        assert_eq!(wan_egress(&known, &gateway.0, LAN).hash, None);
        gateway.0.flows.borrow_mut().clear();
    }
}

/// Returns whether a packet of the host takes the shortcut at a driver that sends frames to an
/// interface.
fn up_at_driver(gateway: &Gateway, sends_to: u32) -> bool {
    let bytes = packet([1, 0], HOST, SERVER);
    let driver = Some(sends_to);
    let frame = ModelPacket { ifindex: LAN, driver, ..ModelPacket::frame(&bytes) };
    take::<true, false, _, _>(&frame, &gateway.0).is_some()
}

/// Checks that the packet that the kernel gets is not taken by tc: only tc says which one it is.
#[test]
fn a_driver_leaves_packets_alone_until_tc_has_left_one_to_the_kernel() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.take(), [true; 2]);
    for _ in 0..3 {
        gateway.0.now_s += 1;
        assert!(!up_at_driver(&gateway, WAN[0]) && !up_at_driver(&gateway, WAN[0]));
        assert_eq!(gateway.up(), None, "the first that tc sees is left to the kernel");
        assert!(!up_at_driver(&gateway, WAN[0]), "it would overtake that one");
        gateway.wait(REORDER_JIFFIES);
        assert!(up_at_driver(&gateway, WAN[0]));
    }
}

#[test]
fn what_a_driver_cannot_send_is_left_to_tc_and_counted_there() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.take(), [true; 2]);
    let counted = |gateway: &Gateway| gateway.0.shortcut_counters.borrow()[0].traffic.packets;
    assert_eq!(counted(&gateway), 1);
    assert!(!up_at_driver(&gateway, WAN[1]));
    assert_eq!(counted(&gateway), 1);
    assert!(gateway.up().is_some());
    assert_eq!(counted(&gateway), 2);
}

/// Checks that what the kernel no longer forwards ends in time.
#[test]
fn a_shortcut_that_is_not_renewed_ends() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.take(), [true; 2]);
    for (way, shortcut) in gateway.0.shortcuts.borrow_mut().iter_mut() {
        assert_eq!(shortcut.renewed, 1000 << 8, "{way:?}");
        shortcut.renewed = (1000 - LIFE) << 8;
    }
    // The packet of this second was left to the kernel before.
    assert_eq!((gateway.up(), gateway.down()), (None, None));
}

#[test]
fn an_uplink_that_ends_has_no_shortcuts_from_then_on() {
    for end in [
        |tables: &mut ModelTables| tables.up_mask = UpMask(0x0002_0002),
        |tables: &mut ModelTables| tables.epochs[family_slot(0, Family::Ipv4) as usize] += 1,
        |tables: &mut ModelTables| tables.settings.shortcuts = 0b10,
    ] {
        let mut gateway = Gateway::new();
        assert_eq!(gateway.take(), [true; 2]);
        end(&mut gateway.0);
        assert_eq!((gateway.up(), gateway.down()), (None, None));
    }
}

#[test]
fn packets_from_and_to_an_interface_that_is_left_out_have_no_shortcuts() {
    for left_out in [LAN, WAN[0], 9] {
        let mut gateway = Gateway::new();
        gateway.0.settings.shortcuts |= LEFT_OUT;
        gateway.0.shortcuts_left_out.insert(left_out);
        assert_eq!(gateway.take(), [left_out != LAN; 2], "{left_out}");
        // One that is left out while it has shortcuts loses them as soon as they are to be renewed.
        gateway.0.shortcuts_left_out.insert(LAN);
        for _ in 0..LIFE {
            gateway.0.now_s += 1;
            gateway.take();
        }
        assert_eq!(gateway.take(), [false; 2]);
    }
}

#[test]
fn the_route_of_an_uplink_may_be_narrower_than_its_interface() {
    for (mtu, expected) in [(0, 1500), (1400, 1400), (9000, 1500)] {
        let mut gateway = Gateway::new();
        gateway.0.uplink_mtu[0] = mtu;
        assert_eq!(gateway.take(), [true; 2]);
        assert_eq!(gateway.up().expect("a shortcut").mtu, expected);
    }
}

#[test]
fn an_answer_by_another_interface_has_no_shortcut() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.take(), [true; 2]);
    assert_eq!(gateway.down_by(WAN[1]), None);
}

/// Checks that no mixture of two shortcuts is used.
#[test]
fn a_torn_shortcut_is_not_used() {
    let whole = || {
        let mut gateway = Gateway::new();
        assert_eq!(gateway.take(), [true; 2]);
        gateway
    };
    for (word, bit) in (0..6).flat_map(|word| [(word, 0), (word, 31), (word, 32), (word, 63)]) {
        if (word, bit) == (4, 32) || (word, bit) == (4, 63) {
            // In place of the epoch, the one in force is used.
            continue;
        }
        let gateway = whole();
        let mut shortcuts = gateway.0.shortcuts.borrow_mut();
        shortcuts.values_mut().for_each(|shortcut| shortcut.target.0[word] ^= 1 << bit);
        drop(shortcuts);
        assert_eq!((gateway.up(), gateway.down()), (None, None), "bit {bit} of word {word}");
    }
}

fn tcp(flags: u8, options: usize, ttl: u8) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MACS[1], MACS[0]).ipv4(HOST.0, SERVER.0, ttl);
    let mut bytes = Vec::new();
    let payload = vec![0; options];
    builder.tcp(1, 2, 3, 4).write(&mut bytes, &payload).expect("a vector takes all");
    bytes[14 + 20 + 13] = flags;
    bytes
}

#[test]
fn only_plain_packets_take_shortcuts() {
    let plain = |bytes: &[u8]| is_plain(&ModelPacket::frame(bytes));
    let (syn, fin, rst, ack) = (0x02, 0x01, 0x04, 0x10);
    assert!(plain(&tcp(ack, 0, 64)) && plain(&packet([1, 0], HOST, SERVER)));
    for flags in [syn, syn | ack, fin | ack, rst] {
        assert!(!plain(&tcp(flags, 0, 64)), "{flags:#x}");
    }
    assert!(!plain(&tcp(ack, 0, 1)), "its TTL ends here");
    let changed = |at: usize, value: u8| {
        let mut bytes = tcp(ack, 40, 64);
        bytes[at] = value;
        plain(&bytes)
    };
    assert!(!changed(14, 0x46), "IP options");
    assert!(!changed(14 + 6, 0x20), "a first fragment");
    assert!(!changed(14 + 7, 0x01), "a later fragment");
    assert!(changed(14 + 6, 0x40), "must not be fragmented");
    assert!(!changed(14 + 9, 1), "ICMP");
    assert!(!changed(12, 0x81), "a VLAN tag");
    let bytes = tcp(ack, 0, 64);
    assert!(!is_plain(&ModelPacket { vlan: 7, ..ModelPacket::frame(&bytes) }));
    assert!(!plain(&bytes[..30]), "cut short");
}

#[test]
fn connections_whose_numbers_the_kernel_changes_have_no_shortcut() {
    let segment = |macs: [usize; 2], from: End, [sequence, acknowledged]: [u32; 2]| {
        let [source, destination] = macs.map(|mac| MACS[mac]);
        let builder = PacketBuilder::ethernet2(source, destination).ipv4(from.0, SERVER.0, 64);
        let builder = builder.tcp(from.1, SERVER.1, sequence, 1000).ack(acknowledged);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"payload").expect("a vector takes all");
        bytes
    };
    for (numbers, stored) in [([100, 200], true), ([150, 200], false), ([100, 250], false)] {
        let mut gateway = Gateway::new();
        for _ in 0..2 {
            gateway.0.now_s += 1;
            let bytes = segment([1, 0], HOST, [100, 200]);
            let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
            let Verdict::Propose { fwmark, hash } = ingress(&frame, &gateway.0) else {
                panic!("the first packet of a second asks");
            };
            let bytes = segment([2, 3], OUTSIDE, numbers);
            let frame = ModelPacket::frame(&bytes);
            let leaving = ModelPacket { ifindex: WAN[0], fwmark, hash, ..frame };
            let _ = wan_egress(&leaving, &gateway.0, LAN);
            store_up(&leaving, &gateway.0, LAN);
        }
        assert_eq!(!gateway.0.shortcuts.borrow().is_empty(), stored, "{numbers:?}");
    }
}

/// Checks that the first packets of a connection do not take the shortcut of an earlier one between the same
/// ends: the kernel may translate it otherwise.
#[test]
fn a_new_connection_of_the_same_ends_waits_for_answers() {
    let segment = |macs: [usize; 2], [from, to]: [End; 2], flags: u8| {
        let [source, destination] = macs.map(|mac| MACS[mac]);
        let builder = PacketBuilder::ethernet2(source, destination).ipv4(from.0, to.0, 64);
        let builder = builder.tcp(from.1, to.1, 100, 1000).ack(200);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"payload").expect("a vector takes all");
        bytes[14 + 20 + 13] = flags;
        bytes
    };
    let (syn, ack) = (0x02, 0x10);
    let up = |gateway: &Gateway, flags: u8| {
        let bytes = segment([1, 0], [HOST, SERVER], flags);
        let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        if take::<true, false, _, _>(&frame, &gateway.0).is_some() {
            return true;
        }
        if let Verdict::Propose { fwmark, hash } = ingress(&frame, &gateway.0) {
            let bytes = segment([2, 3], [OUTSIDE, SERVER], flags);
            let frame = ModelPacket::frame(&bytes);
            let leaving = ModelPacket { ifindex: WAN[0], fwmark, hash, ..frame };
            let _ = wan_egress(&leaving, &gateway.0, LAN);
            store_up(&leaving, &gateway.0, LAN);
        }
        false
    };
    let down = |gateway: &Gateway| {
        let bytes = segment([0, 1], [SERVER, HOST], ack);
        let leaving = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        assert!(egress(&leaving, &gateway.0, WAN[0]));
        let mut key = FlowKey::default();
        parse(&leaving, &mut key).expect("the packet is valid");
        store_down(&leaving, &gateway.0, &key, WAN[0]);
    };
    let mut gateway = Gateway::new();
    for _ in 0..2 {
        // The second one begins before the shortcut of the first one ends.
        assert!(!up(&gateway, syn));
        gateway.wait(REORDER_JIFFIES);
        assert!(!up(&gateway, ack), "it has no answer yet");
        gateway.wait(256);
        assert!(!up(&gateway, ack));
        down(&gateway);
        gateway.wait(REORDER_JIFFIES);
        assert!(up(&gateway, ack));
    }
}

/// Checks that what the kernel's helpers, and the datapath itself, read has no shortcut, by either port.
#[test]
fn control_connections_of_helpers_have_no_shortcuts() {
    let has_shortcut = |from: u16, to: u16| {
        let mut gateway = Gateway::new();
        let (host, server) = ((HOST.0, from), (SERVER.0, to));
        for _ in 0..2 {
            let bytes = packet([1, 0], host, server);
            let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
            let Verdict::Propose { fwmark, hash } = ingress(&frame, &gateway.0) else {
                panic!("the first packet of a second asks");
            };
            let bytes = packet([2, 3], OUTSIDE, server);
            let frame = ModelPacket::frame(&bytes);
            let leaving = ModelPacket { ifindex: WAN[0], fwmark, hash, ..frame };
            let _ = wan_egress(&leaving, &gateway.0, LAN);
            store_up(&leaving, &gateway.0, LAN);
            gateway.0.now_s += 1;
        }
        !gateway.0.shortcuts.borrow().is_empty()
    };
    assert!(has_shortcut(40_000, 4433));
    // FTP, DNS, TFTP, PPTP, SIP.
    for port in [21, 53, 69, 1723, 5060] {
        assert!(!has_shortcut(40_000, port), "to {port}");
        assert!(!has_shortcut(port, 4433), "from {port}");
    }
}

#[test]
fn extension_headers_take_no_shortcut() {
    let builder = PacketBuilder::ethernet2(MACS[1], MACS[0]).ipv6([1; 16], [2; 16], 64);
    let mut plain = Vec::new();
    builder.udp(1, 2).write(&mut plain, b"payload").expect("a vector takes all");
    assert!(is_plain(&ModelPacket::frame(&plain)));
    // Hop-by-hop options (RFC 8200 section 4.3) of eight bytes before UDP.
    let mut extended = plain.clone();
    extended[14 + 6] = 0;
    extended.splice(14 + 40..14 + 40, [17, 0, 1, 4, 0, 0, 0, 0]);
    assert!(!is_plain(&ModelPacket::frame(&extended)));
}

#[test]
fn segments_must_fit_the_interface() {
    let bytes = tcp(0x10, 3000, 64);
    let fits = |gso_size, mtu| {
        fits::<false, _>(&ModelPacket { gso_size, ..ModelPacket::frame(&bytes) }, false, mtu)
    };
    assert!(!fits(0, 1500));
    assert!(fits(0, 3040));
    assert!(fits(1460, 1500));
    assert!(!fits(1461, 1500));
}

/// Returns the checksum of words of 16 bits (RFC 1071).
fn checksum(words: &[u16]) -> u16 {
    let sum = words.iter().fold(0u32, |sum, word| sum + u32::from(*word));
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

proptest! {
    #[test]
    fn a_checksum_follows_its_words(
        before: [u32; 4],
        after: [u32; 4],
        other in prop::collection::vec(any::<u16>(), 1..20),
    ) {
        let halves = |words: &[u32; 4]| {
            words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).collect::<Vec<_>>()
        };
        let over = |words| checksum(&[halves(words), other.clone()].concat());
        let (had, has) = (over(&before), adjusted(over(&before), changed_sum(&before, &after)));
        // Both zeros are the same number.
        let number = |checksum: u16| checksum % 0xffff;
        prop_assert_eq!(number(has), number(over(&after)));
        prop_assert_eq!(adjusted(had, changed_sum(&before, &before)), had);
    }

    #[test]
    fn the_sum_of_a_header_follows_its_address_and_ttl(
        mut header: [u16; 20], after: [u32; 4], ttl in 2..=u8::MAX, v6: bool,
    ) {
        let (family, words, source, at) =
            if v6 { (Family::Ipv6, 20, 4..12, 3) } else { (Family::Ipv4, 10, 6..8, 4) };
        // The checksum of IPv4 itself is left out.
        header[5] = if v6 { header[5] } else { 0 };
        let byte = usize::from(v6);
        let with_ttl = |word: u16, ttl: u8| {
            let mut bytes = word.to_ne_bytes();
            bytes[byte] = ttl;
            u16::from_ne_bytes(bytes)
        };
        header[at] = with_ttl(header[at], ttl);
        let before = header;
        let mut address = [0; 4];
        for (index, word) in source.clone().enumerate() {
            address[index / 2] |= u32::from(header[word]) << (16 * (index % 2));
            header[word] = (after[index / 2] >> (16 * (index % 2))) as u16;
        }
        let len = source.len() / 2;
        let after: [u32; 4] = std::array::from_fn(|at| if at < len { after[at] } else { 0 });
        header[at] = with_ttl(header[at], ttl - 1);
        let change = header_change(family, changed_sum(&address, &after));
        let had = checksum(&before[..words]);
        prop_assert_eq!(adjusted(had, change) % 0xffff, checksum(&header[..words]) % 0xffff);
    }

    #[test]
    fn a_target_is_kept_in_words(address: [u32; 4], mac: [u32; 3], words: [u32; 6], halves: [u16; 4]) {
        let [fwmark, ingress_ifindex, ifindex, slot, epoch, priority] = words;
        let [port, mtu, address_change, header_change] = halves;
        let target = Target {
            address, port, mtu, mac, fwmark, ingress_ifindex, ifindex, slot, epoch,
            address_change, header_change, priority,
        };
        prop_assert_eq!(target.pack().unpack::<true>(), target);
        let ipv4 = Target { address: [address[0], 0, 0, 0], ..target };
        prop_assert_eq!(target.pack().unpack::<false>(), ipv4);
    }

    #[test]
    fn tuples_have_slots_of_their_own(mut key in any::<[u32; 8]>(), at in 0usize..8, bit in 0u32..32) {
        let of = |words: &[u32; 8]| FlowKey {
            source: words[..4].try_into().expect("four words"),
            destination: words[4..].try_into().expect("four words"),
            family: 6,
            ..FlowKey::default()
        };
        let hash = |words: &[u32; 8]| Tuple::of(&of(words)).hash::<true>([7, 9]);
        let before = hash(&key);
        key[at] ^= 1 << bit;
        prop_assert_ne!(before, hash(&key));
    }
}
