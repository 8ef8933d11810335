//! Steps 4 and 5: an uplink dies, loudly or silently, and comes back.

use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::report::time;
use super::{START, Tour};
use crate::topology::Lab;
use crate::topology::plan::Family;
use crate::traffic::{Capture, FlowReport, FlowSpec, HTTP, LongFlows, Protocol, open_flows};
use crate::wait::{self, Timeout};

/// Number of long flows of each kind (TCP and UDP, IPv4 and IPv6).
const FLOWS: usize = 25;
/// The pause between two requests of a flow. Staggered over all flows it bounds the error of the
/// packet clock to about a millisecond.
const TICK: Duration = Duration::from_millis(20);
/// Time for which the flows of a dead uplink are watched.
const FLOW_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for the return of new flows: the hold time and a few probes.
const RETURN_LIMIT: Duration = Duration::from_secs(10);
/// Number of answers of every living flow to wait for after an uplink came back.
const ANSWERS: u64 = 25;

/// A way to lose an uplink.
struct Fault {
    title: &'static str,
    name: &'static str,
    fail: fn(&Lab, usize) -> Result<SystemTime>,
    repair: fn(&Lab, usize) -> Result<SystemTime>,
    /// Time limit for the first packet on the other uplink.
    limit: Duration,
}

const CABLE: Fault = Fault {
    title: "4. Cut cable",
    name: "cut cable",
    fail: Lab::cut_cable,
    repair: Lab::plug_cable,
    limit: Duration::from_secs(1),
};

const BLACKHOLE: Fault = Fault {
    title: "5. Silent failure (the carrier stays)",
    name: "black hole",
    fail: Lab::blackhole,
    repair: Lab::restore,
    limit: Duration::from_secs(3),
};

impl Tour {
    pub(super) fn show_faults(&mut self) -> Result<()> {
        self.show_fault(&CABLE, 0)?;
        self.show_fault(&BLACKHOLE, 1)
    }

    fn show_fault(&mut self, fault: &Fault, victim: usize) -> Result<()> {
        self.screen.title(&format!("{} at {}", fault.title, self.name(victim)));
        self.daemon.wait_until_up(START)?;
        let flows = LongFlows::start(&self.lab.lan, &FlowSpec::mixed(HTTP, FLOWS), TICK)?;
        self.lose(fault, victim, &flows)?;
        self.recover(fault, victim, &flows)
    }

    fn lose(&mut self, fault: &Fault, victim: usize, flows: &LongFlows) -> Result<()> {
        let others = self.lab.uplinks.iter().enumerate().filter(|(index, _)| *index != victim);
        let clocks = others
            .map(|(_, uplink)| Capture::start(&uplink.provider))
            .collect::<Result<Vec<_>>>()?;
        let before = flows.reports();
        let on_victim = |report: &FlowReport| report.uplink() == Some(victim);
        let hit = before.iter().filter(|report| on_victim(report)).count();
        let healthy = before.len() - hit;
        self.screen.line(&format!("{} long flows, {hit} of them on the victim", before.len()));

        let lines = self.daemon.log().lines().count();
        let moment = (fault.fail)(&self.lab, victim)?;
        self.screen.progress(&format!("{} ...", fault.name));
        let datagrams = before.iter().filter(|report| on_victim(report) && is_udp(report));
        let ids: Vec<_> = datagrams.map(|report| report.id).collect();
        within("datagram flows on the other uplink", || {
            Ok((count_away(&before, &flows.reports(), victim) == ids.len()).then_some(()))
        })?;
        let first = clocks.iter().filter_map(|clock| clock.first_of(&ids)).min();
        let gap = first.and_then(|first| first.duration_since(moment).ok());

        let now = flows.settle()?;
        let away = count_away(&before, &now, victim);
        let disturbed = count_disturbed(&before, &now, |report| !on_victim(report));
        self.add_time(fault, "first packet on the other uplink", fault.limit, gap);
        self.add_count(fault, "datagram flows saved", ids.len(), away, ids.len());
        self.add_count(fault, "healthy flows moved or lost", 0, disturbed, healthy);
        self.screen.line(&describe_tcp(&before, &now, victim));
        self.show_log(lines);
        Ok(())
    }

