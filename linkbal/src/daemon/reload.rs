//! Reloads: another configuration while the daemon runs.
//!
//! A thread of its own reads, compiles and prepares it: however large it is, and wherever its files
//! are, the main loop only swaps what is ready.

mod trials;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Error, Result};
use tokio::sync::oneshot;

use super::{
    Daemon,
    admin::{Stored, not_stored},
    drill::RunningDrill,
    edit::{self, Edit},
    reload_refusal::{ReloadRefusal, Unusable},
    service_manager,
    staged_config::{ExternalData, StagedConfig},
    trial::Trial,
};
use crate::{
    api::{admin::RequestError, reload::Reloaded},
    config::{Config, FileOnly, Parsed, Sources, Warnings, difference},
    engine::{
        ReloadOutcome, Report,
        reconfigure::{refusal, renames},
    },
    sys::{
        host::{hook::Hook, memory, thread},
        probe::Resolvers,
    },
};

/// Channel for the outcome of a reload.
pub(super) type ReloadReply = oneshot::Sender<Result<Reloaded, RequestError>>;

/// Channel for the outcome of a confirmation, or of its contrary.
pub(super) type TrialReply = oneshot::Sender<Result<(), String>>;

/// Refusal of what is asked for while another change is under way.
const BUSY: &str = "another reload is under way: try again";

/// A change of the configuration under way.
#[derive(Debug)]
pub(super) struct Reloading {
    cause: ReloadCause,
    /// Time at which the reload began.
    begun: Instant,
    /// Set if another signal came meanwhile: the file may have changed since it was read.
    again: bool,
    /// Outcome of storing the trial, if there is one.
    stored: Option<Stored>,
}

#[derive(Debug)]
enum ReloadCause {
    /// A reload that was requested.
    Requested {
        confirm: Option<Duration>,
        /// Set if the configuration is a text that came by the API.
        by_text: bool,
        answer: Option<ReloadReply>,
        warnings: Option<Warnings>,
        changes: Vec<String>,
        /// Reason for which a confirmation would not reach the file.
        unwritable: Option<String>,
    },
    /// A return to the previous configuration, since a trial was not confirmed, or undone upon a request.
    Rollback(Trial, Option<TrialReply>),
    /// A confirmation of a text, which is written to the file.
    Keep(TrialReply),
}

impl ReloadCause {
    const fn requested(
        confirm: Option<Duration>,
        by_text: bool,
        answer: Option<ReloadReply>,
    ) -> ReloadCause {
        let changes = Vec::new();
        ReloadCause::Requested {
            confirm,
            by_text,
            answer,
            warnings: None,
            changes,
            unwritable: None,
        }
    }
}

/// The result of a step that the thread has done.
pub(super) enum Step {
    /// The configuration is read.
    Read(Result<Box<ReadConfig>>),
    /// The datapath is ready.
    Ready(Result<Box<StagedConfig>>),
    /// The file has the text that was on trial.
    Written(Result<()>),
}

/// A configuration that was read.
pub(super) struct ReadConfig {
    parsed: Parsed,
    sources: Sources,
    external: ExternalData,
    /// Lines that differ from the configuration before.
    changes: Vec<String>,
    /// Reason for which a confirmation would not reach the file.
    unwritable: Option<String>,
}

/// Answers a request for a reload, with a warning if a trial would not outlive the daemon.
async fn send(
    answer: ReloadReply,
    outcome: Result<Reloaded, RequestError>,
    stored: Option<Stored>,
) {
    let unstored = match stored {
        Some(stored) => not_stored(stored).await,
        None => None,
    };
    let outcome = outcome.map(|mut reloaded| {
        if let Some(problem) = unstored {
            reloaded.warnings.push_str(&format!("warning: the trial is not on disk: {problem}\n"));
        }
        reloaded
    });
    // The client may have disconnected.
    let _ = answer.send(outcome);
}

fn with_external(
    parsed: Parsed,
    sources: Sources,
    changes: Vec<String>,
) -> Result<Box<ReadConfig>> {
    let external = ExternalData::read(&parsed.config)?;
    Ok(Box::new(ReadConfig { parsed, sources, external, changes, unwritable: None }))
}

/// Reads a text in place of what is `in_force`.
fn read_edit(edit: &Edit, in_force: &Sources, file_only: &FileOnly) -> Result<Box<ReadConfig>> {
    edit.check_file()?;
    let parsed = in_force.parse_other(&edit.text);
    let (parsed, sources) = parsed.map_err(Unusable)?;
    if let Some(refusal) = file_only.refusal(&parsed.config) {
        return Err(Error::msg(refusal));
    }
    let changes = difference(in_force, &sources);
    let read = with_external(parsed, sources, changes)?;
    Ok(Box::new(ReadConfig { unwritable: edit.unwritable(), ..*read }))
}

