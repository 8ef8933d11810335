//! The way of a packet from the LAN.
//!
//! ```text
//! parse -> flow known, uplink up? --yes--> refresh, mark
//!               | no
//!               +-> session alive? --yes--> its uplink --+
//!               |                                        +-> store flow (and session), mark
//!               +-> bucket = hash -> first usable rank --+
//! ```

use crate::{
    classify::sticky_class,
    counter::Counter,
    egress::still_inbound,
    flow::{Flow, FlowKey, NOT_STICKY, Session, SessionKey},
    hash::{flow_bucket, session_bucket},
    mark::MarkMask,
    packet::Packet,
    parse::parse,
    pick::pick,
    settings::Settings,
    tables::Tables,
    uplink::UpMask,
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
    let key = parse(packet)?;
    let (uplink, outcome) = match known(tables, settings, &key) {
        Known::Usable(uplink) => (uplink, Counter::FlowKnown),
        Known::Inbound(uplink) => (uplink, Counter::FlowStranded),
        Known::Unusable(uplink) => match begin(tables, settings, &key) {
            Ok(other) => (other, Counter::FlowMoved),
            // With every uplink down, staying is what breaks least: the verdict may be wrong.
            Err(Reason::NoUplink) => (uplink, Counter::FlowStranded),
            Err(reason) => return Err(reason),
        },
        Known::Never => (begin(tables, settings, &key)?, Counter::FlowNew),
    };
    tables.count(outcome);
    tables.count_uplink(uplink, packet.length(), outcome);
    Ok(mask.replace(old_fwmark, uplink))
}

/// What the flow table says of a flow.
enum Known {
    Usable(u32),
    Unusable(u32),
    /// It came in by an uplink that is down, and cannot leave by another one.
    Inbound(u32),
    Never,
}

#[inline(always)]
fn known<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> Known {
    let Some((flow, slot)) = tables.flow(key) else {
        return Known::Never;
    };
    let now_s = tables.now_s();
    if flow.last_seen_s != now_s {
        tables.touch_flow(slot, now_s);
        keep_session(tables, settings, key, &flow, now_s);
    }
    if tables.up_mask().contains(flow.uplink, key.family()) {
        Known::Usable(flow.uplink)
    } else if still_inbound(&flow, now_s) {
        Known::Inbound(flow.uplink)
    } else {
        Known::Unusable(flow.uplink)
    }
}

/// A packet of a flow keeps its session alive: at most once a second, to keep known flows cheap.
#[inline(always)]
fn keep_session<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    flow: &Flow,
    now_s: u32,
) {
    if flow.sticky_class == NOT_STICKY {
        return;
    }
    let Some(class) = settings.class(flow.sticky_class) else {
        return;
    };
    let session_key = SessionKey::of(key, flow.sticky_class, class);
    if let Some((session, slot)) = tables.session(&session_key)
        && session.uplink == flow.uplink
    {
        tables.touch_session(slot, now_s);
    }
}

/// Chooses the uplink of a new flow, or of one whose uplink is down, and stores the choice.
#[inline(always)]
fn begin<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> Result<u32, Reason> {
    if tables.bypasses(key.family(), &key.destination) {
        return Err(Reason::Bypass);
    }
    let up = tables.up_mask();
    let now_s = tables.now_s();
    let sticky = sticky_class(tables, key).unwrap_or(NOT_STICKY);
    let uplink = match settings.class(sticky) {
        None => {
            let bucket = tables.bucket(flow_bucket(settings.seed, key));
            pick(&bucket, up, key.family()).ok_or(Reason::NoUplink)?
        }
        Some(class) => {
            let session_key = SessionKey::of(key, sticky, class);
            join_session(tables, settings, &session_key, class.idle_s, up, now_s)?
        }
    };
    let flow = Flow { uplink, sticky_class: sticky, first_seen_s: now_s, last_seen_s: now_s };
    if !tables.store_flow(key, &flow) {
        tables.count(Counter::StoreFailed);
    }
    Ok(uplink)
}

/// The uplink of a living session whose uplink is usable, or else of a session begun now.
#[inline(always)]
fn join_session<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &SessionKey,
    idle_s: u32,
    up: UpMask,
    now_s: u32,
) -> Result<u32, Reason> {
    let family = key.family();
    if let Some((session, slot)) = tables.session(key)
        && now_s.saturating_sub(session.last_seen_s) < idle_s
        && up.contains(session.uplink, family)
    {
        tables.touch_session(slot, now_s);
        tables.count(Counter::SessionJoined);
        return Ok(session.uplink);
    }
    let bucket = tables.bucket(session_bucket(settings.seed, key));
    let uplink = pick(&bucket, up, family).ok_or(Reason::NoUplink)?;
    if !tables.store_session(key, &Session { uplink, last_seen_s: now_s }) {
        tables.count(Counter::StoreFailed);
    }
    tables.count(Counter::SessionNew);
    Ok(uplink)
}

#[cfg(test)]
mod tests;
