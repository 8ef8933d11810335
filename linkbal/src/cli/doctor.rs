//! `linkbal doctor`: tries the running whole from end to end, and says what mends it.

use std::{collections::BTreeSet, fmt::Write as _, io::IsTerminal as _, path::Path};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use hyper::Method;
use linkbal_common::{mark::MarkMask, uplink::Family};
use serde::Serialize;

use super::{
    plan::{self, MachineProblems},
    stderr,
};
use crate::{
    api::{
        client,
        status::{FamilyStatus, Status, Uplink},
    },
    config::{Config, ConfigError, Severity, Sources},
    daemon::state,
    engine::{
        doctor::{
            self, Attempts, Complaint, Machine, States, Trial, command_in,
            uplinks::{self, Known, NOTED_LOSS},
        },
        health::State,
        indexed::{self, Indexed},
        kernel::{
            conflict::Conflict,
            desired::uplink_addresses,
            network::{PROTOCOL, Snapshot},
            nexthop::{link_mtu, nexthop},
        },
    },
    removal::{Stage, Step},
    sys::{
        Kernel,
        doctor::observe,
        host::{instance::Instance, privilege},
        probe::{ProbePath, Resolvers, try_uplink},
    },
};

/// Number of silent hosts that are named.
const MAX_SILENT: usize = 3;

/// Version of the JSON.
const VERSION: u32 = 1;

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Diagnosis {
    version: u32,
    trials: Vec<Trial>,
    findings: Vec<Complaint>,
}

impl Diagnosis {
    /// Tries all uplinks at the same time, and observes the machine. Changes nothing. `fault` is what
    /// is wrong with the configuration file, if another text is in force.
    ///
    /// # Errors
    ///
    /// If a privilege is missing, or the kernel or nft does not answer.
    pub(super) async fn make(
        config: &Config,
        sources: &Sources,
        path: &Path,
        fault: Option<Complaint>,
    ) -> Result<Diagnosis> {
        privilege::check()?;
        let instance = Instance::unprepared()?;
        let status = status(&instance).await;
        let (mut kernel, _) = Kernel::connect(&instance.run_dir)?;
        let snapshot = kernel.snapshot(&[]).await?;
        let indexed = indexed::assign(&config.uplinks, &state::indexes(&instance));
        if std::io::stderr().is_terminal() {
            stderr::line(format_args!("trying {} for some seconds ..", names(config)));
        }
        let trials = try_all(config, &indexed, &snapshot).await;
        let holder = instance.holder();
        let pid = status.as_ref().map(|status| status.pid).or(holder);
        let problems = plan::machine_problems(config, sources, path).await?;
        let machine = observe(config, &doctor::watched(config), pid);
        let machine = Machine { closed: problems.closed.clone(), ..machine };
        let known: Vec<Known> = status.iter().flat_map(known).collect();
        let mut findings = doctor::find(config, &snapshot, &machine, &trials, &known);
        findings.extend(doctor::missing(config, &snapshot, status.as_ref().map(states).as_ref()));
        findings.extend(fault);
        let serves = pid.is_some() || snapshot.rules.iter().any(|rule| rule.protocol == PROTOCOL);
        let left = leftovers(&problems.remains, serves);
        findings.extend(of_machine(&problems));
        findings.retain(|finding| !uplinks::has_said(&known, finding));
        findings.extend(holder.filter(|_| status.is_none()).map(hanging));
        findings.extend(status.iter().flat_map(of_status));
        findings.sort();
        findings.dedup();
        // In the order in which they go.
        let advised: BTreeSet<_> = findings.iter().map(|finding| finding.command.clone()).collect();
        findings.extend(left.into_iter().filter(|one| !serves || !advised.contains(&one.command)));
        // What is done on purpose comes before what seems wrong.
        let drill = status.as_ref().and_then(|status| status.drill.as_deref());
        findings.splice(..0, uplinks::drill(drill, &known));
        Ok(Diagnosis { version: VERSION, trials, findings })
    }

