//! The slow path, which not every packet takes: the choice of an uplink, and the keeping of
//! sessions.
//!
//! The programs reach it through [`Tables::run`], where all that is known of a packet is a
//! [`Request`] in memory: so the kernel's verifier checks this code once, and not once more for
//! each path that leads here.

pub use crate::maps::buffer::{Request, task};
use crate::{
    maps::{
        bucket::{BUCKETS, Bucket},
        counter::Counter,
        flow::{Flow, FlowKey, NOT_STICKY, Session, SessionKey, class_of, sticky_index},
        rule::{RuleAction, otherwise},
        settings::{Settings, StickyClass},
        uplink::{Family, NO_UPLINK, UpMask, epoch_index},
    },
    mark::BLOCKED,
    packet::parse::Extra,
    path::{
        admission::admits_session,
        classify::{Origin, first_rule, port_class, related_class},
        hash::{flow_hash, session_hash},
        pick::pick,
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
    ) -> Begun {
        self.task = task;
        self.uplink = uplink;
        self.ifindex = origin.ifindex;
        self.mac = origin.mac;
        self.vlan = origin.extra.vlan;
        self.dscp = origin.extra.dscp;
        Begun::decode(tables.run(self))
    }

    /// Keeps the session of the key's flow alive.
    #[inline(always)]
    pub(crate) fn keep<T: Tables>(&mut self, flow: &Flow, tables: &T) {
        self.task = task::KEEP;
        self.uplink = flow.uplink;
        self.sticky_class = flow.sticky_class;
        self.epoch_or_hash = flow.epoch;
        tables.run(self);
    }

    /// Proposes the uplink that the key's flow has: its ends may have another connection by now.
    #[inline(always)]
    pub(crate) fn recheck<T: Tables>(&mut self, flow: &Flow, tables: &T) {
        self.task = task::RECHECK;
        self.uplink = flow.uplink;
        self.sticky_class = flow.sticky_class;
        self.ifindex = flow.ifindex;
        self.mac = flow.mac;
        self.connects = 0;
        tables.run(self);
    }

    #[inline(always)]
    fn origin(&self) -> Origin {
        let extra = Extra { vlan: self.vlan, dscp: self.dscp };
        Origin { ifindex: self.ifindex, mac: self.mac, extra }
    }
}

/// The outcome for a flow that had to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The flow uses this uplink.
    On(u32),
    /// The flow is blocked by its rule: one of [`BLOCKED`].
    Blocked(u32),
    /// No uplink is usable.
    Nowhere,
    /// The uplink that the source belongs to is down, and others are not: the host shall try
    /// another of its addresses.
    Refused,
    /// The main table alone routes the destination.
    Bypassed,
    /// The destination is in a network of an uplink: the main table routes it, unless the flow
    /// answers a connection that came in by another uplink.
    OnLink,
}

impl Begun {
    const NOWHERE: u32 = 0x100;
    const REFUSED: u32 = 0x101;
    const BYPASSED: u32 = 0x102;
    const ON_LINK: u32 = 0x103;

    /// Encodes the outcome as one word, which is all that comes back from the slow path.
    #[inline(always)]
    pub const fn encode(self) -> u32 {
        match self {
            Begun::On(number) | Begun::Blocked(number) => number,
            Begun::Nowhere => Begun::NOWHERE,
            Begun::Refused => Begun::REFUSED,
            Begun::Bypassed => Begun::BYPASSED,
            Begun::OnLink => Begun::ON_LINK,
        }
    }

    /// Decodes the outcome from one word.
    #[inline(always)]
    pub const fn decode(word: u32) -> Begun {
        match word {
            Begun::REFUSED => Begun::Refused,
            Begun::BYPASSED => Begun::Bypassed,
            Begun::ON_LINK => Begun::OnLink,
            number if number < BLOCKED[0] => Begun::On(number),
            number if number <= BLOCKED[1] => Begun::Blocked(number),
            _ => Begun::Nowhere,
        }
    }
}

