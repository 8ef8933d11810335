//! Commands to the datapath: where to run, and all that it has to know of the uplinks. It is told
//! only what changes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};

use crate::config::Accelerate;

use super::{
    command::{Command, UplinkAddresses, UplinkMtu},
    context::{Context, Output},
    domains::Domains,
    kernel::{
        desired, lan,
        network::{LOOPBACK, Role},
    },
};

/// Settings that the datapath was told last.
#[derive(Debug, Default)]
pub(super) struct Datapath {
    /// The uplinks to use; `None` before the first time.
    usable: Option<UpMask>,
    /// The uplinks to avoid; `None` before the first time.
    avoided: Option<UpMask>,
    bypass: BTreeMap<IpNet, u32>,
    addresses: UplinkAddresses,
    mtu: UplinkMtu,
    /// The uplinks by interface; `None` before the first time.
    interfaces: Option<BTreeMap<u32, u32>>,
}

impl Datapath {
    /// Returns the address of an uplink, if it has one.
    pub(super) fn address(&self, uplink: u32, family: Family) -> Option<std::net::IpAddr> {
        self.addresses.get(&(uplink, family)).copied()
    }

    /// Returns whether an uplink other than `uplink` has an address.
    pub(super) fn is_of_another(&self, uplink: u32, address: std::net::IpAddr) -> bool {
        self.addresses.iter().any(|((of, _), known)| *of != uplink && *known == address)
    }

    /// Tells everything that changed in the network, and then where to run: on every LAN interface
    /// that exists, also on a new one of the same name or pattern, and on the uplinks. A program
    /// that begins to run knows the network already.
    pub(super) fn update_network(
        &mut self,
        context: &Context,
        domains: &Domains,
        output: &mut Output,
    ) {
        let Some(snapshot) = &context.snapshot else { return };
        let uplinks = context.uplinks.indexed();
        let bypass = desired::bypass(&context.config.exempt, &uplinks, snapshot);
        if bypass != self.bypass {
            self.bypass.clone_from(&bypass);
            output.push(Command::SetBypass(bypass));
        }
        let addresses = desired::uplink_addresses(&uplinks, snapshot);
        if addresses != self.addresses {
            self.addresses.clone_from(&addresses);
            output.push(Command::SetUplinkAddresses(addresses));
        }
        let mtu = desired::uplinks_mtu(&uplinks, snapshot);
        if mtu != self.mtu {
            self.mtu.clone_from(&mtu);
            output.push(Command::SetUplinkMtu(mtu));
        }
        let interfaces = desired::uplink_interfaces(&uplinks, snapshot);
        if self.interfaces.as_ref() != Some(&interfaces) {
            self.interfaces = Some(interfaces.clone());
            output.push(Command::SetUplinkInterfaces(interfaces));
        }
        let lan = lan::present(&context.config, snapshot).into_iter();
        let outside = outside(context, domains).into_iter();
        let outside = outside.filter_map(|(role, name)| Some((role, snapshot.link(name)?)));
        let links = lan.map(|link| (Role::Lan, link)).chain(outside);
        let links = links.map(|(role, link)| (role, link.clone()));
        output.push(Command::Attach(links.collect()));
    }

    /// Sets the uplinks to use, whether that changed or not: nothing may come before it.
    pub(super) fn set_usable(&mut self, usable: UpMask, output: &mut Output) {
        self.usable = Some(usable);
        output.push(Command::SetUpMask(usable));
    }

    /// Sets the uplinks to use if that changed since it was told for the first time.
    pub(super) fn update_usable(&mut self, usable: UpMask, output: &mut Output) {
        if self.usable.replace(usable).is_some_and(|before| before != usable) {
            output.push(Command::SetUpMask(usable));
        }
    }

    /// Sets the uplinks that new flows avoid, if that changed.
    pub(super) fn update_avoided(&mut self, avoided: UpMask, output: &mut Output) {
        if self.avoided != Some(avoided) {
            self.avoided = Some(avoided);
            output.push(Command::SetAvoidMask(avoided));
        }
    }

    /// Sets the same, unless that is yet to be told for the first time, with everything else.
    pub(super) fn update_known_avoided(&mut self, avoided: UpMask, output: &mut Output) {
        if self.avoided.is_some() {
            self.update_avoided(avoided, output);
        }
    }
}

/// Returns the interfaces of the uplinks, and the loopback device if DNS look-ups of local traffic
/// matter.
pub(super) fn outside<'a>(context: &'a Context, domains: &Domains) -> Vec<(Role, &'a str)> {
    let config = &context.config;
    let uplinks = config.uplinks.iter().map(|uplink| uplink.interface.as_str());
    let reads_dns = config.local_balance && !domains.states().is_empty();
    let loopback = reads_dns.then_some(LOOPBACK);
    let names: BTreeSet<&str> = uplinks.chain(loopback).collect();
    let lan = &config.lan_interfaces;
    let outside = names.into_iter().filter(|name| !lan.iter().any(|other| other == name));
    let accelerated = |name: &str| {
        config.uplinks.iter().any(|uplink| uplink.interface == name && uplink.accelerate)
    };
    let role = |name| match config.accelerate {
        Accelerate::Ebpf | Accelerate::Xdp if accelerated(name) => Role::WanShortcut,
        _ if reads_dns => Role::WanDns,
        _ => Role::Wan,
    };
    outside.map(|name| (role(name), name)).collect()
}
