//! Debian packages that are kept unpacked, never installed: a machine that builds linkbal must not
//! get a second service manager, or another DHCP client, as a side effect.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::root::Roots;
use crate::{apt::Archive, architecture::Architecture};

/// The packages of [`FILES`], and libraries that a small system lacks.
const PACKAGES: [&str; 6] =
    ["isc-dhcp-client", "libapparmor1", "libip4tc2", "libkmod2", "libsystemd-shared", "systemd"];

/// The packages of all other programs that a guest of another architecture gets. What they depend
/// on comes with them.
const PROGRAMS: [&str; 30] = [
    "bash",
    "bpftool",
    "bsdutils",
    "busybox-static",
    "conntrack",
    "conntrackd",
    "coreutils",
    "curl",
    "diffutils",
    "dnsmasq-base",
    "dpkg",
    "grep",
    "init-system-helpers",
    "iperf3",
    "iproute2",
    "keepalived",
    "mount",
    "netbase",
    "nftables",
    "nginx",
    "perl-base",
    "pppoe",
    "procps",
    "sed",
    "squid",
    "tar",
    "tcpdump",
    "util-linux",
    "wireguard-tools",
    "xz-utils",
];

/// Files of the packages that a guest gets, as the packages place them.
const FILES: [&str; 10] = [
    "bin/systemctl",
    "lib/systemd/system/conntrackd.service",
    "lib/systemd/system/keepalived.service",
    "lib/systemd/system/nftables.service",
    "lib/systemd/system/systemd-networkd.service",
    "lib/systemd/systemd",
    "lib/systemd/systemd-networkd",
    "sbin/dhclient",
    "sbin/dhclient-script",
    "usr/bin/systemd-analyze",
];

/// The folder of units whose targets are all taken: services depend on some of them implicitly.
const UNITS: &str = "lib/systemd/system";

/// Suffix of the name of a folder that is still being filled.
pub(super) const UNFINISHED: &str = ".unfinished";

/// Returns the folder of an unpacked package, which is fetched if `cache` lacks it.
///
/// # Errors
/// If it cannot be downloaded or unpacked.
pub(super) fn unpacked(name: &str, archive: &Archive, cache: &Path) -> Result<PathBuf> {
    kept(name, cache, |root| archive.unpack(name, root))
}

/// Returns the folders of the packages that a guest gets files of.
///
/// # Errors
/// If they cannot be downloaded or unpacked.
pub(super) fn roots(
    architecture: Architecture,
    archive: &Archive,
    cache: &Path,
) -> Result<Vec<PathBuf>> {
    match architecture {
        Architecture::Amd64 => PACKAGES.iter().map(|name| unpacked(name, archive, cache)).collect(),
        Architecture::Arm64 => {
            let all = [PACKAGES.as_slice(), PROGRAMS.as_slice()].concat();
            let fill = |root: &Path| archive.unpack_with_dependencies(&all, root);
            // Other packages are another folder.
            let mut list = DefaultHasher::new();
            all.hash(&mut list);
            Ok(vec![kept(&format!("programs-{:x}", list.finish()), cache, fill)?])
        }
    }
}

/// Returns the folder with this name in `cache`, which is filled if it is not there. It gets its
/// name last.
fn kept(name: &str, cache: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache.join(name);
    if !folder.is_dir() {
        println!("vm: downloading {name}");
        let unfinished = cache.join(format!("{name}{UNFINISHED}"));
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished)
            .with_context(|| format!("failed to create {}", unfinished.display()))?;
        fill(&unfinished)?;
        fs::rename(&unfinished, &folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
    }
    Ok(folder)
}

/// Returns the files of the packages for a guest, and their libraries: paths in the archive and
/// here.
///
/// # Errors
/// If a package lacks a file.
pub(super) fn files(roots: &Roots) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for file in FILES {
        let found = roots.find(file).with_context(|| format!("no package has {file} any more"))?;
        roots.add(&found, &mut files)?;
    }
    let units = roots.folders(UNITS).filter_map(|folder| fs::read_dir(folder).ok());
    let units = units.flatten().flatten().map(|unit| unit.path());
    for target in units.filter(|unit| unit.extension().is_some_and(|kind| kind == "target")) {
        files.entry(roots.place(&target)).or_insert(target);
    }
    Ok(files)
}
