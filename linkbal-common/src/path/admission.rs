//! Admission of flows and sessions to the tables that all hosts share: see [`quota`](crate::maps::quota).

use crate::{
    maps::{
        counter::Counter,
        flow::FlowKey,
        quota::{ALL, Host, Quota, WINDOW_S, host},
        settings::Settings,
    },
    path::tables::Tables,
};

/// Counts an answered flow; returns whether its host may store it as such.
#[inline(always)]
pub(crate) fn admits_flow<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> bool {
    let most = settings.host_flows;
    admits(tables, host(key), |quota| take(&mut quota.flows, most))
}

/// Counts a session that a flow begins; returns whether its host, and all hosts together, may store
/// it.
#[inline(always)]
pub(crate) fn admits_session<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> bool {
    let most = settings.host_sessions;
    admits(tables, host(key), |quota| take(&mut quota.sessions, most))
        && admits(tables, ALL, |quota| take(&mut quota.sessions, settings.sessions))
}

#[inline(always)]
fn admits<T: Tables>(tables: &T, host: Host, take: impl FnOnce(&mut Quota) -> bool) -> bool {
    let now_s = tables.now_s();
    let admitted = tables.with_quota(host, |quota| {
        // Other CPUs write here, too: a quota need not be exact.
        if now_s.wrapping_sub(quota.since_s) >= WINDOW_S {
            *quota = Quota { since_s: now_s, ..Quota::default() };
        }
        let admitted = take(quota);
        if !admitted {
            quota.refused = quota.refused.wrapping_add(1);
        }
        admitted
    });
    let admitted = admitted.unwrap_or(true);
    if !admitted {
        tables.count(Counter::HostLimited);
    }
    admitted
}

#[inline(always)]
fn take(count: &mut u32, most: u32) -> bool {
    if most != 0 && *count >= most {
        return false;
    }
    *count += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{maps::uplink::Family, model::ModelTables};

    fn key(family: Family, source: [u32; 4]) -> FlowKey {
        FlowKey { source, family: family as u8, ..FlowKey::default() }
    }

    #[test]
    fn a_host_has_its_share_in_each_window_and_others_have_theirs() {
        let settings =
            Settings { host_flows: 3, host_sessions: 2, sessions: 3, ..Settings::default() };
        let mut tables = ModelTables { settings, now_s: 1000, ..ModelTables::default() };
        let [one, other] = [1, 2].map(|host| key(Family::Ipv4, [host, 0, 0, 0]));
        let flows = |tables: &ModelTables, key| {
            (0..10).filter(|_| admits_flow(tables, &settings, key)).count()
        };
        let sessions = |tables: &ModelTables, key| {
            (0..10).filter(|_| admits_session(tables, &settings, key)).count()
        };
        assert_eq!((flows(&tables, &one), flows(&tables, &other)), (3, 3));
        assert_eq!(sessions(&tables, &one), 2);
        assert_eq!(sessions(&tables, &other), 1, "all together have three");
        assert_eq!(tables.counter(Counter::HostLimited), 7 + 7 + 8 + 9);
        tables.now_s += WINDOW_S;
        assert_eq!((flows(&tables, &one), sessions(&tables, &one)), (3, 2));
    }
}
