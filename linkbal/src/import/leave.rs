//! Steps that take away what a translated configuration has set up, as far as its text says.

use super::{
    script::keys,
    shell::{self, Command, UNKNOWN},
    tool::Tool,
};
use crate::removal::{STOP_MWAN3, Stage, Step, shell_word};

/// Places where scripts are started.
const STARTERS: &str =
    "/etc/rc.local /etc/crontab /etc/cron.* /etc/network /etc/systemd/system /var/spool/cron";

/// Returns the steps; `name` is the name of the file.
pub(super) fn steps(kind: Tool, text: &str, name: &str) -> Vec<Step> {
    match kind {
        Tool::Mwan3 => {
            vec![Step::new(Stage::Stop, "with its rules, marks and tables", STOP_MWAN3)]
        }
        Tool::Vyos => in_configuration("load-balancing wan"),
        Tool::Edgeos => in_configuration("load-balance"),
        Tool::Script => of_script(text, name),
    }
}

fn in_configuration(node: &str) -> Vec<Step> {
    let what = "in configuration mode, before `commit` and `save`";
    vec![Step::new(Stage::Stop, what, format!("delete {node}"))]
}

fn of_script(text: &str, name: &str) -> Vec<Step> {
    let what = "where it is started: take those lines out";
    let word = shell_word(name);
    let mut steps = vec![
        Step::new(Stage::Stop, what, format!("grep -rsn {word} {STARTERS}")),
        Step::new(
            Stage::Stop,
            "what runs still, as a loop does: kill PID",
            format!("pgrep -af {word}"),
        ),
    ];
    let script = shell::read(text);
    let done = script.commands.iter().filter(|command| !command.undoing && !command.control);
    for step in done.flat_map(undone) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// Returns the steps that undo a command.
fn undone(command: &Command) -> Vec<Step> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let program = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let step = match program {
        "ip" => of_ip(&words),
        "iptables" | "ip6tables" | "iptables-legacy" | "iptables-nft" => of_iptables(&words),
        _ => None,
    };
    let Some((stage, words)) = step else { return Vec::new() };
    if words.iter().any(|word| word.contains(UNKNOWN)) {
        let what = format!(
            "and what line {} of the script made, whose values are known only when it runs",
            command.line
        );
        return vec![Step::new(stage, what, "")];
    }
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    vec![Step::new(stage, "", words.join(" "))]
}

/// Returns the command that undoes one of `ip`.
fn of_ip<'a>(words: &[&'a str]) -> Option<(Stage, Vec<&'a str>)> {
    let at = words.iter().skip(1).position(|word| !word.starts_with('-'))?.checked_add(1)?;
    let (before, rest) = words.split_at_checked(at)?;
    let (object, verb) = (*rest.first()?, *rest.get(1)?);
    let arguments = rest.get(2..)?;
    let makes = ["add", "a", "append", "replace", "change"].contains(&verb);
    let command = |words: &[&'a str]| [before, words].concat();
    match object {
        // Rules for the main table stay.
        "rule" | "ru" if makes && !leads_to_main(arguments) => {
            Some((Stage::Rules, [command(&["rule", "delete"]), arguments.to_vec()].concat()))
        }
        "route" | "ro" | "r" if makes => {
            let is_default =
                arguments.iter().any(|word| ["default", "0.0.0.0/0", "::/0", "0/0"].contains(word));
            let table = keys::table(arguments).filter(|table| *table != "main");
            match table {
                Some(table) if is_default => {
                    Some((Stage::Routes, command(&["route", "flush", "table", table])))
                }
                None if is_default => first_way(arguments).map(|way| {
                    (Stage::Routes, [command(&["route", "replace", "default"]), way].concat())
                }),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns whether an ip rule leads to a table of the kernel's, as one without a table does.
fn leads_to_main(arguments: &[&str]) -> bool {
    let refuses = |word: &&str| ["unreachable", "blackhole", "prohibit"].contains(word);
    let table = keys::table(arguments).unwrap_or("main");
    !arguments.iter().any(refuses) && matches!(table, "main" | "default" | "local" | "254")
}

/// Returns the first next hop of a route with several.
fn first_way<'a>(arguments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut ways = arguments.split(|word| *word == "nexthop").skip(1);
    let first = ways.next()?;
    ways.next()?;
    let mut way = first.to_vec();
    if let Some(at) = way.iter().position(|word| *word == "weight") {
        way.drain(at..way.len().min(at.saturating_add(2)));
    }
    Some(way)
}

fn after<'a>(words: &[&'a str], keys: &[&str]) -> Option<&'a str> {
    let mut pairs = words.iter().zip(words.iter().skip(1));
    pairs.find(|(key, _)| keys.contains(*key)).map(|(_, value)| *value)
}

/// Returns the command that undoes one of `iptables`, if it marks or masquerades.
fn of_iptables<'a>(words: &[&'a str]) -> Option<(Stage, Vec<&'a str>)> {
    let stage = match after(words, &["-j", "--jump"])? {
        "MARK" | "CONNMARK" => Stage::Marks,
        "MASQUERADE" if words.contains(&"-o") && !words.contains(&"!") => Stage::Nat,
        _ => return None,
    };
    let at = words.iter().position(|word| ["-A", "-I", "--append", "--insert"].contains(word))?;
    let mut undone = words.to_vec();
    if let Some(verb) = undone.get_mut(at) {
        *verb = "-D";
    }
    let number = at.saturating_add(2);
    let inserted = words.get(number).is_some_and(|word| word.parse::<u32>().is_ok());
    if inserted {
        undone.remove(number);
    }
    Some((stage, undone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        of_script(text, "wan.sh")
            .into_iter()
            .skip(2)
            .map(|step| step.command + &step.what)
            .collect()
    }

    #[test]
    fn each_command_of_a_script_is_undone() {
        let text = include_str!("../../tests/import/balance.sh");
        let expected = [
            "ip route flush table first",
            "ip route flush table second",
            "ip rule delete from 192.0.2.2 table first",
            "ip rule delete from 10.9.0.0/16 lookup second prio 50",
            "ip rule delete fwmark 0x10 lookup first",
            "ip rule delete fwmark 0x20 lookup second",
            "ip route replace default via 192.0.2.1 dev eth0",
            "iptables -t mangle -D PREROUTING -i eth2 -s 10.0.0.0/24 -p tcp -m multiport --dports 25,110,143 -j MARK --set-mark 0x10",
            "iptables -t mangle -D PREROUTING -i eth2 -p tcp --dport 443 -j MARK --set-mark 0x20",
            "iptables -t mangle -D PREROUTING -m statistic --mode random --probability 0.5 -j MARK --set-mark 0x20",
            "iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE",
        ];
        assert_eq!(commands(text), expected);
    }

    #[test]
    fn an_ip_rule_for_the_main_table_stays() {
        let text =
            "ip rule add to 10.0.0.0/8 lookup main prio 10\nip rule add from 10.0.0.7 table 7";
        assert_eq!(commands(text), ["ip rule delete from 10.0.0.7 table 7"]);
    }

    #[test]
    fn values_that_only_a_run_tells_are_left_to_a_person() {
        let text = "ip rule add from $(hostname -I) table 9\nip route add 10.5.0.0/16 via 10.0.0.2\n\
                    iptables -t mangle -I PREROUTING 1 -j MARK --set-mark 1\n";
        let expected = [
            "and what line 1 of the script made, whose values are known only when it runs",
            "iptables -t mangle -D PREROUTING -j MARK --set-mark 1",
        ];
        assert_eq!(commands(text), expected);
    }
}
