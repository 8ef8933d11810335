//! Debian packages that are kept unpacked, never installed: a machine that builds linkbal must not
//! get a second service manager, or another DHCP client, as a side effect.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::layout::{libraries, place};
use crate::process::{ask, succeed};

/// The packages of [`FILES`], and libraries that a small system lacks.
const PACKAGES: [&str; 6] =
    ["isc-dhcp-client", "libapparmor1", "libip4tc2", "libkmod2", "libsystemd-shared", "systemd"];

/// Files of the packages that a guest gets, as the packages place them.
const FILES: [&str; 7] = [
    "bin/systemctl",
    "lib/systemd/system/systemd-networkd.service",
    "lib/systemd/systemd",
    "lib/systemd/systemd-networkd",
    "sbin/dhclient",
    "sbin/dhclient-script",
    "usr/bin/systemd-analyze",
];

/// The folder of units whose targets are all taken: services depend on some of them implicitly.
const UNITS: &str = "lib/systemd/system";

/// Folders where the packages have libraries.
const LIBRARIES: [&str; 3] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd"];

/// Suffix of the name of a folder that is still being filled.
pub(super) const UNFINISHED: &str = ".unfinished";

/// Returns the folder of an unpacked package, which is fetched if `cache` lacks it.
///
/// # Errors
/// If it cannot be downloaded or unpacked.
pub(super) fn unpacked(name: &str, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(name);
    if !folder.is_dir() {
        println!("vm: downloading {name}");
        let fetched = fetch(name, cache).or_else(|_| {
            // The lists may be older than what the archive has.
            succeed(Command::new("apt-get").args(["-qq", "update"]))?;
            fetch(name, cache)
        });
        fetched.with_context(|| format!("failed to get package {name}"))?;
    }
    Ok(folder)
}

/// Downloads and unpacks a package, into a folder that gets its name last.
fn fetch(name: &str, cache: &Path) -> Result<()> {
    let folder = cache.join(format!("{name}{UNFINISHED}"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    // Root's own folders are closed to the user that apt-get downloads as by default.
    let as_root = ["-qq", "-o", "APT::Sandbox::User=root"];
    succeed(Command::new("apt-get").args(as_root).args(["download", name]).current_dir(&folder))?;
    let package = fs::read_dir(&folder)?.next().context("apt-get downloaded nothing")??.path();
    succeed(Command::new("dpkg").arg("-x").arg(&package).arg(&folder))?;
    fs::remove_file(package)?;
    Ok(fs::rename(&folder, cache.join(name))?)
}

/// Returns the files of the packages for a guest, and their libraries: paths in the archive and
/// here.
///
/// # Errors
/// If a package cannot be fetched, or lacks a file.
pub(super) fn files(cache: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let roots = PACKAGES.map(|name| unpacked(name, cache));
    let roots = roots.into_iter().collect::<Result<Vec<_>>>()?;
    let mut files = BTreeMap::new();
    for file in FILES {
        let found = roots.iter().map(|root| root.join(file)).find(|path| path.is_file());
        let found = found.with_context(|| format!("no package has {file} any more"))?;
        for library in needed(&found, &roots)? {
            files.insert(place(below_root(&library, &roots)), library);
        }
        files.insert(place(Path::new(file)), found);
    }
    let units = roots.iter().filter_map(|root| fs::read_dir(root.join(UNITS)).ok());
    let units = units.flatten().flatten().map(|unit| unit.path());
    for target in units.filter(|unit| unit.extension().is_some_and(|kind| kind == "target")) {
        files.insert(place(below_root(&target, &roots)), target);
    }
    Ok(files)
}

/// Returns the libraries of a program: those of the packages before those of this machine. `ldd`
/// lists none for a script.
fn needed(program: &Path, roots: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let folders = roots.iter().flat_map(|root| LIBRARIES.map(|folder| root.join(folder)));
    let folders: Vec<_> = folders.map(|folder| folder.to_string_lossy().into_owned()).collect();
    let listed = ask(Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", folders.join(":")));
    let listed = listed.unwrap_or_default();
    let lacks = listed.lines().find(|line| line.contains("not found"));
    ensure!(lacks.is_none(), "{}: {}", program.display(), lacks.unwrap_or_default().trim());
    Ok(libraries(&listed).map(PathBuf::from).collect())
}

/// Returns the path that a file has once its package is installed.
fn below_root<'a>(path: &'a Path, roots: &[PathBuf]) -> &'a Path {
    roots.iter().find_map(|root| path.strip_prefix(root).ok()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_package_gets_its_installed_path() {
        let roots = [PathBuf::from("/cache/systemd")];
        let here = Path::new("/cache/systemd/lib/systemd/systemd");
        assert_eq!(below_root(here, &roots), Path::new("lib/systemd/systemd"));
        assert_eq!(below_root(Path::new("/lib/libc.so"), &roots), Path::new("/lib/libc.so"));
    }
}
