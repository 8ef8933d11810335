//! Joins the engine to the kernel: hands events in, carries commands out.

mod admin;
mod damage;
mod drill;
mod kernel_task;
mod load;
mod notify;
pub mod record;
mod reload;
mod start;
pub(crate) mod state;
mod traffic;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Error, Result, bail};
use linkbal_common::bucket::BUCKETS;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::{
    admin::Wishes,
    damage::Damage,
    drill::{Drill, abandoned},
    kernel_task::Task,
    notify::Notifier,
    record::Recorder,
    start::Prepared,
    traffic::Looks,
    trial::Trial,
};
use crate::{
    api::{
        self, Request,
        journal::Journal,
        status::{self, Status},
    },
    config::{Config, Sources},
    engine::{
        Command, Engine, Event, Report,
        conflict::survey::Survey,
        desired,
        network::{Link, Role},
        policy::Policy,
    },
    replay,
    sys::{
        Kernel, attach,
        bpf::Datapath,
        conntrack,
        events::NetworkEvents,
        hook::Hook,
        instance::{Instance, remove_files},
        nft,
        probe::{Path, Prober},
        reset::Told,
        resolve::resolve,
    },
};

/// What becomes of the datapath when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// It goes on forwarding with its last state.
    Keep,
    /// It is removed with everything else.
    Teardown,
}

/// A configuration and where it is from.
#[derive(Debug)]
pub struct Configured {
    /// Its file, which is read again for a reload.
    pub path: PathBuf,
    /// The values.
    pub config: Config,
    /// What they were read from.
    pub sources: Sources,
}

/// How often messages of the eBPF program are fetched, and traffic is counted.
const SECOND: Duration = Duration::from_secs(1);

