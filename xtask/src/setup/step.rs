//! The steps of the set-up.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{
    arm64,
    machine::{
        CARGO_DEB_VERSION, CARGO_DENY_VERSION, LINKED_TOOLCHAIN, LINKER_VERSION,
        SCHEMATHESIS_VERSION, arm64_root, cache_dir,
    },
};
use crate::process::{cargo, succeed, workspace};

/// LLVM version of Debian's compiler; bpf-linker reads its bitcode and must have the same.
const LLVM: &str = "22";

/// Packages that start a service when they are installed and at each boot.
const SERVICES: [&str; 7] =
    ["conntrackd", "firewalld", "frr", "keepalived", "nginx", "squid", "vsftpd"];

/// Services of these that only systemd can start: update-rc.d(8) knows no script of theirs.
const UNITS: [&str; 1] = ["firewalld"];

/// A step of the set-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Installation of Debian packages.
    Packages(Vec<&'static str>),
    /// Link of Debian's compiler into rustup.
    LinkToolchain,
    /// Build of bpf-linker against the LLVM library that Debian's compiler brought.
    BuildLinker,
    /// Installation of schemathesis, which tests the API, and of axe-core, which tests the page, in a
    /// Python environment of their own.
    InstallPython,
    /// Installation of cargo-deb.
    InstallCargoDeb,
    /// Installation of cargo-deny.
    InstallCargoDeny,
    /// Download of Debian's standard library for arm64, unpacked beside the system: as installed
    /// packages, those of two architectures exclude each other.
    UnpackArm64,
}

impl Step {
    /// Returns one line on what the step does.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Packages(names) => format!("installing Debian packages: {}", names.join(" ")),
            Self::LinkToolchain => {
                format!("linking Debian's Rust into rustup as {LINKED_TOOLCHAIN}")
            }
            Self::BuildLinker => {
                format!("building bpf-linker {LINKER_VERSION} (about two minutes)")
            }
            Self::InstallPython => {
                format!("installing schemathesis {SCHEMATHESIS_VERSION} and axe-core for the tests")
            }
            Self::InstallCargoDeb => format!("building cargo-deb {CARGO_DEB_VERSION}"),
            Self::InstallCargoDeny => format!("building cargo-deny {CARGO_DENY_VERSION}"),
            Self::UnpackArm64 => "unpacking Rust's standard library for arm64".into(),
        }
    }

    /// Returns the commands of the step that only root may run.
    pub(super) fn root_commands(&self) -> Vec<Command> {
        let Self::Packages(names) = self else { return Vec::new() };
        let apt = |arguments: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
            // Errors come on standard error.
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

    /// Carries out the step.
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
            Self::InstallPython => install_python(&cache_dir()?),
            Self::InstallCargoDeb => install("cargo-deb", CARGO_DEB_VERSION, &[]),
            // Its lists of vulnerabilities come by git(1).
            Self::InstallCargoDeny => {
                install("cargo-deny", CARGO_DENY_VERSION, &["--no-default-features"])
            }
            Self::UnpackArm64 => arm64::unpack(&arm64_root()?),
        }
    }
}

/// Returns the command that keeps a service from being started at each boot.
fn disable(service: &str) -> Command {
    let mut command;
    if UNITS.contains(&service) {
        command = Command::new("deb-systemd-helper");
        // The helper is meant for scripts of packages, and needs the package's name.
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
    let mut install = cargo(["install", "bpf-linker", "--locked", "--force", "--quiet"]);
    install
        .args(["--version", LINKER_VERSION, "--root"])
        .arg(cache)
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .env("LLVM_PREFIX", prefix)
        // Halves the build time; the program has little to do.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env_remove("CARGO_TARGET_DIR");
    succeed(&mut install)
}

/// Installs a program for cargo from its registry, without optimization: it has little to do.
fn install(program: &str, version: &str, options: &[&str]) -> Result<()> {
    let mut install = cargo(["install", program, "--locked", "--force", "--quiet"]);
    install.args(["--version", version, "--root"]).arg(cache_dir()?).args(options);
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
    succeed(install.env_remove("CARGO_TARGET_DIR"))
}

/// Installs schemathesis with what it needs, and axe-core, each in the version that the tests were written for.
fn install_python(cache: &Path) -> Result<()> {
    let environment = cache.join("schemathesis");
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    succeed(pip.arg(workspace().join("tests/python/requirements.txt")))?;
    // It is there for a script that it brings; what would run that in a browser is not wanted.
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]);
    pip.arg("--target").arg(cache.join("axe")).arg("--requirement");
    succeed(pip.arg(workspace().join("tests/python/page.txt")))?;
    let (bin, program) = (cache.join("bin"), "schemathesis");
    let make = || {
        fs::create_dir_all(&bin)?;
        let link = bin.join(program);
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(environment.join("bin").join(program), &link)
    };
    make().with_context(|| format!("failed to link {program} in {}", bin.display()))
}

/// Returns the LLVM runtime library; its development package would be some hundred megabytes more.
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

/// Lays the library out as an LLVM installation: under the name that the linker looks for.
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

    #[test]
    fn the_requirements_name_the_version() {
        let text = include_str!("../../../tests/python/requirements.txt");
        let wanted = format!("schemathesis=={SCHEMATHESIS_VERSION}");
        assert!(text.lines().any(|line| line == wanted), "{text}");
    }
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