impl Daemon {
    /// Begins to read the configuration again, for a trial if that is wanted.
    pub(super) fn reload(&mut self, confirm: Option<Duration>, answer: Option<ReloadReply>) {
        if self.reloading.is_some() {
            if let Some(answer) = answer {
                // The client may have disconnected.
                let _ = answer.send(Err(RequestError::NotPossible(BUSY.into())));
            }
            return;
        }
        service_manager::reloading(true);
        self.begin(ReloadCause::requested(confirm, false, answer));
        let (path, former) = (self.path.clone(), Arc::clone(&self.sources));
        self.step(move || {
            Step::Read(match Sources::load(&path) {
                Ok((parsed, sources)) => {
                    let changes = difference(&former, &sources);
                    with_external(parsed, sources, changes)
                }
                Err(error) => Err(Unusable(error).into()),
            })
        });
    }

    /// Begins the trial of a text that came by the API.
    pub(super) fn try_text(&mut self, text: String, limit: Duration, answer: ReloadReply) {
        if self.reloading.is_some() {
            // The client may have disconnected.
            let _ = answer.send(Err(RequestError::NotPossible(BUSY.into())));
            return;
        }
        service_manager::reloading(true);
        self.begin(ReloadCause::requested(Some(limit), true, Some(answer)));
        let (in_force, file_only) = (Arc::clone(&self.sources), FileOnly::of(&self.config));
        let confirmed = self.trial.as_ref().map_or(&*self.sources, Trial::former);
        let edit = Edit { path: self.path.clone(), former: confirmed.text.clone(), text };
        self.step(move || Step::Read(read_edit(&edit, &in_force, &file_only)));
    }

    /// Reloads the configuration after a signal, which is no decision about a trial under way.
    pub(super) fn reload_on_signal(&mut self) {
        if self.trial.as_ref().is_some_and(Trial::is_by_text) {
            tracing::warn!(
                "a text is on trial: `linkbal reload` ends that, a signal does not; the file is not read"
            );
            return;
        }
        if let Some(reloading) = &mut self.reloading {
            reloading.again = true;
            return;
        }
        let left = self.trial.as_ref().map(Trial::left);
        // A refusal is in the log.
        self.reload(left, None);
    }

    /// Returns whether the configuration is about to change.
    pub(super) const fn is_reloading(&self) -> bool {
        self.reloading.is_some()
    }

    fn begin(&mut self, cause: ReloadCause) {
        let begun = Instant::now();
        self.reloading = Some(Reloading { cause, begun, again: false, stored: None });
    }

    /// Runs the next step on a thread.
    fn step(&mut self, work: impl FnOnce() -> Step + Send + 'static) {
        let steps = self.steps.0.clone();
        let done = move || {
            // The receiver is gone when the daemon ends.
            let _ = steps.send(work());
        };
        if let Err(error) = thread::start("reload", done) {
            self.end_reload(Err(error));
        }
    }

    /// Continues after a step.
    pub(super) fn continue_reload(&mut self, step: Step) {
        let Some(reloading) = &mut self.reloading else { return };
        match step {
            Step::Read(Err(error)) => self.end_reload(Err(error)),
            Step::Read(Ok(read)) => {
                let ReadConfig { parsed, sources, external, changes: differing, unwritable: why } =
                    *read;
                let Parsed { config, warnings: found } = parsed;
                if let ReloadCause::Requested { warnings, changes, unwritable, .. } =
                    &mut reloading.cause
                {
                    *warnings = Some(found);
                    *changes = differing;
                    *unwritable = why;
                }
                self.prepare(config, sources, external);
            }
            Step::Ready(prepared) => {
                let swapped = prepared.map(|prepared| self.swap(*prepared));
                self.end_reload(swapped);
            }
            Step::Written(outcome) => self.end_reload(outcome),
        }
    }

    /// Creates a datapath for a configuration, unless there is an obstacle.
    fn prepare(&mut self, config: Config, sources: Sources, external: ExternalData) {
        let obstacle = match self.drill.as_ref().map(RunningDrill::uplink) {
            Some(uplink) => {
                Some(format!("a drill of {uplink} is under way: reload when it is over"))
            }
            None => refusal(&self.config, &config),
        };
        if let Some(obstacle) = obstacle {
            return self.end_reload(Err(Error::msg(obstacle)));
        }
        // Written while the datapath is made, so that a crash once it is in force leads back to the
        // previous configuration.
        if let Some(trial) = self.next_trial(&sources) {
            drop(Trial::keep(&self.instance, Some(&trial)));
        }
        let instance = self.instance.clone();
        self.step(move || {
            let prepared = StagedConfig::new(&instance, config, sources, &external);
            Step::Ready(prepared.map(Box::new))
        });
    }

