//! The daemon: passes events of the kernel to the engine, and carries out its commands.

mod admin;
mod commands;
mod datapath_monitor;
mod drill;
#[cfg(feature = "model")]
pub mod fuzz;
mod hosts;
mod kernel_task;
mod load;
mod notify;
pub mod record;
mod reload;
mod shutdown;
mod start;
pub(crate) mod state;
mod traffic;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Error, Result, bail};
use linkbal_common::bucket::BUCKETS;
use tokio::sync::mpsc;

use self::{
    admin::Wishes,
    datapath_monitor::Damage,
    drill::{Drill, abandoned},
    hosts::Hosts,
    kernel_task::Task,
    notify::Notifier,
    record::Recorder,
    reload::{Reloading, Step},
    shutdown::Signals,
    start::{Outside, Prepared},
    traffic::Looks,
    trial::Trial,
};
use crate::{
    api::{
        self, Request,
        status::{self, Status},
    },
    config::{Config, Sources},
    engine::{Engine, Event, conflict::survey::Survey, policy::Policy},
    events::journal::Journal,
    sys::{
        Kernel,
        conntrack::adopt,
        datapath::{Datapath, attach, fwmark_mask},
        events::NetworkEvents,
        host::{
            child, descriptors,
            hook::Hook,
            instance::{Instance, remove_files},
            privilege,
            timer::Timer,
        },
        probe::{Prober, Resolvers},
        reset::Told,
    },
};

/// The fate of the datapath when the daemon ends.
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
    shutdown::watch_over()?;
    privilege::check()?;
    descriptors::prepare()?;
    let instance = Instance::current()?;
    start::check_machine(&instance).await?;
    let lock = instance.lock()?;
    let mut daemon = Daemon::start(configured, &instance, recorder)?;
    let by_signal = daemon.serve(&mut signals).await;
    notify::stopping();
    drop(daemon);
    child::kill_all();
    match on_exit.unwrap_or(by_signal) {
        OnExit::Keep => tracing::info!("ended; the datapath goes on with its last state"),
        OnExit::Teardown => {
            shutdown::teardown_in_time(&instance)?;
            tracing::info!("ended; everything is removed");
        }
    }
    drop(lock);
    Ok(())
}

/// Removes everything of an instance whose daemon does not run.
///
/// # Errors
///
/// If the daemon runs, or something could not be removed.
pub async fn teardown_alone(instance: &Instance) -> Result<()> {
    let lock = instance.lock()?;
    teardown(instance).await?;
    drop(lock);
    Ok(())
}

/// Removes everything. The datapath goes first: from then on the main table routes everything, as
/// before linkbal.
async fn teardown(instance: &Instance) -> Result<()> {
    let mask = fwmark_mask(&instance.bpf_dir);
    let mut failures = attach::detach_clsact(&instance.run_dir);
    failures.extend(remove_files(&instance.bpf_dir).err());
    match Kernel::connect(&instance.run_dir) {
        Ok((mut kernel, _)) => failures.extend(kernel.uninstall().await),
        Err(error) => failures.push(error),
    }
    // No mark is set any more.
    failures.extend(mask.and_then(|mask| adopt::release(mask).err()));
    if failures.is_empty() {
        return remove_files(&instance.run_dir);
    }
    let lines: String = failures.iter().map(|error: &Error| format!("\n  {error:#}")).collect();
    bail!("some things could not be removed; run `linkbal teardown` again:{lines}")
}

struct Daemon {
    instance: Instance,
    /// The file of the configuration.
    path: PathBuf,
    config: Config,
    sources: Sources,
    trial: Option<Trial>,
    reloading: Option<Reloading>,
    /// Both ends of the channel for the steps of a reload.
    steps: (mpsc::UnboundedSender<Step>, mpsc::UnboundedReceiver<Step>),
    notifier: Notifier,
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
    /// Both ends of the channel for the outcome of waves of resets.
    waves: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
    drill: Option<Drill>,
    network: NetworkEvents,
    requests: mpsc::Receiver<Request>,
    wishes: Wishes,
    recorder: Option<Recorder>,
    journal: Journal,
    hook: Option<Hook>,
    looks: Looks,
    hosts: Hosts,
    damage: Damage,
    timer: Timer,
    second_due: Duration,
    epoch: Instant,
    started: SystemTime,
}

