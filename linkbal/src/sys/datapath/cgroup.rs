//! The programs for local traffic: links to the root of the cgroup tree, which holds all processes
//! of all network namespaces. The programs tell their own namespace by its cookie.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSkbAttachType, CgroupSockAddr, Program, links::FdLink},
};
use linkbal_common::names;

use super::{
    link::{self, HeldLink},
    program::load as load_program,
    remove_pin,
};

/// Lists of mounts, each with the prefix of its paths: of this mount namespace, and of that of
/// process 1, since `ip netns exec` hides the cgroups behind a new `/sys`.
const MOUNTS: [(&str, &str); 2] =
    [("/proc/self/mountinfo", ""), ("/proc/1/mountinfo", "/proc/1/root")];

/// Loads the programs; they do not run before they are attached.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<()> {
    for name in names::LOCAL_PROGRAMS {
        let program = program(ebpf, name)?;
        load_program(|| match &mut *program {
            Program::CgroupSkb(program) => program.load(),
            program => <&mut CgroupSockAddr>::try_from(program)?.load(),
        })?;
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| format!("failed to find {name}"))
}

/// Attaches the loaded programs, in place of those of an earlier daemon; returns the links.
pub(super) fn attach(ebpf: &mut Ebpf, bpf_dir: &Path) -> Result<Vec<HeldLink>> {
    let root = root().context("failed to find a mounted cgroup2")?;
    let cgroup = File::open(&root).with_context(|| format!("failed to open {}", root.display()))?;
    let mut attach = |name| {
        attach_program(ebpf, name, &cgroup, bpf_dir)
            .with_context(|| format!("failed to attach {name} to {}", root.display()))
    };
    names::LOCAL_PROGRAMS.into_iter().map(&mut attach).collect()
}

/// Attaches one program before the earlier link goes, so that no socket slips through between the
/// two; a socket that meets both is decided twice in the same way.
fn attach_program(ebpf: &mut Ebpf, name: &str, cgroup: &File, bpf_dir: &Path) -> Result<HeldLink> {
    // A link never keeps others out, whatever the mode: the kernel refuses the flag, too.
    let mode = CgroupAttachMode::Single;
    let link = match program(ebpf, name)? {
        Program::CgroupSkb(program) => {
            let id = program.attach(cgroup, CgroupSkbAttachType::Ingress, mode)?;
            FdLink::try_from(program.take_link(id)?)?
        }
        program => {
            let program: &mut CgroupSockAddr = program.try_into()?;
            let id = program.attach(cgroup, mode)?;
            FdLink::try_from(program.take_link(id)?)?
        }
    };
    let (pin, new_pin) = (pin(bpf_dir, name), pin(bpf_dir, &format!("{name}_new")));
    remove_pin(&new_pin)?;
    link.pin(&new_pin).with_context(|| format!("failed to pin {}", new_pin.display()))?;
    fs::rename(&new_pin, &pin).with_context(|| format!("failed to pin {}", pin.display()))?;
    HeldLink::open(&pin).with_context(|| format!("failed to open {}", pin.display()))
}

/// Returns whether all programs are pinned.
pub(super) fn is_pinned(bpf_dir: &Path) -> bool {
    names::LOCAL_PROGRAMS.iter().all(|name| pin(bpf_dir, name).exists())
}

/// Returns whether all programs are attached and pinned.
pub(super) fn is_attached(bpf_dir: &Path) -> bool {
    names::LOCAL_PROGRAMS.iter().all(|name| link::is_attached(&pin(bpf_dir, name)))
}

/// Removes the programs of an earlier daemon.
pub(super) fn detach(bpf_dir: &Path) -> Result<()> {
    names::LOCAL_PROGRAMS.iter().try_for_each(|name| remove_pin(&pin(bpf_dir, name)))
}

fn pin(bpf_dir: &Path, name: &str) -> PathBuf {
    bpf_dir.join(format!("cgroup_{name}"))
}

/// Returns the root of the cgroup2 tree.
fn root() -> Option<PathBuf> {
    MOUNTS.into_iter().find_map(|(list, prefix)| {
        let mounts = fs::read_to_string(list).ok()?;
        Some(PathBuf::from(format!("{prefix}{}", mount_point(&mounts)?)))
    })
}

/// Returns the mount point of a whole cgroup2 tree, from the text of proc_pid_mountinfo(5): the
/// fourth field is what is mounted, the fifth where, and the type follows a lone dash.
fn mount_point(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (mounted, at) = (fields.next()?, fields.next()?);
        (mounted == "/" && kind.split(' ').next() == Some("cgroup2")).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_on_unified_and_hybrid_machines() {
        let unified = "25 1 0:23 / / rw shared:1 - ext4 /dev/vda1 rw\n\
                       31 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(unified), Some("/sys/fs/cgroup"));
        let hybrid = "30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 /slice /mnt rw - cgroup2 cgroup rw\n\
                      32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr\n\
                      33 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("30 24 0:26 / /sys/fs/cgroup ro - tmpfs cgroup2 ro\n"), None);
    }
}
