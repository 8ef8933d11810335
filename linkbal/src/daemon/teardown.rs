//! The removal of everything that linkbal has put into the kernel.

use anyhow::{Error, Result, bail};

use crate::sys::{
    Kernel,
    conntrack::adopt,
    datapath::{attach, fwmark_mask, inspect::removable},
    host::instance::{Instance, remove_files},
    removed::Removed,
};

/// Removes everything of an instance whose daemon does not run; returns what was there.
///
/// # Errors
///
/// If the daemon runs, or something could not be removed.
pub async fn teardown_alone(instance: &Instance) -> Result<Removed> {
    let lock = instance.lock()?;
    let removed = teardown(instance).await?;
    drop(lock);
    Ok(removed)
}

/// Removes everything. The datapath goes first: from then on the main table routes everything, as
/// before linkbal. Returns what was there.
pub(super) async fn teardown(instance: &Instance) -> Result<Removed> {
    let mut removed = removable(instance);
    let mask = fwmark_mask(&instance.bpf_dir);
    let mut failures = attach::detach_clsact(&instance.run_dir);
    failures.extend(remove_files(&instance.bpf_dir).err());
    // Before the sysctls are as they were, and marks are gone.
    failures.extend(mask.and_then(|mask| adopt::keep_liberal(mask).err()));
    match Kernel::connect(&instance.run_dir) {
        Ok((mut kernel, _)) => {
            failures.extend(kernel.uninstall().await);
            let Removed { interfaces, pins, .. } = removed;
            removed = Removed { interfaces, pins, ..kernel.removed().clone() };
        }
        Err(error) => failures.push(error),
    }
    // No mark is set any more.
    failures.extend(mask.and_then(|mask| adopt::release(mask).err()));
    if failures.is_empty() {
        remove_files(&instance.run_dir)?;
        return Ok(removed);
    }
    let lines: String = failures.iter().map(|error: &Error| format!("\n  {error:#}")).collect();
    bail!("some things could not be removed; run `linkbal teardown` again:{lines}")
}
