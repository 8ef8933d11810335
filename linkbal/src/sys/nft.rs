//! The nft table, by the `nft` program.

use std::{
    io::{ErrorKind, Write as _},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

/// Succeeds with and without the table.
const DELETE: &str = "add table inet linkbal\ndelete table inet linkbal\n";

/// Table `inet linkbal` and what it looked like when it was last written.
#[derive(Debug, Default)]
pub struct Nft {
    written: Option<Value>,
}

impl Nft {
    /// Feeds `text` to nft as one transaction: in force as a whole or not at all.
    ///
    /// The error carries what nft said.
    pub async fn replace(&mut self, text: &str) -> Result<()> {
        self.written = None;
        feed(text).await.context("failed to replace nft table inet linkbal")?;
        self.written = Some(listing().await?);
        Ok(())
    }

    /// Whether the table stands as [`Self::replace`] left it; not if this never wrote it.
    pub async fn is_current(&self) -> bool {
        match &self.written {
            Some(written) => listing().await.is_ok_and(|listing| listing == *written),
            None => false,
        }
    }

    /// Deletes the table; a missing one is a success.
    pub async fn delete(&mut self) -> Result<()> {
        self.written = None;
        feed(DELETE).await.context("failed to delete nft table inet linkbal")
    }
}

/// Says early if nft, or the kernel's side of it, is missing.
///
/// # Errors
///
/// With what to do.
pub async fn check() -> Result<()> {
    let child = spawn(&["list", "tables"])?;
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

async fn feed(text: &str) -> Result<()> {
    let mut child = spawn(&["-f", "-"])?;
    LAST_WRITER.store(child.id().unwrap_or_default(), Ordering::Relaxed);
    let mut stdin = child.stdin.take().context("nft has no standard input")?;
    // nft reads to the end before it says anything, so neither side waits for the other.
    let written = stdin.write_all(text.as_bytes()).await;
    drop(stdin);
    // What nft says about its end is better than the broken pipe that followed.
    output(child).await?;
    written.context("failed to write to nft")
}

/// The table as nft lists it, without handles and counts.
async fn listing() -> Result<Value> {
    let child = spawn(&["-j", "list", "table", "inet", "linkbal"])?;
    let output = output(child).await.context("failed to list nft table inet linkbal")?;
    let mut listing =
        serde_json::from_slice(&output.stdout).context("failed to parse the listing of nft")?;
    strip(&mut listing);
    Ok(listing)
}

/// All tables as nft lists them, without the elements of sets.
///
/// # Errors
///
/// If nft fails.
pub async fn ruleset() -> Result<Value> {
    let child = spawn(&["-j", "-t", "list", "ruleset"])?;
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
    let mut command = std::process::Command::new("nft");
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

fn not_started(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::msg("nft not found: install the package nftables"),
        _ => Error::new(error).context("failed to start nft"),
    }
}

fn spawn(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new("nft");
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(not_started)
}

async fn output(child: Child) -> Result<Output> {
    let output = child.wait_with_output().await.context("failed to wait for nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output)
}

/// Removes what changes by itself or on every write.
fn strip(listing: &mut Value) {
    match listing {
        Value::Object(members) => {
            members.remove("handle");
            if let Some(counter) = members.get_mut("counter") {
                *counter = Value::Null;
            }
            members.values_mut().for_each(strip);
        }
        Value::Array(elements) => elements.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_handles_and_counts_are_stripped() {
        let mut listing = json!({"nftables": [
            {"table": {"name": "linkbal", "handle": 5}},
            {"rule": {"handle": 7, "expr": [{"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}},
        ]});
        strip(&mut listing);
        let expected = json!({"nftables": [
            {"table": {"name": "linkbal"}},
            {"rule": {"expr": [{"counter": null}, {"drop": null}]}},
        ]});
        assert_eq!(listing, expected);
    }
}
