//! The doing of it.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::machine::{FUZZER_VERSION, LINKED_TOOLCHAIN, LINKER_VERSION, cache_dir};
use crate::process::{cargo, succeed};

/// LLVM of Debian's compiler; bpf-linker reads its bitcode and must have the same.
const LLVM: &str = "22";

/// Packages that start a service when they are installed and at each boot.
const SERVICES: [&str; 5] = ["conntrackd", "firewalld", "nginx", "squid", "vsftpd"];

/// Those of them that only systemd can start: update-rc.d(8) knows no script of theirs.
const UNITS: [&str; 1] = ["firewalld"];

/// One thing to set up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Install Debian packages.
    Packages(Vec<&'static str>),
    /// Make Debian's compiler known to rustup.
    LinkToolchain,
    /// Build bpf-linker against the LLVM library that Debian's compiler brought.
    BuildLinker,
    /// Build cargo-fuzz.
    BuildFuzzer,
}

impl Step {
    /// One line on what the step does.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Packages(names) => format!("installing Debian packages: {}", names.join(" ")),
            Self::LinkToolchain => {
                format!("linking Debian's Rust into rustup as {LINKED_TOOLCHAIN}")
            }
            Self::BuildLinker => {
                format!("building bpf-linker {LINKER_VERSION} (about two minutes)")
            }
            Self::BuildFuzzer => format!("building cargo-fuzz {FUZZER_VERSION} (about a minute)"),
        }
    }

    /// The commands of the step that only root may run.
    pub(super) fn root_commands(&self) -> Vec<Command> {
        let Self::Packages(names) = self else { return Vec::new() };
        let apt = |arguments: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
            // What goes wrong comes on standard error.
            apt.stdout(Stdio::null());
            apt
        };
        let mut install = apt(&["install", "-y", "--no-install-recommends"]);
        install.args(names);
        let services: Vec<_> = names.iter().filter(|name| SERVICES.contains(name)).collect();
        if !services.is_empty() {
            // Only the programs are wanted. Thus systemctl(1) starts nothing, nor do the scripts
            // of an older init: runlevel(8) reads this variable.
            install.envs([("SYSTEMD_OFFLINE", "1"), ("RUNLEVEL", "1")]);
        }
        let disable = services.into_iter().map(|service| disable(service));
        [apt(&["update"]), install].into_iter().chain(disable).collect()
    }

    /// Does it.
    ///
    /// # Errors
    /// If a command fails or a file cannot be made.
    pub(super) fn perform(&self) -> Result<()> {
        match self {
            Self::Packages(_) => self.root_commands().iter_mut().try_for_each(succeed),
            Self::LinkToolchain => {
                let link = ["toolchain", "link", LINKED_TOOLCHAIN, "/usr"];
                succeed(Command::new("rustup").args(link))
            }
            Self::BuildLinker => build_linker(&cache_dir()?),
            Self::BuildFuzzer => succeed(&mut install("cargo-fuzz", FUZZER_VERSION, &cache_dir()?)),
        }
    }
}

/// The command that keeps a service from being started at each boot.
fn disable(service: &str) -> Command {
    let mut command;
    if UNITS.contains(&service) {
        command = Command::new("deb-systemd-helper");
        // It is meant for scripts of packages, and wants to know whose.
        command.env("DPKG_MAINTSCRIPT_PACKAGE", service);
        command.args(["disable", &format!("{service}.service")]);
    } else {
        command = Command::new("update-rc.d");
        command.args([service, "disable"]);
    }
    command
}

fn build_linker(cache: &Path) -> Result<()> {
    let prefix = cache.join("llvm");
    link_llvm(&llvm_library()?, &prefix.join("lib"))?;
    let mut install = install("bpf-linker", LINKER_VERSION, cache);
    install
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", prefix);
    succeed(&mut install)
}

/// Builds a program of crates.io into `bin/` of the cache.
fn install(program: &str, version: &str, cache: &Path) -> Command {
    let mut install = cargo(["install", program, "--locked", "--force", "--quiet"]);
    install
        .args(["--version", version, "--root"])
        .arg(cache)
        // Half the build time, and what they have to do is little.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env_remove("CARGO_TARGET_DIR");
    install
}

/// The runtime library; its development package would be some hundred megabytes more.
fn llvm_library() -> Result<PathBuf> {
    let dir = PathBuf::from(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH));
    let name = format!("libLLVM.so.{LLVM}");
    let entries =
        fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name)))
        .with_context(|| {
            format!("{}/{name}* is missing: Debian's rustc has another LLVM", dir.display())
        })
}

/// Lays the library out as an LLVM installation: under the name the linker looks for.
fn link_llvm(library: &Path, dir: &Path) -> Result<()> {
    let link = dir.join("libLLVM.so");
    let make = || {
        fs::create_dir_all(dir)?;
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(library, &link)
    };
    make().with_context(|| format!("failed to link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::line;

    #[test]
    fn services_are_neither_started_nor_enabled() {
        let step = Step::Packages(vec!["firewalld", "iperf3", "squid"]);
        let commands = step.root_commands();
        let lines: Vec<_> = commands.iter().map(line).collect();
        let install = "apt-get -qq install -y --no-install-recommends firewalld iperf3 squid";
        let unit = "deb-systemd-helper disable firewalld.service";
        assert_eq!(lines, ["apt-get -qq update", install, unit, "update-rc.d squid disable"]);
        let offline = |command: &Command| command.get_envs().any(|(k, _)| k == "SYSTEMD_OFFLINE");
        assert!(offline(&commands[1]));
        let plain = Step::Packages(vec!["nftables"]).root_commands();
        assert!(plain.len() == 2 && !plain.iter().any(offline));
    }
}