    /// Returns whether nothing is wrong; hints are nothing wrong.
    pub(super) fn is_fine(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Hint)
    }

    /// Formats it as JSON on one line.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self).context("failed to write the findings")? + "\n")
    }

    /// Formats it for people.
    pub(super) fn text(&self) -> String {
        let mut text: String = self.trials.iter().map(line_of).collect();
        for Complaint { severity, what, advice, command } in &self.findings {
            let kind = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Hint => "hint",
            };
            let _ = writeln!(text, "{kind}: {what}");
            for (mark, line) in [("", advice), ("$ ", command)] {
                if !line.is_empty() {
                    let _ = writeln!(text, "  {mark}{line}");
                }
            }
        }
        let bad = |finding: &&Complaint| finding.severity != Severity::Hint;
        text + &match self.findings.iter().filter(bad).count() {
            0 => "fine: nothing is wrong\n".to_owned(),
            1 => "1 thing is wrong\n".to_owned(),
            count => format!("{count} things are wrong\n"),
        }
    }
}

/// Returns that the file holds another text than the one in force, which can be used.
pub(super) fn changed(path: &Path) -> Complaint {
    let what = format!("{} has changed since it was loaded", path.display());
    let advice = "tried is what is in force; see what would change, then reload";
    Complaint::new(Severity::Hint, what, advice, "linkbal reload --confirm 2m")
}

/// Returns what is wrong with a configuration file, while another text is in force.
pub(super) fn unusable(path: &Path, error: &ConfigError) -> Complaint {
    let what = format!("the configuration file cannot be used: {}", error.summary());
    let path = path.display();
    let advice = "tried is what is in force until the file is corrected and reloaded; the next start \
                  uses the last good configuration";
    Complaint::new(Severity::Error, what, advice, format!("linkbal check --config {path}"))
}

fn names(config: &Config) -> String {
    let names: Vec<&str> = config.uplinks.iter().map(|uplink| &*uplink.name).collect();
    names.join(", ")
}

async fn status(instance: &Instance) -> Option<Status> {
    let text =
        client::request(&instance.socket(), Method::GET, "/v1/status", client::TIMEOUT).await;
    serde_json::from_str(&text.ok()?).ok()
}

/// Returns the complaint about a daemon that holds its lock, but does not answer.
fn hanging(pid: u32) -> Complaint {
    let what = format!("linkbal (process {pid}) runs, but does not answer");
    let advice = "packets go on as its maps say, without failover; tried is what the file holds";
    Complaint::new(Severity::Error, what, advice, "systemctl restart linkbal")
}

/// Returns the complaint about an uplink that is up, but loses many of its probes.
fn lossy(uplink: &Uplink, family: &str, health: &FamilyStatus) -> Option<Complaint> {
    if health.state != State::Up || health.drilled || health.loss < NOTED_LOSS {
        return None;
    }
    let name = &uplink.name;
    let what = format!("{name} {family} loses {:.0} % of its probes", health.loss * 100.0);
    let advice = if health.degraded {
        "new flows avoid it while others are usable; show its provider the command's report"
    } else {
        "either a target is silent, see above, or the line loses packets: `limits.loss = \"10%\"` lets \
         new flows avoid it, and the command makes a report for its provider"
    };
    let command = format!("linkbal history --report --uplink {name}");
    Some(Complaint::new(Severity::Warning, what, advice, command))
}

/// Tries the uplinks that have a way out.
async fn try_all(config: &Config, indexed: &[Indexed], snapshot: &Snapshot) -> Vec<Trial> {
    let resolvers = Resolvers::of(config, indexed);
    let mask = MarkMask(config.kernel.fwmark_mask);
    let addresses = uplink_addresses(indexed, snapshot);
    let each = indexed.iter().flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
    let trials = each.filter_map(|(Indexed { index, config: uplink }, family)| {
        let link = snapshot.link(&uplink.interface)?;
        let nexthop = nexthop(snapshot, uplink, family).ok()?;
        let neighbours = link.ethernet && !link.point_to_point;
        let path = ProbePath {
            uplink: *index,
            family,
            ifindex: link.ifindex,
            fwmark: mask.encode(*index),
            gateway: nexthop.gateway.filter(|_| neighbours),
            own: addresses.get(&(*index, family)).copied(),
        };
        let targets = uplink.probe.targets.clone();
        let mtu = link_mtu(link, family).unwrap_or_default();
        let resolvers = resolvers.clone();
        Some(async move {
            let tried = try_uplink(path, targets, resolvers, mtu).await;
            let (uplink, interface) = (uplink.name.clone(), uplink.interface.clone());
            Trial { uplink, interface, family, tried }
        })
    });
    join_all(trials).await
}

