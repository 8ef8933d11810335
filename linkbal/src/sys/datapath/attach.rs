//! Attachment of the programs: by tcx links, pinned so that they outlive the daemon, or by filters
//! of the clsact qdisc on kernels without tcx.

pub(super) mod clsact;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    util::KernelVersion,
};
use linkbal_common::names;
use nix::net::if_::if_nametoindex;

pub use self::clsact::detach_clsact;
use super::{
    link::{self, HeldLink},
    program::{is_loaded, loaded_program, program},
    remove_pin,
    takeover::pin_program,
    xdp::Drivers,
};
use crate::{
    engine::kernel::{
        network::{Link, Role},
        resource::Part,
    },
    sys::host::instance::Instance,
};

/// First kernel with tcx (kernel/bpf/tcx.c).
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

/// The sides of an interface, with the prefix of the pin's name for each; the interface's index
/// follows the prefix.
const SIDES: [(TcAttachType, &str); 2] =
    [(TcAttachType::Ingress, "link_"), (TcAttachType::Egress, "egress_")];

/// Returns the programs of an interface: side, prefix of the pin's name, and program.
fn programs(
    role: Role,
    ethernet: bool,
) -> impl Iterator<Item = (TcAttachType, &'static str, &'static str)> {
    let on = move |(side, prefix)| Some((side, prefix, program_name(role, side, ethernet)?));
    SIDES.into_iter().filter_map(on)
}

/// The way in which the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A tcx link.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Method {
    /// Returns the best method that this kernel has.
    pub fn available() -> Method {
        match KernelVersion::current() {
            Ok(version) if version < TCX_SINCE => Method::Clsact,
            _ => Method::Tcx,
        }
    }
}

/// The interfaces that the programs run on.
pub struct Attachments {
    bpf_dir: PathBuf,
    clsact: clsact::QdiscRecord,
    pub(super) method: Method,
    pub(super) attached: BTreeMap<u32, Attached>,
    /// The interface of a drill.
    drilled: Option<String>,
    /// The id of the drill's program at its ingress.
    pub(super) drill_program: Option<u32>,
    /// The programs at their drivers.
    pub(super) drivers: Drivers,
}

/// The interface that the programs could not be attached to, as the context of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unattached(pub String);

impl fmt::Display for Unattached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to attach the datapath to {}", self.0)
    }
}

/// The programs on an interface.
pub(super) struct Attached {
    role: Role,
    pub(super) link: Link,
    /// The tcx links, each with the prefix of its pin's name. They are held so that the programs
    /// keep running if somebody removes the pins.
    pub(super) links: Vec<(&'static str, HeldLink)>,
}

impl Attachments {
    /// Creates attachments whose links are pinned in `bpf_dir`, and whose filters are recorded in
    /// `run_dir`; with `drivers`, programs run at drivers as well.
    pub fn new(bpf_dir: &Path, run_dir: &Path, method: Method, drivers: bool) -> Attachments {
        if method == Method::Clsact {
            tracing::info!("this kernel has no tcx (Linux 6.6): the clsact qdisc is used");
        }
        Attachments {
            bpf_dir: bpf_dir.into(),
            clsact: clsact::QdiscRecord::new(run_dir),
            method,
            attached: BTreeMap::new(),
            drilled: None,
            drill_program: None,
            drivers: Drivers::new(bpf_dir, drivers),
        }
    }

    /// Attaches the programs to exactly these interfaces; returns the failures.
    pub fn set(&mut self, ebpf: &mut Ebpf, interfaces: &[(Role, Link)]) -> Vec<anyhow::Error> {
        let wanted = |ifindex| interfaces.iter().any(|(_, link)| link.ifindex == ifindex);
        for (ifindex, pin) in self.pinned().filter(|(ifindex, _)| !wanted(*ifindex)) {
            let gone = fs::remove_file(pin);
            tracing::debug!(ifindex, ?gone, "link of a former interface removed");
        }
        let wanted = |ifindex| interfaces.iter().any(|(_, link)| link.ifindex == ifindex);
        let named = |name: &str| interfaces.iter().any(|(_, link)| link.name == name);
        let drilled = self.drilled.as_deref();
        let mut errors = self.clsact.remove_except(|name| named(name) || drilled == Some(name));
        self.attached.retain(|ifindex, _| wanted(*ifindex));
        for (role, link) in interfaces {
            if let Some(known) = self.attached.get_mut(&link.ifindex)
                && known.role == *role
            {
                known.link.clone_from(link);
                continue;
            }
            match self.attach(ebpf, *role, link) {
                Ok(links) => {
                    let attached = Attached { role: *role, link: link.clone(), links };
                    self.attached.insert(link.ifindex, attached);
                }
                Err(error) => errors.push(error.context(Unattached(link.name.clone()))),
            }
        }
        self.drivers.set(ebpf, interfaces);
        errors
    }

