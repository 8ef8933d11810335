//! The reader of DNS replies (RFC 1035 section 4), with constant effort for the verifier.
//!
//! The reply is copied to a buffer of its CPU, with the state of its reader. [`Reply::step`] does
//! one small step; the kernel repeats it by `bpf_loop`, the host by `for`.
//!
//! ```text
//! question: LENGTH -> BYTE.. -> LENGTH .. -> the name's end
//!           SUFFIX, from the last label to the first: is this suffix configured?
//! answers:  OWNER.. -> RECORD, of type A or AAAA: learn -> OWNER ..
//! ```
//!
//! Aliases (CNAME) need not be followed: all addresses of a reply count for the name that was asked
//! for.

use core::hint::black_box;

use super::{
    DnsHeader, HostKey,
    domain::{Domain, NO_NAME, label_byte, label_start, with_label},
};
pub use crate::maps::buffer::{Reply, ReplyBytes, SIZE};
use crate::{
    maps::{
        buffer::{LABELS, stage},
        counter::Counter,
        flow::Address,
        settings::Settings,
        uplink::Family,
    },
    packet::{Header, Packet},
    path::tables::Tables,
};

/// Maximum number of steps for one reply: a long name, and all records of [`SIZE`] bytes with a
/// short owner each.
pub const STEPS: u32 = 1024;

const LONGEST_LABEL: u8 = 63;
/// Bits of a pointer to another name, both set (RFC 1035 section 4.1.4).
const POINTER: u8 = 0xc0;
/// Length of the type and the class behind the name of a question.
const QUESTION: u32 = 4;
/// Record types (RFC 1035, RFC 3596) and the class of the internet.
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// The fixed part of a resource record behind its owner (RFC 1035 section 3.2.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    kind: u16,
    class: u16,
    ttl: [u16; 2],
    length: u16,
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for Record {}

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4(u32);
// SAFETY: as above.
unsafe impl Header for Ipv4 {}

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6(Address);
// SAFETY: as above.
unsafe impl Header for Ipv6 {}

/// Reads the reply at `payload` and learns from it, as far as the host in the slot `asker` may add
/// entries; returns false if it contradicts itself.
#[inline(always)]
pub(super) fn read<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    payload: u32,
    asker: u32,
) -> bool {
    let whole = tables.with_reply(|reply| {
        let Some(length) = packet.copy(payload, &mut reply.bytes) else { return false };
        let now_s = tables.now_s();
        if !reply.begin(settings, length, now_s) {
            return false;
        }
        let room = tables.with_asker(asker, |asker| asker.room(now_s)).unwrap_or(0);
        reply.room = room;
        tables.read_reply(reply);
        let added = room.saturating_sub(reply.room);
        tables.with_asker(asker, |asker| asker.add(added));
        if reply.refused > 0 {
            tables.count(Counter::DnsIgnored);
        }
        if reply.unstored > 0 {
            tables.count(Counter::StoreFailed);
        }
        reply.stage == stage::DONE
    });
    whole == Some(true)
}

impl Reply {
    /// Prepares to read the first `length` bytes; returns false if they do not begin with a whole
    /// header with one question.
    #[inline(always)]
    fn begin(&mut self, settings: &Settings, length: u32, now_s: u32) -> bool {
        (self.offset, self.length) = (0, length);
        let Some(header) = self.load::<DnsHeader>() else { return false };
        self.offset = size_of::<DnsHeader>() as u32;
        self.seed = settings.seed;
        self.suffix = settings.seed[1];
        self.name = NO_NAME;
        self.stage = stage::LENGTH;
        self.count = 0;
        self.answers = u16::from_be(header.answers).into();
        self.now_s = now_s;
        (self.unstored, self.room, self.refused) = (0, 0, 0);
        u16::from_be(header.questions) == 1
    }

