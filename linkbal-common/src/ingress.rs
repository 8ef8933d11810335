//! The way of a packet from the LAN.
//!
//! ```text
//! parse -> flow known, uplink up? --yes--> refresh, mark
//!               | no
//!               +-> source of a provider? ---yes---> its uplink ----+
//!               | no                                                |
//!               +-> first rule that matches: its group, its         |
//!                        | stickiness                               |
//!                        +-> session alive? --yes--> its uplink ----+
//!                        |                                          +-> store flow, mark
//!                        +-> bucket = hash -> first usable rank ----+
//! ```

use crate::{
    bucket::BUCKETS,
    classify::{Origin, first_rule, port_class},
    counter::Counter,
    dns::note_query,
    egress::still_inbound,
    flow::{Flow, FlowKey, NOT_STICKY, Session, SessionKey, class_of, sticky_index},
    hash::{flow_hash, session_hash},
    mark::{BLOCKED, MarkMask},
    packet::Packet,
    parse::parse,
    pick::pick,
    rule::{RuleAction, otherwise},
    settings::{Settings, StickyClass},
    tables::Tables,
    uplink::{Family, UpMask},
    verdict::{Reason, Verdict},
};

/// Decides about one packet and counts it.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &P, tables: &T) -> Verdict {
    match route(packet, tables) {
        Ok(fwmark) => Verdict::Mark(fwmark),
        Err(reason) => {
            tables.count(reason.counter());
            Verdict::Skip(reason)
        }
    }
}

#[inline(always)]
fn route<P: Packet, T: Tables>(packet: &P, tables: &T) -> Result<u32, Reason> {
    let settings = tables.settings().ok_or(Reason::Off)?;
    let mask = MarkMask(settings.fwmark_mask);
    if mask.0 == 0 {
        return Err(Reason::Off);
    }
    let old_fwmark = packet.fwmark();
    if old_fwmark & mask.0 != 0 {
        return Err(Reason::AlreadyMarked);
    }
    if settings.domains != 0 {
        note_query(packet, tables);
    }
    let (key, extra) = parse(packet)?;
    let (known, stays) = known(tables, &key);
    if let Some(outcome) = stays {
        tables.count(outcome);
        tables.count_uplink(known, packet.length(), outcome);
        return Ok(mask.replace(old_fwmark, known));
    }
    // From here on the verifier need not know how the packet was read.
    let (key, known) = (packet.opaque_key(key), packet.opaque(known));
    let origin = Origin::of(packet, extra);
    let (uplink, outcome) = match begin(tables, settings, &key, &origin)? {
        Begun::On(uplink) if known == UNKNOWN => (uplink, Counter::FlowNew),
        Begun::On(uplink) => (uplink, Counter::FlowMoved),
        Begun::Blocked(number, counter) => {
            tables.count(counter);
            return Ok(mask.replace(old_fwmark, number));
        }
        Begun::Nowhere if known == UNKNOWN => return Err(Reason::NoUplink),
        Begun::Refused if known == UNKNOWN => {
            tables.count(Counter::SourceRejected);
            return Ok(mask.replace(old_fwmark, BLOCKED[1]));
        }
        // With every uplink down, staying is what breaks least: the verdict may be wrong.
        Begun::Nowhere | Begun::Refused => (known, Counter::FlowStranded),
    };
    tables.count(outcome);
    tables.count_uplink(uplink, packet.length(), outcome);
    Ok(mask.replace(old_fwmark, uplink))
}

/// The uplink of a flow that the gateway itself sends; it is stored like one of the LAN.
#[inline(always)]
pub(crate) fn follow<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
) -> Result<u32, Reason> {
    let (known, stays) = known(tables, key);
    if stays.is_some() {
        return Ok(known);
    }
    match begin(tables, settings, key, &Origin::LOCAL)? {
        Begun::On(uplink) => Ok(uplink),
        Begun::Nowhere if known != UNKNOWN => Ok(known),
        Begun::Nowhere | Begun::Refused | Begun::Blocked(..) => Err(Reason::NoUplink),
    }
}

/// The uplink of a flow that is not in the table.
const UNKNOWN: u32 = u32::MAX;

/// The uplink of a flow, or [`UNKNOWN`], and how it is counted if it stays there: because the
/// uplink is usable, or because the flow came in by it and cannot leave by another one.
#[inline(always)]
fn known<T: Tables>(tables: &T, key: &FlowKey) -> (u32, Option<Counter>) {
    let Some((flow, slot)) = tables.flow(key) else {
        return (UNKNOWN, None);
    };
    let now_s = tables.now_s();
    let stays = if tables.up_mask().contains(flow.uplink, key.family()) {
        Some(Counter::FlowKnown)
    } else if still_inbound(&flow, now_s) {
        Some(Counter::FlowStranded)
    } else {
        None
    };
    if flow.last_seen_s != now_s {
        tables.touch_flow(slot, now_s);
        // A session ends with its uplink.
        if stays.is_some() {
            keep_session(tables, key, &flow, now_s);
        }
    }
    (flow.uplink, stays)
}

