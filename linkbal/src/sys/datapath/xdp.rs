//! Programs at the drivers of interfaces, which send packets of shortcuts before the kernel sees them.
//!
//! Where a driver runs none, or does not send frames of others, the programs of tc do it all: that is no
//! error. A program of somebody else is never replaced.

mod attempt;
mod device;
mod ethtool;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, DevMapHash},
    programs::Xdp,
};
use linkbal_common::{
    maps, names,
    shortcut::{DriverAddress, driver_slot},
};
use nix::errno::Errno;

use self::device::Devices;
use super::{link::HeldLink, program::load, remove_pin};
use crate::engine::kernel::network::{Link, Role};

/// Prefix of the pins' names, before the index of the interface.
const PREFIX: &str = "xdp_";

/// The programs at drivers.
#[derive(Default)]
pub(super) struct Drivers {
    dir: PathBuf,
    /// Set if there are to be any.
    wanted: bool,
    running: BTreeMap<u32, Running>,
    /// The interfaces without, and why: by name.
    refused: BTreeMap<String, String>,
    /// The interface whose packets are all left to tc.
    paused: Option<u32>,
}

/// A program at a driver.
struct Running {
    name: String,
    program: &'static str,
    driver: String,
    /// The link, held so that the program keeps running if somebody removes the pin.
    link: HeldLink,
    address: Option<[u8; 6]>,
    /// Set if frames are sent out by it.
    sends: bool,
}

impl Drivers {
    /// Creates an empty set, whose links will be pinned in `dir`.
    pub(super) fn new(dir: &Path, wanted: bool) -> Drivers {
        Drivers { dir: dir.into(), wanted, ..Drivers::default() }
    }

    /// Returns the interfaces that the programs of tc serve alone, with the reason.
    pub(super) const fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// Returns all links.
    pub(super) fn links(&self) -> impl Iterator<Item = &HeldLink> {
        self.running.values().map(|running| &running.link)
    }

    /// Returns whether an interface has a program.
    pub(super) fn runs(&self, ifindex: u32) -> bool {
        self.running.contains_key(&ifindex)
    }

    /// Returns whether the program of an interface runs, or none is meant to.
    pub(super) fn is_attached(&self, ifindex: u32) -> bool {
        self.running.get(&ifindex).is_none_or(|running| running.link.is_attached())
    }

    /// Returns whether the link to an interface is pinned, or there is none.
    pub(super) fn is_pinned(&self, ifindex: u32) -> bool {
        !self.running.contains_key(&ifindex) || self.pin(ifindex).exists()
    }

    /// Runs programs at the drivers of exactly these interfaces, as far as they can, and sees to it that
    /// frames are sent out only by those that send them.
    pub(super) fn set(&mut self, ebpf: &mut Ebpf, interfaces: &[(Role, Link)]) {
        let wanted = interfaces.iter().filter_map(|(role, link)| Some((program_of(*role)?, link)));
        let wanted: Vec<_> = wanted.filter(|_| self.wanted).collect();
        let devices = if wanted.is_empty() { Devices::default() } else { Devices::observe() };
        let mut refused = BTreeMap::new();
        let mut running = Vec::new();
        for (program, link) in wanted {
            match self.run(ebpf, program, link, &devices) {
                Ok(()) => running.push(link.ifindex),
                Err(reason) => drop(refused.insert(link.name.clone(), reason)),
            }
        }
        let others: Vec<u32> = self.running.keys().copied().collect();
        for ifindex in others.into_iter().filter(|ifindex| !running.contains(ifindex)) {
            self.stop(ebpf, ifindex);
        }
        self.remove_other_pins();
        refused.extend(self.follow(ebpf, &devices));
        self.tell(refused);
    }

