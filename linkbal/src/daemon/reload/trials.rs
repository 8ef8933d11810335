//! Trials under way: how each begins, and its three ends.

use anyhow::{Error, Result};

use super::{BUSY, ReloadCause, Reloading, Step, TrialReply, with_external};
use crate::{
    config::Sources,
    daemon::{
        Daemon,
        edit::Edit,
        reload_refusal::{ReloadRefusal, Unusable},
        trial::{self, Trial},
    },
    engine::ReloadOutcome,
};

impl Daemon {
    /// Begins the trial of the configuration that is about to be in force, if it is to be on trial.
    pub(super) fn begin_trial(&mut self, candidate: &Sources) {
        if !matches!(&self.reloading, Some(Reloading { cause: ReloadCause::Requested { .. }, .. }))
        {
            return;
        }
        self.trial = self.next_trial(candidate);
        let stored = Trial::keep(&self.instance, self.trial.as_ref());
        if let Some(reloading) = self.reloading.as_mut().filter(|_| self.trial.is_some()) {
            reloading.stored = Some(stored);
        }
    }

    /// Returns the trial for the configuration under way, if one is wanted.
    pub(super) fn next_trial(&self, candidate: &Sources) -> Option<Trial> {
        let Some(Reloading { cause: ReloadCause::Requested { confirm, by_text, .. }, .. }) =
            &self.reloading
        else {
            return None;
        };
        let former = self.trial.as_ref().map_or(&*self.sources, Trial::former);
        confirm.map(|limit| Trial::new(former.clone(), candidate, limit).by_text(*by_text))
    }

    /// Says what became of the return to the previous configuration.
    pub(super) fn end_rollback(
        &mut self,
        trial: Trial,
        undo: Option<TrialReply>,
        outcome: Result<()>,
    ) {
        let (reload, reason) = match undo {
            Some(_) => (ReloadOutcome::Undone, trial::UNDONE),
            None => (ReloadOutcome::Lost, trial::LOST),
        };
        let undone = match outcome {
            Ok(()) => {
                if !trial.is_by_text() {
                    self.set_refused(reason.to_owned().into());
                }
                trial.lost(&self.instance);
                self.report_configuration(reload);
                Ok(())
            }
            Err(error) => {
                self.trial = Some(trial.put_off());
                if undo.is_none() {
                    self.report_stuck(&error);
                }
                Err(format!("the configuration before cannot come back: {error:#}"))
            }
        };
        if let Some(answer) = undo {
            // The client may have disconnected.
            let _ = answer.send(undone);
        }
    }

    /// Says that the time of a trial is over, and that the configuration before cannot be put in force.
    fn report_stuck(&mut self, error: &Error) {
        let ReloadRefusal { text, public } = ReloadRefusal::of(error);
        let [text, public] = [text, public].map(|reason| {
            format!(
                "the configuration on trial was not confirmed, but the one before cannot \
                 come back: {reason}; it is tried again, `linkbal confirm` keeps the present one"
            )
        });
        // Each attempt would say the same.
        let known = self.refused_configuration.as_ref().map(|refused| &refused.error);
        if known != Some(&text) {
            tracing::error!("{text}");
            self.set_refused(ReloadRefusal { text, public: public.clone() });
            self.report_configuration(ReloadOutcome::Refused(public));
        }
    }

    /// Keeps the configuration that is on trial; a text is written to the file first.
    pub(in crate::daemon) fn confirm(&mut self, answer: TrialReply) {
        let refused = match &self.trial {
            _ if self.is_reloading() => BUSY,
            None => "no configuration waits for a confirmation",
            Some(trial) if trial.is_by_text() => {
                let (former, text) = (trial.former().text.clone(), trial.candidate_text().into());
                let edit = Edit { path: self.path.clone(), former, text };
                self.begin(ReloadCause::Keep(answer));
                return self.step(move || Step::Written(edit.write()));
            }
            Some(_) => {
                self.keep_trial();
                // The client may have disconnected.
                let _ = answer.send(Ok(()));
                return;
            }
        };
        let _ = answer.send(Err(refused.into()));
    }

    pub(super) fn keep_trial(&mut self) {
        self.trial = None;
        drop(Trial::keep(&self.instance, None));
        self.refused_configuration = None;
        self.report_configuration(ReloadOutcome::Confirmed);
    }

    /// Goes back to the previous configuration before the time of a trial is over.
    pub(in crate::daemon) fn undo(&mut self, answer: TrialReply) {
        let refused = match self.trial.take_if(|_| self.reloading.is_none() && self.drill.is_none())
        {
            Some(trial) => return self.roll_back(trial, Some(answer)),
            None if self.is_reloading() => BUSY,
            None if self.trial.is_some() => "a drill is under way: undo it when that is over",
            None => "no configuration is on trial",
        };
        // The client may have disconnected.
        let _ = answer.send(Err(refused.into()));
    }

    /// Goes back to the previous configuration once the time of a trial is over.
    pub(in crate::daemon) fn end_trial(&mut self) {
        if self.is_reloading() {
            return;
        }
        if let Some(trial) = self.trial.take_if(|trial| trial.is_over()) {
            // The way back does not wait for anything.
            self.cut_drill();
            self.roll_back(trial, None);
        }
    }

    fn roll_back(&mut self, trial: Trial, undo: Option<TrialReply>) {
        let former = trial.former().clone();
        self.begin(ReloadCause::Rollback(trial, undo));
        self.step(move || {
            Step::Read(match former.parse() {
                Ok(parsed) => with_external(parsed, former, Vec::new()),
                Err(error) => Err(Unusable(error).into()),
            })
        });
    }
}