/// Runs the gateway until SIGINT or SIGTERM, and records what its engine is told.
///
/// # Errors
///
/// If it cannot start, or not tear down. What goes wrong in between is logged, and tried again.
pub async fn run(
    configured: Configured,
    on_exit: Option<OnExit>,
    recorder: Option<Recorder>,
) -> Result<()> {
    let mut signals = Signals::new()?;
    start::check_machine().await?;
    let instance = Instance::current()?;
    let lock = instance.lock()?;
    let mut daemon = Daemon::start(configured, &instance, recorder)?;
    let by_signal = daemon.serve(&mut signals).await;
    notify::stopping();
    drop(daemon);
    match on_exit.unwrap_or(by_signal) {
        OnExit::Keep => tracing::info!("ended; the datapath goes on with its last state"),
        OnExit::Teardown => {
            teardown(&instance).await?;
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

/// The datapath goes first: from then on the main table routes everything, as before linkbal.
async fn teardown(instance: &Instance) -> Result<()> {
    let mut failures = attach::detach_clsact(&instance.run_dir);
    failures.extend(remove_files(&instance.bpf_dir).err());
    match Kernel::connect(&instance.run_dir) {
        Ok((mut kernel, _)) => failures.extend(kernel.uninstall().await),
        Err(error) => failures.push(error),
    }
    if failures.is_empty() {
        return remove_files(&instance.run_dir);
    }
    let lines: String = failures.iter().map(|error: &Error| format!("\n  {error:#}")).collect();
    bail!("some things could not be removed; run `linkbal teardown` again:{lines}")
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

struct Daemon {
    instance: Instance,
    /// The file of the configuration.
    path: PathBuf,
    config: Config,
    sources: Sources,
    trial: Option<Trial>,
    notifier: Notifier,
    engine: Engine,
    policy: Policy,
    datapath: Datapath,
    attach_failures: BTreeSet<String>,
    prober: Prober,
    tasks: mpsc::UnboundedSender<Task>,
    observations: mpsc::UnboundedReceiver<Event>,
    /// Ends of the channel that answers of the DNS resolver and of surveys come by.
    lookups: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    /// Ends of the channel that tells what became of waves of resets.
    waves: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
    drill: Option<Drill>,
    network: NetworkEvents,
    requests: mpsc::Receiver<Request>,
    wishes: Wishes,
    recorder: Option<Recorder>,
    journal: Journal,
    hook: Option<Hook>,
    looks: Looks,
    damage: Damage,
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
        let (configured, trial) = trial::resume(instance, configured)?;
        let Prepared { config, sources, indexed, policy, datapath } =
            Prepared::new(instance, configured.config, configured.sources)?;
        let (kernel, network) = Kernel::connect(&instance.run_dir)?;
        let (tasks, observations) = kernel_task::spawn(kernel);
        let wishes = Wishes::load(instance);
        let up = datapath.up_mask()?;
        if let Some(recorder) = &mut recorder {
            recorder.start(&sources, &indexed, up, &wishes);
        }
        let engine = Engine::new(config.clone(), indexed, up, wishes.by_uplink(), Duration::ZERO);
        let journal = Journal::default();
        let hook = config.hooks.on_change.clone().map(Hook::start);
        let requests = api::serve(&instance.socket(), journal.clone())?;
        tracing::info!(
            "running with {} uplinks; maps are pinned in {}",
            config.uplinks.len(),
            instance.bpf_dir.display()
        );
        start::log_memory(&datapath.map_memory()?);
        let prober = Prober::new(config.dns.resolvers.clone());
        let damage = Damage::new(network.watch(), instance.bpf_dir.clone());
        Ok(Daemon {
            instance: instance.clone(),
            path,
            config,
            sources,
            trial,
            notifier: Notifier::new(),
            engine,
            policy,
            datapath,
            attach_failures: BTreeSet::new(),
            prober,
            tasks,
            observations,
            lookups: mpsc::unbounded_channel(),
            waves: mpsc::unbounded_channel(),
            drill: None,
            network,
            requests,
            wishes,
            recorder,
            journal,
            hook,
            looks: Looks::default(),
            damage,
            epoch: Instant::now(),
            started: SystemTime::now(),
        })
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    async fn serve(&mut self, signals: &mut Signals) -> OnExit {
        let mut tick = interval(SECOND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.carry_out(Duration::ZERO);
        loop {
            let now = self.now();
            self.look_at_traffic(now);
            self.look_for_damage(now);
            if self.engine.poll_timeout().is_some_and(|due| due <= now) {
                self.feed(None, now);
            }
            self.follow_drill(now);
            self.notify(now);
            let looks = [self.looks.due(), self.damage.due()].map(Some);
            let dues = [self.engine.poll_timeout(), self.drill_due()].into_iter().chain(looks);
            let due = dues.flatten().min().unwrap_or(now + SECOND);
            let due = sleep_until((self.epoch + due).into());
            tokio::select! {
                event = self.network.next() => match event {
                    Some(event) => self.network_event(event),
                    None => {
                        tracing::error!("the kernel's news of its network ended");
                        return OnExit::Keep;
                    }
                },
                event = self.prober.next() => self.handle(event),
                Some(event) = self.observations.recv() => {
                    self.notifier.heard(self.now());
                    self.handle(event);
                }
                Some(event) = self.lookups.1.recv() => self.handle(event),
                Some(told) = self.waves.1.recv() => self.waved(told),
                Some(request) = self.requests.recv() => self.answer(request),
                () = abandoned(self.drill.as_ref()) => self.abandon_drill(),
                () = due => {}
                _ = tick.tick() => self.every_second(),
                _ = signals.hangup.recv() => self.reload_on_signal(),
                _ = signals.interrupt.recv() => return OnExit::Teardown,
                _ = signals.terminate.recv() => return OnExit::Keep,
            }
        }
    }

    fn every_second(&mut self) {
        self.datapath.flush_log();
        warn_of(self.count_octets());
        self.end_trial();
    }

    fn handle(&mut self, event: Event) {
        self.feed(Some(event), self.now());
    }

    /// The only way into the engine, so that a recording has everything.
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

    fn carry_out(&mut self, now: Duration) {
        while let Some(command) = self.engine.next_command() {
            tracing::debug!("decided {}", replay::exact(now, &command));
            self.perform(command);
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::SetUpMask(mask) => warn_of(self.datapath.set_up_mask(mask)),
            Command::EndFlows { uplink, family, own } => {
                let waves = self.waves.0.clone();
                let report = move |told| {
                    // The daemon is ending when nobody listens.
                    let _ = waves.send(told);
                };
                warn_of(self.datapath.end_flows(uplink, family, own, report));
            }
            Command::SetAvoidMask(mask) => warn_of(self.datapath.set_avoid_mask(mask)),
            Command::SetWeights(weights) => warn_of(self.set_weights(&weights)),
            Command::ForgetConnections { family, fwmark } => {
                warn_of(conntrack::forget(family, fwmark, self.config.kernel.fwmark_mask));
            }
            Command::Apply(changes) => self.ask_kernel(Task::Apply(changes)),
            Command::Observe => {
                let sysctls = desired::watched_sysctls(&self.config);
                self.ask_kernel(Task::Observe(sysctls, !self.config.bonds.is_empty()));
            }
            Command::Survey => self.survey(),
            Command::Restore(parts) => self.restore(&parts),
            Command::SetBypass(prefixes) => warn_of(self.datapath.set_bypass(&prefixes)),
            Command::SetUplinkAddresses(addresses) => {
                warn_of(self.datapath.set_uplink_addresses(&addresses));
            }
            Command::SetUplinkInterfaces(uplinks) => {
                warn_of(self.datapath.set_uplink_interfaces(&uplinks));
            }
            Command::Attach(interfaces) => self.attach(&interfaces),
            Command::SendProbes {
                uplink,
                family,
                ifindex,
                fwmark,
                gateway,
                round,
                targets,
                timeout,
            } => {
                let path = Path { uplink, family, ifindex, fwmark, gateway };
                self.prober.send(path, round, targets, timeout);
            }
            Command::Resolve { name } => self.resolve(name),
            Command::Learn { name, addresses } => warn_of(self.datapath.learn(&name, &addresses)),
            Command::Report(report) => self.report(&report),
        }
    }

    fn report(&mut self, report: &Report) {
        self.tell_drill(report);
        let event = self.journal.record(report, SystemTime::now());
        log_event(&event);
        if let Some(hook) = &mut self.hook {
            hook.push(event);
        }
    }

    /// Says each failure once, though attaching is tried again and again.
    fn attach(&mut self, interfaces: &[(Role, Link)]) {
        let links = interfaces.iter().map(|(_, link)| link);
        warn_of(self.datapath.set_rule_interfaces(&self.policy, links));
        let failures = self.datapath.attach(interfaces);
        let failures = failures.iter().map(|error| format!("{error:#}")).collect();
        for failure in BTreeSet::difference(&failures, &self.attach_failures) {
            tracing::warn!("{failure}");
        }
        self.attach_failures = failures;
    }

    fn resolve(&self, name: String) {
        let answers = self.lookups.0.clone();
        let servers = self.config.dns.resolvers.clone().unwrap_or_default();
        // The daemon is ending when nobody listens.
        tokio::spawn(async move { answers.send(resolve(name, servers).await) });
    }

    fn survey(&self) {
        let answers = self.lookups.0.clone();
        tokio::spawn(async move {
            let listing = nft::ruleset().await.inspect_err(|error| tracing::warn!("{error:#}"));
            // The daemon is ending when nobody listens.
            answers.send(Event::Surveyed(Survey::of(&listing.unwrap_or_default())))
        });
    }

    fn ask_kernel(&self, task: Task) {
        if self.tasks.send(task).is_err() {
            tracing::error!("the kernel task died");
        }
    }

    /// Whoever asked may have left.
    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(answer) => match self.status() {
                Ok(status) => drop(answer.send(status)),
                Err(error) => warn_of(Err(error)),
            },
            Request::Drill(order, answer) => drop(answer.send(self.begin_drill(order))),
            Request::Wish { uplink, admin, answer } => drop(answer.send(self.wish(uplink, admin))),
            Request::Reload { confirm, answer } => drop(answer.send(self.reload(confirm))),
            Request::Confirm { answer } => drop(answer.send(self.confirm())),
        }
    }

    fn status(&self) -> Result<Status> {
        let wall_clock = |at: Duration| rfc3339(self.started + at);
        Ok(Status::new(&status::Sources {
            engine: &self.engine,
            now: self.now(),
            config: &self.config,
            buckets: &self.policy.buckets[..BUCKETS as usize],
            counters: self.datapath.counters()?,
            uplink_counters: self.datapath.uplink_counters()?,
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

fn log_event(event: &api::event::Event) {
    let text = event.headline();
    if event.is_bad() {
        tracing::warn!("{text}");
    } else {
        tracing::info!("{text}");
    }
}

/// Indexes of uplinks by name, as the state file keeps them.
type Indexes = BTreeMap<String, u32>;
