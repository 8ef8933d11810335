//! A loaded datapath and its model on the host, set up alike.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{HashMap, Map},
    programs::{TestRun as _, TestRunOptions},
};
use linkbal::{
    config::Config,
    engine::{indexed, kernel::network::Link, policy},
    per_family::PerFamily,
    sys::{datapath::Datapath, host::instance::Instance},
};
use linkbal_common::{
    counter::Counter,
    egress::egress,
    flow::{Flow, FlowKey, Proposal, proposal_slot},
    hash::flow_hash,
    ingress::ingress,
    maps,
    mark::{DEFAULT_MASK, MarkMask},
    model::{FORWARDED, ModelPacket, ModelTables},
    names,
    parse::parse,
    settings::{LAYOUT, Settings},
    tables::{SHARED, Tables as _, bypass},
    uplink::{Family, UpMask},
    verdict::Verdict,
    wan_egress::wan_egress,
};
use nix::time::{ClockId, clock_gettime};

use crate::instance::{instance, remove};

/// Size of `struct __sk_buff` (include/uapi/linux/bpf.h), and the ranges of these fields in it.
pub(crate) const SK_BUFF_SIZE: usize = 192;
pub(crate) const MARK: std::ops::Range<usize> = 8..12;
const INGRESS_IFINDEX: std::ops::Range<usize> = 36..40;

/// The interfaces of the uplinks, and one that several uplinks share.
pub(crate) const INTERFACES: [u32; 3] = [71, 72, 73];
pub(crate) const SHARED_INTERFACE: u32 = 74;

/// The return value that lets other programs go on (`TCX_NEXT`, `TC_ACT_UNSPEC`).
const NEXT: u32 = u32::MAX;

/// The ingress interface of test runs: the loopback device.
const TEST_IFINDEX: u32 = 1;

fn test_link() -> Link {
    Link {
        ifindex: TEST_IFINDEX,
        name: "lan0".into(),
        up: true,
        carrier: true,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    }
}

const CONFIG: &str = r#"
[lan]
interfaces = ["lan0", "lan1"]
[uplink.a]
interface = "wan-a"
weight = 30
[uplink.b]
interface = "wan-b"
weight = 70
[uplink.c]
interface = "wan-c"
weight = 20
[[sticky]]
ports = [443]
[[sticky]]
ports = [8443]
by = "src"
"#;

/// Both sides of the comparison. The pins are removed when it is dropped.
pub(crate) struct Fixture {
    pub(crate) datapath: Datapath,
    pub(crate) model: ModelTables,
    pub(crate) instance: Instance,
    /// The mark of every connection, 0 for none; it takes the place of the proposed mark.
    pub(crate) connection: u32,
}

/// Returns the time of the programs' clock, in seconds.
fn now_s() -> Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(u32::try_from(now.tv_sec())?)
}

impl Drop for Fixture {
    fn drop(&mut self) {
        remove(&self.instance);
    }
}

impl Fixture {
    /// Creates a fixture with three uplinks, the sticky ports 443 (source and destination) and 8443
    /// (source), and no rules.
    pub(crate) fn new() -> Result<Fixture> {
        Fixture::with_rules("")
    }

