//! Many more flows and sessions than the tables hold.
//!
//! The guarantee when the entry of a flow or session had to make room: it is decided again in the
//! same way, from its own key, the seed, the buckets and the usable uplinks. So it stays where it
//! is unless one of these has changed since it began:
//! - after other weights, it may move only if its bucket was one that changed hands;
//! - having begun while its first choice was down, it returns there.
//!
//! A session whose flows live needs no decision: they bring it back.

use std::{
    cell::RefCell,
    collections::{HashMap as Entries, HashSet},
    hash::Hash,
    ops::Range,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Pod,
    maps::{HashMap, MapError},
    programs::{TestRun as _, TestRunOptions},
};
use linkbal_common::{
    counter::Counter,
    flow::SessionKey,
    maps,
    mark::{DEFAULT_MASK, MarkMask},
    model::{ModelPacket, ModelTables, forward},
    names,
    verdict::Verdict,
};

use crate::{
    fixture::{Fixture, MARK, SK_BUFF_SIZE},
    flow_packet::FlowPacket,
};

/// Hosts whose flow or session lives on.
const LIVE: Range<u32> = 0..1000;

/// A port on which flows are not sticky, and one on which they are.
const PLAIN: u16 = 53;
const STICKY: u16 = 443;

/// Shares of the fixture's uplinks.
const SHARES: [f64; 3] = [30.0 / 120.0, 70.0 / 120.0, 20.0 / 120.0];

/// Returns the uplink that the loaded program gives a packet; learns its flow if it is new.
fn uplink(fixture: &mut Fixture, bytes: &[u8]) -> Result<u32> {
    let mut context = [0; SK_BUFF_SIZE];
    fixture.datapath.program(names::PROGRAM_INGRESS)?.test_run(TestRunOptions {
        data_in: Some(bytes),
        ctx_out: Some(&mut context),
        ..TestRunOptions::new()
    })?;
    let fwmark = u32::from_ne_bytes(context[MARK].try_into()?);
    if fwmark & MarkMask(DEFAULT_MASK).proposal() != 0 {
        fixture.learn(bytes)?;
    }
    MarkMask(DEFAULT_MASK).decode(fwmark).with_context(|| format!("fwmark {fwmark:#x}"))
}

/// Returns the uplinks of one packet of each host from a port, by the loaded program.
fn uplinks(fixture: &mut Fixture, to: u16, hosts: Range<u32>, port: u16) -> Result<Vec<u32>> {
    let mut packets = FlowPacket::to(to);
    hosts.map(|host| uplink(fixture, packets.from(host, port))).collect()
}

/// Returns the uplinks of the same packets by the host's code, whose tables lose nothing.
fn expected(model: &ModelTables, to: u16, hosts: Range<u32>, port: u16) -> Result<Vec<u32>> {
    let mut packets = FlowPacket::to(to);
    hosts
        .map(|host| match forward(&ModelPacket::frame(packets.from(host, port)), model) {
            Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => {
                MarkMask(DEFAULT_MASK).decode(fwmark).context("no uplink")
            }
            Verdict::Skip(reason) => anyhow::bail!("{reason:?}"),
        })
        .collect()
}

