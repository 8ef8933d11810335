//! The MSS on the host; etherparse reads the packets as well, and sums them up.

use etherparse::{
    NetHeaders, PacketBuilder, PacketHeaders, TcpOptionElement, TcpOptionReadError, TransportHeader,
};
use proptest::{collection::vec, prelude::*};

use super::{MssChange, clamp};
use crate::{
    maps::uplink::{Family, family_slot},
    model::{ModelPacket, ModelTables},
};

const UPLINK: u32 = 3;

fn tables(mtu: u32) -> ModelTables {
    let mut tables = ModelTables::default();
    for family in Family::ALL {
        tables.uplink_mtu[family_slot(UPLINK, family) as usize] = mtu;
    }
    tables
}

/// Returns a packet with these flags and the bytes of its options.
fn packet(family: Family, syn: bool, rst: bool, options: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match family {
        Family::Ipv4 => ethernet.ipv4([10, 0, 0, 9], [198, 51, 100, 7], 64),
        Family::Ipv6 => ethernet.ipv6([0x20; 16], [0x21; 16], 64),
    };
    let mut builder = ip.tcp(40_000, 80, 1, 1024);
    if syn {
        builder = builder.syn();
    }
    if rst {
        builder = builder.rst();
    }
    let builder = builder.options_raw(options).expect("at most 40 bytes");
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"").expect("a vector takes all");
    bytes
}

fn change(bytes: &[u8], mtu: u32) -> Option<MssChange> {
    clamp(&ModelPacket::frame(bytes), &tables(mtu), UPLINK)
}

/// Applies a change as the kernel does (`inet_proto_csum_replace2` in net/core/utils.c; RFC 1624).
fn apply(bytes: &mut [u8], change: &MssChange) {
    let at = change.offset as usize;
    assert_eq!(bytes[at..at + 2], change.mss[0]);
    bytes[at..at + 2].copy_from_slice(&change.mss[1]);
    let at = change.checksum as usize;
    let [before, after] = change.words.map(u16::from_be_bytes);
    let sum = u32::from(!u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let sum = sum + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Returns the MSS that etherparse finds, once it has found the checksum to be right; an error if
/// options before it are malformed.
fn mss(bytes: &[u8]) -> Result<Option<u16>, TcpOptionReadError> {
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a valid packet");
    let (Some(net), Some(TransportHeader::Tcp(tcp))) = (headers.net, headers.transport) else {
        panic!("no TCP");
    };
    let sum = match net {
        NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, &[]),
        NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, &[]),
        NetHeaders::Arp(_) => panic!("no IP"),
    };
    assert_eq!(sum, Ok(tcp.checksum));
    for option in tcp.options_iterator() {
        if let TcpOptionElement::MaximumSegmentSize(mss) = option? {
            return Ok(Some(mss));
        }
    }
    Ok(None)
}

/// Options as programs send them, and the one of the MSS.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        3 => Just(vec![1]),
        1 => Just(vec![0]),
        3 => any::<[u8; 2]>().prop_map(|mss| [[2, 4], mss].concat()),
        1 => Just(vec![3, 3, 7]),
        1 => Just(vec![4, 2]),
        1 => Just([&[8, 10][..], &[7; 8]].concat()),
    ];
    vec(option, 0..8).prop_map(|options| {
        let mut bytes = options.concat();
        bytes.truncate(40);
        bytes
    })
}

proptest! {
    #[test]
    fn a_syn_announces_what_fits_and_its_checksum_is_right(
        ipv6: bool,
        options in options(),
        mtu in 0_u32..3000,
    ) {
        let (family, headers) = if ipv6 { (Family::Ipv6, 60) } else { (Family::Ipv4, 40) };
        let mut bytes = packet(family, true, false, &options);
        let Ok(before) = mss(&bytes) else {
            return Err(TestCaseError::reject("programs read malformed options in different ways"));
        };
        let limit = mtu.checked_sub(headers);
        let expected = match (before, limit) {
            (Some(mss), Some(limit)) if u32::from(mss) > limit => Some(limit as u16),
            _ => before,
        };
        let change = change(&bytes, mtu);
        prop_assert_eq!(change.is_some(), before != expected);
        if let Some(change) = change {
            apply(&mut bytes, &change);
        }
        prop_assert_eq!(mss(&bytes), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..80)) {
        let whole = packet(Family::Ipv4, true, false, &[2, 4, 5, 180]);
        let start = [&whole[..34], &bytes[..]].concat();
        for packet in [&bytes[..], &start] {
            if let Some(change) = change(packet, 1400) {
                prop_assert!(change.offset as usize + 2 <= packet.len());
                prop_assert!(change.checksum as usize + 2 <= packet.len());
            }
        }
    }
}

#[test]
fn only_a_syn_is_changed() {
    let option = [2, 4, 5, 180];
    assert!(change(&packet(Family::Ipv4, true, false, &option), 1400).is_some());
    assert_eq!(change(&packet(Family::Ipv4, false, false, &option), 1400), None);
    assert_eq!(change(&packet(Family::Ipv4, true, true, &option), 1400), None);
}