/// Carries out a request; the result of a choice is an encoded [`Begun`].
#[inline(always)]
pub fn run<T: Tables>(tables: &T, request: &mut Request) -> u32 {
    if request.task == task::KEEP {
        keep_session(tables, request);
        return 0;
    }
    let Some(settings) = tables.settings() else { return Begun::Nowhere.encode() };
    // As words: otherwise the verifier would see the uplink of a choice that has none.
    let (begun, sticky_class) = if request.task == task::RECHECK {
        (Begun::On(request.uplink).encode(), request.sticky_class)
    } else {
        choose(tables, settings, &request.key, &request.origin())
    };
    if request.task == task::CHOOSE {
        return begun;
    }
    let main = begun == Begun::BYPASSED || begun == Begun::ON_LINK;
    if main && request.uplink != NO_UPLINK {
        // Its uplink is down, and the main table has another way. Once the uplink is back, the
        // connection still has that one.
        tables.forget_flow(&request.key);
    }
    if begun == Begun::BYPASSED {
        return begun;
    }
    let uplink = if begun < BLOCKED[0] { begun } else { NO_UPLINK };
    if request.task != task::STORE {
        propose(tables, settings, request, uplink, sticky_class);
    } else if uplink != NO_UPLINK {
        let flow = Flow {
            uplink,
            sticky_class,
            first_seen_ms: tables.now_ms(),
            last_seen_s: tables.now_s(),
            epoch: tables.epoch(epoch_index(uplink, request.key.family())),
            // Answers to local traffic are not looked at.
            replied: 1,
            ..Flow::default()
        };
        if !tables.store_flow(&request.key, &flow) {
            tables.count(Counter::StoreFailed);
        }
    }
    begun
}

/// Writes a proposal to the slot of the flow, in place: the stack has no room for it.
#[inline(always)]
fn propose<T: Tables>(
    tables: &T,
    settings: &Settings,
    request: &mut Request,
    uplink: u32,
    sticky_class: u32,
) {
    let hash = flow_hash(settings.seed, &request.key);
    request.epoch_or_hash = hash;
    tables.write_proposal(hash, |proposal| {
        proposal.key.set(&request.key);
        proposal.former = request.uplink;
        proposal.connects = request.connects.into();
        let flow = &mut proposal.flow;
        flow.uplink = uplink;
        flow.sticky_class = sticky_class;
        flow.first_seen_ms = tables.now_ms();
        flow.last_seen_s = tables.now_s();
        flow.ifindex = request.ifindex;
        flow.mac = request.mac;
        (flow.epoch, flow.tcp_ack, flow.tcp_end) = (0, 0, 0);
        (flow.tcp_state, flow.replied) = (0, 0);
    });
}

/// Keeps the session of a flow alive.
#[inline(always)]
fn keep_session<T: Tables>(tables: &T, request: &Request) {
    let Some(class) = tables.sticky_class(class_of(request.sticky_class)) else {
        return;
    };
    let (uplink, epoch, now_s) = (request.uplink, request.epoch_or_hash, tables.now_s());
    let session_key = SessionKey::of(&request.key, request.sticky_class, &class);
    match tables.session(&session_key) {
        Some((session, slot)) if session.uplink == uplink && session.epoch == epoch => {
            tables.touch_session(slot, now_s);
        }
        Some(_) => {}
        // The session was evicted: a live flow brings it back.
        None => {
            let session = Session { uplink, last_seen_s: now_s, epoch };
            store_session(tables, &request.key, &session_key, &session);
        }
    }
}

/// Returns whether flows of this epoch of an uplink go on.
#[inline(always)]
pub(crate) fn is_current<T: Tables>(tables: &T, uplink: u32, family: Family, epoch: u32) -> bool {
    tables.epoch(epoch_index(uplink, family)) == epoch
}

/// Chooses an uplink; returns the encoded outcome and the sticky class of the flow.
#[inline(always)]
fn choose<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    origin: &Origin,
) -> (u32, u32) {
    if let Some(routed_by) = tables.bypass(key.family(), &key.destination) {
        let on_link = bypass::routed_by(routed_by) == bypass::UPLINK;
        return (if on_link { Begun::ON_LINK } else { Begun::BYPASSED }, NOT_STICKY);
    }
    if let Some(begun) = by_source(tables, settings, key) {
        return (begun.encode(), NOT_STICKY);
    }
    let rule = first_rule(tables, settings, key, origin);
    let action = tables.action(rule);
    let (up, avoided) = (tables.up_mask(), tables.avoid_mask());
    let choice = Choice { settings, action, up, avoided };
    let (sticky_class, uplink) = match sticky_class(tables, key, rule, &action) {
        None => match related_session(tables, &choice, key, rule) {
            Some((index, uplink)) => (index, Some(uplink)),
            None => (NOT_STICKY, choice.pick(tables, flow_hash(settings.seed, key), key)),
        },
        Some((index, class)) => {
            let session_key = SessionKey::of(key, index, &class);
            (index, join_session(tables, &choice, key, &session_key, class.idle_s))
        }
    };
    let begun = match (uplink, action.otherwise) {
        (Some(uplink), _) => Begun::On(uplink),
        (None, otherwise::DROP) => Begun::Blocked(BLOCKED[0]),
        (None, otherwise::REJECT) => Begun::Blocked(BLOCKED[1]),
        (None, _) => Begun::Nowhere,
    };
    (begun.encode(), sticky_class)
}