/// Returns the keys of the host's table whose entry the kernel's map has lost.
fn lost<K: Pod + Eq + Hash, V: Pod>(
    fixture: &Fixture,
    map: &str,
    table: &RefCell<Entries<K, V>>,
) -> Result<HashSet<K>> {
    let map: HashMap<_, K, V> = fixture.datapath.map(map)?.try_into()?;
    let mut lost = HashSet::new();
    for key in table.borrow().keys() {
        match map.get(key, 0) {
            Ok(_) => {}
            Err(MapError::KeyNotFound) => drop(lost.insert(*key)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(lost)
}

fn lost_sessions(fixture: &Fixture) -> Result<HashSet<SessionKey>> {
    lost(fixture, maps::SESSIONS::NAME, &fixture.model.sessions)
}

/// Checks that the shares of the uplinks are those of their weights, within four standard
/// deviations.
fn ensure_shares(uplinks: &[u32]) -> Result<()> {
    for (uplink, share) in (0..).zip(SHARES) {
        let had = uplinks.iter().filter(|had| **had == uplink).count() as f64;
        let mean = share * uplinks.len() as f64;
        let deviation = (mean * (1.0 - share)).sqrt();
        ensure!((had - mean).abs() < 4.0 * deviation, "{had} flows on {uplink}, {mean} wanted");
    }
    Ok(())
}

#[test]
fn a_million_flows_through_65536_entries_move_no_live_one() -> Result<()> {
    const ROUNDS: u32 = 10;
    const FLOOD: u32 = 100_000;
    let mut fixture = Fixture::new()?;
    let wanted = expected(&fixture.model, PLAIN, LIVE, 1)?;
    ensure!(uplinks(&mut fixture, PLAIN, LIVE, 1)? == wanted);
    let mut again = 0;
    for round in 0..ROUNDS {
        let first = LIVE.end + round * FLOOD;
        ensure_shares(&uplinks(&mut fixture, PLAIN, first..first + FLOOD, 1)?)?;
        again += lost(&fixture, maps::UNREPLIED::NAME, &fixture.model.flows)?.len();
        ensure!(uplinks(&mut fixture, PLAIN, LIVE, 1)? == wanted, "round {round}");
        // Half of them speak twice: a second packet makes the kernel keep an entry for longer.
        let lively = LIVE.start..LIVE.end / 2;
        ensure!(uplinks(&mut fixture, PLAIN, lively, 1)? == wanted[..LIVE.len() / 2]);
    }
    ensure!(again > LIVE.len() / 2, "only {again} live entries were evicted");
    let live = LIVE.len() as u64;
    let new = live + u64::from(ROUNDS * FLOOD) + again as u64;
    let packets = live + u64::from(ROUNDS) * (u64::from(FLOOD) + live * 3 / 2);
    ensure!(fixture.counter(Counter::FlowProposed)? == new);
    ensure!(fixture.counter(Counter::FlowKnown)? == packets - new);
    let others = fixture.datapath.counters()?.into_iter();
    let others =
        others.filter(|(which, _)| ![Counter::FlowProposed, Counter::FlowKnown].contains(which));
    ensure!(others.clone().all(|(_, value)| value == 0), "{:?}", others.collect::<Vec<_>>());
    let traffic = fixture.datapath.uplink_counters()?;
    // The first packet of a flow is counted where it leaves.
    ensure!(traffic.iter().map(|each| each.packets).sum::<u64>() == packets - new);
    Ok(())
}

/// Number of sessions of other hosts, three times as many as the table holds.
const FLOOD_OF_SESSIONS: u32 = 50_000;

/// Begins so many other sessions that each earlier one must make room. Each is joined once: the
/// kernel does not evict entries that were used again for those that never were.
fn flood_sessions(fixture: &mut Fixture, round: u32) -> Result<()> {
    let mut packets = FlowPacket::to(STICKY);
    let first = LIVE.end + round * FLOOD_OF_SESSIONS;
    for host in first..first + FLOOD_OF_SESSIONS {
        let began = uplink(fixture, packets.from(host, 1))?;
        ensure!(uplink(fixture, packets.from(host, 2))? == began, "session of host {host}");
    }
    Ok(())
}

#[test]
fn a_sticky_session_comes_back_to_its_uplink_when_its_entry_made_room() -> Result<()> {
    const ROUNDS: u32 = 4;
    let mut fixture = Fixture::new()?;
    let wanted = expected(&fixture.model, STICKY, LIVE, 1)?;
    ensure!(uplinks(&mut fixture, STICKY, LIVE, 1)? == wanted);
    ensure_shares(&wanted)?;
    let mut again = 0;
    for round in 0..ROUNDS {
        flood_sessions(&mut fixture, round)?;
        again += lost_sessions(&fixture)?.len();
        // Another port: a new flow, which only its session can keep on the uplink.
        ensure!(uplinks(&mut fixture, STICKY, LIVE, 2 + round as u16)? == wanted, "round {round}");
    }
    ensure!(again > LIVE.len() / 2, "only {again} live sessions were evicted");
    ensure!(fixture.counter(Counter::StoreFailed)? == 0);
    let joined = u64::from(ROUNDS * (LIVE.end + FLOOD_OF_SESSIONS)) - again as u64;
    ensure!(fixture.counter(Counter::SessionJoined)? == joined);
    Ok(())
}

#[test]
fn after_other_weights_only_evicted_sessions_of_changed_buckets_move() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let before = expected(&fixture.model, STICKY, LIVE, 1)?;
    ensure!(uplinks(&mut fixture, STICKY, LIVE, 1)? == before);
    fixture.set_weights([50, 50, 20])?;
    ensure!(uplinks(&mut fixture, STICKY, LIVE, 2)? == before, "living entries hold");
    flood_sessions(&mut fixture, 0)?;
    let lost = lost_sessions(&fixture)?;
    ensure!(lost.len() > LIVE.len() / 2, "only {} of {LIVE:?} made room", lost.len());
    let after = uplinks(&mut fixture, STICKY, LIVE, 3)?;
    fixture.model.sessions.borrow_mut().retain(|key, _| !lost.contains(key));
    ensure!(after == expected(&fixture.model, STICKY, LIVE, 3)?);
    // From 70 to 50 of 120: a sixth of all buckets goes from uplink b to uplink a, and no other.
    let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
    ensure!(moved.iter().all(|pair| *pair == (&1, &0)), "{moved:?}");
    let sixth = lost.len() / 6;
    ensure!((sixth / 2..sixth * 3 / 2).contains(&moved.len()), "{} moved", moved.len());
    Ok(())
}

#[test]
fn flows_chosen_to_share_an_uplink_do_not_without_the_seed() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let mut guessed = fixture.model.clone();
    guessed.settings.seed = [1, 2];
    let hosts = 0..20_000;
    let led = expected(&guessed, PLAIN, hosts.clone(), 1)?;
    let mut packets = FlowPacket::to(PLAIN);
    let chosen = hosts.zip(led).filter(|(_, uplink)| *uplink == 2);
    let had: Vec<u32> = chosen
        .map(|(host, _)| uplink(&mut fixture, packets.from(host, 1)))
        .collect::<Result<_>>()?;
    ensure!(had.len() > 3000);
    ensure_shares(&had)
}