/// Returns what does not fit the machine as complaints.
fn of_machine(problems: &MachineProblems) -> Vec<Complaint> {
    let MachineProblems { conflicts, findings, .. } = problems;
    let mistakes = findings.found().iter().map(|(severity, problem)| {
        let at =
            problem.location.as_ref().map_or(String::new(), |at| format!("line {}: ", at.line));
        let what = format!("{at}{}", problem.message);
        Complaint::new(*severity, what, &problem.help, command_in(&problem.help))
    });
    let conflicts = conflicts.iter().map(|conflict| {
        let Conflict { what, owner, meaning, advice, compatible } = conflict;
        let severity = if *compatible { Severity::Hint } else { Severity::Error };
        let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        let advice = format!("{meaning}{advice}");
        let command = command_in(&conflict.advice);
        Complaint::new(severity, format!("{what} ({owner})"), advice, command)
    });
    mistakes.chain(conflicts).collect()
}

/// Returns what balanced before linkbal and is still there. While linkbal does not work it `serves` nobody
/// else: then nothing is to be taken away.
fn leftovers(remains: &[Step], serves: bool) -> Vec<Complaint> {
    if !serves {
        let advice = "linkbal does not run: until it does, they may carry all traffic; `linkbal init` \
                      prints the commands that take them away, in a safe order";
        let what = "rules, marks, masquerading or routes of an old script are in place";
        let hint = || Complaint::new(Severity::Hint, what, advice, "linkbal init");
        return remains.first().map(|_| hint()).into_iter().collect();
    }
    let complaint = |step: &Step| {
        let serves = match step.stage {
            Stage::Nat if !step.what.is_empty() => &step.what,
            _ => "it serves nothing any more",
        };
        let advice = format!("linkbal works beside it, but {serves}");
        Complaint::new(Severity::Hint, step.stage.left_over(), advice, &*step.command)
    };
    remains.iter().map(complaint).collect()
}

/// Returns the states of the uplinks that the daemon knows.
fn states(status: &Status) -> States {
    let each = status.uplinks.iter().flat_map(|uplink| {
        let families = uplink.families();
        families.map(|(family, health)| ((uplink.name.clone(), family), health.state))
    });
    each.collect()
}

/// Returns the uplinks as the daemon has them.
fn known(status: &Status) -> Vec<Known> {
    let each = status.uplinks.iter().flat_map(|uplink| {
        uplink.families().map(|(family, health)| Known {
            uplink: uplink.name.clone(),
            family,
            state: health.state,
            admin: uplink.admin,
            standby: health.standby,
            drilled: health.drilled,
            reason: health.reason.clone(),
            remedy: health.remedy.clone().unwrap_or_default(),
            gateway: health.gateway.clone(),
            loss: health.loss,
        })
    });
    each.collect()
}

/// Returns what the daemon complains of besides its uplinks.
fn of_status(status: &Status) -> Vec<Complaint> {
    let lossy = status.uplinks.iter().flat_map(|uplink| {
        uplink.families().filter_map(|(family, health)| lossy(uplink, family.name(), health))
    });
    let refused = status.refused.iter().map(|(what, problem)| {
        Complaint::new(
            Severity::Error,
            format!("the kernel refuses {what}"),
            problem,
            command_in(problem),
        )
    });
    let throttled = status.throttled.iter().map(|thing| {
        let by = thing.by.as_deref().unwrap_or("an unknown program");
        let what = format!("{} is undone again and again by {by}", thing.what);
        Complaint::new(Severity::Error, what, "stop that program", "")
    });
    lossy.chain(refused).chain(throttled).collect()
}

