//! Filters and programs of others that see incoming packets behind linkbal's program: packets that take
//! shortcuts would pass them by.

use std::{collections::BTreeMap, io};

use super::{
    Datapath,
    attach::{Attachments, Method, clsact::FILTER_PRIORITY},
    link::HeldLink,
};
use crate::{engine::kernel::network::LOOPBACK, sys::obstacles};

/// Number of programs at one side of an interface that are looked at; the kernel allows no more
/// (`BPF_MPROG_MAX` in include/linux/bpf_mprog.h).
const MAX_PROGRAMS: usize = 64;

/// Preference of filters that come before linkbal's.
const BEFORE: u16 = FILTER_PRIORITY - 1;

/// `BPF_PROG_QUERY` and `BPF_TCX_INGRESS` (include/uapi/linux/bpf.h).
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_TCX_INGRESS: u32 = 46;

/// The member `query` of `union bpf_attr`.
#[repr(C)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

impl Datapath {
    /// Returns what of others comes behind linkbal's program at the ingress of each interface that it
    /// runs on, in words. What cannot be found out is something.
    pub fn behind(&self) -> BTreeMap<u32, Option<String>> {
        self.attachments.behind().collect()
    }
}

impl Attachments {
    /// Returns what of others comes behind linkbal's program at the ingress of each interface.
    fn behind(&self) -> impl Iterator<Item = (u32, Option<String>)> {
        let attached = self.attached.iter().filter(|(_, attached)| attached.link.name != LOOPBACK);
        attached.map(|(ifindex, attached)| {
            let links = attached.links.iter().map(|(_, link)| link);
            // A program at the driver comes before all of them.
            let behind = if self.drivers.runs(*ifindex) {
                others(*ifindex, self.method, links, self.drill_program)
            } else {
                behind(*ifindex, self.method, links)
            };
            (*ifindex, behind.unwrap_or_else(|error| Some(format!("unknown filters ({error})"))))
        })
    }
}

fn behind<'a>(
    ifindex: u32,
    method: Method,
    links: impl Iterator<Item = &'a HeldLink>,
) -> io::Result<Option<String>> {
    match method {
        Method::Clsact => obstacles::filter(ifindex, BEFORE),
        // Programs of tcx come before all filters.
        Method::Tcx => {
            let own = links.map(HeldLink::program).collect::<io::Result<Vec<u32>>>()?;
            let programs = programs(ifindex)?;
            let mut behind = programs.iter().skip_while(|id| !own.contains(id)).skip(1);
            let program = behind.next().map(|id| format!("tcx program {id}"));
            Ok(match program {
                Some(program) => Some(program),
                None => obstacles::filter(ifindex, 0)?,
            })
        }
    }
}

/// Returns what of others is at the ingress of an interface, before or behind linkbal's program; that of a
/// `drill` is its own.
fn others<'a>(
    ifindex: u32,
    method: Method,
    links: impl Iterator<Item = &'a HeldLink>,
    drill: Option<u32>,
) -> io::Result<Option<String>> {
    if matches!(method, Method::Tcx) {
        let own = links.map(HeldLink::program).chain(drill.map(Ok));
        let own = own.collect::<io::Result<Vec<u32>>>()?;
        if let Some(id) = programs(ifindex)?.iter().find(|id| !own.contains(id)) {
            return Ok(Some(format!("tcx program {id}")));
        }
    }
    obstacles::filter(ifindex, 0)
}

/// Returns the ids of the programs of tcx at the ingress of an interface, in their order.
fn programs(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; MAX_PROGRAMS];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: BPF_TCX_INGRESS,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        padding: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes the struct, of this size, and writes at most `count` ids.
    let status = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(query.count as usize);
    Ok(ids)
}
