//! Packets of a LAN on the host's packet path, while uplinks come and go, time passes, and
//! connection tracking and nft set marks.

mod gateway;

use linkbal_common::{
    flow::FlowKey,
    local::{LocalSocket, connect, send},
    mark::{DEFAULT_MASK, MarkMask},
    uplink::Family,
};

use crate::{
    cursor::Cursor,
    frames::{Direction, frame},
};
use gateway::{Gateway, UPLINKS};

/// Seconds that can pass at once: around each timeout of the path.
const PAUSES: [u32; 8] = [1, 2, 9, 10, 11, 119, 121, 601];

/// Plays the steps that the bytes encode.
pub fn run(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut gateway = Gateway::new(&mut cursor);
    while !cursor.is_empty() {
        step(&mut cursor, &mut gateway);
    }
    gateway.end();
}

fn step(cursor: &mut Cursor<'_>, gateway: &mut Gateway) {
    match cursor.below(12) {
        0..=3 => gateway.send(&frame(cursor, Direction::FromLan), 0),
        4 => {
            let fwmark = cursor.long();
            let bytes = frame(cursor, Direction::FromLan);
            if fwmark & 1 == 0 {
                gateway.send(&bytes, MarkMask(DEFAULT_MASK).clear(fwmark));
            } else {
                gateway.show(&bytes, fwmark);
            }
        }
        5 => {
            let uplink = cursor.below(UPLINKS + 2).into();
            gateway.answer(&frame(cursor, Direction::ToLan), uplink);
        }
        6 => {
            let uplink = cursor.below(UPLINKS).into();
            gateway.arrive(&frame(cursor, Direction::ToLan), uplink);
        }
        7 => gateway.pass(PAUSES[usize::from(cursor.below(8))]),
        8 => {
            let (uplink, which) = (cursor.below(UPLINKS).into(), cursor.byte());
            let family = if which & 1 == 0 { Family::Ipv4 } else { Family::Ipv6 };
            if which & 2 == 0 { gateway.down(uplink, family) } else { gateway.up(uplink, family) }
        }
        9 => gateway.avoid(cursor.long()),
        10 => gateway.evict(cursor.byte()),
        _ => own(cursor, gateway),
    }
}

/// Connects and sends by a socket of the gateway.
fn own(cursor: &mut Cursor<'_>, gateway: &Gateway) {
    let what = cursor.byte();
    let ipv6 = what & 1 != 0;
    let first = if ipv6 { [0x20, 1, 0x0d, 0xb8] } else { [192, 0, 2, 1] };
    let last = if ipv6 { u32::from_ne_bytes([0, 0, 0, 1 + (what >> 6)]) } else { 0 };
    let key = FlowKey {
        source: [u32::from(what & 2), 0, 0, 0],
        destination: [u32::from_ne_bytes(first), 0, 0, last],
        source_port: cursor.word(),
        destination_port: 53u16.to_be(),
        protocol: if what & 4 != 0 { 17 } else { 6 },
        family: if ipv6 { 6 } else { 4 },
        reserved: 0,
    };
    let socket = LocalSocket {
        netns_cookie: u64::from(what >> 5 & 1),
        cookie: cursor.byte().into(),
        device: u32::from(what >> 4 & 1),
        fwmark: if what & 8 != 0 { cursor.long() } else { 0 },
        given_fwmark: 0,
        key,
    };
    let before = gateway.tables.counters.borrow().iter().sum::<u64>();
    gateway.check_connect(&socket, connect(&socket, &gateway.tables));
    gateway.check_sending(send::<true, _>(&socket, &gateway.tables), key.family());
    assert!(gateway.tables.counters.borrow().iter().sum::<u64>() >= before);
}