/// Decides by the source address alone: an address that a provider gave out, or routes here, is
/// accepted by no other provider (RFC 8028), whatever rules say.
#[inline(always)]
fn by_source<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> Option<Begun> {
    if settings.source_prefixes == 0 {
        return None;
    }
    let uplink = tables.source_uplink(key.family(), &key.source)?;
    let up = tables.up_mask();
    Some(if up.contains(uplink, key.family()) {
        Begun::On(uplink)
    } else if up.family(key.family()) == 0 {
        Begun::Nowhere
    } else {
        Begun::Refused
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

/// Returns the session that other flows of the same ends have begun, and its uplink: for the data
/// of FTP, what SIP and RTSP have agreed on, tunnels behind their control connection. The flow
/// itself begins none.
#[inline(always)]
fn related_session<T: Tables>(
    tables: &T,
    choice: &Choice<'_>,
    key: &FlowKey,
    rule: u32,
) -> Option<(u32, u32)> {
    let class_index = related_class(tables, key)?;
    let class = tables.sticky_class(class_index)?;
    let index = sticky_index(class_index, rule);
    let uplink = living(tables, choice, key, &SessionKey::of(key, index, &class), class.idle_s)?;
    Some((index, uplink))
}

/// The inputs of a choice, beside the flow.
struct Choice<'a> {
    settings: &'a Settings,
    action: RuleAction,
    up: UpMask,
    avoided: UpMask,
}

impl Choice<'_> {
    /// Returns the first usable uplink of the bucket that `hash` falls into: of the rule's group,
    /// or else, if the rule says so, of all uplinks.
    #[inline(always)]
    fn pick<T: Tables>(&self, tables: &T, hash: u32, key: &FlowKey) -> Option<u32> {
        let bucket = tables.bucket(self.action.first_bucket + (hash & self.action.bucket_mask));
        let uplink = self.pick_from(&bucket, key.family());
        if uplink.is_none() && self.action.otherwise == otherwise::BALANCE {
            return self.pick_from(&tables.bucket(hash & (BUCKETS - 1)), key.family());
        }
        uplink
    }

    /// Picks an uplink of a bucket; an avoided uplink is better than none.
    #[inline(always)]
    fn pick_from(&self, bucket: &Bucket, family: Family) -> Option<u32> {
        let preferred = self.up.without(self.avoided);
        let any_preferred = bucket.members() & preferred.family(family) != 0;
        pick(bucket, if any_preferred { preferred } else { self.up }, family)
    }
}

/// Returns the uplink of a live session, if it is usable.
#[inline(always)]
fn living<T: Tables>(
    tables: &T,
    choice: &Choice<'_>,
    flow: &FlowKey,
    key: &SessionKey,
    idle_s: u32,
) -> Option<u32> {
    let now_s = tables.now_s();
    let (session, slot) = tables.session(key)?;
    let lives = now_s.saturating_sub(session.last_seen_s) < idle_s
        && choice.up.contains(session.uplink, flow.family())
        && is_current(tables, session.uplink, flow.family(), session.epoch);
    if !lives {
        return None;
    }
    tables.touch_session(slot, now_s);
    tables.count(Counter::SessionJoined);
    Some(session.uplink)
}

/// Returns the uplink of a live session, if it is usable, or else that of a session begun now.
#[inline(always)]
fn join_session<T: Tables>(
    tables: &T,
    choice: &Choice<'_>,
    flow: &FlowKey,
    key: &SessionKey,
    idle_s: u32,
) -> Option<u32> {
    let living = living(tables, choice, flow, key, idle_s);
    if living.is_some() {
        return living;
    }
    let now_s = tables.now_s();
    let uplink = choice.pick(tables, session_hash(choice.settings.seed, key), flow)?;
    let epoch = tables.epoch(epoch_index(uplink, flow.family()));
    store_session(tables, flow, key, &Session { uplink, last_seen_s: now_s, epoch });
    tables.count(Counter::SessionNew);
    Some(uplink)
}

/// Stores the session of a flow, unless its host, or all hosts together, have begun too many.
#[inline(always)]
fn store_session<T: Tables>(tables: &T, flow: &FlowKey, key: &SessionKey, session: &Session) {
    let Some(settings) = tables.settings() else { return };
    if admits_session(tables, settings, flow) && !tables.store_session(key, session) {
        tables.count(Counter::StoreFailed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::uplink::MAX_UPLINKS;

    #[test]
    fn what_began_comes_back_as_it_was() {
        let on = (0..MAX_UPLINKS as u32).map(Begun::On);
        let blocked = BLOCKED.map(Begun::Blocked);
        let others = [Begun::Nowhere, Begun::Refused, Begun::Bypassed, Begun::OnLink];
        for begun in on.chain(blocked).chain(others) {
            assert_eq!(Begun::decode(begun.encode()), begun);
        }
    }
}