    /// Creates a fixture like [`Fixture::new`], with rules of the configuration; 192.168.0.0/16 and
    /// fd00::/8 are bypassed.
    pub(crate) fn with_rules(rules: &str) -> Result<Fixture> {
        let config = Config::parse(&format!("{CONFIG}{rules}"), "test")?;
        let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
        let policy = policy::compile(&config, &indexed, None);
        let settings = Settings {
            layout: LAYOUT,
            fwmark_mask: DEFAULT_MASK,
            seed: [0x0123_4567_89ab_cdef, 42],
            rules: policy.rules,
            domains: policy.domain.len() as u32,
            source_prefixes: policy.source_uplinks.len() as u32,
            dimensions: policy.dimensions,
            ..Settings::default()
        };
        let instance = instance()?;
        let opened = Datapath::open(&instance, 65_536);
        let datapath = opened.inspect_err(|_| remove(&instance))?;
        let mut model = policy::model::tables(&policy, settings, |_| TEST_IFINDEX);
        let words = |bytes: [u8; 4]| [u32::from_ne_bytes(bytes), 0, 0, 0];
        model.bypass.push((Family::Ipv4, words([192, 168, 0, 0]), 16, bypass::MAIN));
        model.bypass.push((Family::Ipv6, words([0xfd, 0, 0, 0]), 8, bypass::MAIN));
        model.uplinks = (0..).zip(INTERFACES).map(|(uplink, on)| (on, uplink)).collect();
        model.uplinks.insert(SHARED_INTERFACE, SHARED);
        let mut fixture = Fixture { datapath, model, instance, connection: 0 };
        let datapath = &mut fixture.datapath;
        datapath.set_policy(&policy)?;
        datapath.set_domain_rules(settings.seed, &policy.domain)?;
        datapath.set_rule_interfaces(&policy, &[test_link()])?;
        let bypassed = ["192.168.0.0/16".parse()?, "fd00::/8".parse()?];
        datapath.set_bypass(&bypassed.map(|prefix| (prefix, bypass::MAIN)).into())?;
        datapath.set_uplink_interfaces(&fixture.model.uplinks.clone().into_iter().collect())?;
        datapath.set_settings(settings)?;
        fixture.set_up_mask(UpMask(0x0007_0007))?;
        Ok(fixture)
    }

    /// Gives the three uplinks other weights on both sides, as a new configuration would.
    pub(crate) fn set_weights(&mut self, [a, b, c]: [u32; 3]) -> Result<()> {
        let weights = [("= 30", a), ("= 70", b), ("= 20", c)];
        let config = weights.iter().fold(CONFIG.to_owned(), |config, (old, new)| {
            config.replace(&format!("weight {old}\n"), &format!("weight = {new}\n"))
        });
        let config = Config::parse(&config, "test")?;
        let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
        let policy = policy::compile(&config, &indexed, Some(&self.datapath.buckets()?));
        self.model.buckets.clone_from(&policy.buckets);
        self.datapath.set_policy(&policy)
    }

    /// Sets the usable uplinks on both sides.
    pub(crate) fn set_up_mask(&mut self, mask: UpMask) -> Result<()> {
        self.model.up_mask = mask;
        self.datapath.set_up_mask(mask)
    }