    /// Takes one step; returns false at the end.
    #[inline(always)]
    pub fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let next = match self.stage {
            stage::LENGTH => self.label_length(),
            stage::BYTE => self.label_byte(),
            stage::SUFFIX => self.suffix(tables),
            stage::OWNER => self.owner(),
            stage::RECORD => self.record(tables),
            _ => None,
        };
        let Some(next) = next else { return false };
        self.stage = next;
        next != stage::DONE
    }

    /// Reads the length of a label of the question, or the end of its name.
    #[inline(always)]
    fn label_length(&mut self) -> Option<u32> {
        let length = self.byte()?;
        self.offset += 1;
        match length {
            0 if self.count == 0 => Some(stage::DONE),
            0 => Some(stage::SUFFIX),
            1..=LONGEST_LABEL if self.count < LABELS as u32 => {
                self.left = length.into();
                self.label = label_start(self.seed);
                Some(stage::BYTE)
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn label_byte(&mut self) -> Option<u32> {
        self.label = label_byte(self.label, self.byte()?);
        self.offset += 1;
        self.left -= 1;
        if self.left > 0 {
            return Some(stage::BYTE);
        }
        self.labels[black_box(self.count) as usize % LABELS] = self.label;
        self.count += 1;
        Some(stage::LENGTH)
    }

    #[inline(always)]
    fn suffix<T: Tables>(&mut self, tables: &T) -> Option<u32> {
        self.count -= 1;
        let label = self.labels[black_box(self.count) as usize % LABELS];
        self.suffix = with_label(self.suffix, label);
        if tables.domain_rules(self.suffix).is_some() {
            self.name = self.suffix;
        }
        if self.count > 0 {
            return Some(stage::SUFFIX);
        }
        self.offset += QUESTION;
        Some(if self.name == NO_NAME { stage::DONE } else { stage::OWNER })
    }

    /// Skips a label of a record's owner.
    #[inline(always)]
    fn owner(&mut self) -> Option<u32> {
        let length = self.byte()?;
        let (skipped, next) = match length {
            0 => (1, stage::RECORD),
            1..=LONGEST_LABEL => (1 + u32::from(length), stage::OWNER),
            POINTER.. => (2, stage::RECORD),
            _ => return None,
        };
        self.offset += skipped;
        Some(next)
    }

    #[inline(always)]
    fn record<T: Tables>(&mut self, tables: &T) -> Option<u32> {
        let record: Record = self.load()?;
        self.offset += size_of::<Record>() as u32;
        let length = u32::from(u16::from_be(record.length));
        if self.offset + length > self.length {
            return None;
        }
        let [high, low] = record.ttl.map(|half| u32::from(u16::from_be(half)));
        let address = match (u16::from_be(record.kind), length) {
            (TYPE_A, 4) => Some((Family::Ipv4, [self.load::<Ipv4>()?.0, 0, 0, 0])),
            (TYPE_AAAA, 16) => Some((Family::Ipv6, self.load::<Ipv6>()?.0)),
            _ => None,
        };
        if let Some((family, address)) = address
            && u16::from_be(record.class) == CLASS_IN
        {
            let ttl_s = high << 16 | low;
            // A TTL with the highest bit set counts as zero (RFC 2181 section 8).
            let ttl_s = if ttl_s >> 31 == 0 { ttl_s } else { 0 };
            self.learn(tables, HostKey::new(family, &address), ttl_s);
        }
        self.offset += length;
        self.answers -= 1;
        Some(if self.answers == 0 { stage::DONE } else { stage::OWNER })
    }

    #[inline(always)]
    fn learn<T: Tables>(&mut self, tables: &T, key: HostKey, ttl_s: u32) {
        let known = match tables.domain(&key) {
            Some(known) => known,
            None if self.room == 0 => {
                self.refused += 1;
                return;
            }
            None => {
                self.room -= 1;
                Domain::default()
            }
        };
        if !tables.store_domain(&key, &known.with(self.name, ttl_s, self.now_s)) {
            self.unstored += 1;
        }
    }

    #[inline(always)]
    fn byte(&self) -> Option<u8> {
        // The mask is for the verifier, which does not know that the length is at most the size.
        let byte = self.bytes[black_box(self.offset) as usize % SIZE];
        if self.offset < self.length { Some(byte) } else { None }
    }

    #[inline(always)]
    fn load<H: Header>(&self) -> Option<H> {
        if self.offset + size_of::<H>() as u32 > self.length {
            return None;
        }
        H::read(&self.bytes[black_box(self.offset) as usize % SIZE..])
    }
}
