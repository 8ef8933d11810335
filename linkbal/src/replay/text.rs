//! Decisions as text for people.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use linkbal_common::uplink::{Family, UpMask};

use super::{Recording, seconds};
use crate::{
    engine::{Command, indexed::Indexed, kernel::network::Change},
    events::Event,
};

/// Returns the decisions of a recording, one on each line, with their times in seconds; routine
/// commands, such as probes, are left out.
pub fn decisions(recording: &Recording) -> String {
    let mut text = String::new();
    recording.play(|at, command| {
        for line in describe(command, recording.uplinks()) {
            text += &format!("{:>14} {line}\n", seconds(at));
        }
    });
    text
}

/// Describes a command in lines; none if it is routine.
fn describe(command: &Command, uplinks: &[Indexed]) -> Vec<String> {
    let line = match command {
        Command::SendProbes { .. }
        | Command::AskGateway { .. }
        | Command::Observe
        | Command::Survey(_)
        | Command::Attach(_)
        | Command::AdoptConnections(_) => {
            return Vec::new();
        }
        Command::SetUpMask(mask) => format!("usable: {}", names(*mask, uplinks)),
        Command::SetAvoidMask(mask) => format!("to be avoided: {}", names(*mask, uplinks)),
        Command::EndFlows { uplink, family, .. } => {
            let name = uplinks.iter().find(|known| known.index == *uplink);
            let name = name.map_or("?", |known| known.config.name.as_str());
            format!("end the {} flows of {name}", family.name())
        }
        Command::SetWeights(weights) => format!("share by {}", shares(weights, uplinks)),
        Command::ForgetConnections { family, fwmark } => {
            format!("forget the {} connections with fwmark {fwmark:#010x}", family.name())
        }
        Command::ForgetFlows { family } => format!("drop the {} flow table", family.name()),
        Command::SetBypass(prefixes) => format!("leave {} prefixes alone", prefixes.len()),
        Command::Apply(changes) => return changes.iter().map(change).collect(),
        Command::Report(report) => {
            format!("tell: {}", Event::new(0, SystemTime::UNIX_EPOCH, report).headline())
        }
        other => format!("{other:?}"),
    };
    vec![line]
}

fn names(mask: UpMask, uplinks: &[Indexed]) -> String {
    let of = |family| {
        let members = uplinks.iter().filter(|uplink| mask.contains(uplink.index, family));
        let names: Vec<&str> = members.map(|uplink| uplink.config.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        format!("{} {names}", family.name())
    };
    Family::ALL.map(of).join(", ")
}

fn shares(weights: &BTreeMap<u32, u32>, uplinks: &[Indexed]) -> String {
    let each = uplinks.iter().filter_map(|uplink| {
        Some(format!("{} {}", uplink.config.name, weights.get(&uplink.index)?))
    });
    each.collect::<Vec<_>>().join(", ")
}

fn change(change: &Change) -> String {
    match change {
        Change::Bond(change) => change.to_string(),
        Change::SetSysctl(path, value) => format!("set sysctl {path} to {value}"),
        Change::ReplaceRoute(route) => format!("set route {route}"),
        Change::AddRule(rule) => format!("add ip rule {rule}"),
        Change::ReplaceNft(text) => format!("replace the nft table by one of {} bytes", text.len()),
        Change::SetFlowtable(Some(text)) => {
            format!("replace the nft table of the flowtable by one of {} bytes", text.len())
        }
        Change::SetFlowtable(None) => "delete the nft table of the flowtable".into(),
        Change::DeleteRule(rule) => format!("delete ip rule {rule}"),
        Change::DeleteRoute(route) => format!("delete route {route}"),
    }
}

/// Returns every command of a recording, in full.
pub fn everything(recording: &Recording) -> String {
    let mut text = String::new();
    recording.play(|at: Duration, command| {
        text += &super::exact(at, command);
        text.push('\n');
    });
    text
}
