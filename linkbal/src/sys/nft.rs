//! linkbal's nft tables, written by the `nft` program.
//!
//! What was written is known from the transaction itself. A later listing would show what others
//! have changed in between, which would then count as linkbal's for ever.
//!
//! A program that does not answer blocks nothing: it is waited for only briefly, goes on in the
//! background, and is given up in the end. The number of the last transaction, which the kernel
//! tells, saves most of the listings: as long as nobody writes, no program runs at all.

mod delete;
mod generation;
mod table;

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use self::table::Table;
use super::host::{
    child::{self, Invocation, NoAnswer},
    thread,
};
use crate::engine::kernel::nft_text::flowtable::FLOWTABLE;

const PROGRAM: &str = "nft";

/// Time to wait for nft; if it takes longer, it goes on in the background.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which nft is not tried again after it did not answer.
const RETRY_DELAY: Duration = Duration::from_secs(15);

/// Name of the table of rules, of family `inet`.
const RULES: &str = "linkbal";

/// A table of family `inet` and what was last written to it.
#[derive(Debug)]
pub struct Nft {
    name: &'static str,
    program: PathBuf,
    written: Option<Written>,
    /// The query that nft has not answered yet.
    pending: Option<PendingQuery>,
    /// The last failure to answer, and its time.
    timed_out: Option<(NoAnswer, Instant)>,
}

/// The result of a transaction of linkbal's.
#[derive(Debug)]
struct Written {
    /// The text that nft was given.
    text: String,
    table: Table,
    /// Number of the last transaction after which the table was known to be unchanged.
    seen: Option<u32>,
}

/// A pending query to nft.
#[derive(Debug)]
struct PendingQuery {
    since: Instant,
    task: JoinHandle<Result<Answer>>,
}

impl Drop for PendingQuery {
    fn drop(&mut self) {
        // Its program is killed with it.
        self.task.abort();
    }
}

#[derive(Debug)]
enum Answer {
    Written(Written),
    /// The table as it was listed, if there was one, and the number of the transaction before.
    Listed(Option<Table>, Option<u32>),
}

impl Default for Nft {
    fn default() -> Nft {
        Nft::by(PROGRAM)
    }
}

impl Nft {
    /// Creates the table of rules, written by another program than the `nft` in `PATH`.
    pub fn by(program: impl Into<PathBuf>) -> Nft {
        let program = program.into();
        Nft { name: RULES, program, written: None, pending: None, timed_out: None }
    }

    /// Creates a table of another name.
    pub(super) fn named(name: &'static str) -> Nft {
        Nft { name, ..Nft::default() }
    }

    /// Feeds `text` to nft as one transaction, which takes effect as a whole or not at all.
    ///
    /// # Errors
    ///
    /// With nft's message, or if it does not answer. In the latter case it may still write the text
    /// later.
    pub async fn replace(&mut self, text: &str) -> Result<()> {
        let replaced = self.try_replace(text).await;
        replaced.with_context(|| format!("failed to replace nft table inet {}", self.name))
    }

    async fn try_replace(&mut self, text: &str) -> Result<()> {
        self.finish(Duration::ZERO).await?;
        // An earlier call may have done it after its time.
        if self.written.as_ref().is_some_and(|written| written.text == text && written.is_last()) {
            return Ok(());
        }
        self.written = None;
        let (name, program, text) = (self.name, self.program.clone(), text.to_owned());
        self.start(async move { write(name, &program, text).await.map(Answer::Written) })?;
        self.finish(ANSWER_TIMEOUT).await
    }

    /// Returns whether the table is as [`Self::replace`] left it; false if this never wrote it.
    ///
    /// # Errors
    ///
    /// If nft does not answer.
    pub async fn is_current(&mut self) -> Result<bool> {
        // A late answer is as good.
        self.finish(Duration::ZERO).await?;
        if self.written.as_ref().is_some_and(Written::is_last) {
            return Ok(true);
        }
        self.check_silent()?;
        if self.written.is_none() {
            return Ok(false);
        }
        let (name, program) = (self.name, self.program.clone());
        self.start(async move {
            let before = generation::current().ok();
            Ok(Answer::Listed(listing(name, &program).await?, before))
        })?;
        self.finish(ANSWER_TIMEOUT).await?;
        Ok(self.written.is_some())
    }

