//! `linkbal plan`: the changes in the kernel, without making them.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use hyper::Method;
use linkbal_common::uplink::UpMask;
use serde::Serialize;

use super::stderr;
use crate::{
    api::{client, status::Status},
    config::{Config, Findings, LocatedFinding, Sources},
    daemon::state,
    engine::{
        indexed,
        kernel::{
            conflict::{self, Conflict, closed, path, remains},
            desired::{self, watched_sysctls},
            lan,
            network::Snapshot,
            nft_text::flowtable::{FLOWTABLE, devices, without_devices},
            refusal::{KernelRefusal, Resource},
        },
        mistakes::{self, MachineFacts},
        plan::{self, Decided, Difference, Sign},
        policy,
    },
    removal::Step,
    sys::{Kernel, datapath::inspect, host::instance::Instance, nft, survey},
};

/// Version of the JSON.
const VERSION: u32 = 1;

/// Number of differences from which on a plan begins with a summary.
const LONG: usize = 25;

/// The changes that `run` would make.
#[derive(Serialize)]
pub(super) struct Plan {
    version: u32,
    differences: Vec<Difference>,
    conflicts: BTreeSet<Conflict>,
    mistakes: Vec<LocatedFinding>,
    #[serde(skip)]
    findings: Findings,
}

impl Plan {
    /// Compares the kernel's state with what `config`, read from `sources` at `path`, wants. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// If the kernel, or nft, does not answer.
    pub(super) async fn make(config: &Config, sources: &Sources, path: &Path) -> Result<Plan> {
        let instance = Instance::unprepared()?;
        let indexed = indexed::assign(&config.uplinks, &state::indexes(&instance));
        let policy = policy::compile(config, &indexed, None);
        let pinned = inspect::inspect(&instance, policy.buckets.len());
        // Fewest buckets move away from those in force.
        let policy = policy::compile(config, &indexed, pinned.buckets.as_deref());
        let (mut kernel, _) = Kernel::connect(&instance.run_dir)?;
        let bonding = kernel.bonding(!config.bonds.is_empty()).await?;
        let snapshot = kernel.snapshot(&watched_sysctls(config)).await?;
        let snapshot = Snapshot { bonding, ..snapshot };
        let questions = path::questions(config, &indexed, &snapshot);
        let survey = survey::survey(questions).await?;
        let paths = survey.paths.clone();
        let running = running(&instance).await.or(pinned.up);
        // Without a datapath, as if all were well.
        let up = running.unwrap_or(UpMask(u32::MAX));
        let decided = plan::decide(config, indexed, up, snapshot.clone(), survey);
        let mut differences = decided.network(&snapshot);
        if let Some(ruleset) = decided.nft() {
            let wanted = plan::with_names(&nft::text_of(ruleset)?, &snapshot);
            differences.extend(plan::nft_lines(&nft::text()?, &wanted));
        }
        differences.extend(flowtable(&decided)?);
        differences.extend(decided.datapath(config, &policy, &pinned, &snapshot));
        let mut conflicts = decided.conflicts;
        // The engine believes it the second time it is told.
        conflict::add_paths(&mut conflicts, path::find(config, &snapshot, &paths));
        let facts = kernel.facts(config, snapshot, false).await?;
        let findings = locate_mistakes(config, sources, path, &facts);
        let mistakes = findings.for_programs();
        Ok(Plan { version: VERSION, differences, conflicts, mistakes, findings })
    }

    /// Returns whether nothing would change.
    pub(super) fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// Returns whether something of others conflicts, or the configuration does not fit the machine.
    pub(super) fn has_problems(&self) -> bool {
        self.findings.is_bad() || self.conflicts.iter().any(|conflict| !conflict.compatible)
    }

    /// Returns the mistakes of the configuration.
    pub(super) const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Formats the plan as JSON on one line.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self).context("failed to write the plan")? + "\n")
    }

    /// Formats the plan for people.
    pub(super) fn text(&self, config: &Path) -> String {
        let lines = self.differences.iter().map(|difference| difference.line() + "\n");
        let lines = lines.collect::<String>() + &conflicts(&self.conflicts);
        let lines = match self.differences.len() {
            0..LONG => lines,
            count => format!("{count} differences: {}\n{lines}", plan::summary(&self.differences)),
        };
        let config = config.display();
        match self.differences.len() {
            0 if self.has_problems() => {
                format!("{lines}no differences from {config}, but something is wrong\n")
            }
            0 => format!("{lines}the kernel is as {config} wants it\n"),
            count => format!("{lines}{count} differences from {config}; nothing was changed\n"),
        }
    }
}

