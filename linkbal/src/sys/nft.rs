//! The nft table, by the `nft` program.
//!
//! What was written is known from the transaction itself. A listing afterwards would show what others
//! have made of it in between, and that would then pass for ours for ever.

mod generation;
mod table;

use std::{
    fs::File,
    io::{self, ErrorKind, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde_json::Value;
use tokio::process::{Child, Command};

use self::table::Table;

const PROGRAM: &str = "nft";

/// Succeeds with and without the table.
const DELETE: &str = "add table inet linkbal\ndelete table inet linkbal\n";

/// Table `inet linkbal` and what was last written to it.
#[derive(Debug)]
pub struct Nft {
    program: PathBuf,
    written: Option<Table>,
}

impl Default for Nft {
    fn default() -> Nft {
        Nft::by(PROGRAM)
    }
}

impl Nft {
    /// Writes by another program than the `nft` in `PATH`.
    pub fn by(program: impl Into<PathBuf>) -> Nft {
        Nft { program: program.into(), written: None }
    }

    /// Feeds `text` to nft as one transaction: in force as a whole or not at all.
    ///
    /// The error carries what nft said.
    pub async fn replace(&mut self, text: &str) -> Result<()> {
        self.written = None;
        let before = generation::current().ok();
        let told =
            feed(&self.program, text).await.context("failed to replace nft table inet linkbal")?;
        let told = serde_json::from_slice(&told).ok().as_ref().and_then(Table::read);
        // Another nft may list some words otherwise than it echoes them.
        self.written = undisturbed(&self.program, before).await.or(told);
        ensure!(self.written.is_some(), "nft does not say what it wrote to table inet linkbal");
        Ok(())
    }

    /// Whether the table stands as [`Self::replace`] left it; not if this never wrote it.
    pub async fn is_current(&self) -> bool {
        match &self.written {
            Some(written) => {
                listing(&self.program).await.is_some_and(|listing| listing == *written)
            }
            None => false,
        }
    }

    /// Deletes the table; a missing one is a success.
    pub async fn delete(&mut self) -> Result<()> {
        self.written = None;
        feed(&self.program, DELETE)
            .await
            .map(drop)
            .context("failed to delete nft table inet linkbal")
    }
}

/// Says early if nft, or the kernel's side of it, is missing.
///
/// # Errors
///
/// With what to do.
pub async fn check() -> Result<()> {
    let child = spawn(Path::new(PROGRAM), &["list", "tables"])?;
    output(child).await.map(drop).context(
        "failed to use nftables: it needs root, and a kernel with CONFIG_NF_TABLES_INET and \
         CONFIG_NFT_NAT (modules nf_tables and nft_chain_nat)",
    )
}

/// The process that wrote last. The kernel names the process behind each change, and our own
/// changes are no news.
static LAST_WRITER: AtomicU32 = AtomicU32::new(0);

/// The id of the last nft process that this one let write; 0 before the first.
pub(super) fn last_writer() -> u32 {
    LAST_WRITER.load(Ordering::Relaxed)
}

/// Answers what nft says that the kernel was told.
async fn feed(program: &Path, text: &str) -> Result<Vec<u8>> {
    let mut command = command(program, &["--echo", "--json", "-f", "-"]);
    command.stdin(input(text).context("failed to hand nft its input")?);
    let child = command.spawn().map_err(not_started)?;
    LAST_WRITER.store(child.id().unwrap_or_default(), Ordering::Relaxed);
    Ok(output(child).await?.stdout)
}

/// A file in memory. For its JSON, nft reads the input twice, which a pipe does not give it.
fn input(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"linkbal.nft", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The table, if nothing but one transaction, ours, came after generation `before`.
async fn undisturbed(program: &Path, before: Option<u32>) -> Option<Table> {
    let after = generation::next(before?);
    let is_last = || generation::current().is_ok_and(|now| now == after);
    if !is_last() {
        return None;
    }
    let listing = listing(program).await?;
    is_last().then_some(listing)
}

/// The table as nft lists it; none if there is none.
async fn listing(program: &Path) -> Option<Table> {
    let child = spawn(program, &["-j", "list", "table", "inet", "linkbal"]).ok()?;
    let output = output(child).await.ok()?;
    Table::read(&serde_json::from_slice(&output.stdout).ok()?)
}

/// All tables as nft lists them, without the elements of sets.
///
/// # Errors
///
/// If nft fails.
pub async fn ruleset() -> Result<Value> {
    let child = spawn(Path::new(PROGRAM), &["-j", "-t", "list", "ruleset"])?;
    let output = output(child).await.context("failed to list the nft tables")?;
    serde_json::from_slice(&output.stdout).context("failed to parse the listing of nft")
}

/// Table `inet linkbal` as nft prints it, without counts; empty if there is none.
///
/// # Errors
///
/// If nft fails.
pub fn text() -> Result<String> {
    let tables = blocking(&["list", "tables"], "")?;
    if !tables.lines().any(|line| line == "table inet linkbal") {
        return Ok(String::new());
    }
    blocking(&["-s", "list", "table", "inet", "linkbal"], "")
}

/// What [`text`] would print if `ruleset` had been written: tried in a network namespace that is
/// made for that and goes away at once.
///
/// # Errors
///
/// If the namespace cannot be made, which needs `CAP_SYS_ADMIN`, or nft fails.
pub fn text_of(ruleset: &str) -> Result<String> {
    let ruleset = ruleset.to_owned();
    // A thread of its own: it alone is in the namespace, and it ends.
    let tried = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context(
            "failed to make a network namespace to try the nft table in: run this as root",
        )?;
        blocking(&["-f", "-"], &ruleset)?;
        text()
    });
    tried.join().unwrap_or_else(|_| bail!("failed to try the nft table: the thread died"))
}

fn blocking(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = std::process::Command::new(PROGRAM);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_started)?;
    // nft reads to the end of its input before it says anything.
    let mut stdin = child.stdin.take().context("nft has no standard input")?;
    stdin.write_all(input.as_bytes()).context("failed to write to nft")?;
    drop(stdin);
    let output = child.wait_with_output().context("failed to wait for nft")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    String::from_utf8(output.stdout).context("failed to read what nft printed")
}

fn not_started(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::msg("nft not found: install the package nftables"),
        _ => Error::new(error).context("failed to start nft"),
    }
}

fn spawn(program: &Path, arguments: &[&str]) -> Result<Child> {
    command(program, arguments).spawn().map_err(not_started)
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(child: Child) -> Result<Output> {
    let output = child.wait_with_output().await.context("failed to wait for nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output)
}
