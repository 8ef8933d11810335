//! Messages of the kernel, and answers to probes, with any bytes in them.

use linkbal::sys::fuzz;

use crate::cursor::Cursor;

/// Length of a netlink header (`struct nlmsghdr`).
const HEADER: u8 = 16;

/// Reads messages whose lengths are right, or else the bytes as they are.
pub fn run(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let which = cursor.byte();
    let bytes =
        if which & 0x80 == 0 { framed(&mut cursor) } else { cursor.bytes(data.len()).to_vec() };
    match which & 7 {
        0..=2 => drop(fuzz::route(&bytes)),
        3 => drop(fuzz::nftables(&bytes)),
        4 => drop(fuzz::connection(&bytes)),
        5 => drop(fuzz::wireguard(&bytes)),
        6 => {
            fuzz::answer(&bytes);
        }
        _ => drop((fuzz::route(&bytes), fuzz::nftables(&bytes), fuzz::wireguard(&bytes))),
    }
}

/// Returns messages of a type, with a fixed part and attributes: fuzzers are bad at finding
/// lengths.
fn framed(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    while !cursor.is_empty() {
        let kind = cursor.word();
        let fixed = usize::from(cursor.byte() & 0x1f);
        let mut body = padded(cursor.bytes(fixed).to_vec());
        let attributes = cursor.below(8);
        (0..attributes).for_each(|_| attribute(cursor, &mut body, 3));
        all.extend((u32::from(HEADER) + body.len() as u32).to_ne_bytes());
        all.extend(kind.to_ne_bytes());
        all.extend([0; 10]);
        all.extend(body);
    }
    all
}

fn attribute(cursor: &mut Cursor<'_>, bytes: &mut Vec<u8>, depth: u8) {
    let shape = cursor.byte();
    let kind = u16::from(cursor.byte()) | u16::from(shape >> 7) << 15;
    let mut value = Vec::new();
    if shape & 0x40 != 0 && depth > 0 {
        (0..shape & 3).for_each(|_| attribute(cursor, &mut value, depth - 1));
    } else {
        value = cursor.bytes(usize::from(shape & 0x3f)).to_vec();
    }
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(padded(value));
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