/// Returns the differences of the flowtable's table. Its interfaces do not exist where a text is tried:
/// they are compared on their own.
fn flowtable(decided: &Decided) -> Result<Vec<Difference>> {
    let standing = nft::flowtable_text()?;
    let wanted = decided.flowtable().unwrap_or_default();
    let tried = match wanted {
        "" => Ok(String::new()),
        text => try_flowtable(text),
    };
    let tried = match tried {
        Ok(tried) => tried,
        Err(refusal) => {
            // Nothing would be written.
            stderr::line(format_args!("note: {refusal}"));
            return Ok(Vec::new());
        }
    };
    let (before, after) = (devices(&standing), devices(wanted));
    let mut differences = plan::nft_lines(&without_devices(&standing), &tried);
    if before != after {
        let names = after.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("flowtable of {FLOWTABLE}: devices = {{ {names} }}");
        differences.push(Difference { action: Sign::Change, by: "nft".into(), what });
    }
    Ok(differences)
}

/// Returns the listing of the flowtable's table if it were written.
///
/// # Errors
///
/// If nft refuses it, in words.
fn try_flowtable(text: &str) -> Result<String, String> {
    nft::flowtable_text_of(&without_devices(text)).map_err(|error| {
        let message = format!("{error:#}");
        KernelRefusal { resource: Resource::Flowtable, errno: None, message }.explain()
    })
}

/// Formats conflicts, one on each line.
pub(super) fn conflicts(conflicts: &BTreeSet<Conflict>) -> String {
    let line = |conflict: &Conflict| {
        let kind = if conflict.compatible { "note" } else { "conflict" };
        format!("{kind}: {conflict}\n")
    };
    conflicts.iter().map(line).collect()
}

/// Finds mistakes of a configuration, with their places.
fn locate_mistakes(
    config: &Config,
    sources: &Sources,
    path: &Path,
    facts: &MachineFacts,
) -> Findings {
    Findings::locate(sources, &path.display().to_string(), mistakes::find(config, facts))
}

/// Things that do not fit together on this machine.
pub(super) struct MachineProblems {
    /// Settings of others.
    pub(super) conflicts: BTreeSet<Conflict>,
    /// Hints at what may have been forgotten, in lines for people.
    pub(super) hints: String,
    /// Mistakes of the configuration.
    pub(super) findings: Findings,
    /// Firewall chains of others that drop what this machine sends, or the answers to it.
    pub(super) closed: Vec<String>,
    /// Steps that take away what old scripts left.
    pub(super) remains: Vec<Step>,
}

/// Returns what does not fit a configuration on this machine.
///
/// # Errors
///
/// As [`Plan::make`].
pub(super) async fn machine_problems(
    config: &Config,
    sources: &Sources,
    path: &Path,
) -> Result<MachineProblems> {
    let instance = Instance::unprepared()?;
    let (mut kernel, _) = Kernel::connect(&instance.run_dir)?;
    let mut snapshot = kernel.snapshot(&watched_sysctls(config)).await?;
    let indexed = indexed::assign(&config.uplinks, &state::indexes(&instance));
    let mut survey = survey::survey(path::questions(config, &indexed, &snapshot)).await?;
    survey.saved = survey::saved();
    survey.mark_filtered(&mut snapshot);
    let hints = lan::hints(config, &snapshot).into_iter();
    let desired = desired::desired(config, &indexed, &snapshot, UpMask::default());
    let flowtable = desired.flowtable.map(|text| try_flowtable(&text));
    let refused = flowtable.and_then(Result::err);
    let hints = hints.chain(refused).map(|hint| format!("note: {hint}\n")).collect();
    let conflicts = conflict::find(config, &snapshot, &survey, &BTreeSet::new());
    let closed = closed::own_traffic(config, &snapshot, &survey);
    let remains = remains::steps(config, &snapshot, &survey);
    let facts = kernel.facts(config, snapshot, true).await?;
    let findings = locate_mistakes(config, sources, path, &facts);
    Ok(MachineProblems { conflicts, hints, findings, closed, remains })
}

/// Returns the uplinks that a running daemon has as usable.
async fn running(instance: &Instance) -> Option<UpMask> {
    let text =
        client::request(&instance.socket(), Method::GET, "/v1/status", client::TIMEOUT).await;
    let text = text.ok()?;
    let status: Status = serde_json::from_str(&text).ok()?;
    let up = status.uplinks.iter().fold(UpMask::default(), |mask, uplink| {
        uplink.families().fold(mask, |mask, (family, health)| {
            mask.with(uplink.index, family, health.state.is_up())
        })
    });
    Some(up)
}