    /// Returns the name of the table.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Deletes the table, and returns whether it was there. It needs no program.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn delete(&mut self) -> Result<bool> {
        (self.written, self.pending) = (None, None);
        delete::delete(self.name)
            .with_context(|| format!("failed to delete nft table inet {}", self.name))
    }

    /// Starts a query to nft, unless nft did not answer a short time ago.
    fn start(
        &mut self,
        query: impl Future<Output = Result<Answer>> + Send + 'static,
    ) -> Result<()> {
        self.check_silent()?;
        self.pending = Some(PendingQuery { since: Instant::now(), task: tokio::spawn(query) });
        Ok(())
    }

    fn check_silent(&self) -> Result<()> {
        match &self.timed_out {
            Some((no_answer, since)) if since.elapsed() < RETRY_DELAY => {
                bail!("{no_answer}; it is tried again within half a minute")
            }
            _ => Ok(()),
        }
    }

    /// Waits for the open query, but no longer than `limit`, and handles the answer.
    async fn finish(&mut self, limit: Duration) -> Result<()> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let Ok(answer) = timeout(limit, &mut pending.task).await else {
            bail!("nft has not answered for {} s", pending.since.elapsed().as_secs())
        };
        self.pending = None;
        let answer = answer.context("the task that asks nft died").flatten();
        let timed_out = answer.as_ref().err().and_then(|error| error.downcast_ref::<NoAnswer>());
        self.timed_out = timed_out.map(|timed_out| (timed_out.clone(), Instant::now()));
        if timed_out.is_some() {
            return answer.map(drop).context("it is tried again within half a minute");
        }
        match answer? {
            Answer::Written(written) => self.written = Some(written),
            Answer::Listed(table, before) => {
                let same = |written: &Written| table.as_ref() == Some(&written.table);
                self.written = self.written.take().filter(same);
                if let Some(written) = &mut self.written {
                    written.seen = before;
                }
            }
        }
        Ok(())
    }
}

impl Written {
    /// Returns whether nothing was written since the table was known to be unchanged.
    fn is_last(&self) -> bool {
        self.seen.is_some() && generation::current().ok() == self.seen
    }
}

/// Checks early that nft, and the kernel's side of it, are there.
///
/// # Errors
///
/// With what to do; with [`NoAnswer`] if it just does not answer.
pub async fn check() -> Result<()> {
    let invocation = Invocation::new(PROGRAM, &["list", "tables"]).within(ANSWER_TIMEOUT);
    run(invocation, |_| {}).await.map(drop).context(
        "failed to use nftables: it needs root, and a kernel with CONFIG_NF_TABLES_INET and \
         CONFIG_NFT_NAT (modules nf_tables and nft_chain_nat)",
    )
}

/// Id of the process that wrote last. The kernel names the process behind each change, and
/// linkbal's own changes are no news.
static LAST_WRITER: AtomicU32 = AtomicU32::new(0);

/// Returns the id of the last nft process that was started to write; 0 before the first.
pub(super) fn last_writer() -> u32 {
    LAST_WRITER.load(Ordering::Relaxed)
}

async fn write(name: &str, program: &Path, text: String) -> Result<Written> {
    let before = generation::current().ok();
    // For its JSON, nft reads the input twice.
    let invocation =
        Invocation::new(program, &["--echo", "--json", "-f", "-"]).with_input(&text)?;
    let echoed = run(invocation, |id| LAST_WRITER.store(id, Ordering::Relaxed)).await?;
    let echoed = serde_json::from_slice(&echoed).ok();
    let echoed = echoed.as_ref().and_then(|echoed| Table::read(name, echoed));
    // Another nft may list some words otherwise than it echoes them.
    let (table, seen) = undisturbed(name, program, before).await.unzip();
    let table = table.or(echoed).context("nft does not say what it wrote")?;
    Ok(Written { text, table, seen })
}

