//! A loaded datapath to measure, with two uplinks and some rules.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use linkbal::{
    config::Config,
    engine::{indexed, policy},
    sys::{datapath::Datapath, host::instance::Instance},
};
use linkbal_common::{
    flow::{Flow, FlowKey, NOT_STICKY},
    model::ModelPacket,
    parse::parse,
    settings::{LAYOUT, Settings},
    uplink::UpMask,
};

use nix::time::{ClockId, clock_gettime};

use crate::instance;

/// The default of `kernel.flow_table_size`.
const FLOW_TABLE_SIZE: u32 = 262_144;

/// A mask of one bit, in which the number of uplink 1 is zero: the runs of one call share a packet,
/// and so no run finds the packet marked by the previous one.
const FWMARK_MASK: u32 = 0x0200_0000;

/// The uplink whose number is zero, the mask in which it alone is usable, and its interface.
const UPLINK: u32 = 1;
const USABLE: UpMask = UpMask(0x0002_0002);
pub(crate) const INTERFACE: u32 = 72;

const UPLINKS: &str = r#"
[lan]
interfaces = ["lan0"]
[uplink.a]
interface = "wan-a"
[uplink.b]
interface = "wan-b"
"#;

/// A datapath whose pins are removed when it is dropped.
pub(crate) struct Bed {
    pub(crate) datapath: Datapath,
    pub(crate) instance: Instance,
    /// Time to write the policy into the new maps.
    pub(crate) written_in: Duration,
}

impl Drop for Bed {
    fn drop(&mut self) {
        instance::remove(&self.instance);
    }
}

impl Bed {
    /// Creates a datapath with these rules of a configuration.
    pub(crate) fn new(rules: &str) -> Result<Bed> {
        let config = Config::parse(&format!("{UPLINKS}{rules}"), "bench")?;
        let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
        let policy = policy::compile(&config, &indexed, None);
        let instance = instance::instance()?;
        let datapath = Datapath::open(&instance, FLOW_TABLE_SIZE)
            .inspect_err(|_| instance::remove(&instance))
            .context("failed to set up a datapath")?;
        let mut bed = Bed { datapath, instance, written_in: Duration::ZERO };
        let datapath = &mut bed.datapath;
        let before = Instant::now();
        datapath.set_policy(&policy)?;
        bed.written_in = before.elapsed();
        datapath.set_rule_interfaces(&policy, &[])?;
        datapath.set_uplink_interfaces(&[(INTERFACE, UPLINK)].into())?;
        datapath.set_settings(Settings {
            layout: LAYOUT,
            fwmark_mask: FWMARK_MASK,
            seed: [0x0123_4567_89ab_cdef, 42],
            rules: policy.rules,
            ..Settings::default()
        })?;
        bed.decide(true)?;
        Ok(bed)
    }

    /// Stores the flow of a packet, as the program at the egress of its uplink does.
    pub(crate) fn learn(&mut self, frame: &[u8]) -> Result<()> {
        let mut key = FlowKey::default();
        let parsed = parse(&ModelPacket::frame(frame), &mut key);
        ensure!(parsed.is_ok(), "{parsed:?}");
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
        let last_seen_s = u32::try_from(now.tv_sec())?;
        let flow = Flow {
            uplink: UPLINK,
            sticky_class: NOT_STICKY,
            last_seen_s,
            replied: 1,
            ..Flow::default()
        };
        self.datapath.store_flow(&key, &flow)
    }

    /// Sets whether an uplink is usable for new flows; without one, flows are not stored.
    pub(crate) fn decide(&mut self, usable: bool) -> Result<()> {
        self.datapath.set_up_mask(if usable { USABLE } else { UpMask(0) })
    }
}

/// Returns `count` rules, all to be compared with a new flow, which matches only the last one.
pub(crate) fn rules(count: usize) -> String {
    let others = (1..count).map(|number| {
        format!(
            "[[rule]]\nmatch = {{ source = \"172.16.{number}.0/24\", dport = {number} }}\n\
             use = \"b\"\n"
        )
    });
    let last = "[[rule]]\nmatch = { source = \"10.0.0.0/8\", protocol = \"udp\" }\nuse = \"b\"\n";
    others.collect::<String>() + last
}

/// Returns one rule of 100,000 prefixes of 128 addresses each, in a network of 2^24.
pub(crate) fn prefixes(key: &str, network: u8) -> String {
    let each = (0..100_000u32).map(|number| {
        let [_, a, b, c] = (number << 7).to_be_bytes();
        format!("\"{network}.{a}.{b}.{c}/25\"")
    });
    let list = each.collect::<Vec<_>>().join(",");
    format!("[[rule]]\nmatch = {{ {key} = [{list}] }}\nuse = \"b\"\n")
}