    /// Puts a configuration in force that is ready.
    fn swap(&mut self, mut next: StagedConfig) {
        next.attach_local();
        let StagedConfig { config, sources, indexed, policy, datapath, .. } = next;
        self.begin_trial(&sources);
        self.refused_configuration = None;
        self.configured = SystemTime::now();
        self.rename_admin_states(&config);
        self.prober.set_resolvers(Resolvers::of(&config, &indexed));
        if config.hooks != self.config.hooks {
            self.hook = config.hooks.on_change.clone().map(Hook::start);
        }
        self.api.listen(&config.api);
        self.notifications.set(&config.receivers);
        let now = self.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.configuration(now, &sources, &indexed, &self.admin_states);
        }
        let former_policy = std::mem::replace(&mut self.policy, policy);
        let former_config = std::mem::replace(&mut self.config, config.clone());
        let former_sources = std::mem::replace(&mut self.sources, Arc::new(sources));
        self.datapath = datapath;
        (self.fallback, self.good_kept) = (None, false);
        self.engine.reconfigure(config, indexed, self.admin_states.by_uplink(), now);
        self.execute_commands(now);
        // Freeing hundreds of thousands of prefixes takes its time.
        drop(thread::start("free", || {
            drop((former_policy, former_config, former_sources));
            memory::give_back();
        }));
    }

    fn end_reload(&mut self, outcome: Result<()>) {
        let Some(Reloading { cause, begun, again, stored }) = self.reloading.take() else { return };
        match cause {
            ReloadCause::Requested { confirm, by_text, answer, warnings, changes, unwritable } => {
                if outcome.is_err() {
                    drop(Trial::keep(&self.instance, self.trial.as_ref()));
                }
                let outcome = outcome
                    .map_err(|error| match by_text {
                        true => edit::refusal(&error),
                        false => self.refuse(&error),
                    })
                    .map(|()| self.report_reloaded(confirm, warnings.as_ref(), begun.elapsed()))
                    .map(|reloaded| Reloaded { changes, unwritable, ..reloaded });
                service_manager::reloading(false);
                if let Some(answer) = answer {
                    tokio::spawn(send(answer, outcome, stored));
                }
            }
            ReloadCause::Rollback(trial, undo) => self.end_rollback(trial, undo, outcome),
            ReloadCause::Keep(answer) => {
                let kept =
                    outcome.map(|()| self.keep_trial()).map_err(|error| format!("{error:#}"));
                // The client may have disconnected.
                let _ = answer.send(kept);
            }
        }
        if again {
            self.reload_on_signal();
        }
    }

    fn set_refused(&mut self, refusal: ReloadRefusal) {
        self.refused_configuration = Some(refusal.into_status());
    }

    fn refuse(&mut self, error: &Error) -> RequestError {
        let refusal = ReloadRefusal::of(error);
        if refusal.text != refusal.public {
            tracing::error!("{}", refusal.text);
        }
        self.set_refused(refusal.clone());
        self.report_configuration(ReloadOutcome::Refused(refusal.public));
        let refusal = refusal.text;
        RequestError::Unusable(format!(
            "the new configuration is refused, the old one stays in force: {refusal}"
        ))
    }

    fn report_reloaded(
        &mut self,
        confirm: Option<Duration>,
        warnings: Option<&Warnings>,
        after: Duration,
    ) -> Reloaded {
        let uplinks = self.config.uplinks.len();
        self.report_configuration(ReloadOutcome::InForce { uplinks, after, trial: confirm });
        let warnings = warnings.filter(|warnings| !warnings.problems().is_empty());
        let lines = warnings.into_iter().flat_map(Warnings::lines);
        lines.for_each(|warning| tracing::warn!("{warning}"));
        let warnings = warnings.map(Warnings::to_string).unwrap_or_default();
        Reloaded {
            uplinks,
            file: self.path.display().to_string(),
            changes: Vec::new(),
            unwritable: None,
            warnings,
            confirm_within_s: confirm.map(|limit| limit.as_secs()),
        }
    }

    fn report_configuration(&mut self, outcome: ReloadOutcome) {
        self.report(&Report::Configuration { path: self.path.display().to_string(), outcome });
    }

    /// Carries the administrative state of a renamed uplink over to its new name.
    fn rename_admin_states(&mut self, next: &Config) {
        let before = self.engine.uplinks().indexed();
        self.admin_states.rename(&renames(&before, &next.uplinks));
    }
}
