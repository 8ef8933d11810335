//! What happens once, at the start.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr, path::Path};

use anyhow::Result;
use linkbal_common::settings::{LAYOUT, Settings};

use crate::{
    bytes::bytes,
    config::Config,
    engine::{
        desired::Indexed,
        policy::{self, Policy},
        uplinks,
    },
    sys::{
        bpf::Datapath, instance::netns_cookie, memory::MapMemory, nft, privilege, probe::random,
        resolve::system_resolvers,
    },
};

/// Says early and clearly what this machine lacks.
pub(super) async fn check_machine() -> Result<()> {
    privilege::check()?;
    nft::check().await?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        tracing::warn!(
            "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): linkbal works, but `bpftool map dump` \
             shows bytes instead of field names"
        );
    }
    Ok(())
}

/// Writes the maps; a datapath that already runs keeps its seed and as many buckets as it can.
/// The settings come last: they turn a new datapath on.
pub(super) fn set_up_datapath(
    datapath: &mut Datapath,
    config: &Config,
    indexed: &[Indexed],
) -> Result<Policy> {
    let before = datapath.settings()?;
    let runs = before.layout == LAYOUT;
    let previous = if runs { Some(datapath.buckets()?) } else { None };
    let policy = policy::compile(config, indexed, previous.as_deref());
    let seed = if runs { before.seed } else { [random(), random()] };
    datapath.set_policy(&policy)?;
    datapath.set_domain_rules(seed, &policy.domain)?;
    datapath.set_resolvers(&resolvers(config))?;
    datapath.set_settings(Settings {
        layout: LAYOUT,
        fwmark_mask: config.kernel.fwmark_mask,
        seed,
        rules: policy.rules,
        on_down: uplinks::on_down(indexed),
        reserved: 0,
        domains: policy.domain.len() as u32,
        netns_cookie: if config.local_balance { netns_cookie()? } else { 0 },
        source_prefixes: policy.source_uplinks.len() as u64,
    })?;
    if let Err(error) = datapath.set_local(config.local_balance) {
        tracing::warn!("this machine's own traffic stays on the best uplink: {error:#}");
    }
    Ok(policy)
}

/// The DNS servers beside this machine itself whose replies are believed.
fn resolvers(config: &Config) -> BTreeSet<IpAddr> {
    let configured = config.dns.resolvers.as_ref();
    configured.map_or_else(system_resolvers, |list| list.iter().copied().collect())
}

/// Maps that are named with their memory; the others are much smaller.
const LARGEST: usize = 4;

/// Says how much kernel memory the maps take, and which ones the most.
pub(super) fn log_memory(memory: &MapMemory) {
    let mut largest: Vec<(&String, &u64)> = memory.iter().collect();
    largest.sort_by_key(|(_, size)| Reverse(**size));
    let largest = largest.iter().take(LARGEST);
    let largest: Vec<String> =
        largest.map(|(name, size)| format!("{name} {}", bytes(**size))).collect();
    let total = bytes(memory.values().sum());
    tracing::info!("the maps take {total}, most of it {}", largest.join(", "));
}
