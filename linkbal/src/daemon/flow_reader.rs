//! Answers to questions about flows: a thread reads the flow table, and hands on what is asked for as
//! fast as it is taken. The main loop only starts it.

use std::{
    collections::HashSet,
    net::IpAddr,
    ops::ControlFlow,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::body::Bytes;
use linkbal_common::mark::MarkMask;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Daemon;
use crate::{
    api::{
        admin::RequestError,
        flows::{
            ByteCounting, FlowEnding, FlowProgress, FlowRequest, FlowSource, FlowSummary, Lines,
            Subject,
        },
    },
    config::Accelerate,
    config::names_help,
    flows::{
        changes::{FlowChange, FlowChangeKind, Followed},
        clients::{ClientRecord, Clients, OthersRecord},
        filter::Filter,
        live::Situation,
        query::FlowQuery,
        record::{FlowEntry, FlowRecord},
        sort::{First, MAX_SORTED},
    },
    sys::{
        conntrack::accounting::{self, Accounting},
        datapath::flows::{self, FlowTable},
        host::{descriptors, thread},
    },
};

/// Number of parts that wait to be taken, and size in bytes of one.
const WAITING: usize = 4;
const PART: usize = 64 << 10;

/// Number of flows or clients that are put in order if no limit is asked for.
const DEFAULT_LIMIT: usize = 1000;

/// Shortest pause between two readings of who follows changes, and how much longer it is than a
/// reading.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);
const FOLLOW_FACTOR: u32 = 10;

/// Time after which a reader that has nothing to say looks whether it is still listened to.
const LISTENING_CHECK: Duration = Duration::from_millis(100);

impl Daemon {
    /// Begins to answer a question about flows.
    pub(super) fn read_flows(&self, request: FlowRequest) -> Result<Lines, RequestError> {
        let FlowRequest { subject, query, permit } = request;
        let source = self.flow_source();
        check(&source, &query)?;
        let (sender, lines) = mpsc::channel(WAITING);
        let work = move || {
            let mut reader = Reader { source, query, out: Out::new(sender) };
            if let Err(error) = reader.read(subject) {
                tracing::warn!("{error:#}");
            }
            drop(permit);
        };
        thread::start("flows", work).map_err(RequestError::Failed)?;
        Ok(lines)
    }

    fn flow_source(&self) -> FlowSource {
        let uplinks = self.engine.uplinks().iter();
        let rules = self.config.rules.iter();
        FlowSource {
            maps: self.datapath.dir(),
            uplinks: uplinks.map(|uplink| (uplink.index, uplink.config.name.clone())).collect(),
            domains: rules.flat_map(|rule| rule.matches.domain.iter().cloned()).collect(),
            rules: self.config.rules.len(),
            mask: MarkMask(self.config.kernel.fwmark_mask),
            has_shortcuts: self.config.accelerate != Accelerate::Off,
        }
    }
}

/// Refuses a question that means nothing.
fn check(source: &FlowSource, query: &FlowQuery) -> Result<(), RequestError> {
    let rules = source.rules;
    if let Some(rule) = query.rule.map(usize::from).filter(|rule| !(1..=rules).contains(rule)) {
        let help = match rules {
            0 => "the configuration has no rules".to_owned(),
            1 => "there is rule 1 alone: `linkbal rules` shows it".to_owned(),
            rules => format!("the rules are 1 to {rules}: `linkbal rules` shows them"),
        };
        let what = format!("there is no rule {rule}");
        return Err(RequestError::Invalid { at: "query rule".into(), what, help });
    }
    if let Some(domain) = &query.domain
        && !source.domains.contains(&domain_key(domain))
    {
        let domains: Vec<&str> = source.domains.iter().map(String::as_str).collect();
        let known = match &domains[..] {
            [] => "no rule has a domain".to_owned(),
            domains => format!("those of rules are {}", domains.join(", ")),
        };
        return Err(RequestError::Invalid {
            at: "query domain".into(),
            what: format!("the addresses of {domain:?} are not known"),
            help: format!("{known}; ask by --destination instead"),
        });
    }
    filter(source, query, None).map(drop)
}

/// Returns a domain as rules have it.
fn domain_key(domain: &str) -> String {
    domain.trim_end_matches('.').to_ascii_lowercase()
}

fn filter(
    source: &FlowSource,
    query: &FlowQuery,
    addresses: Option<HashSet<IpAddr>>,
) -> Result<Filter, RequestError> {
    let index = |name: &str| {
        let found = source.uplinks.iter().find(|(_, uplink)| uplink == name);
        found.map(|(index, _)| *index).ok_or_else(|| {
            let names: Vec<&str> = source.uplinks.iter().map(|(_, name)| &**name).collect();
            RequestError::Invalid {
                at: "query uplink".into(),
                what: format!("there is no uplink {name:?}"),
                help: names_help(name, "the uplinks", &names),
            }
        })
    };
    Filter::new(query, index, addresses)
}

impl FlowSource {
    /// Returns the name of the uplink with an index; those that are gone share one.
    fn name(&self, index: u32) -> &str {
        let uplink = self.uplinks.iter().find(|(known, _)| *known == index);
        uplink.map_or("(gone)", |(_, name)| name)
    }
}

/// The lines of an answer on their way to who asked.
struct Out {
    sender: mpsc::Sender<Bytes>,
    part: Vec<u8>,
}

impl Out {
    fn new(sender: mpsc::Sender<Bytes>) -> Out {
        Out { sender, part: Vec::with_capacity(PART) }
    }

    /// Adds a line, and waits if too many were not taken yet. Breaks off if nobody listens any more.
    fn line(&mut self, line: &impl Serialize) -> ControlFlow<()> {
        // Texts and numbers are JSON, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.part, line);
        self.part.push(b'\n');
        // A part is not to grow beyond its size by one more line.
        if self.part.len() < PART - 1024 { ControlFlow::Continue(()) } else { self.flush() }
    }

    /// Hands on what there is.
    fn flush(&mut self) -> ControlFlow<()> {
        if self.part.is_empty() {
            return self.goes_on();
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        match self.sender.blocking_send(part.into()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Breaks off if nobody listens any more.
    fn goes_on(&self) -> ControlFlow<()> {
        if self.sender.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Waits, but not longer than somebody listens.
    fn pause(&self, time: Duration) -> ControlFlow<()> {
        let end = Instant::now().checked_add(time);
        loop {
            self.goes_on()?;
            let left =
                end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return ControlFlow::Continue(());
            }
            sleep(left.min(LISTENING_CHECK));
        }
    }
}

/// One answer to a question.
struct Reader {
    source: FlowSource,
    query: FlowQuery,
    out: Out,
}

/// The flow table and what is needed to read it, at one moment.
struct TableReading {
    table: FlowTable,
    situation: Situation,
    filter: Filter,
    accounting: Option<Accounting>,
}

impl Reader {
    fn read(&mut self, subject: Subject) -> Result<()> {
        match subject {
            Subject::Flows if self.query.follow => self.follow(),
            Subject::Flows if self.query.sort.is_some() => self.sorted_flows(),
            Subject::Flows => self.flows(),
            Subject::Clients => self.clients(),
        }
    }

    /// Opens everything; `None` if nobody listens any more.
    fn open(&self) -> Result<Option<TableReading>> {
        let lent = descriptors::lend();
        let table = FlowTable::open(&self.source.maps)?;
        let situation = flows::situation(&self.source.maps)?;
        let domain = self.query.domain.as_deref().map(domain_key);
        let addresses = domain
            .map(|domain| flows::domain_addresses(&self.source.maps, &situation, &domain))
            .transpose()?;
        let filter = filter(&self.source, &self.query, addresses)?;
        drop(lent);
        let out = &self.out;
        let accounting = accounting::is_on().then(|| {
            Accounting::read(self.source.mask, |key| filter.may_match(key), || out.goes_on())
        });
        let accounting = accounting.transpose()?;
        let listened = self.out.goes_on().is_continue();
        Ok(listened.then_some(TableReading { table, situation, filter, accounting }))
    }

    /// Hands on flows as they are found.
    fn flows(&mut self) -> Result<()> {
        let Some(reading) = self.open()? else { return Ok(()) };
        let limit = self.query.limit.map_or(u64::MAX, |limit| limit as u64);
        let (mut flows, mut shown) = (0u64, 0u64);
        reading.for_each(self.query.progress, &mut self.out, |entry, out| {
            flows = flows.saturating_add(1);
            if shown >= limit {
                return ControlFlow::Continue(());
            }
            shown = shown.saturating_add(1);
            let name = |index| self.source.name(index);
            out.line(&FlowRecord::new(entry, name, &reading.situation))
        })?;
        self.end(&reading, flows, shown);
        Ok(())
    }

    /// Hands on the first flows in an order.
    fn sorted_flows(&mut self) -> Result<()> {
        let Some(reading) = self.open()? else { return Ok(()) };
        let Some(order) = self.query.sort else { return Ok(()) };
        let limit = self.query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_SORTED);
        let mut first = First::new(order, self.query.reverse, limit);
        let mut flows = 0u64;
        reading.for_each(self.query.progress, &mut self.out, |entry, _| {
            flows = flows.saturating_add(1);
            first.add(*entry, &reading.situation);
            ControlFlow::Continue(())
        })?;
        let shown = flows.min(limit as u64);
        for entry in first.into_sorted() {
            let name = |index| self.source.name(index);
            if self.out.line(&FlowRecord::new(&entry, name, &reading.situation)).is_break() {
                return Ok(());
            }
        }
        self.end(&reading, flows, shown);
        Ok(())
    }

    /// Hands on the largest clients.
    fn clients(&mut self) -> Result<()> {
        let Some(reading) = self.open()? else { return Ok(()) };
        let limit = self.query.limit.unwrap_or(DEFAULT_LIMIT);
        let mut clients = Clients::default();
        let mut flows = 0u64;
        reading.for_each(self.query.progress, &mut self.out, |entry, _| {
            flows = flows.saturating_add(1);
            clients.add(entry);
            ControlFlow::Continue(())
        })?;
        let (largest, others) = clients.into_largest(limit);
        for (client, totals) in &largest {
            let record = ClientRecord::new(*client, totals, |index| self.source.name(index));
            if self.out.line(&record).is_break() {
                return Ok(());
            }
        }
        if others.clients > 0 {
            #[derive(Serialize)]
            struct LastLine {
                others: OthersRecord,
            }
            // The end below finds out whether somebody listens.
            let _ = self.out.line(&LastLine { others: others.into() });
        }
        self.end(&reading, flows, flows.saturating_sub(others.totals.flows));
        Ok(())
    }

    /// Hands on changes until nobody listens any more.
    fn follow(&mut self) -> Result<()> {
        let mut followed = Followed::default();
        let mut is_first = true;
        loop {
            let begun = Instant::now();
            let Some(reading) = self.open()? else { return Ok(()) };
            let source = &self.source;
            let line = |kind, entry: &FlowEntry, out: &mut Out| {
                let name = |index| source.name(index);
                let flow = FlowRecord::new(entry, name, &reading.situation);
                out.line(&FlowChange { change: kind, flow })
            };
            reading.for_each(false, &mut self.out, |entry, out| {
                let mut changes = followed.add(*entry).filter(|_| !is_first);
                changes.try_for_each(|(kind, entry)| line(kind, &entry, out))
            })?;
            if followed.left_out() > 0 && is_first {
                let count = followed.left_out();
                tracing::warn!("{count} flows are not followed: there are too many");
            }
            let mut gone = followed.end().into_iter();
            let told =
                gone.try_for_each(|entry| line(FlowChangeKind::Ended, &entry, &mut self.out));
            let pause = begun.elapsed().saturating_mul(FOLLOW_FACTOR).max(FOLLOW_PAUSE);
            if told.is_break() || self.out.flush().is_break() || self.out.pause(pause).is_break() {
                return Ok(());
            }
            is_first = false;
        }
    }

    /// Ends an answer.
    fn end(&mut self, reading: &TableReading, flows: u64, shown: u64) {
        if self.query.progress {
            let bytes = match &reading.accounting {
                None => ByteCounting::Off,
                Some(_) if self.source.has_shortcuts => ByteCounting::Partial,
                Some(_) => ByteCounting::On,
            };
            let summary = FlowSummary { flows, shown, bytes };
            // Nothing comes after this.
            let _ = self.out.line(&FlowEnding { summary });
        }
        let _ = self.out.flush();
    }
}

impl TableReading {
    /// Hands each live flow that satisfies the conditions to `each`, and what there is of an answer on
    /// after some thousand entries.
    fn for_each(
        &self,
        progress: bool,
        out: &mut Out,
        mut each: impl FnMut(&FlowEntry, &mut Out) -> ControlFlow<()>,
    ) -> Result<()> {
        self.table.for_each_part(|entries, read| {
            for (key, flow) in entries {
                if !self.situation.is_live(&key, &flow) {
                    continue;
                }
                let mut entry = FlowEntry { key, flow, bytes: None };
                if self.filter.matches(&entry) {
                    entry.bytes = self.accounting.as_ref().and_then(|known| known.get(&key));
                    each(&entry, out)?;
                }
            }
            if progress {
                out.line(&FlowProgress { progress: read })?;
            }
            out.flush()
        })
    }
}