/// Names the hosts that did not answer while others did.
fn silent_hosts(attempts: &Attempts) -> String {
    let names: Vec<&str> = attempts.silent.iter().take(MAX_SILENT).map(String::as_str).collect();
    let more = if attempts.silent.len() > MAX_SILENT { ", .." } else { "" };
    match names.len() {
        0 => String::new(),
        _ => format!(" (not {}{more}: it may not offer that, others answer)", names.join(", ")),
    }
}

/// Formats what came of a trial in one line.
fn line_of(trial: &Trial) -> String {
    let tried = &trial.tried;
    let mut parts = Vec::new();
    if let Some(answers) = tried.gateway {
        parts.push(if answers { "gateway answers" } else { "gateway is silent" }.to_owned());
    }
    let kinds =
        [("ping", &tried.ping), ("TCP", &tried.tcp), ("UDP", &tried.udp), ("DNS", &tried.dns)];
    for (name, attempts) in kinds {
        match (attempts.asked, attempts.answered) {
            (0, _) => {}
            (_, 0) => parts.push(format!("{name} fails")),
            (asked, answered) => {
                let silent = silent_hosts(attempts);
                parts.push(format!("{name} {answered} of {asked}{silent}"));
            }
        }
    }
    parts.extend(tried.path_mtu.map(|mtu| format!("MTU {mtu}")));
    format!("{} {}: {}\n", trial.uplink, trial.family.name(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::status::tests::status;

    #[test]
    fn an_uplink_that_loses_probes_is_told_while_it_is_up() {
        let told = |loss: f64, degraded: bool| {
            let status = status(|status| {
                let uplinks = status["uplinks"].as_array_mut().expect("uplinks");
                for family in uplinks.iter_mut().map(|uplink| &mut uplink["ipv4"]) {
                    (family["loss"], family["degraded"]) = (json!(loss), json!(degraded));
                }
            });
            let told = of_status(&status);
            told.into_iter().filter(|it| it.what.contains("loses")).collect::<Vec<_>>()
        };
        assert!(told(0.09, false).is_empty());
        let [first, second] = &told(0.3, false)[..] else { panic!("one for each uplink") };
        assert_eq!(second.what, "isp-a ipv4 loses 30 % of its probes");
        assert_eq!(second.command, "linkbal history --report --uplink isp-a");
        assert!(first.advice.contains("limits.loss"), "{first:?}");
        assert!(told(0.3, true)[0].advice.starts_with("new flows avoid it"));
    }

    #[test]
    fn what_still_serves_is_not_to_be_taken_away() {
        let steps = [
            Step::new(Stage::Rules, "", "ip rule delete pref 9"),
            Step::new(Stage::Nat, "", "iptables -t nat -D POSTROUTING -o wan-a -j MASQUERADE"),
        ];
        let commands = |serves| {
            let found = leftovers(&steps, serves).into_iter();
            found.map(|finding| finding.command).collect::<Vec<_>>()
        };
        assert_eq!(commands(true), steps.clone().map(|step| step.command), "rules go first");
        assert_eq!(commands(false), ["linkbal init"]);
        assert!(leftovers(&[], false).is_empty());
    }

    #[test]
    fn hosts_that_do_not_answer_while_others_do_are_named() {
        let silent = vec!["192.0.2.1:80".to_owned()];
        let tcp = Attempts { asked: 2, answered: 1, silent };
        let dns = Attempts { asked: 1, answered: 1, ..Attempts::default() };
        let tried = doctor::Tried { tcp, dns, ..doctor::Tried::default() };
        let (uplink, interface) = ("a".to_owned(), "wan-a".to_owned());
        let trial = Trial { uplink, interface, family: Family::Ipv4, tried };
        let line = "a ipv4: TCP 1 of 2 (not 192.0.2.1:80: it may not offer that, others answer), \
                    DNS 1 of 1\n";
        assert_eq!(line_of(&trial), line);
    }
}
