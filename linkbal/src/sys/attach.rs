//! Where the programs run: tcx links, pinned so that they outlive the daemon, or filters of the
//! clsact qdisc on kernels without tcx.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
    util::KernelVersion,
};
use linkbal_common::names;

use super::bpf::program;
use crate::engine::network::{Link, Role};

/// Priority and handle of our filter, by which it is found again.
const FILTER_PRIORITY: u16 = 26;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 1);

/// First kernel with tcx (kernel/bpf/tcx.c).
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

/// The sides of an interface with a program each, and the beginning of the name of each one's pin,
/// which ends with the interface's index.
const SIDES: [(TcAttachType, &str); 2] =
    [(TcAttachType::Ingress, "link_"), (TcAttachType::Egress, "egress_")];

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A tcx link.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Method {
    /// The best that this kernel has.
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
    clsact: ClsactRecord,
    method: Method,
    attached: BTreeMap<u32, Role>,
}

impl Attachments {
    /// Attachments whose links are pinned in `bpf_dir`, and whose filters are noted in `run_dir`.
    pub fn new(bpf_dir: &Path, run_dir: &Path, method: Method) -> Attachments {
        if method == Method::Clsact {
            tracing::info!("this kernel has no tcx (Linux 6.6): the clsact qdisc is used");
        }
        Attachments {
            bpf_dir: bpf_dir.into(),
            clsact: ClsactRecord::new(run_dir),
            method,
            attached: BTreeMap::new(),
        }
    }

    /// Makes the programs run on exactly these interfaces; returns what failed.
    pub fn set(&mut self, ebpf: &mut Ebpf, interfaces: &[(Role, Link)]) -> Vec<anyhow::Error> {
        let wanted = |ifindex| interfaces.iter().any(|(_, link)| link.ifindex == ifindex);
        for (ifindex, pin) in self.pinned().filter(|(ifindex, _)| !wanted(*ifindex)) {
            let gone = fs::remove_file(pin);
            tracing::debug!(ifindex, ?gone, "link of a former interface removed");
        }
        let named = |name: &str| interfaces.iter().any(|(_, link)| link.name == name);
        let mut errors = self.clsact.remove_except(named);
        self.attached.retain(|ifindex, _| wanted(*ifindex));
        for (role, link) in interfaces {
            if self.attached.get(&link.ifindex) == Some(role) {
                continue;
            }
            match self.attach(ebpf, *role, link) {
                Ok(()) => {
                    self.attached.insert(link.ifindex, *role);
                }
                Err(error) => {
                    let name = &link.name;
                    errors.push(error.context(format!("failed to attach the datapath to {name}")));
                }
            }
        }
        errors
    }

    /// Pinned links, with the index of the interface of each.
    fn pinned(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        let entries = fs::read_dir(&self.bpf_dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let index = SIDES.iter().find_map(|(_, prefix)| name.strip_prefix(prefix))?;
            Some((index.parse().ok()?, entry.path()))
        })
    }

    fn attach(&self, ebpf: &mut Ebpf, role: Role, link: &Link) -> Result<()> {
        if self.method == Method::Clsact {
            let qdisc_added = tc::qdisc_add_clsact(&link.name).is_ok();
            self.clsact.note(&link.name, qdisc_added)?;
        }
        for (side, prefix) in SIDES {
            let program = program(ebpf, program_name(role, side, link.ethernet))?;
            match self.method {
                Method::Tcx => {
                    let pin = self.bpf_dir.join(format!("{prefix}{}", link.ifindex));
                    attach_tcx(program, &link.name, side, &pin)?;
                }
                Method::Clsact => attach_clsact(program, &link.name, side)?,
            }
        }
        Ok(())
    }
}

