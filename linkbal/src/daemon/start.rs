//! What happens once, at the start.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use linkbal_common::{
    bucket::Bucket,
    settings::{LAYOUT, MAX_STICKY_CLASSES, Settings, StickyClass},
};

use crate::{
    config::{Config, StickyBy},
    engine::{
        buckets::{self, Candidate},
        desired::Indexed,
    },
    sys::{bpf::Datapath, instance::netns_cookie, nft, probe::random},
};

/// Says early and clearly what this machine lacks.
pub(super) async fn check_machine() -> Result<()> {
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
) -> Result<Vec<Bucket>> {
    let before = datapath.settings()?;
    let runs = before.layout == LAYOUT;
    let previous = if runs { Some(datapath.buckets()?) } else { None };
    let candidates: Vec<Candidate> = indexed.iter().map(candidate).collect();
    let buckets = buckets::rank(&candidates, previous.as_deref());
    datapath.set_buckets(&buckets)?;
    datapath.set_sticky_ports(&sticky_ports(config))?;
    datapath.set_settings(Settings {
        layout: LAYOUT,
        fwmark_mask: config.kernel.fwmark_mask,
        seed: if runs { before.seed } else { [random(), random()] },
        sticky: sticky_classes(config),
        netns_cookie: if config.local_balance { netns_cookie()? } else { 0 },
    })?;
    if let Err(error) = datapath.set_local(config.local_balance) {
        tracing::warn!("this machine's own traffic stays on the best uplink: {error:#}");
    }
    Ok(buckets)
}

fn candidate(indexed: &Indexed) -> Candidate {
    Candidate {
        name: indexed.uplink.name.clone(),
        index: indexed.index as u8,
        weight: indexed.uplink.weight,
        tier: indexed.uplink.tier,
    }
}

fn sticky_ports(config: &Config) -> BTreeMap<u16, u32> {
    let classes = (0..).zip(&config.sticky);
    classes.flat_map(|(index, class)| class.ports.iter().map(move |port| (*port, index))).collect()
}

/// The configuration has made sure that there are not too many.
fn sticky_classes(config: &Config) -> [StickyClass; MAX_STICKY_CLASSES] {
    let mut classes = [StickyClass::default(); MAX_STICKY_CLASSES];
    for (class, sticky) in classes.iter_mut().zip(&config.sticky) {
        *class = StickyClass {
            idle_s: sticky.idle.as_secs().try_into().unwrap_or(u32::MAX),
            by_destination: u32::from(sticky.by == StickyBy::SourceAndDestination),
        };
    }
    classes
}