    /// Runs the packet through a loaded program; returns the fwmark it leaves with, or `None` if
    /// the kernel does not run programs on so short a packet.
    pub(crate) fn kernel_fwmark(
        &mut self,
        program: &str,
        bytes: &[u8],
        fwmark: u32,
        ingress_ifindex: u32,
    ) -> Result<Option<u32>> {
        let mut context = [0; SK_BUFF_SIZE];
        context[MARK].copy_from_slice(&fwmark.to_ne_bytes());
        context[INGRESS_IFINDEX].copy_from_slice(&ingress_ifindex.to_ne_bytes());
        let mut context_out = [0; SK_BUFF_SIZE];
        let mut bytes_out = vec![0; bytes.len() + 256];
        let result = self.datapath.program(program)?.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut bytes_out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::new()
        });
        let Ok(result) = result else {
            // 14 bytes of Ethernet, and what the kernel itself reads of the IP header.
            ensure!(bytes.len() < 14 + 40, "the kernel refused a packet of {} bytes", bytes.len());
            return Ok(None);
        };
        ensure!(result.return_value == NEXT, "returned {:#x}", result.return_value);
        ensure!(bytes_out.starts_with(bytes), "the packet was changed");
        Ok(Some(u32::from_ne_bytes(context_out[MARK].try_into()?)))
    }

    /// Runs the packet through both sides and compares; returns the verdict. A proposal is final
    /// where no connection has another uplink, so it is returned as a mark.
    pub(crate) fn both(&mut self, bytes: &[u8], fwmark: u32) -> Result<Verdict> {
        let began_s = now_s()?;
        let kernel = self.kernel_fwmark(names::PROGRAM_INGRESS, bytes, fwmark, 0)?;
        let ended_s = now_s()?;
        let before = self.model.clone();
        let (mut verdict, mut expected) = self.host_fwmark(bytes, fwmark, began_s);
        // The kernel has not seen it.
        let Some(had) = kernel else {
            self.model = before;
            return Ok(verdict);
        };
        if had != expected && ended_s != began_s {
            self.model = before;
            (verdict, expected) = self.host_fwmark(bytes, fwmark, ended_s);
        }
        ensure!(
            had == expected,
            "fwmark {had:#x} in the kernel, {expected:#x} on the host ({verdict:?}): {bytes:02x?}"
        );
        if ended_s != began_s {
            self.set_last_seen(bytes)?;
        }
        self.leave(bytes, &verdict)?;
        let mask = MarkMask(DEFAULT_MASK);
        Ok(match verdict {
            Verdict::Propose { fwmark, .. } if fwmark & mask.number() != 0 => {
                Verdict::Mark(fwmark & !mask.proposal())
            }
            other => other,
        })
    }

    /// Runs the packet through the host's code at the time `now_s`; returns the verdict and the
    /// fwmark.
    fn host_fwmark(&mut self, bytes: &[u8], fwmark: u32, now_s: u32) -> (Verdict, u32) {
        self.model.now_s = now_s;
        let verdict = ingress(&ModelPacket { fwmark, ..ModelPacket::frame(bytes) }, &self.model);
        let expected = match verdict {
            Verdict::Mark(fwmark) | Verdict::Propose { fwmark, .. } => fwmark,
            Verdict::Skip(_) => fwmark,
        };
        (verdict, expected)
    }

    /// Stores in the kernel when the flow of a packet was last seen: its clock went on while the
    /// packet ran, and the idle time of a flow matters for its uplink.
    fn set_last_seen(&mut self, bytes: &[u8]) -> Result<()> {
        let mut key = FlowKey::default();
        if parse(&ModelPacket::frame(bytes), &mut key).is_ok()
            && let Some(flow) = self.model.flows.borrow().get(&key)
        {
            self.datapath.store_flow(&key, flow)?;
        }
        Ok(())
    }

    /// Sends a packet by the proposed uplink. The kernel runs no program on a test packet with a
    /// hash: the flow that the model learns is stored in the kernel's table, if both have the same
    /// proposal.
    fn leave(&mut self, bytes: &[u8], verdict: &Verdict) -> Result<()> {
        let Verdict::Propose { fwmark, hash } = *verdict else { return Ok(()) };
        let mask = MarkMask(DEFAULT_MASK);
        let fwmark = match self.connection {
            0 => fwmark,
            mark => mask.clear(fwmark) | mask.proposal() | mark,
        };
        let Some(uplink) = mask.decode(fwmark) else { return Ok(()) };
        let Some(proposal) = self.model.proposal(hash) else { return Ok(()) };
        let proposals = self.datapath.array(maps::PROPOSALS)?;
        let had = proposals.get(&proposal_slot(hash), 0)?;
        let decided = |proposal: &Proposal| {
            let Proposal { key, flow, former, connects, .. } = *proposal;
            let reasons = (flow.reason, flow.moved_from);
            (key, flow.uplink, flow.sticky_class, flow.ifindex, flow.mac, former, connects, reasons)
        };
        ensure!(decided(&had) == decided(&proposal), "{had:?} in the kernel, {proposal:?}");
        let ifindex = INTERFACES.get(uplink as usize).copied().unwrap_or(SHARED_INTERFACE);
        let counted = (self.model.counters.clone(), self.model.uplink_counters.clone());
        let packet = ModelPacket { fwmark, hash, ifindex, ..ModelPacket::frame(bytes) };
        let _ = wan_egress(&packet, &self.model, FORWARDED);
        (self.model.counters, self.model.uplink_counters) = counted;
        let learned = self.model.flows.borrow().get(&proposal.key).copied();
        if let Some(flow) = learned {
            self.datapath.store_flow(&proposal.key, &flow)?;
        }
        Ok(())
    }

    /// Stores the flow of a packet for which the kernel's program has just proposed an uplink.
    pub(crate) fn learn(&mut self, bytes: &[u8]) -> Result<()> {
        let mut key = FlowKey::default();
        let parsed = parse(&ModelPacket::frame(bytes), &mut key);
        ensure!(parsed.is_ok(), "{parsed:?}");
        let slot = proposal_slot(flow_hash(self.model.settings.seed, &key));
        let proposals = self.datapath.array(maps::PROPOSALS)?;
        let proposal = proposals.get(&slot, 0)?;
        ensure!(proposal.key == key, "{proposal:?} in the slot of {key:?}");
        self.datapath.store_flow(&key, &proposal.flow)
    }

    /// Makes all flows older, on both sides.
    pub(crate) fn age_flows(&mut self, millis: u32) -> Result<()> {
        for (key, flow) in self.model.flows.borrow_mut().iter_mut() {
            flow.first_seen_ms = flow.first_seen_ms.wrapping_sub(millis);
            self.datapath.store_flow(key, flow)?;
        }
        Ok(())
    }

    /// Runs a packet to the LAN through both sides.
    pub(crate) fn both_to_lan(
        &mut self,
        bytes: &[u8],
        fwmark: u32,
        ingress_ifindex: u32,
    ) -> Result<()> {
        self.model.now_s = now_s()?;
        let had = self.kernel_fwmark(names::PROGRAM_EGRESS, bytes, fwmark, ingress_ifindex)?;
        // The model need not see what is too short for the kernel.
        if let Some(had) = had {
            let packet = ModelPacket { fwmark, ..ModelPacket::frame(bytes) };
            egress(&packet, &self.model, ingress_ifindex);
            ensure!(had == fwmark, "the fwmark was changed");
        }
        Ok(())
    }

    /// Compares what both sides have counted and stored.
    pub(crate) fn compare_maps(&self) -> Result<()> {
        for (counter, value) in self.datapath.counters()? {
            let expected = self.model.counter(counter);
            ensure!(value == expected, "{}: {value} in the kernel, {expected}", counter.name());
        }
        ensure!(self.datapath.uplink_counters()? == *self.model.uplink_counters.borrow());
        let mut count = 0;
        for (name, replied) in [(maps::FLOWS::NAME, 1), (maps::UNREPLIED::NAME, 0)] {
            let Map::LruHashMap(_) = self.datapath.map(name)? else {
                anyhow::bail!("{name} is no LRU hash");
            };
            let flows: HashMap<_, FlowKey, Flow> = self.datapath.map(name)?.try_into()?;
            for entry in flows.iter() {
                let (key, flow) = entry?;
                let expected = self.model.flows.borrow().get(&key).copied();
                let expected = expected.with_context(|| format!("only in the kernel: {key:?}"))?;
                let decided = |flow: &Flow| {
                    let Flow { uplink, sticky_class, replied, moved_from, reason, .. } = *flow;
                    (uplink, sticky_class, replied, moved_from, reason)
                };
                ensure!(decided(&flow) == decided(&expected), "{key:?}: {flow:?}, {expected:?}");
                ensure!(flow.replied == replied, "{key:?} in {name}");
                count += 1;
            }
        }
        ensure!(count == self.model.flows.borrow().len(), "{count} flows in the kernel");
        self.compare_domains()
    }

    /// Compares the names of addresses; the clock may have gone on by a second in between.
    fn compare_domains(&self) -> Result<()> {
        let domains = self.datapath.hash(maps::DOMAINS)?;
        let mut count = 0;
        for entry in domains.iter() {
            let (key, domain) = entry?;
            let expected = self.model.domains.borrow().get(&key).copied();
            let expected = expected.with_context(|| format!("only in the kernel: {key:?}"))?;
            let times = domain.expires_s.iter().zip(&expected.expires_s);
            let close = times.into_iter().all(|(had, wanted)| had.abs_diff(*wanted) <= 1);
            ensure!(domain.names == expected.names && close, "{domain:?}, {expected:?}");
            count += 1;
        }
        ensure!(count == self.model.domains.borrow().len(), "{count} addresses in the kernel");
        Ok(())
    }

    /// Returns the value of one counter in the kernel.
    pub(crate) fn counter(&self, wanted: Counter) -> Result<u64> {
        let all = self.datapath.counters()?;
        let found = all.into_iter().find(|(counter, _)| *counter == wanted);
        Ok(found.context("a counter is missing")?.1)
    }
}
