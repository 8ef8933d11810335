//! Buffers of the programs, whose stack has no room for them: requests to the slow path, and DNS
//! replies with the state of their reader.

use crate::{
    map_struct,
    maps::{
        domain::NO_NAME,
        flow::{FlowKey, Reason},
        key::{MacKey, QueryKey},
        seed::Seed,
    },
};

/// Tasks of a [`Request`].
pub mod task {
    /// Choice of an uplink for a flow, with a proposal for the program at its egress.
    pub const PROPOSE: u32 = 0;
    /// Choice of an uplink.
    pub const CHOOSE: u32 = 1;
    /// Refresh of a flow's session.
    pub const KEEP: u32 = 2;
    /// Choice of an uplink for a flow, which is stored.
    pub const STORE: u32 = 3;
    /// Proposal of the uplink that a flow has.
    pub const RECHECK: u32 = 4;
}

/// A request to the slow path for a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Request {
    /// The flow.
    pub key: FlowKey,
    /// The task, one of [`task`].
    pub task: u32,
    /// Index of the ingress interface, as in `Origin`, unless the task is [`task::KEEP`].
    pub ifindex: u32,
    /// Source MAC address, as in `Origin`, unless the task is [`task::KEEP`].
    pub mac: MacKey,
    /// VLAN, as in `Extra`, of a flow that is to be chosen for.
    pub vlan: u16,
    /// DSCP, as in `Extra`, of a flow that is to be chosen for.
    pub dscp: u8,
    /// 1 for the packet that begins a TCP connection, else 0.
    pub connects: u8,
    /// The uplink that the flow has in the table, or `NO_UPLINK`.
    pub uplink: u32,
    /// Sticky class, as in `Flow`, of a flow that is in the table.
    pub sticky_class: u32,
    /// Epoch, as in `Flow`, for [`task::KEEP`].
    pub epoch: u32,
    /// Hash of the key: the result of [`task::PROPOSE`] and [`task::RECHECK`].
    pub hash: u32,
    /// Hash of the packet as the network card gave it, 0 for none: it gets that back where it leaves.
    pub packet_hash: u32,
    /// Reason for the uplink that is chosen.
    pub reason: Reason,
    /// Zero.
    pub reserved: [u16; 3],
}
map_struct!(Request, 88);

/// Number of bytes of a reply that are read; servers send no more by UDP.
pub const SIZE: usize = 4096;

/// A buffer for a reply, with room behind it for a field that begins inside.
pub type ReplyBytes = [u8; SIZE + 16];

/// Maximum number of labels of a name: two bytes each in at most 255 (RFC 1035 section 3.1).
pub(crate) const LABELS: usize = 128;

/// Stages of the reader of a reply.
pub(crate) mod stage {
    pub(crate) const LENGTH: u32 = 0;
    pub(crate) const BYTE: u32 = 1;
    pub(crate) const SUFFIX: u32 = 2;
    pub(crate) const OWNER: u32 = 3;
    pub(crate) const RECORD: u32 = 4;
    pub(crate) const DONE: u32 = 5;
}

/// A reply, and the state of its reader.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Reply {
    /// The reply from its header on, then old content of the buffer.
    pub bytes: ReplyBytes,
    /// Hashes of the labels of the name that was asked for, from the front.
    pub(crate) labels: [u64; LABELS],
    /// Hash of the label that is being read.
    pub(crate) label: u64,
    /// Hash of the suffix that was looked up last.
    pub(crate) suffix: u64,
    /// The longest suffix found, or [`NO_NAME`].
    pub(crate) name: u64,
    pub(crate) seed: Seed,
    pub(crate) stage: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Number of bytes left of the label that is being read.
    pub(crate) left: u32,
    /// Number of labels read, and then of those not yet in the suffix.
    pub(crate) count: u32,
    /// Number of answers left.
    pub(crate) answers: u32,
    pub(crate) now_s: u32,
    /// Number of addresses that the map refused.
    pub(crate) unstored: u32,
    /// Number of new addresses that may still be added.
    pub(crate) room: u32,
    /// Number of new addresses for which there was no room.
    pub(crate) refused: u32,
    /// The query of the reply.
    pub(crate) query: QueryKey,
}

impl Reply {
    /// An empty buffer for replies.
    pub const EMPTY: Reply = Reply {
        bytes: [0; SIZE + 16],
        labels: [0; LABELS],
        label: 0,
        suffix: 0,
        name: NO_NAME,
        seed: [0; 2],
        stage: stage::DONE,
        offset: 0,
        length: 0,
        left: 0,
        count: 0,
        answers: 0,
        now_s: 0,
        unstored: 0,
        room: 0,
        refused: 0,
        query: QueryKey { client: [0; 4], server: [0; 4], port: 0, id: 0, ifindex: 0, family: 0 },
    };
}
