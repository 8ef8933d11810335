//! Another configuration while the daemon runs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Daemon, drill::Drill, notify, start::Prepared, trial::Trial};
use crate::{
    api::reload::Reloaded,
    config::{Config, Parsed, Sources},
    engine::{
        Fate, Report,
        reconfigure::{refusal, renamed},
    },
    sys::{hook::Hook, probe::Resolvers},
};

impl Daemon {
    /// Reads the configuration again, for a trial if that is wanted.
    ///
    /// # Errors
    ///
    /// For people: why the one in force stays.
    pub(super) fn reload(&mut self, confirm: Option<Duration>) -> Result<Reloaded, String> {
        notify::reloading(true);
        let reloaded = self.try_reload(confirm).map_err(|error| format!("{error:#}"));
        notify::reloading(false);
        reloaded.map_err(|refusal| {
            let is_long = refusal.contains('\n');
            if is_long {
                tracing::error!("{refusal}");
            }
            let told = if is_long { "`linkbal check` says why" } else { &refusal };
            self.tell_fate(Fate::Refused(told.into()));
            format!("the new configuration is refused, the old one stays in force: {refusal}")
        })
    }

    fn tell_fate(&mut self, fate: Fate) {
        self.report(&Report::Configuration { path: self.path.display().to_string(), fate });
    }

    fn try_reload(&mut self, confirm: Option<Duration>) -> Result<Reloaded> {
        let (Parsed { config, warnings }, sources) = match Sources::load(&self.path) {
            Ok(loaded) => loaded,
            // It renders itself, over several lines.
            Err(error) => bail!("\n{error}"),
        };
        let uplinks = config.uplinks.len();
        let former = match &self.trial {
            Some(trial) => trial.former().clone(),
            None => self.sources.clone(),
        };
        let trial = confirm.map(|limit| Trial::new(&self.instance, former, &sources, limit));
        let trial = trial.transpose()?;
        let after = match self.put_in_force(config, sources) {
            Ok(after) => after,
            Err(error) => {
                Trial::keep(&self.instance, self.trial.as_ref())?;
                return Err(error);
            }
        };
        Trial::keep(&self.instance, trial.as_ref())?;
        self.trial = trial;
        self.tell_fate(Fate::InForce { uplinks, after, trial: confirm });
        warnings.lines().for_each(|warning| tracing::warn!("{warning}"));
        let confirm_within_s = confirm.map(|limit| limit.as_secs());
        let none = warnings.problems().is_empty();
        let warnings = if none { String::new() } else { warnings.to_string() };
        Ok(Reloaded { uplinks, warnings, confirm_within_s })
    }

    /// A signal is no decision about a trial.
    pub(super) fn reload_on_signal(&mut self) {
        let left = self.trial.as_ref().map(Trial::left);
        // The refusal is in the log.
        let _ = self.reload(left);
    }

    /// Goes on with a configuration; if that cannot be, with the one in force. Answers how long it
    /// took.
    fn put_in_force(&mut self, config: Config, sources: Sources) -> Result<Duration> {
        let begun = Instant::now();
        if let Some(refusal) = refusal(&self.config, &config) {
            bail!(refusal);
        }
        if let Some(uplink) = self.drill.as_ref().map(Drill::uplink) {
            bail!("a drill of {uplink} is under way: reload when it is over");
        }
        let next = Prepared::new(&self.instance, config, sources)?;
        let Prepared { config, sources, indexed, policy, datapath } = next;
        self.rename_wishes(&config);
        self.prober.set_resolvers(Resolvers::of(&config, &indexed));
        if config.hooks != self.config.hooks {
            self.hook = config.hooks.on_change.clone().map(Hook::start);
        }
        let now = self.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.configuration(now, &sources, &indexed, &self.wishes);
        }
        (self.policy, self.datapath) = (policy, datapath);
        (self.config, self.sources) = (config.clone(), sources);
        self.engine.reconfigure(config, indexed, self.wishes.by_uplink(), now);
        self.carry_out(now);
        Ok(begun.elapsed())
    }

    /// What is wanted of an uplink is also wanted of it under another name.
    fn rename_wishes(&mut self, next: &Config) {
        let known = self.engine.uplinks().iter();
        let before: Vec<_> = known.map(|uplink| uplink.indexed.clone()).collect();
        for (name, index) in renamed(&before, &next.uplinks) {
            let uplink = self.engine.uplinks().iter().find(|known| known.indexed.index == index);
            let Some(uplink) = uplink else { continue };
            super::warn_of(self.wishes.set(&name, uplink.admin));
        }
    }

    /// Keeps the configuration that is on trial.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn confirm(&mut self) -> Result<(), String> {
        if self.trial.is_none() {
            return Err("no configuration waits for a confirmation".into());
        }
        Trial::keep(&self.instance, None).map_err(|error| format!("{error:#}"))?;
        self.trial = None;
        self.tell_fate(Fate::Confirmed);
        Ok(())
    }

    /// Goes back to the configuration before a trial whose time is over.
    pub(super) fn end_trial(&mut self) {
        if self.drill.is_some() {
            return;
        }
        let Some(trial) = self.trial.take_if(|trial| trial.left().is_zero()) else { return };
        let former = trial.former().clone();
        let back = match former.parse() {
            Ok(Parsed { config, .. }) => self.put_in_force(config, former),
            Err(error) => Err(anyhow::anyhow!("{error}")),
        };
        match back.and_then(|_| trial.lost(&self.instance)) {
            Ok(()) => self.tell_fate(Fate::Lost),
            Err(error) => {
                tracing::error!("failed to go back to the configuration before: {error:#}");
            }
        }
    }
}
