//! The removal of everything that linkbal has put into the kernel.

use anyhow::{Error, Result, bail};

use crate::sys::{
    Kernel,
    conntrack::adopt,
    datapath::{attach, fwmark_mask},
    host::instance::{Instance, remove_files},
};

/// Removes everything of an instance whose daemon does not run.
///
/// # Errors
///
/// If the daemon runs, or something could not be removed.
pub async fn teardown_alone(instance: &Instance) -> Result<()> {
    let lock = instance.lock()?;
    teardown(instance).await?;
    drop(lock);
    Ok(())
}

/// Removes everything. The datapath goes first: from then on the main table routes everything, as
/// before linkbal.
pub(super) async fn teardown(instance: &Instance) -> Result<()> {
    let mask = fwmark_mask(&instance.bpf_dir);
    let mut failures = attach::detach_clsact(&instance.run_dir);
    failures.extend(remove_files(&instance.bpf_dir).err());
    match Kernel::connect(&instance.run_dir) {
        Ok((mut kernel, _)) => failures.extend(kernel.uninstall().await),
        Err(error) => failures.push(error),
    }
    // No mark is set any more.
    failures.extend(mask.and_then(|mask| adopt::release(mask).err()));
    if failures.is_empty() {
        return remove_files(&instance.run_dir);
    }
    let lines: String = failures.iter().map(|error: &Error| format!("\n  {error:#}")).collect();
    bail!("some things could not be removed; run `linkbal teardown` again:{lines}")
}
