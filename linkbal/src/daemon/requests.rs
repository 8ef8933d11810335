//! Answers to requests of the API: those that the state of the daemon has, the others of its parts.

use std::sync::Arc;

use anyhow::Result;
use linkbal_common::{bucket::BUCKETS, uplink::MAX_UPLINKS};
use tokio::sync::oneshot;

use super::{
    Daemon, ReloadRefusal, drill::RunningDrill, last_good::Fallback, rfc3339, trial::Trial, warn_of,
};
use crate::{
    api::{
        Request,
        configuration::InForce,
        metrics::{Metrics, UplinkTotals},
        status::{self, ConfigurationStatus, LastGoodStatus, Status},
    },
    config::{Accelerate, FileOnly},
    engine::balance::load::Octets,
    sys::{
        conntrack,
        host::{descriptors, hook::Hook, thread},
    },
};

impl Daemon {
    /// Answers a request. The client may have disconnected.
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => match self.status() {
                Ok(status) => self.count_flows(status, answer),
                Err(error) => warn_of(Err(error)),
            },
            Request::Metrics(answer) => match self.metrics() {
                Ok(metrics) => drop(answer.send(metrics)),
                Err(error) => warn_of(Err(error)),
            },
            Request::Rules(answer) => match self.rules() {
                Ok(rules) => drop(answer.send(rules)),
                Err(error) => warn_of(Err(error)),
            },
            Request::History(answer) => drop(answer.send(self.history.archive().shared().clone())),
            Request::Explain { question, answer } => self.explain(question, answer),
            Request::Drill(request, answer) => drop(answer.send(self.begin_drill(request))),
            Request::Flows(request, answer) => drop(answer.send(self.read_flows(request))),
            Request::SetAdmin { uplink, admin, now, answer } => {
                self.set_admin(uplink, admin, now, answer);
            }
            Request::Configuration(answer) => {
                let (status, sources) = (self.configuration(), Arc::clone(&self.sources));
                let file_only = FileOnly::of(&self.config);
                drop(answer.send(InForce { status, sources, file_only }));
            }
            Request::TestReceivers(name, answer) => self.test_receivers(name.as_deref(), answer),
            Request::Reload { confirm, answer } => self.reload(confirm, Some(answer)),
            Request::Try { text, confirm, answer } => self.try_text(text, confirm, answer),
            Request::Confirm { answer } => self.confirm(answer),
            Request::Undo { answer } => self.undo(answer),
        }
    }

    fn status(&self) -> Result<Status> {
        let _lent = descriptors::lend();
        let uplink_counters = self.datapath.uplink_counters()?;
        let begun = uplink_counters.map(|counters| counters.flows_new);
        let started = self.started();
        let wall_clock = |at| started.checked_add(at).map_or_else(String::new, rfc3339);
        Ok(Status::new(&status::Sources {
            engine: &self.engine,
            now: self.now(),
            config: &self.config,
            configuration: self.configuration(),
            buckets: &self.policy.buckets[..BUCKETS as usize],
            counters: self.datapath.counters()?,
            uplink_counters,
            recent: self.recent_flows.growth(self.now(), begun),
            shortcuts: self.shortcuts()?,
            without_xdp: self.datapath.refused_drivers().clone(),
            limited_hosts: self.hosts.limited(),
            rules: self.rules()?,
            memory: self.datapath.map_memory()?,
            drill: self.drill.as_ref().and_then(RunningDrill::on),
            trial: self.trial.as_ref().map(Trial::left),
            events_not_hooked: self.hook.as_ref().map(Hook::dropped),
            receivers: self.notifications.status(),
            started: rfc3339(started),
            wall_clock: &wall_clock,
        }))
    }

    /// Returns which configuration is in force.
    fn configuration(&self) -> ConfigurationStatus {
        let last_good = self.fallback.clone();
        let last_good =
            last_good.map(|Fallback { saved, reason: ReloadRefusal { text, public } }| {
                LastGoodStatus { saved, reason: text, public }
            });
        ConfigurationStatus {
            file: self.path.display().to_string(),
            since: rfc3339(self.configured),
            last_good,
            refused: self.refused_configuration.clone(),
        }
    }

    fn metrics(&self) -> Result<Metrics> {
        let counters = self.datapath.uplink_counters()?;
        let uplinks = self.engine.uplinks().iter().map(|uplink| {
            let of = &counters[uplink.index as usize];
            UplinkTotals::new(uplink, Octets { down: of.answer_bytes, up: of.bytes })
        });
        Ok(Metrics { status: self.status()?, uplinks: uplinks.collect() })
    }

    /// Returns the packets that took shortcuts, by uplink index, if there are any shortcuts.
    fn shortcuts(&self) -> Result<Option<[status::Shortcuts; MAX_UPLINKS]>> {
        if !self.config.accelerate.takes_shortcuts() {
            return Ok(None);
        }
        let taken = self.datapath.shortcut_packets()?;
        Ok(Some(taken.map(|[up, down]| status::Shortcuts { up, down })))
    }

    /// Answers with the status once flows are counted, on a thread of its own: a large table takes its
    /// time.
    fn count_flows(&self, mut status: Status, answer: oneshot::Sender<Status>) {
        let (live, maps) = (self.live_flows.clone(), self.datapath.dir());
        let has_flowtable = self.config.accelerate == Accelerate::Flowtable;
        // Before that, there may be no maps yet.
        let is_installed = status.installed;
        let count = move || {
            let flows = is_installed.then(|| live.get(&maps)).flatten();
            (flows, has_flowtable.then(count_offloaded).flatten())
        };
        tokio::spawn(async move {
            // A machine without a thread has a status, too.
            match thread::run("count", count).await {
                Ok((flows, offloaded)) => {
                    flows.iter().for_each(|counts| status.set_live_flows(counts));
                    status.flowtable_connections = offloaded;
                }
                Err(error) => tracing::warn!("flows are not counted: {error:#}"),
            }
            // The client may have disconnected.
            let _ = answer.send(status);
        });
    }
}

fn count_offloaded() -> Option<u64> {
    let _lent = descriptors::lend();
    conntrack::offloaded().inspect_err(|error| tracing::warn!("{error:#}")).ok()
}