    fn recover(&mut self, fault: &Fault, victim: usize, flows: &LongFlows) -> Result<()> {
        let alive = |report: &FlowReport| !report.closed && report.uplink() != Some(victim);
        let before = flows.settle()?;
        let lines = self.daemon.log().lines().count();
        let moment = (fault.repair)(&self.lab, victim)?;
        self.screen.progress("mended; waiting for new flows to return ...");
        let took = within("new flows of both families", || {
            let mut families = Family::ALL.into_iter();
            let missing = families.try_fold(false, |missing, family| {
                Ok::<_, anyhow::Error>(missing || !self.new_flows_use(victim, family)?)
            })?;
            Ok(if missing { None } else { moment.elapsed().ok() })
        })?;
        self.add_time(fault, "mended, new flows return", RETURN_LIMIT, took);
        let back = flows.reports();
        within("answers on the living flows", || {
            let mut pairs = back.iter().zip(flows.reports()).filter(|(old, _)| alive(old));
            Ok(pairs.all(|(old, new)| new.answers >= old.answers + ANSWERS).then_some(()))
        })?;
        let total = before.iter().filter(|report| alive(report)).count();
        let disturbed = count_disturbed(&before, &flows.settle()?, alive);
        self.add_count(fault, "live flows moved back or lost", 0, disturbed, total);
        self.show_log(lines);
        Ok(())
    }

    /// Shows what linkbal wrote to its log after the first `lines` lines.
    fn show_log(&self, lines: usize) {
        for line in self.daemon.log().lines().skip(lines) {
            self.screen.line(&format!("| {line}"));
        }
    }

    /// Shows and reports a duration that shall stay within `limit`.
    fn add_time(&mut self, fault: &Fault, what: &str, limit: Duration, took: Option<Duration>) {
        self.report.add_time(&format!("{}: {what}", fault.name), limit, took);
        let took = took.map_or_else(|| "never".to_owned(), time);
        self.screen.result(&format!("{what}: {took}"));
    }

    /// Shows and reports a number of flows, `measured` of `total`, that shall be `expected`.
    fn add_count(
        &mut self,
        fault: &Fault,
        what: &str,
        expected: usize,
        measured: usize,
        total: usize,
    ) {
        let row = format!("{}: {what}", fault.name);
        let text = format!("{measured} of {total}");
        // No flow to look at would prove nothing.
        let ok = measured == expected && total > 0;
        self.report.add(&row, &expected.to_string(), &text, ok);
        self.screen.line(&format!("{what}: {text}"));
    }

    /// Opens a few new flows; returns whether one of them used `uplink`.
    fn new_flows_use(&self, uplink: usize, family: Family) -> Result<bool> {
        let flows = FlowSpec::spread(family, Protocol::Udp, HTTP, 20);
        let seen = open_flows(&self.lab.lan, &flows)?;
        Ok(seen.iter().any(|seen| seen.uplink() == Some(uplink)))
    }
}

/// Waits like [`wait::until`], but returns `None` when the limit passes.
fn within<T>(what: &str, probe: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    match wait::until(what, FLOW_LIMIT, probe) {
        Err(error) if error.is::<Timeout>() => Ok(None),
        result => result.map(Some),
    }
}

fn is_udp(report: &FlowReport) -> bool {
    report.spec.protocol == Protocol::Udp
}

/// Counts the datagram flows that were on `victim` before and are answered elsewhere now.
fn count_away(before: &[FlowReport], now: &[FlowReport], victim: usize) -> usize {
    let pairs = before.iter().zip(now);
    let of_victim = pairs.filter(|(old, _)| is_udp(old) && old.uplink() == Some(victim));
    of_victim.filter(|(_, new)| new.uplink() != Some(victim)).count()
}

/// Counts the flows chosen by their earlier report that have moved, lost an answer or failed since.
fn count_disturbed(
    before: &[FlowReport],
    now: &[FlowReport],
    chosen: impl Fn(&FlowReport) -> bool,
) -> usize {
    let pairs = before.iter().zip(now).filter(|(old, _)| chosen(old));
    pairs.filter(|(old, new)| new.disturbed_since(old)).count()
}

/// Describes the state of the TCP connections on `victim`.
fn describe_tcp(before: &[FlowReport], now: &[FlowReport], victim: usize) -> String {
    let pairs = before.iter().zip(now);
    let of_victim: Vec<_> =
        pairs.filter(|(old, _)| !is_udp(old) && old.uplink() == Some(victim)).collect();
    let reset = of_victim.iter().filter(|(_, new)| new.closed).count();
    let silent = of_victim.len() - reset;
    format!("TCP connections of the victim: {reset} told to reconnect, {silent} silent so far")
}
