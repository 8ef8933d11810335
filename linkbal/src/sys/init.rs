//! Observation of a machine that has no configuration yet. Nothing is changed, and most of it needs no
//! root.

mod client;
mod found;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Result;
use linkbal_common::uplink::Family;

use super::{
    doctor::{jobs, processes, suspects},
    host::file,
    ipsec,
    netlink::Netlink,
    survey::survey,
    sysctl,
};
use crate::{
    engine::kernel::conflict::survey::Survey,
    init::{Facts, watched},
};

/// Drivers of modems for mobile networks, and of telephones that share their line.
const MODEM_DRIVERS: [&str; 8] = [
    "qmi_wwan",
    "cdc_mbim",
    "huawei_cdc_ncm",
    "sierra_net",
    "hso",
    "ipheth",
    "rndis_host",
    "mhi_net",
];

/// Observes the machine, as far as this process may.
///
/// # Errors
///
/// If the kernel does not tell the interfaces and routes.
pub async fn observe() -> Result<Facts> {
    let netlink = Netlink::connect()?;
    let mut snapshot = netlink.snapshot().await?;
    let names: Vec<String> = snapshot.links.values().map(|link| link.name.clone()).collect();
    let watched = watched(names.iter().cloned());
    let sysctls = watched.into_iter().filter_map(|path| Some((path.clone(), sysctl::read(&path)?)));
    snapshot.sysctls = sysctls.collect();
    let mut weights = Vec::new();
    for family in Family::ALL {
        weights.extend(netlink.weights(family).await?);
    }
    let mut unseen = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        let what = "the firewall, programs of others and some files, which only root may look at: `sudo \
                    linkbal init` says more";
        unseen.push(what.into());
    }
    let survey = survey(Vec::new()).await.unwrap_or_else(|error| {
        if unseen.is_empty() {
            unseen.push(format!("the firewall ({error:#})").replace('\n', " "));
        }
        Survey::default()
    });
    let processes = processes();
    let jobs = jobs();
    Ok(Facts {
        host: word("/proc/sys/kernel/hostname"),
        kernel: word("/proc/sys/kernel/osrelease"),
        devices: netlink.devices().await?,
        weights,
        clients: client::clients(&snapshot, &processes),
        modems: names.iter().filter(|name| is_modem(name)).cloned().collect(),
        survey,
        found: found::configurations(&jobs),
        ipsec: ipsec::obstacle().ok().flatten(),
        leftovers: suspects(&names.iter().map(String::as_str).collect(), &processes),
        jobs,
        snapshot,
        unseen,
    })
}

/// Returns the text of a file of one line.
fn word(path: &str) -> String {
    let text = file::read_text(Path::new(path), file::SMALL).unwrap_or_default();
    text.trim().to_owned()
}

fn is_modem(interface: &str) -> bool {
    let driver = fs::read_link(format!("/sys/class/net/{interface}/device/driver"));
    let known: BTreeSet<&str> = MODEM_DRIVERS.into();
    driver.is_ok_and(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name))
    })
}
