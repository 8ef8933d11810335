//! Steps that are done once, at the start, or for each configuration.

use std::{cmp::Reverse, collections::BTreeSet, io, net::IpAddr, path::Path};

use anyhow::{Error, Result};
use linkbal_common::{
    hash::Seed,
    settings::{LAYOUT, Settings},
};
use nix::errno::Errno;

use super::state;
use crate::{
    bytes::bytes,
    config::{Config, Sources},
    engine::{
        desired::Indexed,
        policy::{self, Policy, renumber::Renumbering},
        reconfigure::renamed,
        uplinks,
    },
    sys::{
        datapath::{
            Datapath, Earlier,
            attach::Method,
            memory::{self, MapMemory},
            set_shares,
        },
        host::{
            child::NoAnswer,
            instance::{Instance, netns_cookie},
            seed,
        },
        nft,
        probe::random,
        resolve::system_resolvers,
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

/// Data of other files that belongs to a configuration.
#[derive(Debug)]
pub(super) struct Outside {
    /// The seed that two gateways share.
    seed: Option<Seed>,
    /// The DNS servers beside this machine itself whose replies are trusted.
    resolvers: BTreeSet<IpAddr>,
}

impl Outside {
    /// Reads the data for a configuration.
    ///
    /// # Errors
    ///
    /// If the seed file cannot be read.
    pub(super) fn read(config: &Config) -> Result<Outside> {
        let seed = config.kernel.hash_seed_file.as_deref().map(seed::read).transpose()?;
        Ok(Outside { seed, resolvers: resolvers(config) })
    }
}

/// A configuration with a datapath for it, which is not in force before it is attached.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) sources: Sources,
    pub(super) indexed: Vec<Indexed>,
    pub(super) policy: Policy,
    pub(super) datapath: Datapath,
}

impl Prepared {
    /// Creates the datapath. It shares the state of the running one, and keeps its seed, unless one
    /// is configured, and as many of its buckets as possible.
    pub(super) fn new(
        instance: &Instance,
        config: Config,
        sources: Sources,
        outside: &Outside,
    ) -> Result<Prepared> {
        let earlier = Earlier::find(&instance.bpf_dir)?;
        let former = state::configuration(instance, earlier.configuration);
        let indexed = assign_indexes(instance, &config, former.as_ref())?;
        let renumbering = former.and_then(|former| Renumbering::new(&former, &config, &indexed));
        let (mut datapath, flow_table_size) = open(&earlier, instance, &config, renumbering)?;
        // There are about two thousand million such numbers, and two are in use at a time.
        let number = random() as u32 | 1;
        state::keep_configuration(instance, earlier.configuration, number, &sources);
        let policy =
            fill(&mut datapath, flow_table_size, &config, &indexed, &earlier, number, outside)?;
        Ok(Prepared { config, sources, indexed, policy, datapath })
    }
}

impl Prepared {
    /// Attaches the programs for local traffic, or detaches them, as configured. The links of the
    /// former datapath must not be watched any more.
    pub(super) fn begin_local(&mut self) {
        if let Err(error) = self.datapath.set_local(self.config.local_balance) {
            tracing::warn!("this machine's own traffic stays on the best uplink: {error:#}");
        }
    }
}

/// Assigns each uplink its index, the same as before if it had one, and stores the indexes.
fn assign_indexes(
    instance: &Instance,
    config: &Config,
    former: Option<&Config>,
) -> Result<Vec<Indexed>> {
    let mut before = state::indexes(instance);
    if let Some(former) = former {
        let renamed = renamed(&uplinks::assign(&former.uplinks, &before), &config.uplinks);
        before.retain(|_, index| renamed.values().all(|taken| taken != index));
        before.extend(renamed);
    }
    let indexed = uplinks::assign(&config.uplinks, &before);
    state::keep_indexes(instance, &uplinks::indexes(&indexed, &before));
    Ok(indexed)
}

/// Creates a datapath whose flow table has the configured size, or one that this machine has memory
/// for; returns the size as well.
fn open(
    earlier: &Earlier,
    instance: &Instance,
    config: &Config,
    renumbering: Option<Renumbering>,
) -> Result<(Datapath, u32)> {
    let open = |size, renumbering| {
        Datapath::open_after(earlier, instance, size, Method::available(), renumbering)
    };
    if let Some(size) = config.kernel.flow_table_size {
        return Ok((open(size, renumbering)?, size));
    }
    let mut size = memory::flow_table_size()?;
    loop {
        match open(size, renumbering.clone()) {
            // A container may have less memory than the machine.
            Err(error) if size > memory::LEAST_FLOWS && is_out_of_memory(&error) => {
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

fn fill(
    datapath: &mut Datapath,
    flow_table_size: u32,
    config: &Config,
    indexed: &[Indexed],
    earlier: &Earlier,
    number: u32,
    outside: &Outside,
) -> Result<Policy> {
    let policy = policy::compile(config, indexed, earlier.buckets.as_deref());
    let seed = outside.seed.or(earlier.seed).unwrap_or_else(|| [random(), random()]);
    datapath.set_policy(&policy)?;
    datapath.set_domain_rules(seed, &policy.domain)?;
    datapath.set_resolvers(&outside.resolvers)?;
    let mut settings = Settings {
        layout: LAYOUT,
        fwmark_mask: config.kernel.fwmark_mask,
        seed,
        rules: policy.rules,
        on_down: uplinks::on_down(indexed, earlier.on_down),
        configuration: number,
        domains: policy.domain.len() as u32,
        netns_cookie: if config.local_balance { netns_cookie()? } else { 0 },
        source_prefixes: policy.source_uplinks.len() as u64,
        ..Settings::default()
    };
    set_shares(&mut settings, flow_table_size);
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
    let own = config.uplinks.iter().flat_map(|uplink| uplink.resolvers.iter().copied());
    let any = configured.map_or_else(system_resolvers, |list| list.iter().copied().collect());
    own.chain(any).collect()
}

/// Maps that are listed with their memory; the others are much smaller.
const LARGEST: usize = 4;

/// Logs how much kernel memory the maps take, and which ones take the most.
pub(super) fn log_memory(memory: &MapMemory) {
    let mut largest: Vec<(&String, &u64)> = memory.iter().collect();
    largest.sort_by_key(|(_, size)| Reverse(**size));
    let largest = largest.iter().take(LARGEST);
    let largest: Vec<String> =
        largest.map(|(name, size)| format!("{name} {}", bytes(**size))).collect();
    let total = bytes(memory.values().sum());
    tracing::info!("the maps take {total}, most of it {}", largest.join(", "));
}
