//! The state of this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{ask, is_installed};

/// The name under which `linkbal/build.rs` finds Debian's compiler through rustup.
pub(crate) const LINKED_TOOLCHAIN: &str = "linkbal-bpf";

/// The release of bpf-linker that is built if it is missing.
pub(super) const LINKER_VERSION: &str = "0.13.0";

/// The release of cargo-deb that is installed if it is missing.
pub(super) const CARGO_DEB_VERSION: &str = "3.8.0";

/// The release of cargo-deny that is installed if it is missing.
pub(super) const CARGO_DENY_VERSION: &str = "0.20.2";

/// The standard library for arm64, in the folder where it is unpacked.
const ARM64_STD: &str = "usr/lib/rustlib/aarch64-unknown-linux-gnu/lib";

/// The release of schemathesis that `tests/python/requirements.txt` names.
pub(super) const SCHEMATHESIS_VERSION: &str = "4.32.5";

/// The script of axe-core below the cache, as the package in `tests/python/page.txt` has it.
const AXE: &str = "axe/axe_playwright_python/axe.min.js";

/// Observed state of this machine, as far as the set-up cares.
pub(super) struct Machine {
    /// True if the system is Debian.
    pub(super) debian: bool,
    /// True if rustup is in `PATH`.
    pub(super) rustup: bool,
    /// True if rustup knows [`LINKED_TOOLCHAIN`].
    pub(super) linked: bool,
    /// True if the eBPF toolchain is the developer's own: named in `LINKBAL_BPF_TOOLCHAIN`, or a
    /// nightly with rust-src; and there is a bpf-linker.
    pub(super) own_toolchain: bool,
    /// True if the bpf-linker of the set-up itself works.
    pub(super) linker: bool,
    /// True if the schemathesis of the set-up itself works, and axe-core is there.
    pub(super) python: bool,
    /// True if the cargo-deb of the set-up itself works.
    pub(super) cargo_deb: bool,
    /// True if there is a cargo-deny, the set-up's own or another one.
    pub(super) cargo_deny: bool,
    /// True if the standard library for arm64 is unpacked.
    pub(super) arm64: bool,
    /// Packages of the [`FUZZ_PROGRAMS`] that are missing.
    pub(super) missing_fuzz_tools: Vec<&'static str>,
    /// Packages of the [`DIST_PROGRAMS`] that are missing.
    pub(super) missing_dist_tools: Vec<&'static str>,
    /// Packages of the [`CROSS_PROGRAMS`] and [`CROSS_FILES`] that are missing.
    pub(super) missing_cross_tools: Vec<&'static str>,
    /// Packages of the [`PROGRAMS`] that are missing.
    pub(super) missing_tools: Vec<&'static str>,
    /// Packages of the [`TEST_PROGRAMS`] that are missing.
    pub(super) missing_test_tools: Vec<&'static str>,
    /// Packages of the [`VM_PROGRAMS`] that are missing.
    pub(super) missing_vm_tools: Vec<&'static str>,
    /// Packages of the [`VM_ARM64_PROGRAMS`] that are missing.
    pub(super) missing_vm_arm64_tools: Vec<&'static str>,
    /// Packages of the [`COMPILER`] that are missing.
    pub(super) missing_compiler: Vec<&'static str>,
}

/// Programs that linkbal and its tests call, and their Debian packages.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("bpftool", "bpftool"),
    ("conntrack", "conntrack"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
];

/// Programs that only the tests call, as servers, clients, proxy and leftovers of their lab.
const TEST_PROGRAMS: [(&str, &str); 16] = [
    ("busybox", "busybox-static"),
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
    ("conntrackd", "conntrackd"),
    ("dnsmasq", "dnsmasq-base"),
    ("firewalld", "firewalld"),
    ("iptables-nft", "iptables"),
    ("iperf3", "iperf3"),
    ("keepalived", "keepalived"),
    ("nginx", "nginx"),
    ("openvpn", "openvpn"),
    ("prometheus", "prometheus"),
    ("squid", "squid"),
    ("tmux", "tmux"),
    ("vsftpd", "vsftpd"),
    ("vtysh", "frr"),
];

/// Debian package of Python with environments of its own.
const VENV: &str = "python3-venv";

/// Programs that run virtual machines, and that only these call.
const VM_PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("ipset", "ipset"),
    ("pppd", "ppp"),
    ("pppoe-server", "pppoe"),
    ("wg", "wireguard-tools"),
    ("xz", "xz-utils"),
];

/// Programs that run virtual machines of another architecture.
const VM_ARM64_PROGRAMS: [(&str, &str); 1] = [("qemu-system-aarch64", "qemu-system-arm")];

/// Programs that make packages.
const DIST_PROGRAMS: [(&str, &str); 1] = [("lintian", "lintian")];

/// Programs that build for arm64.
const CROSS_PROGRAMS: [(&str, &str); 1] = [("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")];

/// Debian packages of files that a program for arm64 is linked with, and of the compiler that the
/// standard library for arm64 fits.
const CROSS_FILES: [&str; 2] = ["libc6-dev-arm64-cross", "rustc-web"];

/// Programs that build libFuzzer.
const FUZZ_PROGRAMS: [(&str, &str); 1] = [("c++", "g++")];

/// Debian packages of a compiler that knows the BPF target; the last one only without rustup.
const COMPILER: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "cargo-web"];

