//! A configuration with its datapath, staged beside the one in force: at the start and for each
//! reload.

use std::{collections::BTreeSet, io, net::IpAddr};

use anyhow::{Error, Result};
use linkbal_common::{
    hash::Seed,
    settings::{LAYOUT, Settings},
};
use nix::errno::Errno;

use super::{Indexes, state};
use crate::{
    config::{Accelerate, Config, Sources},
    engine::{
        indexed::{self, Indexed},
        policy::{
            self, Policy,
            renumber::{self, Renumbering},
        },
        reconfigure::renamed,
    },
    sys::{
        datapath::{Datapath, PinnedDatapath, Sizes, attach::Method, memory, set_quotas},
        host::{
            instance::{Instance, netns_cookie},
            seed,
        },
        probe::random,
        resolve::system_resolvers,
    },
};

/// Data of other files that belongs to a configuration.
#[derive(Debug)]
pub(super) struct ExternalData {
    /// The seed that two gateways share.
    seed: Option<Seed>,
    /// The DNS servers beside this machine itself whose replies are trusted.
    resolvers: BTreeSet<IpAddr>,
}

impl ExternalData {
    /// Reads the data for a configuration.
    ///
    /// # Errors
    ///
    /// If the seed file cannot be read.
    pub(super) fn read(config: &Config) -> Result<ExternalData> {
        let seed = config.kernel.hash_seed_file.as_deref().map(seed::read).transpose()?;
        Ok(ExternalData { seed, resolvers: resolvers(config) })
    }
}

/// A configuration with a datapath for it, which is not in force before it is attached.
pub(super) struct StagedConfig {
    pub(super) config: Config,
    pub(super) sources: Sources,
    /// The uplinks of the configuration before, whose datapath runs.
    pub(super) before: Vec<Indexed>,
    pub(super) indexed: Vec<Indexed>,
    pub(super) policy: Policy,
    pub(super) datapath: Datapath,
}

impl StagedConfig {
    /// Creates the datapath. It shares the state of the running one, and keeps its seed, unless one
    /// is configured, and as many of its buckets as possible.
    pub(super) fn new(
        instance: &Instance,
        config: Config,
        sources: Sources,
        external: &ExternalData,
    ) -> Result<StagedConfig> {
        let earlier = PinnedDatapath::find(&instance.bpf_dir)?;
        let former = state::configuration(instance, earlier.configuration);
        let before = former.as_ref().map(|former| running(instance, former)).unwrap_or_default();
        let (indexed, indexes) = assign_indexes(instance, &config, &before);
        let rules = former.as_ref().map(|former| renumber::rules(former, &config));
        let renumbering = former.and_then(|former| Renumbering::new(&former, &config, &indexed));
        let (mut datapath, flow_table_size) = open(&earlier, instance, &config, renumbering)?;
        // There are about two thousand million such numbers, and two are in use at a time.
        let number = random() as u32 | 1;
        state::keep_configuration(instance, earlier.configuration, number, &sources);
        let policy =
            fill(&mut datapath, flow_table_size, &config, &indexed, &earlier, number, external)?;
        let carried = rules.map(|rules| datapath.carry_rule_counters(&instance.bpf_dir, &rules));
        if let Some(Err(error)) = carried {
            tracing::warn!("the counters of rules begin at zero: {error:#}");
        }
        // What the kernel has refused must leave no trace, and what is pinned must be known.
        state::keep_indexes(instance, &indexes);
        Ok(StagedConfig { config, sources, before, indexed, policy, datapath })
    }

    /// Attaches the programs for local traffic, or detaches them, as configured. The links of the
    /// former datapath must not be watched any more.
    pub(super) fn attach_local(&mut self) {
        if let Err(error) = self.datapath.set_local(self.config.local_balance) {
            tracing::warn!("local traffic stays on the best uplink: {error:#}");
        }
    }
}

