//! The start of the daemon.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use tokio::sync::mpsc;

use super::{
    Configured, Daemon,
    admin::AdminStates,
    datapath_monitor::DatapathMonitor,
    history::Recording,
    hosts::Hosts,
    kernel_task,
    last_good::{self, Fallback},
    live_flows::LiveFlows,
    notify::Notifications,
    record::Recorder,
    reload_refusal::ReloadRefusal,
    service_manager::ServiceManager,
    staged_config::{ExternalData, StagedConfig},
    traffic::TrafficPoller,
    trial,
    wall_clock::WallClock,
};
use crate::{
    api,
    bytes::bytes,
    config::{Config, Sources},
    engine::{Engine, flows::Former, reconfigure::renames},
    events::{self, journal::Journal},
    flows::recent::RecentCounts,
    sys::{
        Kernel,
        datapath::memory::MapMemory,
        host::{child::NoAnswer, hook::Hook, instance::Instance, timer::Timer},
        nft,
        probe::{Prober, Resolvers},
    },
    words::count,
};

/// Checks this machine early, and reports clearly what it lacks.
pub(super) async fn check_machine(instance: &Instance) -> Result<()> {
    match nft::check().await {
        // With a datapath that runs, failover is worth more than what nft could change.
        Err(error) if error.is::<NoAnswer>() || instance.has_datapath() => {
            tracing::warn!("{error:#}");
        }
        checked => checked?,
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        tracing::warn!(
            "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): linkbal works, but `bpftool map dump` \
             shows bytes instead of field names"
        );
    }
    Ok(())
}

/// Stages the first configuration, with the programs for local traffic; returns with it why it is
/// not that of the file, if it is not. One that is refused is replaced by the last good one, unless
/// that is `strict`ly forbidden.
fn stage(instance: &Instance, configured: Configured) -> Result<(StagedConfig, Option<Fallback>)> {
    let Configured { path, config, sources, fallback, strict } = configured;
    let refused = match stage_one(instance, config, sources.clone()) {
        Ok(staged) => return Ok((staged, fallback)),
        Err(error) if strict || fallback.is_some() => return Err(error),
        Err(error) => error,
    };
    let reason = ReloadRefusal::of(&refused);
    let other = last_good::instead_of_refused(instance, path, &sources, reason);
    let Some(Configured { config, sources, fallback, .. }) = other else { return Err(refused) };
    // Where that is refused, too, the reason is hardly the configuration.
    let Ok(staged) = stage_one(instance, config, sources) else { return Err(refused) };
    Ok((staged, fallback))
}

fn stage_one(instance: &Instance, config: Config, sources: Sources) -> Result<StagedConfig> {
    let external = ExternalData::read(&config)?;
    let mut staged = StagedConfig::new(instance, config, sources, &external)?;
    staged.attach_local();
    Ok(staged)
}

impl Daemon {
    /// Puts the configuration in force, and starts everything beside the main loop.
    pub(super) fn start(
        configured: Configured,
        instance: &Instance,
        mut recorder: Option<Recorder>,
    ) -> Result<Daemon> {
        let path = configured.path.clone();
        let in_file = configured.sources.clone();
        let (configured, trial) = match configured.fallback {
            // A trial of another text of the file decides nothing.
            Some(_) => (configured, None),
            None => trial::resume(instance, configured),
        };
        let lost = trial.is_none() && configured.sources != in_file;
        let refused_configuration =
            lost.then(|| ReloadRefusal::from(trial::LOST.to_owned()).into_status());
        drop(in_file);
        let (staged, fallback) = stage(instance, configured)?;
        let StagedConfig { config, sources, before, indexed, policy, datapath } = staged;
        let trial = trial.filter(|_| fallback.is_none());
        let (kernel, network) = Kernel::connect(&instance.run_dir)?;
        let (tasks, observations) = kernel_task::spawn(kernel);
        let mut admin_states = AdminStates::load(instance);
        admin_states.rename(&renames(&before, &config.uplinks));
        let up = datapath.up_mask()?;
        let former = Former::find(&before, &indexed, up);
        if let Some(recorder) = &mut recorder {
            recorder.start(&sources, &indexed, up, &former, &admin_states);
        }
        let prober = Prober::new(Resolvers::of(&config, &indexed));
        let admin = admin_states.by_uplink();
        let engine = Engine::new(config.clone(), indexed, up, former, admin, Duration::ZERO);
        let journal = Journal::open(&instance.state_dir.join(events::FILE));
        let notifications = Notifications::new(&config.receivers);
        let hook = config.hooks.on_change.clone().map(Hook::start);
        let (requests, mut api) = api::serve(&instance.socket(), journal.clone());
        api.listen(&config.api);
        log_start(config.uplinks.len(), instance, &datapath.map_memory()?);
        let monitor = DatapathMonitor::new(network.watch(), instance.bpf_dir.clone())?;
        Ok(Daemon {
            instance: instance.clone(),
            path,
            config,
            sources: Arc::new(sources),
            good_kept: fallback.is_some(),
            fallback,
            trial,
            reloading: None,
            steps: mpsc::unbounded_channel(),
            service_manager: ServiceManager::new(),
            engine,
            policy,
            datapath,
            attach_failures: BTreeSet::new(),
            prober,
            tasks,
            observations,
            lookups: mpsc::unbounded_channel(),
            surveyed: Arc::default(),
            resets: mpsc::unbounded_channel(),
            drill: None,
            network,
            requests,
            api,
            admin_states,
            recorder,
            journal,
            history: Recording::open(instance),
            hook,
            notifications,
            traffic_poller: TrafficPoller::default(),
            hosts: Hosts::default(),
            recent_flows: RecentCounts::default(),
            live_flows: LiveFlows::default(),
            refused_configuration,
            configured: SystemTime::now(),
            monitor,
            timer: Timer::new()?,
            second_due: Duration::ZERO,
            epoch: Instant::now(),
            wall_clock: WallClock::new(),
        })
    }
}

/// Maps that are listed with their memory; the others are much smaller.
const MAX_MAPS: usize = 4;

/// Logs the uplinks, the place of the maps, their memory, and which ones have the most.
fn log_start(uplinks: usize, instance: &Instance, memory: &MapMemory) {
    let folder = instance.bpf_dir.display();
    let uplinks = count(uplinks, "uplink");
    tracing::info!("running with {uplinks}; maps are pinned in {folder}");
    let mut largest: Vec<(&String, &u64)> = memory.iter().collect();
    largest.sort_by_key(|(_, size)| Reverse(**size));
    let largest = largest.iter().take(MAX_MAPS);
    let largest: Vec<String> =
        largest.map(|(name, size)| format!("{name} {}", bytes(**size))).collect();
    let total = bytes(memory.values().sum());
    tracing::info!("map memory: {total}, most of it {}", largest.join(", "));
}
