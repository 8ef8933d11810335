//! Programs of the eBPF object: found by name, and handed to the kernel.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{Program, ProgramError, SchedClassifier},
};
use nix::errno::Errno;

pub(super) const KERNEL_HINT: &str = "failed to load the eBPF program: linkbal needs Linux 6.1 or later and \
                           root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW";

/// Number of times that a program is handed to the kernel, which gives up if a signal comes
/// (`do_check` in kernel/bpf/verifier.c).
const LOADS: u32 = 5;

/// Loads a program.
pub(super) fn load(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<()> {
    let mut loaded = load();
    for _ in 1..LOADS {
        let Err(ProgramError::LoadError { io_error, .. }) = &loaded else { break };
        if io_error.raw_os_error() != Some(Errno::EAGAIN as i32) {
            break;
        }
        loaded = load();
    }
    loaded.map_err(without_verifier_log)
}

/// Moves the verifier's log from an error to the debug log: it has hundreds of lines, and matters
/// to developers only.
fn without_verifier_log(error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!("{verifier_log}");
            io_error.into()
        }
        other => other.into(),
    }
}

/// Returns a program by its name, loaded if it was not yet.
pub(super) fn loaded_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier> {
    let program = program(ebpf, name)?;
    if program.fd().is_err() {
        load(|| program.load()).with_context(|| format!("failed to load {name}"))?;
    }
    Ok(program)
}

/// Returns whether a program is loaded.
pub(super) fn is_loaded(ebpf: &Ebpf, name: &str) -> bool {
    let program = ebpf.program(name).map(Program::fd);
    program.is_some_and(|fd| fd.is_ok())
}

/// Returns a program of the object by its name.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program =
        ebpf.program_mut(name).with_context(|| format!("failed to find program {name}"))?;
    Ok(program.try_into()?)
}
