//! Folders for the datapath of a test.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use linkbal::sys::host::instance::Instance;

/// Returns a pair of folders that no other test has.
pub(crate) fn instance() -> Result<Instance> {
    static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("test-{}-{number}", std::process::id());
    let current = Instance::current().context("failed to find bpffs: run as root")?;
    let instance = Instance {
        bpf_dir: current.bpf_dir.join(&name),
        run_dir: current.run_dir.join(&name),
        ..current
    };
    fs::create_dir_all(&instance.run_dir)?;
    Ok(instance)
}

/// Removes both folders.
pub(crate) fn remove(instance: &Instance) {
    for folder in [&instance.bpf_dir, &instance.run_dir] {
        if let Err(error) = fs::remove_dir_all(folder) {
            eprintln!("failed to remove {}: {error}", folder.display());
        }
        // The instance's own folder goes with the last test, unless a daemon lives there.
        let _ = folder.parent().map(fs::remove_dir);
    }
}