/// Returns the uplinks of the configuration whose datapath runs.
fn running(instance: &Instance, former: &Config) -> Vec<Indexed> {
    indexed::assign(&former.uplinks, &state::indexes(instance))
}

/// Assigns each uplink its index, the same as `before` if it had one; returns what is to be stored of
/// them, too.
fn assign_indexes(
    instance: &Instance,
    config: &Config,
    before: &[Indexed],
) -> (Vec<Indexed>, Indexes) {
    let mut former = state::indexes(instance);
    let renamed = renamed(before, &config.uplinks);
    former.retain(|_, index| renamed.values().all(|taken| taken != index));
    former.extend(renamed);
    let indexed = indexed::assign(&config.uplinks, &former);
    let indexes = indexed::indexes(&indexed, &former);
    (indexed, indexes)
}

/// Creates a datapath whose flow table has the configured size, or one that this machine has memory
/// for; returns the size as well.
fn open(
    earlier: &PinnedDatapath,
    instance: &Instance,
    config: &Config,
    renumbering: Option<Renumbering>,
) -> Result<(Datapath, u32)> {
    let open = |size, renumbering| {
        let sizes = Sizes {
            flows: size,
            shortcuts: config.accelerate.takes_shortcuts(),
            drivers: config.accelerate == Accelerate::Xdp,
            recent: !config.accelerate.takes_shortcuts(),
        };
        Datapath::open_after(earlier, instance, sizes, Method::available(), renumbering)
    };
    if let Some(size) = config.kernel.flow_table_size {
        return Ok((open(size, renumbering)?, size));
    }
    let mut size = memory::flow_table_size()?;
    loop {
        match open(size, renumbering.clone()) {
            // A container may have less memory than the machine.
            Err(error) if size > memory::MIN_FLOWS && is_out_of_memory(&error) => {
                tracing::warn!("no memory for a flow table of {size} entries: half of it is tried");
                size /= 2;
            }
            opened => return Ok((opened?, size)),
        }
    }
}

fn is_out_of_memory(error: &Error) -> bool {
    let os_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    os_errors.filter_map(io::Error::raw_os_error).any(|errno| errno == Errno::ENOMEM as i32)
}

/// Writes policy and settings to a new datapath; returns the policy.
fn fill(
    datapath: &mut Datapath,
    flow_table_size: u32,
    config: &Config,
    indexed: &[Indexed],
    earlier: &PinnedDatapath,
    number: u32,
    external: &ExternalData,
) -> Result<Policy> {
    let policy = policy::compile(config, indexed, earlier.buckets.as_deref());
    let seed = external.seed.or(earlier.seed).unwrap_or_else(|| [random(), random()]);
    datapath.set_policy(&policy)?;
    datapath.set_domain_rules(seed, &policy.domain)?;
    datapath.set_resolvers(&external.resolvers)?;
    let mut settings = Settings {
        layout: LAYOUT,
        fwmark_mask: config.kernel.fwmark_mask,
        seed,
        rules: policy.rules,
        on_down: indexed::on_down(indexed, earlier.on_down),
        configuration: number,
        domains: policy.domain.len() as u32,
        netns_cookie: if config.local_balance { netns_cookie()? } else { 0 },
        source_prefixes: policy.source_uplinks.len() as u32,
        dimensions: policy.dimensions,
        ..Settings::default()
    };
    set_quotas(&mut settings, flow_table_size);
    datapath.set_settings(settings)?;
    if config.local_balance {
        // A failure is logged when the programs are attached.
        let _ = datapath.load_local();
    }
    Ok(policy)
}

/// Returns the DNS servers beside this machine itself whose replies are trusted.
fn resolvers(config: &Config) -> BTreeSet<IpAddr> {
    let configured = config.dns.resolvers.as_ref();
    let by_uplink = config.uplinks.iter().flat_map(|uplink| uplink.resolvers.iter().copied());
    let any = configured.map_or_else(system_resolvers, |list| list.iter().copied().collect());
    by_uplink.chain(any.into_iter().filter(|address| !address.is_loopback())).collect()
}
