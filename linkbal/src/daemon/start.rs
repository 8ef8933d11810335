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
    hosts::Hosts,
    kernel_task,
    notify::Notifier,
    record::Recorder,
    staged_config::{ExternalData, StagedConfig},
    traffic::TrafficPoller,
    trial,
};
use crate::{
    api,
    bytes::bytes,
    engine::Engine,
    events::journal::Journal,
    sys::{
        Kernel,
        datapath::memory::MapMemory,
        host::{child::NoAnswer, hook::Hook, instance::Instance, timer::Timer},
        nft,
        probe::{Prober, Resolvers},
    },
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

/// Stages the first configuration, with the programs for local traffic.
fn stage(instance: &Instance, configured: Configured) -> Result<StagedConfig> {
    let external = ExternalData::read(&configured.config)?;
    let mut staged = StagedConfig::new(instance, configured.config, configured.sources, &external)?;
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
        let (configured, trial) = trial::resume(instance, configured);
        let StagedConfig { config, sources, indexed, policy, datapath } =
            stage(instance, configured)?;
        let (kernel, network) = Kernel::connect(&instance.run_dir)?;
        let (tasks, observations) = kernel_task::spawn(kernel);
        let admin_states = AdminStates::load(instance);
        let up = datapath.up_mask()?;
        if let Some(recorder) = &mut recorder {
            recorder.start(&sources, &indexed, up, &admin_states);
        }
        let prober = Prober::new(Resolvers::of(&config, &indexed));
        let engine =
            Engine::new(config.clone(), indexed, up, admin_states.by_uplink(), Duration::ZERO);
        let journal = Journal::default();
        let hook = config.hooks.on_change.clone().map(Hook::start);
        let (requests, mut api) = api::serve(&instance.socket(), journal.clone());
        api.listen(&config.api);
        log_start(config.uplinks.len(), instance, &datapath.map_memory()?);
        let monitor = DatapathMonitor::new(network.watch(), instance.bpf_dir.clone())?;
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
            resets: mpsc::unbounded_channel(),
            drill: None,
            network,
            requests,
            api,
            admin_states,
            recorder,
            journal,
            hook,
            traffic_poller: TrafficPoller::default(),
            hosts: Hosts::default(),
            monitor,
            timer: Timer::new()?,
            second_due: Duration::ZERO,
            epoch: Instant::now(),
            started: SystemTime::now(),
        })
    }
}

/// Maps that are listed with their memory; the others are much smaller.
const LARGEST: usize = 4;

/// Logs the uplinks, the place of the maps, their memory, and which ones have the most.
fn log_start(uplinks: usize, instance: &Instance, memory: &MapMemory) {
    let folder = instance.bpf_dir.display();
    tracing::info!("running with {uplinks} uplinks; maps are pinned in {folder}");
    let mut largest: Vec<(&String, &u64)> = memory.iter().collect();
    largest.sort_by_key(|(_, size)| Reverse(**size));
    let largest = largest.iter().take(LARGEST);
    let largest: Vec<String> =
        largest.map(|(name, size)| format!("{name} {}", bytes(**size))).collect();
    let total = bytes(memory.values().sum());
    tracing::info!("map memory: {total}, most of it {}", largest.join(", "));
}
