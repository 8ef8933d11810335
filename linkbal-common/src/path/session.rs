//! Sticky sessions: their keys, how flows join them, and how flows keep them alive.

use crate::{
    maps::{
        buffer::Request,
        counter::Counter,
        flow::{FlowKey, Session, SessionKey, class_of, reason, sticky_index},
        key::Address,
        settings::StickyClass,
        uplink::{Family, family_slot},
    },
    path::{
        admission::admits_session, classify::related_class, hash::session_hash, select::Choice,
        tables::Tables,
    },
};

impl SessionKey {
    /// Returns the key of the session that `flow` belongs to in a class; `index` is its
    /// [`sticky_index`].
    #[inline(always)]
    pub fn of(flow: &FlowKey, index: u32, class: &StickyClass) -> SessionKey {
        let bits = match flow.family() {
            Family::Ipv4 => class.source_bits_ipv4,
            Family::Ipv6 => class.source_bits_ipv6,
        };
        // Without a branch: the stack of the programs has no room for a second path through here.
        let destination_bits = if class.by_destination != 0 { 128 } else { 0 };
        SessionKey {
            source: leading_bits(&flow.source, bits),
            destination: leading_bits(&flow.destination, destination_bits),
            class: index,
            family: u32::from(flow.family),
        }
    }
}

/// Keeps the session of a flow alive.
#[inline(always)]
pub(crate) fn keep_session<T: Tables>(tables: &T, request: &Request) {
    let Some(class) = tables.sticky_class(class_of(request.sticky_class)) else {
        return;
    };
    let (uplink, epoch, now_s) = (request.uplink, request.epoch, tables.now_s());
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
    tables.epoch(family_slot(uplink, family)) == epoch
}

/// Returns the session that other flows of the same ends have selection, and its uplink: for the data
/// of FTP, what SIP and RTSP have agreed on, tunnels behind their control connection. The flow
/// itself begins none.
#[inline(always)]
pub(crate) fn related_session<T: Tables>(
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

/// Returns the uplink of a live session, if it is usable, or else that of a session that begins now;
/// and the kind of [`reason`].
#[inline(always)]
pub(crate) fn join_session<T: Tables>(
    tables: &T,
    choice: &Choice<'_>,
    flow: &FlowKey,
    key: &SessionKey,
    idle_s: u32,
) -> (Option<u32>, u8) {
    let living = living(tables, choice, flow, key, idle_s);
    if living.is_some() {
        return (living, reason::SESSION);
    }
    let now_s = tables.now_s();
    let picked = choice.pick(tables, session_hash(choice.settings.seed, key), flow);
    let Some(uplink) = picked else { return (None, reason::SESSION_NEW) };
    let epoch = tables.epoch(family_slot(uplink, flow.family()));
    store_session(tables, flow, key, &Session { uplink, last_seen_s: now_s, epoch });
    tables.count(Counter::SessionNew);
    (Some(uplink), reason::SESSION_NEW)
}

/// Stores the session of a flow, unless its host, or all hosts together, have begun too many.
#[inline(always)]
fn store_session<T: Tables>(tables: &T, flow: &FlowKey, key: &SessionKey, session: &Session) {
    let Some(settings) = tables.settings() else { return };
    if admits_session(tables, settings, flow) && !tables.store_session(key, session) {
        tables.count(Counter::StoreFailed);
    }
}

/// Returns the first `bits` bits of an address, with the others zero.
#[inline(always)]
fn leading_bits(address: &Address, bits: u32) -> Address {
    let mask = |word: u32| {
        let bits = bits.saturating_sub(32 * word).min(32);
        if bits == 0 { 0 } else { (u32::MAX << ((32 - bits) & 31)).to_be() }
    };
    [address[0] & mask(0), address[1] & mask(1), address[2] & mask(2), address[3] & mask(3)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn leading_bits_are_those_of_the_network(octets: [u8; 16], bits in 0u32..=128) {
            let word = |at: usize| {
                u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
            };
            let masked = leading_bits(&[word(0), word(4), word(8), word(12)], bits);
            let expected = match bits {
                0 => 0,
                bits => u128::from_be_bytes(octets) & u128::MAX << (128 - bits),
            };
            let had: Vec<u8> = masked.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(had, expected.to_be_bytes());
        }
    }
}
