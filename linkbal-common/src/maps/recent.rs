//! Flows of the present window: what is known of a flow whose full lookup succeeded in the same window of
//! about a second (see [`LIFE`](crate::maps::shortcut::LIFE)), where there are no shortcuts.
//!
//! They are slots of an array, by a hash of the packets' tuple, which tells the ways of a flow apart.

use crate::{
    map_struct,
    maps::{shortcut::Tuple, uplink::FAMILY_SLOTS},
};

/// Number of slots; a power of two.
pub const RECENT: usize = 65_536;

/// A flow of the present window, one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Recent {
    /// The tuple of the packets.
    pub tuple: Tuple,
    /// Answers: index of the interface that they came in by; 0 for packets from the LAN.
    pub ingress_ifindex: u32,
    /// Answers: the [`network`](crate::maps::counter::network) that they come from.
    pub network: u32,
    /// [`State::word`], written at once.
    pub state: u64,
}
map_struct!(Recent, 56);

/// The state of such a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The number of the window.
    pub window: u32,
    /// High half of the hash of the tuple, whose low half is the slot: nobody takes the state of another
    /// flow of the slot for that of the tuple, while another CPU writes one of both.
    pub hash: u16,
    /// Low bits of the epoch of the uplink.
    pub epoch: u8,
    /// The [`family_slot`](crate::maps::uplink::family_slot) of the flow.
    pub slot: u8,
    /// Kind of an answer, one of [`answer_kind`](crate::maps::shortcut::answer_kind).
    pub answer_kind: u8,
}

impl State {
    /// Returns the state as one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        let low = (self.answer_kind & 7) as u32 | (self.slot as u32 % FAMILY_SLOTS as u32) << 3;
        let low = low | (self.epoch as u32) << 8 | (self.hash as u32) << 16;
        (self.window as u64) << 32 | low as u64
    }

    /// Returns the state of a word.
    #[inline(always)]
    pub const fn of(word: u64) -> State {
        State {
            window: (word >> 32) as u32,
            hash: (word >> 16) as u16,
            epoch: (word >> 8) as u8,
            slot: (word >> 3) as u8 % FAMILY_SLOTS as u8,
            answer_kind: word as u8 & 7,
        }
    }
}

/// Returns the slot of a hash.
#[inline(always)]
pub const fn slot(hash: u32) -> u32 {
    hash & (RECENT as u32 - 1)
}
