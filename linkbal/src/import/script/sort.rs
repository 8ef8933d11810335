//! Each command, by what it is about.

use super::{bond, facts::Facts, ip_rule, iptables, is_unknown, lines_of, probe, routes};
use crate::import::{model::Draft, shell::Command};

/// Programs that have nothing to do with the network, or only tell something.
const SILENT: [&str; 20] = [
    "[", "[[", "test", "exit", "return", "break", "continue", "true", "false", ":", "sleep",
    "logger", "printf", "cat", "date", "wait", "shift", "read", "let", "set",
];

/// Takes what a command says.
pub(super) fn command(draft: &mut Draft, facts: &mut Facts, command: &Command) {
    let lines = lines_of(command);
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let Some((program, arguments)) = words.split_first() else { return };
    let program = program.rsplit('/').next().unwrap_or(program);
    // What a function does stands where it is written; one around `ip` changes nothing.
    let known = matches!(program, "ip" | "route" | "iptables" | "ip6tables" | "echo");
    if !known && facts.functions.contains(program) {
        return draft.cover(lines);
    }
    if command.words.iter().any(|word| is_unknown(word))
        && !SILENT.contains(&program)
        && program != "echo"
    {
        let why = "a value in it is known only when the script runs";
        return draft.untranslated(lines, why);
    }
    match program {
        "echo" => echo(draft, facts, command, arguments),
        "ip" => ip(draft, facts, command, arguments),
        "route" => routes::route(draft, facts, command, arguments),
        "iptables" | "iptables-legacy" | "iptables-nft" | "ip6tables" | "ip6tables-legacy"
        | "ip6tables-nft" => {
            iptables::read(draft, facts, command, arguments, program.starts_with("ip6"));
        }
        "ifconfig" => bond::ifconfig(draft, facts, command, arguments),
        "ifenslave" => bond::ifenslave(draft, facts, command, arguments),
        "modprobe" | "insmod" => bond::modprobe(draft, facts, command, arguments),
        "ping" | "ping6" | "fping" | "arping" | "curl" | "wget" | "nc" | "dig" | "nslookup"
        | "host" => {
            probe::ask(draft, facts, command, program, arguments);
        }
        "sysctl" => {
            draft.unneeded(lines, "linkbal sets the sysctls that it needs: forwarding, rp_filter");
        }
        "sleep" => draft.unneeded(
            lines,
            "linkbal asks five times a second; `interval` in [probe] says otherwise",
        ),
        "conntrack" => {
            draft.unneeded(lines, "linkbal ends the connections of a dead uplink, and no others");
        }
        "iptables-restore" | "ip6tables-restore" | "ipset" => {
            let why = "it is not read: marks become rules if they are commands of iptables";
            draft.untranslated(lines, why);
        }
        "cat" if command.into.is_some() && command.last_line > command.line => {
            draft.untranslated(lines, "the file that it writes is not read");
        }
        "tc" => draft.unneeded(lines, "queues and shaping stay outside linkbal"),
        "nft" => {
            draft
                .untranslated(lines, "nft is not read: marks become rules, NAT is done by linkbal");
        }
        "dhclient" | "dhcpcd" | "udhcpc" | "pppd" | "pon" | "ifup" | "ifdown" | "systemctl"
        | "service" => {
            draft.unneeded(lines, "leases and services stay outside linkbal");
        }
        "sh" | "bash" | "." | "source" => {
            facts.runs_others = true;
            draft.untranslated(lines, "runs another script: import that one, too");
        }
        program if SILENT.contains(&program) => draft.cover(lines),
        program if program.ends_with(".sh") => {
            facts.runs_others = true;
            draft.untranslated(lines, "runs another script: import that one, too");
        }
        // Functions of the script's own, and files.
        "start" | "stop" | "restart" | "main" | "cd" | "kill" | "rm" | "mkdir" | "touch" => {
            draft.cover(lines);
        }
        _ => draft.untranslated(lines, "this program is not known"),
    }
}

fn echo(draft: &mut Draft, facts: &mut Facts, command: &Command, arguments: &[&str]) {
    let lines = lines_of(command);
    let Some(into) = &command.into else { return draft.cover(lines) };
    if into.contains("/bonding/") || into.contains("bonding_masters") {
        return bond::sysfs(draft, facts, command, into, arguments);
    }
    if into.starts_with("/proc/sys/") {
        let why = "linkbal sets the sysctls that it needs: forwarding, rp_filter";
        return draft.unneeded(lines, why);
    }
    if into.ends_with("rt_tables") {
        return draft.unneeded(lines, "linkbal has tables of its own");
    }
    draft.cover(lines);
}

fn ip(draft: &mut Draft, facts: &mut Facts, command: &Command, arguments: &[&str]) {
    let lines = lines_of(command);
    let (ipv6, arguments) = family(arguments);
    let Some((object, rest)) = arguments.split_first() else { return draft.cover(lines) };
    match *object {
        "route" | "ro" | "r" => routes::ip_route(draft, facts, command, rest, ipv6),
        "rule" | "ru" => ip_rule::read(draft, facts, command, rest, ipv6),
        "addr" | "address" | "a" => bond::ip_address(draft, facts, command, rest),
        "link" | "l" => bond::ip_link(draft, facts, command, rest),
        "neigh" | "neighbour" => draft.unneeded(lines, "neighbours stay outside linkbal"),
        object => draft.untranslated(lines, format!("`ip {object}` is not known")),
    }
}

/// Returns whether options of `ip` say IPv6, and the words behind them.
fn family<'a, 'w>(arguments: &'a [&'w str]) -> (bool, &'a [&'w str]) {
    let (mut ipv6, mut rest) = (false, arguments);
    while let Some((option, after)) = rest.split_first().filter(|(word, _)| word.starts_with('-')) {
        rest = after;
        if matches!(*option, "-f" | "-family" | "--family") {
            ipv6 |= rest.first() == Some(&"inet6");
            rest = rest.get(1..).unwrap_or_default();
        }
        ipv6 |= *option == "-6";
    }
    (ipv6, rest)
}
