//! `cargo xtask setup`: installs what linkbal needs from the machine. Other verbs call it first.

mod arm64;
mod machine;
mod plan;
mod step;

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{is_root, line};
use machine::Machine;
pub(crate) use machine::{LINKED_TOOLCHAIN, arm64_root, cache_dir, cargo_home};
use plan::plan;
use step::Step;

/// The purpose that the machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Building and running the fuzz targets, which need no eBPF.
    Fuzz,
    /// Building linkbal.
    Build,
    /// Checking it and the licences of its crates, too.
    Lint,
    /// Making packages of it for all architectures, which needs nothing of what follows.
    Dist,
    /// Running linkbal and its lab, too.
    Run,
    /// Running the tests, too.
    Test,
    /// Running the tests in virtual machines, too.
    Vm,
    /// Running them on arm64, too.
    VmArm64,
}

/// Sets up everything, and says so even if nothing was missing.
///
/// # Errors
/// As [`setup`].
pub(crate) fn setup_and_report() -> Result<()> {
    setup(Need::Vm)?;
    setup(Need::Fuzz)?;
    setup(Need::Lint)?;
    println!("setup: everything is there");
    Ok(())
}

/// Installs what is missing; quick and silent if nothing is.
///
/// # Errors
/// If a step fails, and if root or another system is needed: what to do by hand.
pub(crate) fn setup(need: Need) -> Result<()> {
    if need >= Need::Run && !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "this kernel describes no types (/sys/kernel/btf/vmlinux is missing): linkbal needs \
             one built with CONFIG_DEBUG_INFO_BTF, like Debian's own"
        );
    }
    let steps = missing(need)?;
    if steps.is_empty() {
        return Ok(());
    }
    refuse_without_root(&steps)?;
    let _lock = lock()?;
    // Another set-up may have done it while this one waited.
    for step in missing(need)? {
        println!("setup: {}", step.describe());
        step.perform()?;
    }
    match missing(need)?.first() {
        None => Ok(()),
        Some(step) => bail!("still missing after the set-up: {}", step.describe()),
    }
}

fn missing(need: Need) -> Result<Vec<Step>> {
    let machine = Machine::observe()?;
    let steps = plan(need, &machine);
    if !steps.is_empty() && !machine.debian {
        bail!(
            "the set-up knows only Debian; needed here: the programs ip, nft, bpftool, conntrack, \
             tcpdump and curl, for the tests also busybox, chromium, chromedriver, conntrackd, dnsmasq, firewalld, frr, iptables, \
             iperf3, keepalived, nginx, openvpn, prometheus, schemathesis, axe-core, squid, tmux and vsftpd, for virtual machines qemu-system-x86_64, ipset, \
             pppd, pppoe-server, wg and xz, for fuzzing a C++ compiler, \
             a nightly Rust with rust-src, and bpf-linker in PATH, for lint cargo-deny, \
             for arm64 aarch64-linux-gnu-gcc and qemu-system-aarch64"
        );
    }
    Ok(steps)
}

/// Takes the lock that is held while steps run, so that two checkouts do not install at once.
fn lock() -> Result<File> {
    let cache = cache_dir()?;
    let path = cache.join("setup.lock");
    let open = || {
        fs::create_dir_all(&cache)?;
        File::create(&path)
    };
    let file = open().with_context(|| format!("failed to create {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        println!("setup: another set-up is running, waiting for it");
    }
    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}

fn refuse_without_root(steps: &[Step]) -> Result<()> {
    let commands: Vec<_> = steps.iter().flat_map(Step::root_commands).collect();
    if commands.is_empty() || is_root() {
        return Ok(());
    }
    for command in &commands {
        let variables = command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={} ", name.display(), value?.display())));
        println!("sudo {}{}", variables.collect::<String>(), line(command));
    }
    println!("cargo xtask setup");
    bail!("packages are missing and only root can install them: run the commands above")
}