const fn program_name(role: Role, side: TcAttachType, ethernet: bool) -> &'static str {
    match (role, side, ethernet) {
        (Role::Lan, TcAttachType::Egress, true) => names::PROGRAM_EGRESS,
        (Role::Lan, TcAttachType::Egress, false) => names::PROGRAM_BARE_EGRESS,
        (Role::Lan, _, true) => names::PROGRAM_INGRESS,
        (Role::Lan, _, false) => names::PROGRAM_BARE,
        (Role::Outside, TcAttachType::Egress, true) => names::PROGRAM_QUERIES,
        (Role::Outside, TcAttachType::Egress, false) => names::PROGRAM_BARE_QUERIES,
        (Role::Outside, _, true) => names::PROGRAM_REPLIES,
        (Role::Outside, _, false) => names::PROGRAM_BARE_REPLIES,
    }
}

/// Replaces the program of the pinned link in one step, or makes and pins a new link.
fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    side: TcAttachType,
    pin: &Path,
) -> Result<()> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
        if let Ok(id) = program.attach_to_link(link) {
            // The pin holds the link; our descriptor need not.
            drop(program.take_link(id)?);
            return Ok(());
        }
        // The interface it was made for is gone.
        fs::remove_file(pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(name, side, options)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    link.pin(pin).with_context(|| format!("failed to pin {}", pin.display()))?;
    Ok(())
}

/// Adds our filter, or replaces the program of the one that is there.
fn attach_clsact(program: &mut SchedClassifier, name: &str, side: TcAttachType) -> Result<()> {
    let (priority, handle) = (FILTER_PRIORITY, FILTER_HANDLE);
    let old = SchedClassifierLink::attached(name, side, priority, handle, None)?;
    let id = match program.attach_to_link(old) {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions { priority, handle, classid: None };
            let options = TcAttachOptions::Netlink(options);
            program.attach_with_options(name, side, options)?
        }
    };
    // Dropping the link would remove the filter, which must outlive the daemon.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes our filters, and the qdiscs that we added for them. Goes on after failures and returns
/// them. Pinned tcx links go with their folder.
pub fn detach_clsact(run_dir: &Path) -> Vec<anyhow::Error> {
    let record = ClsactRecord::new(run_dir);
    let mut errors = record.remove_except(|_| false);
    errors.extend(record.forget().err());
    errors
}

fn remove_filter(name: &str, qdisc_added: bool) -> Result<()> {
    if nix::net::if_::if_nametoindex(name).is_err() {
        return Ok(());
    }
    for (side, _) in SIDES {
        let link = SchedClassifierLink::attached(name, side, FILTER_PRIORITY, FILTER_HANDLE, None)?;
        // An owned link of ours is detached when it is dropped.
        drop(link);
    }
    if qdisc_added {
        let output = Command::new("tc").args(["qdisc", "del", "dev", name, "clsact"]).output();
        let output = output.context("failed to run tc: install the package iproute2")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "failed to remove the clsact qdisc: {}", complaint.trim());
    }
    Ok(())
}

/// The interfaces with a filter of ours, and whether the qdisc is ours too: kept in a file, since
/// the kernel does not say who added a qdisc.
struct ClsactRecord(PathBuf);

impl ClsactRecord {
    fn new(run_dir: &Path) -> ClsactRecord {
        ClsactRecord(run_dir.join("clsact.json"))
    }

    fn read(&self) -> BTreeMap<String, bool> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn note(&self, name: &str, qdisc_added: bool) -> Result<()> {
        let mut record = self.read();
        *record.entry(name.into()).or_default() |= qdisc_added;
        self.write(&record)
    }

    fn write(&self, record: &BTreeMap<String, bool>) -> Result<()> {
        let text = serde_json::to_string(record)?;
        fs::write(&self.0, text).with_context(|| format!("failed to write {}", self.0.display()))
    }

    /// Removes our filters from all other interfaces; goes on after failures and returns them.
    fn remove_except(&self, keep: impl Fn(&str) -> bool) -> Vec<anyhow::Error> {
        let mut record = self.read();
        let former: Vec<_> = record.extract_if(.., |name, _| !keep(name)).collect();
        if former.is_empty() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        for (name, qdisc_added) in former {
            if let Err(error) = remove_filter(&name, qdisc_added) {
                errors.push(error.context(format!("failed to detach the datapath from {name}")));
            }
        }
        errors.extend(self.write(&record).err());
        errors
    }

    fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}