    /// Lists the pinned links, each with the index of its interface.
    fn pinned(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        let entries = fs::read_dir(&self.bpf_dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let index = SIDES.iter().find_map(|(_, prefix)| name.strip_prefix(prefix))?;
            Some((index.parse().ok()?, entry.path()))
        })
    }

    /// Attaches a program of a drill to one side of an interface, next to the line, for as long as the
    /// returned link lives; with tcx, also no longer than this process.
    pub(super) fn attach_drill(
        &mut self,
        program: &mut SchedClassifier,
        name: &str,
        side: TcAttachType,
    ) -> Result<SchedClassifierLink> {
        self.drilled = Some(name.to_owned());
        if side == TcAttachType::Ingress {
            self.drill_program = Some(program.info()?.id());
        }
        let id = match self.method {
            Method::Tcx => {
                let ingress = side == TcAttachType::Ingress;
                let order = if ingress { LinkOrder::first() } else { LinkOrder::last() };
                program.attach_with_options(name, side, TcAttachOptions::TcxOrder(order))?
            }
            Method::Clsact => {
                self.clsact.ensure_qdisc(name)?;
                clsact::attach_drill(program, name, side)?
            }
        };
        Ok(program.take_link(id)?)
    }

    /// Forgets the drill: what it left is removed the next time that the interfaces are set.
    pub(super) fn forget_drill(&mut self) {
        self.drilled = None;
        self.drill_program = None;
    }

    /// Returns all links.
    pub(super) fn links(&self) -> impl Iterator<Item = &HeldLink> {
        let links = self.attached.values().flat_map(|attached| &attached.links);
        links.map(|(_, link)| link).chain(self.drivers.links())
    }

    /// Returns the interfaces whose links are detached.
    pub fn detached(&self) -> Vec<Part> {
        self.broken(|attached| {
            let mut links = attached.links.iter();
            !links.all(|(_, link)| link.is_attached())
                || !self.drivers.is_attached(attached.link.ifindex)
        })
    }

    /// Returns the interfaces whose links are no longer pinned.
    pub fn unpinned(&self) -> Vec<Part> {
        self.broken(|attached| {
            let mut links = attached.links.iter();
            !links.all(|(prefix, _)| self.pin(prefix, attached.link.ifindex).exists())
                || !self.drivers.is_pinned(attached.link.ifindex)
        })
    }

    /// Returns the interfaces for which `is_broken` holds. An interface that is gone has taken its
    /// links along, and is left out.
    fn broken(&self, is_broken: impl Fn(&Attached) -> bool) -> Vec<Part> {
        let exists = |attached: &&Attached| {
            if_nametoindex(&*attached.link.name) == Ok(attached.link.ifindex)
        };
        let broken = self.attached.values().filter(|attached| is_broken(attached)).filter(exists);
        broken.map(Attached::part).collect()
    }

    /// Returns the interface with this index, if a filter of linkbal's runs on it.
    pub fn filtered(&self, ifindex: u32) -> Option<Part> {
        let attached = self.attached.get(&ifindex)?;
        (self.method == Method::Clsact).then(|| attached.part())
    }

    /// Attaches the programs to an interface again. Those whose links still stand do not pause:
    /// their links are pinned again.
    pub fn restore(&mut self, ebpf: &mut Ebpf, ifindex: u32) -> Result<()> {
        let Some(Attached { role, link, links }) = self.attached.remove(&ifindex) else {
            return Ok(());
        };
        for (prefix, held) in links {
            let pin = self.pin(prefix, ifindex);
            if !pin.exists() {
                let pinned = held.pin(&pin);
                pinned.with_context(|| format!("failed to pin {}", pin.display()))?;
            }
            if !held.is_attached() {
                remove_pin(&pin)?;
            }
        }
        let links = self.attach(ebpf, role, &link)?;
        let attached = Attached { role, link, links };
        let Attached { role, link, .. } =
            self.attached.entry(ifindex).insert_entry(attached).into_mut();
        self.drivers.restore(ebpf, *role, link)
    }

    fn pin(&self, prefix: &str, ifindex: u32) -> PathBuf {
        self.bpf_dir.join(format!("{prefix}{ifindex}"))
    }