/// A packet of a flow keeps its session alive: at most once a second, to keep known flows cheap.
#[inline(always)]
fn keep_session<T: Tables>(tables: &T, key: &FlowKey, flow: &Flow, now_s: u32) {
    if flow.sticky_class == NOT_STICKY {
        return;
    }
    let Some(class) = tables.sticky_class(class_of(flow.sticky_class)) else {
        return;
    };
    let session_key = SessionKey::of(key, flow.sticky_class, &class);
    match tables.session(&session_key) {
        Some((session, slot)) if session.uplink == flow.uplink => {
            tables.touch_session(slot, now_s);
        }
        Some(_) => {}
        // It had to make room for others: a flow that lives brings it back.
        None => {
            let session = Session { uplink: flow.uplink, last_seen_s: now_s };
            if !tables.store_session(&session_key, &session) {
                tables.count(Counter::StoreFailed);
            }
        }
    }
}

/// What became of a flow that had to be decided.
pub(crate) enum Begun {
    On(u32),
    /// No uplink is usable.
    Nowhere,
    /// The uplink that its source belongs to is down, and others are not: its host shall try
    /// another of its addresses.
    Refused,
    /// Its rule wants it blocked: one of [`BLOCKED`], and how that is counted.
    Blocked(u32, Counter),
}

/// Chooses the uplink of a new flow, or of one whose uplink is down, and stores the choice.
#[inline(always)]
fn begin<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    origin: &Origin,
) -> Result<Begun, Reason> {
    let (begun, sticky_class) = choose(tables, settings, key, origin)?;
    if let Begun::On(uplink) = begun {
        let now_s = tables.now_s();
        let flow = Flow { uplink, sticky_class, first_seen_s: now_s, last_seen_s: now_s };
        if !tables.store_flow(key, &flow) {
            tables.count(Counter::StoreFailed);
        }
    }
    Ok(begun)
}

/// Chooses an uplink; returns it with the sticky class that the flow is in.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    origin: &Origin,
) -> Result<(Begun, u32), Reason> {
    if tables.bypasses(key.family(), &key.destination) {
        return Err(Reason::Bypass);
    }
    if let Some(begun) = by_source(tables, settings, key) {
        return Ok((begun, NOT_STICKY));
    }
    let rule = first_rule(tables, settings, key, origin);
    let action = tables.action(rule);
    let choice = Choice { settings, action, up: tables.up_mask(), now_s: tables.now_s() };
    let (sticky_class, uplink) = match sticky_class(tables, key, rule, &action) {
        None => (NOT_STICKY, choice.pick(tables, flow_hash(settings.seed, key), key)),
        Some((index, class)) => {
            let session_key = SessionKey::of(key, index, &class);
            (index, join_session(tables, &choice, key, &session_key, class.idle_s))
        }
    };
    let begun = match (uplink, action.otherwise) {
        (Some(uplink), _) => Begun::On(uplink),
        (None, otherwise::DROP) => Begun::Blocked(BLOCKED[0], Counter::RuleDropped),
        (None, otherwise::REJECT) => Begun::Blocked(BLOCKED[1], Counter::RuleRejected),
        (None, _) => Begun::Nowhere,
    };
    Ok((begun, sticky_class))
}

/// What a source address alone decides: one that a provider gave out is taken by no other provider
/// (RFC 8028), whatever rules say.
#[inline(always)]
fn by_source<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> Option<Begun> {
    if settings.source_prefixes == 0 || key.family() != Family::Ipv6 {
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

/// The sticky class of a flow: its rule's, or else that of its destination port.
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

/// What a choice depends on, beside the flow.
struct Choice<'a> {
    settings: &'a Settings,
    action: RuleAction,
    up: UpMask,
    now_s: u32,
}

impl Choice<'_> {
    /// The first usable uplink of the bucket that `hash` falls into: of the rule's group, or else,
    /// if the rule says so, of all uplinks.
    #[inline(always)]
    fn pick<T: Tables>(&self, tables: &T, hash: u32, key: &FlowKey) -> Option<u32> {
        let family = key.family();
        let bucket = tables.bucket(self.action.first_bucket + (hash & self.action.bucket_mask));
        let uplink = pick(&bucket, self.up, family);
        if uplink.is_none() && self.action.otherwise == otherwise::BALANCE {
            return pick(&tables.bucket(hash & (BUCKETS - 1)), self.up, family);
        }
        uplink
    }
}

/// The uplink of a living session whose uplink is usable, or else of a session begun now.
#[inline(always)]
fn join_session<T: Tables>(
    tables: &T,
    choice: &Choice<'_>,
    flow: &FlowKey,
    key: &SessionKey,
    idle_s: u32,
) -> Option<u32> {
    let now_s = choice.now_s;
    if let Some((session, slot)) = tables.session(key)
        && now_s.saturating_sub(session.last_seen_s) < idle_s
        && choice.up.contains(session.uplink, flow.family())
    {
        tables.touch_session(slot, now_s);
        tables.count(Counter::SessionJoined);
        return Some(session.uplink);
    }
    let uplink = choice.pick(tables, session_hash(choice.settings.seed, key), flow)?;
    if !tables.store_session(key, &Session { uplink, last_seen_s: now_s }) {
        tables.count(Counter::StoreFailed);
    }
    tables.count(Counter::SessionNew);
    Some(uplink)
}

#[cfg(test)]
mod tests;
