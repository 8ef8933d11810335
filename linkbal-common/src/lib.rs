//! The contract between linkbal's eBPF programs and its user space, and the pure packet path.
//!
//! Everything that a packet meets is here, without I/O: [`parse`] reads the headers, [`classify`]
//! finds the rule and the sticky class of the flow, [`hash`] maps the flow to a bucket, [`pick`]
//! takes the first usable uplink of that bucket, and [`mod@ingress`] combines these; [`mod@wan_egress`]
//! has the uplink stored by which a flow really left ([`mod@learn`]) and the MSS clamped ([`mss`]);
//! [`mod@egress`] counts answers, and [`dns`] learns which addresses have the names that rules refer
//! to. The same code runs in the kernel and, for tests, on the host: it sees a packet only through
//! [`packet::Packet`] and the maps only through
//! [`tables::Tables`].
//!
//! The structs in BPF maps are `repr(C)`, without hidden padding, in the machine's byte order
//! unless a field says otherwise.
#![cfg_attr(not(any(test, feature = "model")), no_std)]

pub mod maps;
pub mod mark;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod names;
pub mod packet;
pub mod path;

// Others need not know in which folder something is.
pub use self::{
    maps::{
        asker, bucket, buffer, counter, flow, key, limits, quota, rule, seed, settings,
        udp_request, uplink,
    },
    packet::parse,
    path::{
        admission, classify, continuity, dns, drill, egress, hash, ingress, learn, local, mss,
        pick, recent, select, shortcut, slow, tables, verdict, wan_egress, xdp,
    },
};

/// Asserts at compile time that a map struct has exactly the size of its fields, and lets user
/// space read and write it as bytes.
macro_rules! map_struct {
    ($type:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: the struct is `repr(C)`, `Copy`, valid for any bit pattern, and the size
        // assertion above excludes hidden padding.
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use map_struct;