    /// Attaches the programs to an interface; returns the links, if the method has any.
    fn attach(
        &self,
        ebpf: &mut Ebpf,
        role: Role,
        link: &Link,
    ) -> Result<Vec<(&'static str, HeldLink)>> {
        if self.method == Method::Clsact {
            self.clsact.ensure_qdisc(&link.name)?;
        }
        let mut links = Vec::new();
        for (side, prefix, name) in programs(role, link.ethernet) {
            if !is_loaded(ebpf, name) {
                loaded_program(ebpf, name)?;
                pin_program(ebpf, &self.bpf_dir, name)?;
            }
            let program = program(ebpf, name)?;
            match self.method {
                Method::Tcx => {
                    let pin = self.pin(prefix, link.ifindex);
                    links.push((prefix, attach_tcx(program, &link.name, side, &pin)?));
                }
                Method::Clsact => clsact::attach(program, &link.name, side)?,
            }
        }
        self.detach_others(role, link)?;
        Ok(links)
    }
}

impl Attachments {
    /// Detaches the programs of another role from the sides that this role does not use.
    fn detach_others(&self, role: Role, link: &Link) -> Result<()> {
        let used = |side| programs(role, link.ethernet).any(|(other, ..)| other == side);
        for (side, prefix) in SIDES.into_iter().filter(|(side, _)| !used(*side)) {
            match self.method {
                Method::Tcx => remove_pin(&self.pin(prefix, link.ifindex))?,
                Method::Clsact => clsact::detach(&link.name, side)?,
            }
        }
        Ok(())
    }
}

impl Attached {
    fn part(&self) -> Part {
        Part::Attachment { ifindex: self.link.ifindex, interface: self.link.name.clone() }
    }
}

const fn program_name(role: Role, side: TcAttachType, ethernet: bool) -> Option<&'static str> {
    Some(match (role, side, ethernet) {
        (Role::Lan, TcAttachType::Egress, true) => names::PROGRAM_EGRESS,
        (Role::Lan, TcAttachType::Egress, false) => names::PROGRAM_L3_EGRESS,
        (Role::Lan, _, true) => names::PROGRAM_INGRESS,
        (Role::Lan, _, false) => names::PROGRAM_L3,
        (_, TcAttachType::Egress, true) => names::PROGRAM_WAN_EGRESS,
        (_, TcAttachType::Egress, false) => names::PROGRAM_L3_WAN_EGRESS,
        (Role::WanShortcut, _, true) => names::PROGRAM_WAN_INGRESS,
        (Role::WanShortcut, _, false) => names::PROGRAM_L3_WAN_INGRESS,
        (Role::WanDns, _, true) => names::PROGRAM_REPLIES,
        (Role::WanDns, _, false) => names::PROGRAM_L3_REPLIES,
        (Role::Wan, ..) => return None,
    })
}

/// Loads the programs of interfaces.
///
/// # Errors
///
/// If the kernel refuses one of them; the others are loaded.
pub(super) fn load(ebpf: &mut Ebpf, interfaces: &[(Role, Link)]) -> Result<()> {
    let names = interfaces.iter().flat_map(|(role, link)| programs(*role, link.ethernet));
    let load = |(_, _, name)| loaded_program(ebpf, name).map(drop);
    names.map(load).fold(Ok(()), Result::and)
}

/// Replaces the program of the pinned link in one step, or makes and pins a new link.
fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    side: TcAttachType,
    pin: &Path,
) -> Result<HeldLink> {
    let held = || HeldLink::open(pin).with_context(|| format!("failed to open {}", pin.display()));
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            return held();
        }
        // The interface it was made for is gone.
        fs::remove_file(pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(name, side, options)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    link.pin(pin).with_context(|| format!("failed to pin {}", pin.display()))?;
    held()
}

/// Returns the interfaces that programs run on, judging by the pins among `names` and the record of
/// filters.
pub(super) fn interfaces(instance: &Instance, names: &BTreeSet<String>) -> BTreeSet<u32> {
    let index =
        |name: &str| SIDES.iter().find_map(|(_, prefix)| name.strip_prefix(prefix))?.parse().ok();
    let pinned: BTreeSet<u32> = names.iter().filter_map(|name| index(name)).collect();
    let stands = |ifindex: &u32| {
        let pins = SIDES.iter().map(|(_, prefix)| format!("{prefix}{ifindex}"));
        let mut pins = pins.filter(|pin| names.contains(pin));
        pins.all(|pin| link::is_attached(&instance.bpf_dir.join(pin)))
    };
    let noted = clsact::QdiscRecord::new(&instance.run_dir).read();
    let noted = noted.keys().filter_map(|name| if_nametoindex(&**name).ok());
    pinned.into_iter().filter(stands).chain(noted).collect()
}