/// Returns the table and the number of linkbal's transaction, if nothing else came after generation
/// `before`.
async fn undisturbed(name: &str, program: &Path, before: Option<u32>) -> Option<(Table, u32)> {
    let after = generation::next(before?);
    let is_last = || generation::current().is_ok_and(|now| now == after);
    if !is_last() {
        return None;
    }
    let listing = listing(name, program).await.ok()??;
    is_last().then_some((listing, after))
}

/// Returns the table as nft lists it; `None` if there is none, or nft fails.
///
/// # Errors
///
/// With [`NoAnswer`].
async fn listing(name: &str, program: &Path) -> Result<Option<Table>> {
    let invocation = Invocation::new(program, &["-j", "list", "table", "inet", name]);
    match run(invocation, |_| {}).await {
        Ok(printed) => {
            let printed = serde_json::from_slice(&printed).ok();
            Ok(printed.as_ref().and_then(|printed| Table::read(name, printed)))
        }
        Err(error) if error.is::<NoAnswer>() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Returns all tables as nft lists them, without the elements of sets.
///
/// # Errors
///
/// If nft fails.
pub async fn ruleset() -> Result<Value> {
    let invocation = Invocation::new(PROGRAM, &["-j", "-t", "list", "ruleset"]);
    let printed = run(invocation, |_| {}).await.context("failed to list the nft tables")?;
    serde_json::from_slice(&printed).context("failed to parse the listing of nft")
}

/// Returns the text of the table of rules as nft prints it, without counts; empty if there is none.
///
/// # Errors
///
/// If nft fails.
pub fn text() -> Result<String> {
    text_in(RULES)
}

/// Returns the text of the flowtable's table, as [`text`] does.
///
/// # Errors
///
/// As there.
pub fn flowtable_text() -> Result<String> {
    text_in(FLOWTABLE)
}

fn text_in(name: &str) -> Result<String> {
    let (tables, table) = (blocking(&["list", "tables"], "")?, format!("table inet {name}"));
    if !tables.lines().any(|line| line == table) {
        return Ok(String::new());
    }
    blocking(&["-s", "list", "table", "inet", name], "")
}

/// Returns what [`text`] would print if `ruleset` had been written: tried in a network namespace
/// that is made for that and goes away at once.
///
/// # Errors
///
/// If the namespace cannot be made, which needs `CAP_SYS_ADMIN`, or nft fails.
pub fn text_of(ruleset: &str) -> Result<String> {
    tried(ruleset, RULES)
}

/// Returns what [`flowtable_text`] would print if `ruleset` had been written, as [`text_of`] does.
///
/// # Errors
///
/// As there, or if the kernel has no flowtables.
pub fn flowtable_text_of(ruleset: &str) -> Result<String> {
    tried(ruleset, FLOWTABLE)
}

fn tried(ruleset: &str, name: &'static str) -> Result<String> {
    let ruleset = ruleset.to_owned();
    // A thread of its own: it alone is in the namespace, and it ends.
    let tried = thread::start("nft", move || {
        unshare(CloneFlags::CLONE_NEWNET).context(
            "failed to make a network namespace to try the nft table in: run this as root",
        )?;
        blocking(&["-f", "-"], &ruleset)?;
        text_in(name)
    });
    tried?.join().unwrap_or_else(|_| bail!("failed to try the nft table: the thread died"))
}

fn blocking(arguments: &[&str], input: &str) -> Result<String> {
    let invocation = Invocation::new(PROGRAM, arguments).with_input(input)?;
    let printed = child::run_blocking(invocation).map_err(not_started)?.success(PROGRAM)?;
    String::from_utf8(printed).context("failed to read what nft printed")
}

fn not_started(error: Error) -> Error {
    match error.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == ErrorKind::NotFound => {
            anyhow!("nft not found: install the package nftables")
        }
        _ => error,
    }
}

/// Runs nft and returns what it prints.
async fn run(
    invocation: Invocation,
    started: impl FnOnce(u32) + Send + 'static,
) -> Result<Vec<u8>> {
    child::run(invocation, started).await.map_err(not_started)?.success(PROGRAM)
}
