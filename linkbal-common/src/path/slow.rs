//! The slow path, which not every packet takes: the choice of an uplink by
//! source, rule and session, and the keeping of sessions.
//!
//! The programs reach it through [`Tables::run`], where all that is known of a packet is a
//! [`Request`] in memory: so the kernel's verifier checks this code once, and not once more for
//! each path that leads here.

pub use crate::maps::buffer::{Request, task};
use crate::{
    maps::{
        counter::Counter,
        flow::{
            Flow, FlowKey, INBOUND, NOT_STICKY, Proposal, Reason, SessionKey, reason, sticky_index,
        },
        rule::{RuleAction, otherwise},
        settings::{Settings, StickyClass},
        uplink::{NO_UPLINK, family_slot},
    },
    mark::{DROP, REJECT},
    packet::parse::Extra,
    path::{
        classify::{Origin, first_rule, port_class},
        hash::flow_hash,
        select::{Choice, Selection},
        session::{join_session, keep_session, related_session},
        tables::{Tables, bypass},
    },
};

impl Request {
    /// Chooses an uplink for the flow of the key, which has `uplink` in the table.
    #[inline(always)]
    pub(crate) fn choose<T: Tables>(
        &mut self,
        task: u32,
        uplink: u32,
        origin: &Origin,
        tables: &T,
    ) -> Selection {
        self.task = task;
        self.uplink = uplink;
        self.ifindex = origin.ifindex;
        self.mac = origin.mac;
        self.vlan = origin.extra.vlan;
        self.dscp = origin.extra.dscp;
        Selection::decode(tables.run(self))
    }

    /// Keeps the session of the key's flow alive.
    #[inline(always)]
    pub(crate) fn keep<T: Tables>(&mut self, flow: &Flow, tables: &T) {
        self.task = task::KEEP;
        self.uplink = flow.uplink;
        self.sticky_class = flow.sticky_class;
        self.epoch = flow.epoch;
        tables.run(self);
    }

    /// Proposes the uplink that the key's flow has: its ends may have another connection by now.
    #[inline(always)]
    pub(crate) fn recheck<T: Tables>(&mut self, flow: &Flow, tables: &T) {
        self.task = task::RECHECK;
        self.uplink = flow.uplink;
        // Whether it is an inbound one is known where it leaves.
        self.sticky_class =
            if flow.sticky_class == INBOUND { NOT_STICKY } else { flow.sticky_class };
        self.ifindex = flow.ifindex;
        self.mac = flow.mac;
        // That of the entry would cost each packet of a known flow a load; it is only lost if the
        // entry is replaced before the packet leaves.
        self.reason = Reason { kind: reason::UNKNOWN, rule: reason::NO_LOOKUP };
        self.connects = 0;
        tables.run(self);
    }

    #[inline(always)]
    fn origin(&self) -> Origin {
        let extra = Extra { vlan: self.vlan, dscp: self.dscp };
        Origin { ifindex: self.ifindex, mac: self.mac, extra }
    }
}

/// Carries out a request; the result of a choice is an encoded [`Selection`].
#[inline(always)]
pub fn run<T: Tables>(tables: &T, request: &mut Request) -> u32 {
    if request.task == task::KEEP {
        keep_session(tables, request);
        return 0;
    }
    let Some(settings) = tables.settings() else { return Selection::NoneUsable.encode() };
    // As words: otherwise the verifier would see the uplink of a choice that has none.
    let (selection, sticky_class, hash) = if request.task == task::RECHECK {
        (Selection::Uplink(request.uplink).encode(), request.sticky_class, None)
    } else {
        choose(tables, settings, request)
    };
    if request.task == task::CHOOSE {
        return selection;
    }
    let main = selection == Selection::BYPASSED || selection == Selection::ON_LINK;
    if main && request.uplink != NO_UPLINK {
        // Its uplink is down, and the main table has another way. Once the uplink is back, the
        // connection still has that one.
        tables.forget_flow(&request.key);
    }
    if selection == Selection::BYPASSED {
        return selection;
    }
    if selection == DROP || selection == REJECT {
        if request.uplink != NO_UPLINK && tables.up_mask().family(request.key.family()) == 0 {
            // With every uplink down, a flow stays where it is, as its connection does.
            return Selection::NONE_USABLE;
        }
        tables.count_blocked(request.reason.rule);
    }
    let uplink = if selection < DROP { selection } else { NO_UPLINK };
    if request.task != task::STORE {
        // No closure, which the compiler might make a function of: the stack has no room for its frame.
        let hash = match hash {
            Some(hash) => hash,
            None => flow_hash(settings.seed, &request.key),
        };
        propose(tables, request, hash, uplink, sticky_class);
    } else if uplink != NO_UPLINK {
        let (last_seen_s, first_seen_ms) = tables.now_s_and_ms();
        let flow = Flow {
            uplink,
            sticky_class,
            first_seen_ms,
            last_seen_s,
            epoch: tables.epoch(family_slot(uplink, request.key.family())),
            // Answers to local traffic are not looked at.
            replied: 1,
            moved_from: moved_from(request.uplink),
            reason: request.reason,
            ..Flow::default()
        };
        if tables.store_flow(&request.key, &flow) {
            tables.count_rule(flow.reason.rule);
        } else {
            tables.count(Counter::StoreFailed);
        }
    }
    selection
}

