//! The daemon: passes events of the kernel to the engine, and carries out its commands.

mod admin;
mod commands;
mod datapath_monitor;
mod drill;
mod edit;
mod explain;
mod flow_reader;
#[cfg(feature = "model")]
pub mod fuzz;
mod history;
mod hosts;
mod kernel_task;
mod last_good;
mod live_flows;
mod load;
mod notify;
pub mod record;
mod reload;
mod reload_refusal;
mod requests;
mod service_manager;
mod shutdown;
mod staged_config;
mod start;
pub(crate) mod state;
mod teardown;
mod traffic;
mod trial;
mod wall_clock;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use linkbal_common::uplink::MAX_UPLINKS;
use tokio::sync::mpsc;

use self::{
    admin::AdminStates,
    datapath_monitor::DatapathMonitor,
    drill::{RunningDrill, abandoned},
    history::Recording,
    hosts::Hosts,
    kernel_task::Task,
    live_flows::LiveFlows,
    notify::Notifications,
    record::Recorder,
    reload::{Reloading, Step},
    service_manager::ServiceManager,
    shutdown::Signals,
    traffic::TrafficPoller,
    trial::Trial,
    wall_clock::WallClock,
};
pub use self::{
    last_good::{Fallback, instead_of},
    reload_refusal::ReloadRefusal,
    teardown::teardown_alone,
};
use crate::{
    api::{Request, status::RefusedConfiguration, tcp},
    config::{Config, Sources},
    engine::{Engine, Event, kernel::conflict::survey::Survey, policy::Policy},
    events::journal::Journal,
    flows::recent::RecentCounts,
    sys::{
        datapath::Datapath,
        events::NetworkEvents,
        host::{child, descriptors, hook::Hook, instance::Instance, privilege, timer::Timer},
        probe::Prober,
        reset::ResetSummary,
    },
};

/// The treatment of the datapath when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The datapath goes on forwarding with its last state.
    Keep,
    /// The datapath is removed with everything else.
    Teardown,
}

/// A configuration and its origin.
#[derive(Debug)]
pub struct Configured {
    /// The file, which is read again for a reload.
    pub path: PathBuf,
    /// The values.
    pub config: Config,
    /// The texts that they were read from.
    pub sources: Sources,
    /// The reason for which they are not of the file, but the last good ones.
    pub fallback: Option<Fallback>,
    /// Set if no other configuration is to take their place.
    pub strict: bool,
}

/// Interval at which messages of the eBPF program are fetched, and traffic is counted.
const SECOND: Duration = Duration::from_secs(1);

/// Runs the gateway until SIGINT or SIGTERM, and records the inputs of its engine.
///
/// # Errors
///
/// If it cannot start, or not tear down. Failures in between are logged, and tried again.
pub async fn run(
    configured: Configured,
    on_exit: Option<OnExit>,
    recorder: Option<Recorder>,
) -> Result<()> {
    let mut signals = Signals::new()?;
    shutdown::spawn_watchdog()?;
    privilege::check()?;
    descriptors::prepare()?;
    let instance = Instance::current()?;
    start::check_machine(&instance).await?;
    let lock = instance.lock()?;
    let mut daemon = Daemon::start(configured, &instance, recorder)?;
    daemon.report_fallback();
    let by_signal = daemon.serve(&mut signals).await;
    service_manager::stopping();
    daemon.journal.flush();
    daemon.history.archive().flush();
    drop(daemon);
    child::kill_all();
    match on_exit.unwrap_or(by_signal) {
        OnExit::Keep => tracing::info!("ended; the datapath goes on with its last state"),
        OnExit::Teardown => {
            for line in shutdown::teardown_in_time(&instance)?.lines() {
                tracing::info!("{line}");
            }
            tracing::info!("ended; everything is removed");
        }
    }
    drop(lock);
    Ok(())
}

