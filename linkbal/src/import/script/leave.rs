//! Steps that take away what a script has set up for its uplinks; all else of it is left alone, and told
//! of where it stands beside what goes.

mod chains;

use self::chains::{Chains, Entry, Fate};
use super::{
    facts::Facts,
    host, is_unknown, keys, lines_of,
    nat::is_of,
    routes::{is_default, value_of},
    within::{innermost, name_of},
};
use crate::{
    import::{
        model::Draft,
        shell::{Command, Script},
    },
    removal::{Stage, Step, shell_word},
};

/// Returns the steps.
pub(super) fn steps(script: &Script, facts: &Facts, draft: &Draft) -> Vec<Step> {
    let done = script.commands.iter().filter(|command| !command.undoing && !command.control);
    let commands: Vec<Command> = done.flat_map(innermost).collect();
    let chains = Chains::read(&commands, facts);
    let leave = Leave { facts, draft, chains: &chains };
    let mut steps: Vec<Step> = Vec::new();
    let found = commands.iter().enumerate().filter_map(|(at, command)| leave.undone(at, command));
    for step in found.chain(chains.emptied()) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// End of a thing that the script makes.
enum End<'a> {
    Deleted(Stage, Vec<&'a str>),
    Stays(Stage, &'static str),
}

struct Leave<'a> {
    facts: &'a Facts,
    draft: &'a Draft,
    chains: &'a Chains,
}

impl Leave<'_> {
    /// Returns the step that undoes a command, the one at this place.
    fn undone(&self, at: usize, command: &Command) -> Option<Step> {
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        let program = name_of(words.first()?);
        let end = match program {
            "ip" => self.of_ip(command, &words)?,
            "iptables-restore" | "ip6tables-restore" | "nft" => {
                return of_ruleset(command, program);
            }
            _ if Entry::is_of(program) => self.of_iptables(at, &words)?,
            "route" => self.of_route(command, &words)?,
            _ => return None,
        };
        let (stage, words) = match end {
            End::Deleted(stage, words) => (stage, words),
            End::Stays(stage, why) => {
                let said = command.words.join(" ");
                let lines = lines_of(command);
                let what = format!("left alone, {lines}: {said}: {why}");
                return Some(Step::new(
                    stage,
                    what.replace(crate::import::shell::UNKNOWN, "?"),
                    "",
                ));
            }
        };
        if words.iter().any(|word| is_unknown(word)) {
            let what = format!(
                "and what line {} of the script made, whose values are known only when it runs",
                command.line
            );
            return Some(Step::new(stage, what, ""));
        }
        let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        Some(Step::new(stage, "", words.join(" ")))
    }

    /// Returns the end of what a command of `ip` makes.
    fn of_ip<'w>(&self, command: &Command, words: &[&'w str]) -> Option<End<'w>> {
        let at = words.iter().skip(1).position(|word| !word.starts_with('-'))?.checked_add(1)?;
        let (before, rest) = words.split_at_checked(at)?;
        let (object, verb) = (*rest.first()?, *rest.get(1)?);
        let arguments = rest.get(2..)?;
        let whole = |words: &[&'w str]| [before, words].concat();
        match object {
            "rule" | "ru" if matches!(verb, "add" | "a") => {
                let undone = [whole(&["rule", "delete"]), arguments.to_vec()].concat();
                self.of_rule(arguments, undone)
            }
            "route" | "ro" | "r"
                if matches!(verb, "add" | "a" | "append" | "prepend" | "replace" | "change") =>
            {
                let route = keys::route(arguments);
                let table = keys::value(&route.pairs, &["table"]).unwrap_or("main");
                let to_main = matches!(table, "main" | "254");
                if !is_default(route.destination) {
                    let undone = [whole(&["route", "delete"]), arguments.to_vec()].concat();
                    let goes = to_main && self.is_replaced(command, route.destination);
                    return goes.then_some(End::Deleted(Stage::Routes, undone));
                }
                let table = (!to_main).then_some(table);
                match table {
                    Some(table) if self.facts.leads_out(table) || is_unknown(table) => {
                        let undone = whole(&["route", "flush", "table", table]);
                        Some(End::Deleted(Stage::Routes, undone))
                    }
                    Some(_) => None,
                    None => first_way(arguments).map(|way| {
                        let undone = [whole(&["route", "replace"]), way].concat();
                        End::Deleted(Stage::Routes, undone)
                    }),
                }
            }
            _ => None,
        }
    }

    /// Returns the end of an ip rule: those for the main table stay, and are told of elsewhere.
    fn of_rule<'w>(&self, arguments: &[&'w str], undone: Vec<&'w str>) -> Option<End<'w>> {
        let refuses = |word: &&str| matches!(*word, "unreachable" | "blackhole" | "prohibit");
        if arguments.iter().any(refuses) {
            return Some(End::Stays(
                Stage::Rules,
                "it refuses flows, which no rule of linkbal does",
            ));
        }
        let table = keys::table(arguments).unwrap_or("main");
        if matches!(table, "main" | "default" | "local" | "254" | "253" | "255") {
            return None;
        }
        if self.facts.leads_out(table) || is_unknown(table) {
            return Some(End::Deleted(Stage::Rules, undone));
        }
        Some(End::Stays(Stage::Rules, "its table leads to no uplink that is known"))
    }

    /// Returns whether a rule has taken the place of a route of the main table.
    fn is_replaced(&self, command: &Command, destination: &str) -> bool {
        let (lines, destination) = (lines_of(command), keys::whole_address(destination));
        let same = |route: &&super::facts::HostRoute| {
            route.lines == lines
                && route.table.is_empty()
                && route.destination.starts_with(&destination)
        };
        self.facts.hosts.iter().filter(same).any(|route| host::choice(self.facts, route).is_some())
    }

    /// Returns the end of a route to a single destination that the older `route` makes.
    fn of_route<'w>(&self, command: &Command, words: &[&'w str]) -> Option<End<'w>> {
        let at = words.iter().position(|word| *word == "add")?;
        let mut behind = words.get(at.saturating_add(1)..)?.iter();
        let destination = behind.find(|word| !word.starts_with('-'))?;
        let mut undone = words.to_vec();
        *undone.get_mut(at)? = "del";
        let goes = !is_default(destination) && self.is_replaced(command, destination);
        goes.then_some(End::Deleted(Stage::Routes, undone))
    }

    /// Returns the end of a rule of iptables, if it marks or masquerades.
    fn of_iptables<'w>(&self, at: usize, words: &[&'w str]) -> Option<End<'w>> {
        let place = words.iter().position(|word| chains::ADDED.contains(word))?;
        let mut undone = words.to_vec();
        *undone.get_mut(place)? = "-D";
        let number = place.saturating_add(2);
        if words.get(number).is_some_and(|word| word.parse::<u32>().is_ok()) {
            undone.remove(number);
        }
        if let Some(fate) = self.chains.fate(at) {
            return match fate {
                Fate::Goes => Some(End::Deleted(Stage::Marks, undone)),
                Fate::Stays(why) => Some(End::Stays(Stage::Marks, why)),
                Fate::Untold => None,
            };
        }
        let target = value_of(words, &["-j", "--jump"])?;
        if !matches!(target, "MASQUERADE" | "SNAT") {
            return None;
        }
        let at = words.iter().position(|word| matches!(*word, "-o" | "--out-interface"));
        let device = at.and_then(|at| words.get(at.saturating_add(1)).copied());
        let before = at.and_then(|at| words.get(at.checked_sub(1)?)).copied();
        let of_uplink = |name: &str| {
            self.draft
                .uplinks
                .iter()
                .filter_map(|uplink| uplink.device.name())
                .any(|device| is_of(Some(name), device))
        };
        let stays = |why| Some(End::Stays(Stage::Nat, why));
        match device {
            None => stays("it is for all devices: take it away if only the uplinks need it"),
            Some(device) if before == Some("!") || device.starts_with('!') => {
                stays("it is for all devices but one: take it away if only the uplinks need it")
            }
            Some(device) if !of_uplink(device) && !is_unknown(device) => {
                stays("its device is none of an uplink")
            }
            Some(_) if target == "SNAT" => stays(
                "linkbal translates to the address of the uplink: take it away if that is the same",
            ),
            Some(_) => Some(End::Deleted(Stage::Nat, undone)),
        }
    }
}