/// Writes a proposal to the slot of the flow, in place: the stack has no room for it.
#[inline(always)]
fn propose<T: Tables>(
    tables: &T,
    request: &mut Request,
    hash: u32,
    uplink: u32,
    sticky_class: u32,
) {
    request.hash = hash;
    tables.write_proposal(hash, |proposal| {
        proposal.key.set(&request.key);
        proposal.check = Proposal::check(&request.key, hash);
        proposal.former = request.uplink;
        proposal.connects = request.connects.into();
        proposal.packet_hash = request.packet_hash;
        let flow = &mut proposal.flow;
        flow.uplink = uplink;
        flow.sticky_class = sticky_class;
        (flow.last_seen_s, flow.first_seen_ms) = tables.now_s_and_ms();
        flow.ifindex = request.ifindex;
        flow.mac = request.mac;
        (flow.epoch, flow.tcp_ack, flow.tcp_end) = (0, 0, 0);
        (flow.tcp_state, flow.replied, flow.moved_from) = (0, 0, 0);
        flow.reason = request.reason;
    });
}

/// Returns [`Flow::moved_from`] for a flow that had `uplink` in the table, or [`NO_UPLINK`].
#[inline(always)]
pub(crate) const fn moved_from(uplink: u32) -> u8 {
    // That of `NO_UPLINK` is 0.
    uplink.wrapping_add(1) as u8
}

/// Chooses an uplink, and writes the reason to the request; returns the encoded outcome, the sticky
/// class of the flow, and its hash if the choice took one.
#[inline(always)]
fn choose<T: Tables>(
    tables: &T,
    settings: &Settings,
    request: &mut Request,
) -> (u32, u32, Option<u32>) {
    let origin = request.origin();
    let key = &request.key;
    request.reason = Reason { kind: reason::SOURCE, rule: reason::NO_LOOKUP };
    if let Some(routed_by) = tables.bypass(key.family(), &key.destination) {
        let on_link = bypass::routed_by(routed_by) == bypass::UPLINK;
        return (if on_link { Selection::ON_LINK } else { Selection::BYPASSED }, NOT_STICKY, None);
    }
    if let Some(selection) = by_source(tables, settings, key) {
        return (selection.encode(), NOT_STICKY, None);
    }
    let rule = first_rule(tables, settings, key, &origin);
    request.reason.rule = rule as u8;
    let action = tables.action(rule);
    let (up, avoided) = (tables.up_mask(), tables.avoid_mask());
    let choice = Choice { settings, action, up, avoided };
    let mut hash = None;
    let (sticky_class, uplink) = match sticky_class(tables, key, rule, &action) {
        None => match related_session(tables, &choice, key, rule) {
            Some((index, uplink)) => {
                request.reason.kind = reason::RELATED;
                (index, Some(uplink))
            }
            None => {
                request.reason.kind = reason::BUCKET;
                let own = flow_hash(settings.seed, key);
                hash = Some(own);
                (NOT_STICKY, choice.pick(tables, own, key))
            }
        },
        Some((index, class)) => {
            let session_key = SessionKey::of(key, index, &class);
            let (uplink, kind) = join_session(tables, &choice, key, &session_key, class.idle_s);
            request.reason.kind = kind;
            (index, uplink)
        }
    };
    let selection = match (uplink, action.otherwise) {
        (Some(uplink), _) => Selection::Uplink(uplink),
        (None, otherwise::DROP) => Selection::Blocked(DROP),
        (None, otherwise::REJECT) => Selection::Blocked(REJECT),
        (None, _) => Selection::NoneUsable,
    };
    (selection.encode(), sticky_class, hash)
}

/// Decides by the source address alone: an address that a provider gave out, or routes here, is
/// accepted by no other provider (RFC 8028), whatever rules say.
#[inline(always)]
fn by_source<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> Option<Selection> {
    if settings.source_prefixes == 0 {
        return None;
    }
    let uplink = tables.source_uplink(key.family(), &key.source)?;
    let up = tables.up_mask();
    Some(if up.contains(uplink, key.family()) {
        Selection::Uplink(uplink)
    } else if up.family(key.family()) == 0 {
        Selection::NoneUsable
    } else {
        Selection::Rejected
    })
}

/// Returns the sticky class of a flow: its rule's, or else that of its destination port.
#[inline(always)]
fn sticky_class<T: Tables>(
    tables: &T,
    key: &FlowKey,
    rule: u32,
    action: &RuleAction,
) -> Option<(u32, StickyClass)> {
    let class = if action.sticky_class == NOT_STICKY {
        port_class(tables, key)?
    } else {
        action.sticky_class
    };
    Some((sticky_index(class, rule), tables.sticky_class(class)?))
}