    /// Removes the links of a former datapath that this one does not want.
    fn remove_other_pins(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let index = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            if index.is_some_and(|index| !self.running.contains_key(&index)) {
                let gone = remove_pin(&entry.path());
                tracing::debug!(index, ?gone, "link of a former program at a driver removed");
            }
        }
    }

    /// Sees to it that frames are sent out only by interfaces that send them, which may have changed.
    pub(super) fn refresh(&mut self, ebpf: &mut Ebpf) {
        if self.running.is_empty() {
            return;
        }
        let running = |name: &str| self.running.values().any(|running| running.name == name);
        let mut refused = self.refused.clone();
        refused.retain(|name, _| !running(name));
        refused.extend(self.follow(ebpf, &Devices::observe()));
        self.tell(refused);
    }

    /// Leaves all packets of an interface to tc, or of none any more.
    pub(super) fn pause(&mut self, ebpf: &mut Ebpf, ifindex: Option<u32>) {
        self.paused = ifindex;
        self.refresh(ebpf);
    }

    /// Runs the program of an interface again that is detached, and pins its link again.
    pub(super) fn restore(&mut self, ebpf: &mut Ebpf, role: Role, link: &Link) -> Result<()> {
        let Some(running) = self.running.get(&link.ifindex) else { return Ok(()) };
        let pin = self.pin(link.ifindex);
        if running.link.is_attached() {
            if !pin.exists() {
                let pinned = running.link.pin(&pin);
                pinned.with_context(|| format!("failed to pin {}", pin.display()))?;
            }
            return Ok(());
        }
        self.stop(ebpf, link.ifindex);
        let devices = Devices::observe();
        let Some(program) = program_of(role) else { return Ok(()) };
        let mut refused = self.refused.clone();
        if let Err(reason) = self.run(ebpf, program, link, &devices) {
            refused.insert(link.name.clone(), reason);
        }
        refused.extend(self.follow(ebpf, &devices));
        self.tell(refused);
        Ok(())
    }

    /// Runs a program at the driver of an interface, if it does not run yet.
    ///
    /// # Errors
    ///
    /// The reason why it does not, in words.
    fn run(
        &mut self,
        ebpf: &mut Ebpf,
        program: &'static str,
        link: &Link,
        devices: &Devices,
    ) -> Result<(), String> {
        let driver = ethtool::driver(&link.name).unwrap_or_default();
        refusal(link, &driver, devices)?;
        if let Some(running) = self.running.get_mut(&link.ifindex)
            && running.program == program
        {
            running.name.clone_from(&link.name);
            return Ok(());
        }
        let mut others = self.running.keys().filter(|other| **other != link.ifindex);
        if others.any(|other| driver_slot(*other) == driver_slot(link.ifindex)) {
            return Err("its index is that of another interface but for a multiple of 4096".into());
        }
        let held = self.attach(ebpf, program, link.ifindex)?;
        let (name, program) = (link.name.clone(), program);
        let running = Running { name, program, driver, link: held, address: None, sends: false };
        self.running.insert(link.ifindex, running);
        Ok(())
    }

    /// Replaces the program of the pinned link in one step, or makes and pins a new link.
    fn attach(&self, ebpf: &mut Ebpf, program: &str, ifindex: u32) -> Result<HeldLink, String> {
        let program = loaded(ebpf, program).map_err(|error| format!("{error:#}"))?;
        let fd = program.fd().map_err(|error| error.to_string())?.as_fd();
        let pin = self.pin(ifindex);
        if let Ok(link) = HeldLink::open(&pin)
            && link.update(fd).is_ok()
        {
            return Ok(link);
        }
        // The interface it was made for is gone, or somebody has detached it.
        remove_pin(&pin).map_err(|error| format!("{error:#}"))?;
        let link = HeldLink::create_xdp(fd, ifindex).map_err(|error| in_words(&error))?;
        link.pin(&pin).map_err(|error| format!("failed to pin {}: {error}", pin.display()))?;
        Ok(link)
    }

    /// Ends the program of an interface: first nothing is sent to it any more.
    fn stop(&mut self, ebpf: &mut Ebpf, ifindex: u32) {
        self.running.remove(&ifindex);
        let gone = set_sender(ebpf, ifindex, false).and_then(|()| set_address(ebpf, ifindex, None));
        let gone = gone.and_then(|()| remove_pin(&self.pin(ifindex)));
        tracing::debug!(ifindex, ?gone, "program at the driver of a former interface removed");
    }

    /// Writes the maps as the interfaces are; returns those that do not send frames, with the reason.
    fn follow(&mut self, ebpf: &mut Ebpf, devices: &Devices) -> BTreeMap<String, String> {
        let mut refused = BTreeMap::new();
        for (ifindex, running) in &mut self.running {
            let paused = self.paused == Some(*ifindex);
            let address = devices.address(&running.name).filter(|_| !paused);
            if running.address != address && set_address(ebpf, *ifindex, address).is_ok() {
                running.address = address;
            }
            let told = devices.sends(*ifindex, &running.driver);
            let able = told.unwrap_or_else(|| {
                let able = try_to_send(ebpf, *ifindex, &running.name, devices);
                able.inspect_err(|error| tracing::debug!("{error:#}")).unwrap_or_default()
            });
            let sends = able && !paused;
            if running.sends != sends && set_sender(ebpf, *ifindex, sends).is_ok() {
                running.sends = sends;
            }
            if !able {
                refused.insert(running.name.clone(), no_sender(&running.driver));
            }
        }
        refused
    }

    /// Remembers the interfaces without, and says what is new about them.
    fn tell(&mut self, refused: BTreeMap<String, String>) {
        for (name, reason) in &refused {
            if self.refused.get(name) != Some(reason) {
                tracing::info!("no XDP at {name}, the programs of tc serve it: {reason}");
            }
        }
        let running = self.running.values().map(|running| &running.name);
        for name in running.filter(|name| self.refused.contains_key(*name)) {
            if !refused.contains_key(name) {
                tracing::info!("XDP at {name}: what was in its way is gone");
            }
        }
        self.refused = refused;
    }

    fn pin(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{PREFIX}{ifindex}"))
    }
}

