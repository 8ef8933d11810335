//! `linkbal` itself, started in the lab's gateway.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::interrupt::Interrupted;
use crate::namespace::{Namespace, Process};
use crate::topology::Lab;
use crate::wait;

/// Time that the daemon may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Time that it may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Number of lines of its log that are shown with an error.
const LOG_LINES: usize = 20;

/// A running `linkbal run`; dropping it kills it and runs `linkbal teardown`.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    gateway: Arc<Namespace>,
    folder: TempDir,
    process: Process,
}

impl Daemon {
    /// Starts the program found by [`find_program`] with the configuration `config`.
    ///
    /// # Errors
    /// When it is not found or cannot be started. Whether it runs well is in its status.
    pub fn start(lab: &Lab, config: &str) -> Result<Self> {
        Self::start_program(&find_program()?, lab, config)
    }

    /// Starts the program at `program`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(program: &Path, lab: &Lab, config: &str) -> Result<Self> {
        let program = absolute(program)?;
        Self::start_command(lab.gateway.command(&program), &program, lab, config)
    }

    /// Starts the program found by [`find_program`] in a gateway of its own.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_in(gateway: &Arc<Namespace>, config: &str) -> Result<Self> {
        let program = absolute(&find_program()?)?;
        Self::start_with(gateway.command(&program), &program, gateway, config, &[])
    }

    /// Starts `command`, which must run the program at `program` in the lab's gateway; its
    /// arguments are added.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_command(
        command: Command,
        program: &Path,
        lab: &Lab,
        config: &str,
    ) -> Result<Self> {
        Self::start_with(command, program, &lab.gateway, config, &[])
    }

    /// Starts the program at `program`, which records its input to the file `recording` and logs
    /// each decision.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_recording(
        program: &Path,
        lab: &Lab,
        config: &str,
        recording: &Path,
    ) -> Result<Self> {
        let program = absolute(program)?;
        let mut command = lab.gateway.command(&program);
        command.env("RUST_LOG", "info,linkbal::daemon=debug");
        let args = [OsStr::new("--record"), recording.as_os_str()];
        Self::start_with(command, &program, &lab.gateway, config, &args)
    }

    fn start_with(
        mut command: Command,
        program: &Path,
        gateway: &Arc<Namespace>,
        config: &str,
        args: &[&OsStr],
    ) -> Result<Self> {
        let program = absolute(program)?;
        let folder = TempDir::with_prefix("linkbal-lab-").context("failed to make a folder")?;
        let path = folder.path().join("linkbal.toml");
        fs::write(&path, config).context("failed to write the configuration")?;
        let log = File::create(log_path(&folder)).context("failed to create the log")?;
        let errors = log.try_clone().context("failed to share the log")?;
        command
            .args(["run", "--config"])
            .arg(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let process = gateway.spawn(&mut command)?;
        Ok(Self { program, gateway: Arc::clone(gateway), folder, process })
    }

    /// Returns the log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(&self.folder)).unwrap_or_default()
    }

    /// Returns the process id of `linkbal run`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails when the daemon has ended by itself.
    ///
    /// # Errors
    /// Its exit status.
    pub fn check_running(&mut self) -> Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("linkbal ended with {status}"),
            None => Ok(()),
        }
    }

    /// Returns the path of the program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the path of the configuration file, which a test may rewrite before a reload.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("linkbal.toml")
    }

    /// Runs a subcommand in the gateway, for at most 20 s; returns its output.
    ///
    /// # Errors
    /// When it fails; what it wrote to standard error is in the text.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let program = self.program.to_string_lossy();
        self.gateway.run("timeout", &[&["--kill-after=1", "20", &program], args].concat())
    }

    /// Returns the status that `linkbal status --json` prints.
    ///
    /// # Errors
    /// As [`status`].
    pub fn status(&self) -> Result<Value> {
        status(&self.gateway.socket())
    }

    /// Waits until the status satisfies `condition`; returns that status.
    ///
    /// # Errors
    /// When `limit` passes first or the daemon ends; the last status and the end of the log are in
    /// the text.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = String::from("none");
        let result = wait::until(what, limit, || {
            self.check_running()?;
            // It answers only once its socket is there.
            let status = match self.status() {
                Ok(status) => status,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(None);
                }
            };
            last = status.to_string();
            Ok(condition(&status).then_some(status))
        });
        result.map_err(|error| self.explain(error, &last))
    }

    /// Waits until everything is installed and every uplink is up, in both families where it has
    /// both.
    ///
    /// # Errors
    /// As [`Daemon::wait_for`].
    pub fn wait_until_up(&mut self, limit: Duration) -> Result<Value> {
        self.wait_for("all uplinks up", limit, |status| {
            let uplinks = status["uplinks"].as_array();
            let up = uplinks.is_some_and(|all| !all.is_empty() && all.iter().all(is_up));
            up && status["installed"] == true
        })
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// When it does not end within 15 s.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.process.wait(STOP_LIMIT).map_err(|error| self.explain(error, "not asked"))
    }

    /// Adds the last status and the end of the log to an error.
    fn explain(&self, error: Error, status: &str) -> Error {
        if error.is::<Interrupted>() {
            return error;
        }
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        anyhow!("{error:#}\nlinkbal's last status: {status}\nlinkbal's log ends:\n  {end}")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        // Fails when nothing is left to tear down.
        let _ = self.run(&["teardown"]);
    }
}

/// Returns the status that `linkbal status --json` prints, from a daemon's socket: most waits poll it,
/// and to start a program each time was half of all that the tests of gateways took.
///
/// # Errors
/// When the daemon does not answer within 20 s, or not as it should.
pub fn status(socket: &Path) -> Result<Value> {
    let path = || format!("failed to ask for the status by {}", socket.display());
    let answer = get(socket, "/v1/status").with_context(path)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    ensure!(head.starts_with("HTTP/1.0 200 "), "failed to get the status: {answer}");
    serde_json::from_str(body).context("failed to parse the status")
}

/// Returns the whole answer to a request by HTTP 1.0, in which bodies have no chunks.
fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Returns whether an uplink of the status is up, in each family it has.
#[must_use]
pub fn is_up(uplink: &Value) -> bool {
    let families = [&uplink["ipv4"], &uplink["ipv6"]];
    uplink["state"] == "up" && families.iter().all(|f| f.is_null() || f["state"] == "up")
}

/// Returns the absolute path of a program that exists.
pub(crate) fn absolute(program: &Path) -> Result<PathBuf> {
    let result = program.canonicalize();
    result.with_context(|| format!("failed to find program {}", program.display()))
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("linkbal.log")
}

/// Finds the program: `$LINKBAL_BIN`, else beside the running binary in cargo's target folder, the
/// same profile first.
///
/// # Errors
/// When there is none.
pub fn find_program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("LINKBAL_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("failed to find the running program")?;
    // A program is in target/PROFILE, a test in target/PROFILE/deps.
    let folders = own.ancestors().skip(1).take(3);
    let places = folders.flat_map(|folder| {
        ["linkbal", "release/linkbal", "debug/linkbal"].map(|name| folder.join(name))
    });
    let found = places.into_iter().find(|path| path.is_file());
    found.context("failed to find program linkbal: build it, or set LINKBAL_BIN to its path")
}