struct Daemon {
    instance: Instance,
    /// The file of the configuration.
    path: PathBuf,
    config: Config,
    sources: Arc<Sources>,
    /// Set once the configuration is kept as the last good one.
    good_kept: bool,
    /// The reason for which the last good configuration is in force.
    fallback: Option<Fallback>,
    trial: Option<Trial>,
    reloading: Option<Reloading>,
    /// Both ends of the channel for the steps of a reload.
    steps: (mpsc::UnboundedSender<Step>, mpsc::UnboundedReceiver<Step>),
    service_manager: ServiceManager,
    engine: Engine,
    policy: Policy,
    datapath: Datapath,
    attach_failures: BTreeSet<String>,
    prober: Prober,
    tasks: mpsc::UnboundedSender<Task>,
    observations: mpsc::UnboundedReceiver<Event>,
    /// Both ends of the channel for answers of the DNS resolver and for surveys.
    lookups: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    /// The last survey of the firewalls of others.
    surveyed: Arc<Mutex<Survey>>,
    /// Both ends of the channel for the outcomes of resets.
    resets: (mpsc::UnboundedSender<ResetSummary>, mpsc::UnboundedReceiver<ResetSummary>),
    drill: Option<RunningDrill>,
    network: NetworkEvents,
    requests: mpsc::Receiver<Request>,
    /// The API by TCP.
    api: tcp::Server,
    admin_states: AdminStates,
    recorder: Option<Recorder>,
    journal: Journal,
    history: Recording,
    hook: Option<Hook>,
    notifications: Notifications,
    traffic_poller: TrafficPoller,
    hosts: Hosts,
    recent_flows: RecentCounts<MAX_UPLINKS>,
    live_flows: LiveFlows,
    /// The last configuration that was refused, until another one is in force.
    refused_configuration: Option<RefusedConfiguration>,
    /// Time at which the configuration in force was read.
    configured: SystemTime,
    monitor: DatapathMonitor,
    timer: Timer,
    second_due: Duration,
    epoch: Instant,
    wall_clock: WallClock,
}

impl Daemon {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Returns the time of the start, by the clock as it is set now.
    fn started(&self) -> SystemTime {
        self.wall_clock.began(SystemTime::now(), self.now())
    }

    async fn serve(&mut self, signals: &mut Signals) -> OnExit {
        self.execute_commands(Duration::ZERO);
        loop {
            let now = self.now();
            self.handle_timeouts(now);
            warn_of(self.timer.set(self.due(), now));
            tokio::select! {
                event = self.network.next() => match event {
                    Some(event) => self.handle_network_event(event),
                    None => {
                        tracing::error!("the kernel's notifications ended");
                        return OnExit::Keep;
                    }
                },
                event = self.prober.next() => self.handle_answers(event),
                Some(event) = self.observations.recv() => {
                    self.service_manager.answered(self.now());
                    self.handle(event);
                }
                Some(event) = self.lookups.1.recv() => self.handle(event),
                Some(step) = self.steps.1.recv() => self.continue_reload(step),
                Some(summary) = self.resets.1.recv() => self.on_reset_finished(summary),
                Some(ended) = self.notifications.next() => self.on_notification_ended(ended),
                Some(request) = self.requests.recv() => self.answer(request),
                () = abandoned(self.drill.as_ref()) => self.abandon_drill(),
                () = self.timer.ring() => {}
                () = self.monitor.watcher.detached() => self.handle_detached_link(),
                _ = signals.hangup.recv() => self.reload_on_signal(),
                _ = signals.interrupt.recv() => return OnExit::Teardown,
                _ = signals.terminate.recv() => return OnExit::Keep,
            }
        }
    }

    /// Performs everything that is due.
    fn handle_timeouts(&mut self, now: Duration) {
        self.poll_traffic(now);
        self.poll_hosts(now);
        self.check_datapath(now);
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.feed(None, now);
        }
        self.handle_drill_timeout(now);
        self.tell_service_manager(now);
        if self.second_due <= now {
            self.second_due = now + SECOND;
            self.every_second(now);
        }
    }

    /// Returns the time at which something is due next.
    fn due(&self) -> Duration {
        let some = [self.engine.poll_timeout(), self.drill_due()].into_iter().flatten();
        let polls = [self.traffic_due(), self.monitor.due()];
        some.chain(polls).fold(self.second_due, Duration::min)
    }

    fn every_second(&mut self, now: Duration) {
        descriptors::refill();
        self.datapath.flush_log();
        warn_of(self.count_octets());
        self.end_trial();
        self.keep_last_good();
        self.poll_notifications(now);
    }

    /// Handles all answers that are ready: a turn of the loop costs more than an answer, and
    /// answers come together.
    fn handle_answers(&mut self, first: Event) {
        self.handle(first);
        while let Some(event) = self.prober.ready() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        self.feed(Some(event), self.now());
    }

    /// Passes an event, or the time alone, to the engine. Everything goes in here, so that a
    /// recording is complete.
    fn feed(&mut self, event: Option<Event>, now: Duration) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(now, event.as_ref());
        }
        match event {
            Some(event) => self.engine.handle_event(event, now),
            None => self.engine.handle_timeout(now),
        }
        self.execute_commands(now);
    }
}

/// Returns a time in text; one that RFC 3339 cannot say is the first or the last that it can.
fn rfc3339(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let first = SystemTime::UNIX_EPOCH;
    humantime::format_rfc3339_seconds(time.clamp(first, first + LAST)).to_string()
}

fn warn_of(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{error:#}");
    }
}

/// Indexes of uplinks by name, as the state file keeps them.
type Indexes = BTreeMap<String, u32>;