/// Returns the program at the drivers of interfaces in a role.
const fn program_of(role: Role) -> Option<&'static str> {
    match role {
        Role::Lan => Some(names::PROGRAM_XDP_LAN),
        Role::WanShortcut => Some(names::PROGRAM_XDP_WAN),
        Role::Wan | Role::WanDns => None,
    }
}

/// Checks what the kernel would not refuse.
///
/// # Errors
///
/// The reason why no program may run there, in words.
fn refusal(link: &Link, driver: &str, devices: &Devices) -> Result<(), String> {
    let reason = if !link.ethernet {
        "its packets have no Ethernet header"
    } else if link.port {
        "it is part of another interface"
    } else if driver == "bonding" {
        // The program would run at the drivers of its members, and see their indexes.
        "it is a bond"
    } else if devices.has_vlans(&link.name) {
        // Devices take tags off before the program sees the frames.
        "there are VLANs on it"
    } else {
        return Ok(());
    };
    Err(reason.into())
}

/// Returns why the kernel does not let a program run at a driver.
fn in_words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EOPNOTSUPP) => "its driver runs no XDP programs".into(),
        Some(Errno::EBUSY | Errno::EEXIST) => "another XDP program runs there".into(),
        _ => format!("its driver refuses the XDP program ({error}), as for a large MTU or LRO"),
    }
}

/// Tries whether the driver of an interface sends frames.
fn try_to_send(ebpf: &mut Ebpf, ifindex: u32, name: &str, devices: &Devices) -> Result<bool> {
    let program = loaded(ebpf, names::PROGRAM_XDP_TRY)?;
    let address =
        devices.address(name).with_context(|| format!("failed to find the address of {name}"))?;
    let sends = attempt::sends(program.fd()?.as_fd(), ifindex, name, address);
    sends.with_context(|| format!("failed to send a frame by {name}"))
}

fn no_sender(driver: &str) -> String {
    let hint = if driver == device::VETH { ": turn on GRO at its other end" } else { "" };
    format!("its driver sends no frames of XDP{hint}")
}

fn loaded<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program =
        ebpf.program_mut(name).with_context(|| format!("failed to find program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    if program.fd().is_err() {
        load(|| program.load()).with_context(|| format!("failed to load {name}"))?;
    }
    Ok(program)
}

fn set_sender(ebpf: &mut Ebpf, ifindex: u32, sends: bool) -> Result<()> {
    let map = ebpf.map_mut(maps::XDP_DEVICES::NAME).context("failed to find XDP_DEVICES")?;
    let mut devices = DevMapHash::try_from(map)?;
    if sends {
        return Ok(devices.insert(ifindex, ifindex, None, 0)?);
    }
    // The kernel may have removed it with its interface.
    let _ = devices.remove(ifindex);
    Ok(())
}

fn set_address(ebpf: &mut Ebpf, ifindex: u32, address: Option<[u8; 6]>) -> Result<()> {
    let map = ebpf.map_mut(maps::XDP_ADDRESSES::NAME).context("failed to find XDP_ADDRESSES")?;
    let mut addresses: Array<_, DriverAddress> = Array::try_from(map)?;
    let entry = address.map(|address| DriverAddress::new(ifindex, address));
    Ok(addresses.set(driver_slot(ifindex), entry.unwrap_or_default(), 0)?)
}
