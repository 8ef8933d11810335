//! Filters of the clsact qdisc, which outlive the daemon and are found by priority and handle.

mod qdisc;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail};
use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{
        self, NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError,
        TcHandle,
    },
};
use linkbal_common::names;
use nix::net::if_::{if_nameindex, if_nametoindex};

use super::SIDES;
use crate::sys::{
    host::{
        file::{load, remove_stored, store_json},
        instance::CLSACT_RECORD,
    },
    obstacles,
};

/// Priorities of linkbal's filters, the permanent ones and those of a drill at ingress and egress,
/// and the handle of all: what a drill drops on the line has not come in, or has left.
pub(in crate::sys::datapath) const FILTER_PRIORITY: u16 = 26;
const DRILL_PRIORITIES: [u16; 2] = [25, 27];
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 1);

/// Adds a filter that outlives the daemon, or replaces the program of an existing one.
pub(super) fn attach(program: &mut SchedClassifier, name: &str, side: TcAttachType) -> Result<()> {
    let id = attach_filter(program, name, side, FILTER_PRIORITY)?;
    // Dropping the link would remove the filter, which must outlive the daemon.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Adds the filter of a drill, for as long as its link lives.
pub(super) fn attach_drill(
    program: &mut SchedClassifier,
    name: &str,
    side: TcAttachType,
) -> Result<SchedClassifierLinkId> {
    let [ingress, egress] = DRILL_PRIORITIES;
    let priority = if side == TcAttachType::Ingress { ingress } else { egress };
    attach_filter(program, name, side, priority)
}

/// Adds a filter, or replaces the program of an existing one, for as long as its link lives.
fn attach_filter(
    program: &mut SchedClassifier,
    name: &str,
    side: TcAttachType,
    priority: u16,
) -> Result<SchedClassifierLinkId> {
    let handle = FILTER_HANDLE;
    let old = SchedClassifierLink::attached(name, side, priority, handle, None)?;
    if let Ok(id) = program.attach_to_link(old) {
        return Ok(id);
    }
    let options = TcAttachOptions::Netlink(NlOptions { priority, handle, classid: None });
    Ok(program.attach_with_options(name, side, options)?)
}

/// Removes the filter of one side of an interface; a missing one is a success.
pub(super) fn detach(name: &str, side: TcAttachType) -> Result<()> {
    // An owned link of ours is detached when it is dropped.
    drop(SchedClassifierLink::attached(name, side, FILTER_PRIORITY, FILTER_HANDLE, None)?);
    Ok(())
}

/// Removes linkbal's filters, and the qdiscs that it added for them and that nobody else uses. Goes on
/// after failures and returns them. Pinned tcx links go with their folder.
pub fn detach_clsact(run_dir: &Path) -> Vec<Error> {
    let record = QdiscRecord::new(run_dir);
    let mut errors = record.remove_except(|_| false);
    errors.extend(remove_unknown());
    remove_stored(&record.0);
    errors
}

fn remove_filter(name: &str, qdisc_added: bool) -> Result<()> {
    if if_nametoindex(name).is_err() {
        return Ok(());
    }
    for (side, _) in SIDES {
        for priority in [&DRILL_PRIORITIES[..], &[FILTER_PRIORITY]].concat() {
            let link = SchedClassifierLink::attached(name, side, priority, FILTER_HANDLE, None)?;
            // An owned link of ours is detached when it is dropped.
            drop(link);
        }
    }
    let ifindex = if_nametoindex(name)?;
    if qdisc_added && has_clsact(name)? {
        // Others may have put theirs beside: they would go with it.
        let used = obstacles::has_filters(ifindex).context("failed to list the filters")?;
        if !used {
            qdisc::delete(ifindex).context("failed to remove the clsact qdisc")?;
        }
    }
    Ok(())
}

fn has_clsact(name: &str) -> Result<bool> {
    Ok(qdisc_kind(name)?.as_deref() == Some(qdisc::KIND))
}

fn qdisc_kind(name: &str) -> Result<Option<String>> {
    qdisc::kind(if_nametoindex(name)?).context("failed to list the qdiscs")
}

/// Says why there is no room for the qdisc, and what to do: `tc` replaces it by none of another kind
/// (`tc_modify_qdisc` in net/sched/sch_api.c).
fn occupied(name: &str, kind: &str) -> String {
    format!(
        "its qdisc {kind} is in the place of clsact, which a kernel before Linux 6.6 needs: delete it \
         (`tc qdisc del dev {name} {kind}`), and let the program that adds it, most often a traffic \
         shaper, use `tc qdisc replace dev {name} clsact`, and filters at ingress in place of parent ffff:"
    )
}

/// Removes filters of linkbal's that are not in the record, by the names of their programs.
fn remove_unknown() -> Vec<Error> {
    let interfaces = match if_nameindex() {
        Ok(interfaces) => interfaces,
        Err(errno) => return vec![Error::new(errno).context("failed to list the interfaces")],
    };
    let mut errors = Vec::new();
    for interface in &interfaces {
        let name = interface.name().to_string_lossy();
        if !has_clsact(&name).unwrap_or_default() {
            continue;
        }
        for ((side, _), program) in SIDES
            .into_iter()
            .flat_map(|side| names::PROGRAMS.into_iter().map(move |program| (side, program)))
        {
            match tc::qdisc_detach_program(&name, side, program) {
                Err(TcError::IoError(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => errors.push(
                    Error::new(error).context(format!("failed to detach {program} from {name}")),
                ),
                Ok(()) => {}
            }
        }
    }
    errors
}

/// The record of interfaces with a filter of linkbal's, and of the qdiscs that linkbal added: kept
/// in a file, since the kernel does not tell who added a qdisc.
pub(super) struct QdiscRecord(PathBuf);

impl QdiscRecord {
    pub(super) fn new(run_dir: &Path) -> QdiscRecord {
        QdiscRecord(run_dir.join(CLSACT_RECORD))
    }

    pub(super) fn read(&self) -> BTreeMap<String, bool> {
        load(&self.0, "a clsact qdisc that linkbal added may stay after it")
    }

    /// Adds the qdisc if it is missing. It is recorded first, so that a kill in between does not
    /// leave it behind.
    pub(super) fn ensure_qdisc(&self, name: &str) -> Result<()> {
        match qdisc_kind(name)? {
            Some(kind) if kind == qdisc::KIND => {
                self.note(name, false);
                return Ok(());
            }
            Some(kind) => bail!(occupied(name, &kind)),
            None => {}
        }
        self.note(name, true);
        let added = tc::qdisc_add_clsact(name);
        if added.is_err() {
            // One that comes in its place is somebody else's.
            self.forget(name);
        }
        Ok(added?)
    }

    fn forget(&self, name: &str) {
        let mut record = self.read();
        record.remove(name);
        store_json(&self.0, &record);
    }

    fn note(&self, name: &str, qdisc_added: bool) {
        let mut record = self.read();
        *record.entry(name.into()).or_default() |= qdisc_added;
        store_json(&self.0, &record);
    }

    /// Removes linkbal's filters from all interfaces but those to `keep`; goes on after failures
    /// and returns them.
    pub(super) fn remove_except(&self, keep: impl Fn(&str) -> bool) -> Vec<Error> {
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
        store_json(&self.0, &record);
        errors
    }
}
