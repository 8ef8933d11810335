//! Execution of the engine's commands.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{Daemon, kernel_task::Task, warn_of};
use crate::{
    engine::{
        Command, Event, Report,
        command::Unmarked,
        kernel::{
            conflict::lookup::RouteQuestion,
            desired,
            network::{Link, Role},
        },
    },
    events::{self, severity::EventSeverity},
    replay,
    sys::{
        conntrack,
        datapath::{attach::Unattached, flush},
        host::descriptors,
        probe::ProbePath,
        reset::LocalConnections,
        resolve::resolve,
        survey,
    },
};

impl Daemon {
    /// Executes all commands that the engine has decided on.
    pub(super) fn execute_commands(&mut self, now: Duration) {
        while let Some(command) = self.engine.next_command() {
            tracing::debug!("decided {}", replay::exact(now, &command));
            self.execute(command);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::SetUpMask(mask) => warn_of(self.datapath.set_up_mask(mask)),
            Command::EndFlows { uplink, family, own: addresses, fwmark, unmarked } => {
                let mask = MarkMask(self.config.kernel.fwmark_mask).number();
                let local = LocalConnections { addresses, fwmark, mask, unmarked };
                self.end_flows(uplink, family, local);
            }
            Command::SetAvoidMask(mask) => warn_of(self.datapath.set_avoid_mask(mask)),
            Command::SetWeights(weights) => warn_of(self.set_weights(&weights)),
            Command::ForgetConnections { family, fwmark } => {
                let mask = MarkMask(self.config.kernel.fwmark_mask).connection();
                let _lent = descriptors::lend();
                warn_of(conntrack::delete(family, fwmark, mask));
            }
            Command::ForgetFlows { family } => flush::spawn(self.datapath.dir(), family),
            Command::AdoptConnections(adoption) => {
                self.queue_task(Task::Adopt(adoption, self.datapath.dir()));
            }
            Command::Apply(changes) => self.queue_task(Task::Apply(changes)),
            Command::Observe => {
                let sysctls = desired::watched_sysctls(&self.config);
                self.queue_task(Task::Observe(sysctls, !self.config.bonds.is_empty()));
            }
            Command::Survey(questions) => self.survey(questions),
            Command::Restore(parts) => self.restore(&parts),
            Command::SetBypass(prefixes) => warn_of(self.datapath.set_bypass(&prefixes)),
            Command::SetUplinkMtu(mtu) => warn_of(self.datapath.set_uplink_mtu(&mtu)),
            Command::SetUplinkAddresses(addresses) => {
                warn_of(self.datapath.set_uplink_addresses(&addresses));
            }
            Command::SetUplinkInterfaces(uplinks) => {
                warn_of(self.datapath.set_uplink_interfaces(&uplinks));
            }
            Command::SetShortcuts(scope) => warn_of(self.datapath.set_shortcuts(&scope)),
            Command::Attach(interfaces) => self.attach(&interfaces),
            Command::SendProbes {
                uplink,
                family,
                ifindex,
                fwmark,
                gateway,
                own,
                round,
                targets,
                timeout,
            } => {
                let path = ProbePath { uplink, family, ifindex, fwmark, gateway, own };
                self.prober.send(path, round, targets, timeout);
            }
            Command::AskGateway { uplink, family, ifindex, fwmark, gateway, own } => {
                let gateway = Some(gateway);
                self.prober.ask_gateway(ProbePath {
                    uplink,
                    family,
                    ifindex,
                    fwmark,
                    gateway,
                    own,
                });
            }
            Command::Resolve { name } => self.resolve(name),
            Command::Learn { name, addresses } => warn_of(self.datapath.learn(&name, &addresses)),
            Command::Report(report) => self.report(&report),
        }
    }

    /// Ends the flows of an uplink in one family, and its local connections.
    fn end_flows(&mut self, uplink: u32, family: Family, mut local: LocalConnections) {
        if local.unmarked == Unmarked::UnlessBalanced && !self.datapath.balances_local() {
            local.unmarked = Unmarked::Outgoing;
        }
        let resets = self.resets.0.clone();
        let report = move |summary| {
            // The receiver is gone when the daemon ends.
            let _ = resets.send(summary);
        };
        warn_of(self.datapath.end_flows(uplink, family, local, report));
    }

    pub(super) fn report(&mut self, report: &Report) {
        self.report_to_drill(report);
        let event = self.journal.record(report, SystemTime::now());
        log_event(&event);
        self.notifications.add(&event, self.now());
        if let Some(hook) = &self.hook {
            hook.push(event);
        }
    }

    /// Attaches the programs to interfaces. Each failure is logged once, though attaching is tried
    /// again and again.
    fn attach(&mut self, interfaces: &[(Role, Link)]) {
        let _lent = descriptors::lend();
        let links = interfaces.iter().map(|(_, link)| link);
        warn_of(self.datapath.set_rule_interfaces(&self.policy, links));
        let failures = if self.datapath.is_in_force() {
            self.datapath.attach(interfaces)
        } else {
            self.datapath.take_over(interfaces)
        };
        self.datapath.watch_links(&self.monitor.watcher);
        self.monitor.look_soon();
        let unattached = failures.iter().filter_map(|error| {
            let Unattached(interface) = error.downcast_ref()?;
            Some((interface.clone(), format!("{error:#}")))
        });
        self.monitor.unattached = unattached.collect();
        let failures = failures.iter().map(|error| format!("{error:#}")).collect();
        for failure in BTreeSet::difference(&failures, &self.attach_failures) {
            tracing::warn!("{failure}");
        }
        self.attach_failures = failures;
    }

    fn resolve(&self, name: String) {
        let answers = self.lookups.0.clone();
        let servers = self.config.dns.resolvers.clone().unwrap_or_default();
        // The receiver is gone when the daemon ends.
        tokio::spawn(async move { answers.send(resolve(name, servers).await) });
    }

    fn survey(&self, questions: Vec<RouteQuestion>) {
        let answers = self.lookups.0.clone();
        let last = Arc::clone(&self.surveyed);
        tokio::spawn(async move {
            let survey = survey::survey(questions).await;
            let survey = survey.inspect_err(|error| tracing::warn!("{error:#}"));
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(survey) = survey {
                *last = survey;
            }
            // If the survey failed, the last one is used. The receiver is gone when the daemon
            // ends.
            answers.send(Event::Surveyed(last.clone()))
        });
    }

    pub(super) fn queue_task(&self, task: Task) {
        if self.tasks.send(task).is_err() {
            tracing::error!("the kernel task died");
        }
    }
}

fn log_event(event: &events::Event) {
    let text = event.headline();
    match event.severity {
        EventSeverity::Info => tracing::info!("{text}"),
        EventSeverity::Warning => tracing::warn!("{text}"),
    }
}
