//! Other programs, and the directories of this one.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Returns the root of the checkout.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace")
}

/// Returns cargo's target directory: the one this program was built into, `TARGET/debug/xtask`.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let own = env::current_exe().context("failed to find the path of xtask")?;
    let dir = own.ancestors().nth(2).context("xtask does not lie in a target directory")?;
    Ok(dir.to_owned())
}

/// Returns a command of the cargo that started this program, at the root of the checkout.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(arguments);
    cargo
}

/// Returns the command as one would type it, without its environment.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started or fails.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("failed to start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Returns the standard output of a command that succeeds; `None` if it cannot be started or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command, and shows its standard output line by line, each behind `prefix`; returns whether it
/// succeeded, and the output.
///
/// # Errors
/// If it cannot be started or read. A command that fails is no error.
pub(crate) fn tee(command: &mut Command, prefix: &str) -> Result<(bool, String)> {
    let what = line(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{what}`"))?;
    let mut pipe = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut seen = Vec::new();
    loop {
        let start = seen.len();
        let length = pipe.read_until(b'\n', &mut seen);
        if length.with_context(|| format!("failed to read `{what}`"))? == 0 {
            break;
        }
        // Another command may be shown at the same time.
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(prefix.as_bytes())?;
        stdout.write_all(&seen[start..]).and_then(|()| stdout.flush())?;
    }
    let status = child.wait().with_context(|| format!("failed to wait for `{what}`"))?;
    Ok((status.success(), String::from_utf8_lossy(&seen).into_owned()))
}

/// Replaces this process by another program, which then gets the terminal's signals itself.
///
/// # Errors
/// Returns only if that failed.
pub(crate) fn become_program(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("failed to start `{}`", line(command)))
}

/// Returns whether a program is installed.
pub(crate) fn is_installed(program: &str) -> bool {
    find_program(program).is_some()
}

/// Returns the path of a program, also if it is only in root's `PATH`.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program));
    places.find(|path| path.is_file())
}

/// Returns whether this process runs as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Checks that this process runs as root.
///
/// # Errors
/// If it does not: what to type instead.
pub(crate) fn require_root(verb: &str, why: &str) -> Result<()> {
    if !is_root() {
        bail!(
            "`cargo xtask {verb}` needs root {why}; use: \
             sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask {verb}"
        );
    }
    Ok(())
}