/// Returns the first next hop of a route with several, with what is said of all.
fn first_way<'a>(arguments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut ways = arguments.split(|word| *word == "nexthop");
    let mut way = without(ways.next()?, "scope");
    let first = ways.next()?;
    ways.next()?;
    way.extend(without(first, "weight"));
    Some(way)
}

/// Returns words without one and its value.
fn without<'a>(words: &[&'a str], key: &str) -> Vec<&'a str> {
    let mut words = words.to_vec();
    if let Some(at) = words.iter().position(|word| *word == key) {
        words.drain(at..words.len().min(at.saturating_add(2)));
    }
    words
}

/// Returns the step for rules that are not read, if they may mark or masquerade.
fn of_ruleset(command: &Command, program: &str) -> Option<Step> {
    let all = || command.words.iter().chain(&command.text);
    let mut marks = all().map(|text| text.to_ascii_lowercase());
    // A file may have anything.
    let file = program != "nft" && command.text.is_empty();
    let reads = command.words.iter().any(|word| word == "-f") && command.text.is_empty();
    let said = marks.any(|text| text.contains("mark") || text.contains("masquerade"));
    let what = format!(
        "and what {} of the script set up with {program}, as far as it is for the uplinks",
        lines_of(command)
    );
    (said || file || reads).then(|| Step::new(Stage::Marks, what, ""))
}

#[cfg(test)]
mod tests;