impl Daemon {
    fn start(
        configured: Configured,
        instance: &Instance,
        mut recorder: Option<Recorder>,
    ) -> Result<Daemon> {
        let path = configured.path.clone();
        let (configured, trial) = trial::resume(instance, configured);
        let outside = Outside::read(&configured.config)?;
        let mut prepared =
            Prepared::new(instance, configured.config, configured.sources, &outside)?;
        prepared.begin_local();
        let Prepared { config, sources, indexed, policy, datapath } = prepared;
        let (kernel, network) = Kernel::connect(&instance.run_dir)?;
        let (tasks, observations) = kernel_task::spawn(kernel);
        let wishes = Wishes::load(instance);
        let up = datapath.up_mask()?;
        if let Some(recorder) = &mut recorder {
            recorder.start(&sources, &indexed, up, &wishes);
        }
        let prober = Prober::new(Resolvers::of(&config, &indexed));
        let engine = Engine::new(config.clone(), indexed, up, wishes.by_uplink(), Duration::ZERO);
        let journal = Journal::default();
        let hook = config.hooks.on_change.clone().map(Hook::start);
        let requests = api::serve(&instance.socket(), journal.clone());
        tracing::info!(
            "running with {} uplinks; maps are pinned in {}",
            config.uplinks.len(),
            instance.bpf_dir.display()
        );
        start::log_memory(&datapath.map_memory()?);
        let damage = Damage::new(network.watch(), instance.bpf_dir.clone())?;
        Ok(Daemon {
            instance: instance.clone(),
            path,
            config,
            sources,
            trial,
            reloading: None,
            steps: mpsc::unbounded_channel(),
            notifier: Notifier::new(),
            engine,
            policy,
            datapath,
            attach_failures: BTreeSet::new(),
            prober,
            tasks,
            observations,
            lookups: mpsc::unbounded_channel(),
            surveyed: Arc::default(),
            waves: mpsc::unbounded_channel(),
            drill: None,
            network,
            requests,
            wishes,
            recorder,
            journal,
            hook,
            looks: Looks::default(),
            hosts: Hosts::default(),
            damage,
            timer: Timer::new()?,
            second_due: Duration::ZERO,
            epoch: Instant::now(),
            started: SystemTime::now(),
        })
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    async fn serve(&mut self, signals: &mut Signals) -> OnExit {
        self.carry_out(Duration::ZERO);
        loop {
            let now = self.now();
            self.follow_time(now);
            warn_of(self.timer.set(self.due(), now));
            tokio::select! {
                event = self.network.next() => match event {
                    Some(event) => self.network_event(event),
                    None => {
                        tracing::error!("the kernel's news of its network ended");
                        return OnExit::Keep;
                    }
                },
                event = self.prober.next() => self.handle_answers(event),
                Some(event) = self.observations.recv() => {
                    self.notifier.heard(self.now());
                    self.handle(event);
                }
                Some(event) = self.lookups.1.recv() => self.handle(event),
                Some(step) = self.steps.1.recv() => self.reload_further(step),
                Some(told) = self.waves.1.recv() => self.waved(told),
                Some(request) = self.requests.recv() => self.answer(request),
                () = abandoned(self.drill.as_ref()) => self.abandon_drill(),
                () = self.timer.ring() => {}
                () = self.damage.lookout.alarm() => self.link_detached(),
                _ = signals.hangup.recv() => self.reload_on_signal(),
                _ = signals.interrupt.recv() => return OnExit::Teardown,
                _ = signals.terminate.recv() => return OnExit::Keep,
            }
        }
    }

    /// Performs everything that is due.
    fn follow_time(&mut self, now: Duration) {
        self.look_at_traffic(now);
        self.look_at_hosts(now);
        self.look_for_damage(now);
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.feed(None, now);
        }
        self.follow_drill(now);
        self.notify(now);
        if self.second_due <= now {
            self.second_due = now + SECOND;
            self.every_second();
        }
    }

    /// Returns the time at which something is due next.
    fn due(&self) -> Duration {
        let some = [self.engine.poll_timeout(), self.drill_due()].into_iter().flatten();
        let looks = [self.look_due(), self.damage.due()];
        some.chain(looks).fold(self.second_due, Duration::min)
    }

    fn every_second(&mut self) {
        descriptors::refill();
        self.datapath.flush_log();
        warn_of(self.count_octets());
        self.end_trial();
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
        self.carry_out(now);
    }

    /// Answers a request. The client may have disconnected.
    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => match self.status() {
                Ok(status) => drop(answer.send(status)),
                Err(error) => warn_of(Err(error)),
            },
            Request::Drill(order, answer) => drop(answer.send(self.begin_drill(order))),
            Request::Wish { uplink, admin, answer } => self.wish(uplink, admin, answer),
            Request::Reload { confirm, answer } => self.reload(confirm, Some(answer)),
            Request::Confirm { answer } => drop(answer.send(self.confirm())),
        }
    }

    fn status(&self) -> Result<Status> {
        let _lent = descriptors::lend();
        let wall_clock = |at: Duration| rfc3339(self.started + at);
        Ok(Status::new(&status::Sources {
            engine: &self.engine,
            now: self.now(),
            config: &self.config,
            buckets: &self.policy.buckets[..BUCKETS as usize],
            counters: self.datapath.counters()?,
            uplink_counters: self.datapath.uplink_counters()?,
            limited_hosts: self.hosts.limited(),
            memory: self.datapath.map_memory()?,
            drill: self.drill.as_ref().and_then(Drill::on),
            trial: self.trial.as_ref().map(Trial::left),
            events_not_hooked: self.hook.as_ref().map(Hook::dropped),
            started: rfc3339(self.started),
            wall_clock: &wall_clock,
        }))
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn warn_of(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{error:#}");
    }
}

/// Indexes of uplinks by name, as the state file keeps them.
type Indexes = BTreeMap<String, u32>;