impl Machine {
    /// Observes this machine; takes a few tens of milliseconds.
    ///
    /// # Errors
    /// If there is no home directory.
    pub(super) fn observe() -> Result<Self> {
        let toolchains = ask(Command::new("rustup").args(["toolchain", "list", "-v"]));
        let rustup = toolchains.is_some();
        let toolchains = Toolchains::parse(&toolchains.unwrap_or_default());
        let chosen = env::var_os("LINKBAL_BPF_TOOLCHAIN").is_some();
        let nightly = !toolchains.linked && toolchains.nightly.as_deref().is_some_and(has_rust_src);
        let cache = cache_dir()?;
        let linker = has(&cache, "bpf-linker", LINKER_VERSION);
        let axe = cache.join(AXE).exists();
        let python = axe && has(&cache, "schemathesis", SCHEMATHESIS_VERSION);
        let mut missing_test_tools = missing_programs(&TEST_PROGRAMS);
        if !python && !has_venv() {
            missing_test_tools.push(VENV);
        }
        let mut missing_cross_tools = missing_programs(&CROSS_PROGRAMS);
        missing_cross_tools.extend(missing_packages(&CROSS_FILES));
        let wanted = &COMPILER[..if rustup { 2 } else { 3 }];
        Ok(Self {
            debian: is_debian(),
            rustup,
            linked: toolchains.linked,
            own_toolchain: (chosen || nightly) && (linker || is_installed("bpf-linker")),
            linker,
            python,
            cargo_deb: has(&cache, "cargo-deb", CARGO_DEB_VERSION),
            cargo_deny: has(&cache, "cargo-deny", CARGO_DENY_VERSION) || is_installed("cargo-deny"),
            arm64: arm64_root()?.join(ARM64_STD).is_dir(),
            missing_dist_tools: missing_programs(&DIST_PROGRAMS),
            missing_cross_tools,
            missing_fuzz_tools: missing_programs(&FUZZ_PROGRAMS),
            missing_tools: missing_programs(&PROGRAMS),
            missing_test_tools,
            missing_vm_tools: missing_programs(&VM_PROGRAMS),
            missing_vm_arm64_tools: missing_programs(&VM_ARM64_PROGRAMS),
            missing_compiler: missing_packages(wanted),
        })
    }
}

/// Returns the folder in which the standard library for arm64 is unpacked.
pub(crate) fn arm64_root() -> Result<PathBuf> {
    Ok(cache_dir()?.join("arm64"))
}

/// Returns the folder in which cargo keeps the sources of crates.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    Ok(Path::new(&env::var_os("HOME").context("HOME is not set")?).join(".cargo"))
}

/// Returns `~/.cache/linkbal`, where `linkbal/build.rs` looks for `bin/bpf-linker`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("linkbal"))
}

/// The toolchains in the output of `rustup toolchain list -v`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Toolchains {
    linked: bool,
    nightly: Option<PathBuf>,
}

impl Toolchains {
    /// Parses lines `NAME [(active, default)] PATH`.
    fn parse(list: &str) -> Self {
        let mut found = Self::default();
        for line in list.lines() {
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if name == LINKED_TOOLCHAIN {
                found.linked = true;
            } else if name.starts_with("nightly-") && !name.starts_with("nightly-2") {
                found.nightly = rest.find('/').map(|start| PathBuf::from(&rest[start..]));
            }
        }
        found
    }
}

fn has_rust_src(toolchain: &Path) -> bool {
    toolchain.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// Returns whether the set-up has built this version of a program. Starting it also proves that the
/// libraries that it needs are still there.
fn has(cache: &Path, program: &str, version: &str) -> bool {
    let said = ask(Command::new(cache.join("bin").join(program)).arg("--version"));
    said.is_some_and(|said| said.trim_end().ends_with(version))
}

/// Returns whether Python can make an environment with pip in it.
fn has_venv() -> bool {
    ask(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_some()
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release")
        .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"))
}

/// Returns the packages of those programs that are missing.
fn missing_programs(wanted: &[(&str, &'static str)]) -> Vec<&'static str> {
    let missing = wanted.iter().filter(|(program, _)| !is_installed(program));
    missing.map(|(_, package)| *package).collect()
}

fn missing_packages(wanted: &[&'static str]) -> Vec<&'static str> {
    let format = "--showformat=${Package} ${db:Status-Status}\n";
    // dpkg-query fails if one of them is unknown, but still lists the others.
    let output = Command::new("dpkg-query").args(["--show", format]).args(wanted).output();
    let listed = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let is_missing = |package: &&str| !listed.lines().any(|l| l == format!("{package} installed"));
    wanted.iter().copied().filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_distinguished() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default) /r/stable\n\
            nightly-2026-01-01-x86_64-unknown-linux-gnu /r/dated\n\
            nightly-x86_64-unknown-linux-gnu /r/nightly\n\
            linkbal-bpf-old /old\n";
        let nightly = Some(PathBuf::from("/r/nightly"));
        assert_eq!(Toolchains::parse(list), Toolchains { linked: false, nightly });
        let linked = Toolchains { linked: true, nightly: None };
        assert_eq!(Toolchains::parse("linkbal-bpf /usr\n"), linked);
    }

    #[test]
    fn a_package_that_does_not_exist_is_missing() {
        assert_eq!(missing_packages(&["linkbal-no-such-package"]), ["linkbal-no-such-package"]);
    }
}
