//! The guest's file system: the kernel's modules, Debian's programs with their libraries, and the
//! tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::BufWriter,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, kernel::Kernel, layout::MERGED, modules, root::Roots, suites::Suites};

/// The guest's process 1.
const INIT: &str = include_str!("init.sh");

/// The programs and files that a guest gets. `TRIPLET` stands for that of its architecture.
pub(super) struct Contents {
    programs: &'static [&'static [&'static str]],
    data: &'static [&'static [&'static str]],
}

/// Everything that tests use.
pub(super) const FOR_TESTS: Contents = Contents { programs: &[&PROGRAMS], data: &[&DATA] };

/// The same, and dpkg, with what the scripts of a package call.
pub(super) const FOR_PACKAGES: Contents =
    Contents { programs: &[&PROGRAMS, &PACKAGE_PROGRAMS], data: &[&DATA, &PACKAGE_DATA] };

/// The little that gateways are made with, where each instruction to unpack counts.
pub(super) const FOR_BENCHES: Contents = Contents {
    programs: &[&[
        "bash",
        "busybox",
        "ip",
        "ipset",
        "iptables-restore",
        "ln",
        "mkdir",
        "mknod",
        "mount",
        "nft",
        "nsenter",
        "sleep",
        "sync",
        "tc",
        "timeout",
    ]],
    data: &[&["/etc/iproute2", "/usr/lib/TRIPLET/xtables"]],
};

/// Programs that linkbal, the lab, the tests and [`INIT`] call. All of them are in Debian's base
/// system or installed by the set-up.
const PROGRAMS: [&str; 59] = [
    "bash",
    "bpftool",
    "bridge",
    "busybox",
    "cat",
    "chmod",
    "chroot",
    "conntrack",
    "conntrackd",
    "cp",
    "curl",
    "cut",
    "date",
    "dnsmasq",
    "env",
    "false",
    "flock",
    "grep",
    "head",
    "id",
    "ip",
    "iperf3",
    "keepalived",
    "kill",
    "ln",
    "logger",
    "ls",
    "mkdir",
    "mknod",
    "mktemp",
    "mount",
    "mv",
    "nft",
    "nginx",
    "nsenter",
    "pppd",
    "pppoe",
    "pppoe-server",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sleep",
    "sort",
    "squid",
    "ss",
    "sync",
    "tail",
    "tc",
    "tcpdump",
    "timeout",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "unshare",
    "wc",
    "wg",
];

/// Files that some of these programs read.
const DATA: [&str; 8] = [
    "/etc/iproute2",
    "/etc/nftables.conf",
    "/etc/protocols",
    "/etc/services",
    "/usr/lib/pppd",
    "/usr/lib/squid",
    "/usr/share/squid/errors",
    "/usr/share/squid/mime.conf",
];

const PACKAGE_PROGRAMS: [&str; 12] = [
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "dpkg-trigger",
    "perl",
    "tar",
    "test",
    "xz",
];

const PACKAGE_DATA: [&str; 3] =
    ["/usr/lib/TRIPLET/perl-base", "/usr/share/dpkg", "/usr/share/perl5/Debian"];

/// Folders that are mounted on, or written to.
const FOLDERS: [&str; 14] = [
    "dev", "etc", "modules", "proc", "root", "run", "sys", "tests", "tmp", "usr", "var", "var/lib",
    "var/log", "var/run",
];

/// Writes the archive to `path`.
///
/// # Errors
/// If something that belongs in is missing, or the archive cannot be written.
pub(super) fn write(
    path: &Path,
    contents: &Contents,
    kernel: &Kernel,
    roots: &Roots,
    unpacked: BTreeMap<String, PathBuf>,
    suites: &Suites,
    script: &str,
) -> Result<()> {
    let mut image = Image { roots, files: unpacked };
    for program in contents.programs.iter().copied().flatten() {
        roots.add(&roots.program(program)?, &mut image.files)?;
    }
    for data in contents.data.iter().copied().flatten() {
        if let Some(found) = roots.find(data) {
            image.add_tree(&found)?;
        }
    }
    // Installing a package makes them, and unpacking it does not.
    for names in ["/etc/group", "/etc/passwd"] {
        image.files.insert(names.trim_start_matches('/').to_owned(), names.into());
    }
    for (name, program) in suites {
        roots.add_libraries(program, &mut image.files)?;
        image.files.insert(format!("tests/{name}"), program.clone());
    }
    let modules = modules::in_order(&kernel.modules)?;
    let write = || {
        let mut archive = Archive::new(BufWriter::new(File::create(path)?));
        image.write(&mut archive)?;
        let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
        for (name, content) in &modules {
            archive.file(&format!("modules/{name}"), 0o644, content)?;
        }
        archive.file("modules/order", 0o644, order.as_bytes())?;
        archive.file("tests/run.sh", 0o644, script.as_bytes())?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        anyhow::Ok(archive.finish()?)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

/// Files of the roots, by their path in the archive.
struct Image<'a> {
    roots: &'a Roots,
    files: BTreeMap<String, PathBuf>,
}

impl Image<'_> {
    /// Adds a file or all files of a folder; of programs the libraries, too.
    fn add_tree(&mut self, path: &Path) -> Result<()> {
        if let Ok(entries) = fs::read_dir(path) {
            return entries.flatten().try_for_each(|entry| self.add_tree(&entry.path()));
        }
        if path.is_file() { self.roots.add(path, &mut self.files) } else { Ok(()) }
    }

    fn write<W: std::io::Write>(&self, archive: &mut Archive<W>) -> Result<()> {
        let parents = self.files.keys().flat_map(|path| Path::new(path).ancestors().skip(1));
        let parents = parents.filter_map(Path::to_str).chain(FOLDERS);
        // In their order, a folder comes before what is in it.
        let folders: BTreeSet<_> = parents.filter(|folder| !folder.is_empty()).collect();
        for folder in &folders {
            archive.directory(folder)?;
        }
        for old in MERGED {
            archive.symlink(old, &format!("usr/{old}"))?;
        }
        archive.symlink("usr/bin/sh", "bash")?;
        archive.symlink("usr/sbin/linkbal", "/tests/linkbal")?;
        archive.device("dev/console", (5, 1))?;
        archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
        archive.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
        for (to, from) in &self.files {
            let read = || anyhow::Ok((fs::read(from)?, fs::metadata(from)?.mode() & 0o777));
            let (content, mode) =
                read().with_context(|| format!("failed to read {}", from.display()))?;
            archive.file(to, mode, &content)?;
        }
        Ok(())
    }
}
