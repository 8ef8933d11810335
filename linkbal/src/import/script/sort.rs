//! Each command, by what it is about.

use super::{
    bond,
    facts::Facts,
    ip_rule, iptables, is_unknown, lines_of, probe, routes, within,
    within::{name_of, within},
};
use crate::import::{
    model::Draft,
    shell::{Command, UNKNOWN},
};

/// Programs that have nothing to do with the network, or only tell something.
const SILENT: [&str; 24] = [
    "grep", "egrep", "wc", "trap", "[", "[[", "test", "exit", "return", "break", "continue",
    "true", "false", ":", "sleep", "logger", "printf", "cat", "date", "wait", "shift", "read",
    "let", "set",
];

/// Says what becomes of files that a script writes.
const FILES_STAY: &str = "files that it writes stay outside linkbal";

/// Programs of which nothing is left to do, and why.
const STAY: [(&[&str], &str); 8] = [
    (&["sysctl"], "linkbal sets the sysctls that it needs: forwarding, rp_filter"),
    (&["sleep"], "linkbal asks five times a second; `interval` in [probe] says otherwise"),
    (&["conntrack"], "linkbal ends the connections of a dead uplink, and no others"),
    (&["tc"], "queues and shaping stay outside linkbal"),
    (
        &["dhclient", "dhcpcd", "udhcpc", "pppd", "pon", "ifup", "ifdown", "systemctl", "service"],
        "leases and services stay outside linkbal",
    ),
    (&["kill", "killall", "pkill"], "other programs stay outside linkbal"),
    (&["rm", "mkdir", "touch", "cp", "mv", "ln", "chmod"], FILES_STAY),
    (&["down", "post-down", "pre-down"], "undoes what the script did: `linkbal teardown`"),
];

/// Takes what a command says.
pub(super) fn command(draft: &mut Draft, facts: &mut Facts, command: &Command) {
    let lines = lines_of(command);
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let Some((program, arguments)) = words.split_first() else { return };
    let program = name_of(program);
    // What a function does stands where it is written; one around `ip` changes nothing.
    let known = matches!(program, "ip" | "route" | "iptables" | "ip6tables" | "echo");
    if !known && facts.functions.contains(program) {
        return draft.cover(lines);
    }
    if let Some(inner) = within(command) {
        // The first and the last line are those of the way.
        draft.covered.extend([command.line.into(), command.last_line.into()]);
        return inner.iter().for_each(|inner| self::command(draft, facts, inner));
    }
    if let Some(words) = without_router(program, &words) {
        let why = "the gateway is known only when the script runs: linkbal takes that of the lease or of \
                   the interface's own default route";
        draft.changed(lines, why);
        return ip(draft, facts, command, words.get(1..).unwrap_or_default());
    }
    if command.words.iter().any(|word| is_unknown(word))
        && !SILENT.contains(&program)
        && program != "echo"
    {
        if matches!(program, "ip" | "route") && words.contains(&"default") {
            facts.unknown_defaults = facts.unknown_defaults.clone().and(&lines);
        }
        let why = "a value in it is known only when the script runs";
        return draft.untranslated(lines, why);
    }
    by_program(draft, facts, command, program, arguments);
}

/// Takes what a program says, by what it is about.
fn by_program(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    program: &str,
    arguments: &[&str],
) {
    let lines = lines_of(command);
    if let Some((_, why)) = STAY.iter().find(|(programs, _)| programs.contains(&program)) {
        return draft.unneeded(lines, *why);
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
        "iptables-restore" | "ip6tables-restore" | "ipset" => {
            let why = "it is not read: marks become rules if they are commands of iptables";
            draft.untranslated(lines, why);
        }
        "cat" if command.into.as_ref().is_some_and(|into| into.ends_with("rt_tables")) => {
            for line in &command.text {
                table(facts, &line.split_whitespace().collect::<Vec<_>>());
            }
            draft.unneeded(lines, "linkbal has tables of its own");
        }
        "cat" if command.into.is_some() && command.last_line > command.line => {
            draft.untranslated(lines, "the file that it writes is not read");
        }
        "nft" => {
            draft
                .untranslated(lines, "nft is not read: marks become rules, NAT is done by linkbal");
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
        "start" | "stop" | "restart" | "main" | "cd" => draft.cover(lines),
        word if word.contains("]=") || word.contains("+=") => {
            let why = "what it adds to a variable is not read: write NAME=(..), or NAME[0]=..";
            draft.untranslated(lines, why);
        }
        _ => draft.untranslated(lines, "this program is not known"),
    }
}

/// Returns the words of a default route without its gateways that are not known, if the devices are.
fn without_router<'a>(program: &str, words: &[&'a str]) -> Option<Vec<&'a str>> {
    let is_route = words.contains(&"default") && !words.contains(&"del");
    if program != "ip" || !is_route || !words.iter().any(|word| is_unknown(word)) {
        return None;
    }
    let mut left: Vec<&str> = Vec::new();
    let mut rest = words.iter().copied().peekable();
    while let Some(word) = rest.next() {
        let dropped = matches!(word, "via" | "src")
            && rest.next_if(|value| value.chars().all(|c| c == UNKNOWN)).is_some();
        if !dropped {
            left.push(word);
        }
    }
    let mut hops =
        left.split(|word| *word == "nexthop").skip(usize::from(left.contains(&"nexthop")));
    let sound = !left.iter().any(|word| is_unknown(word)) && hops.all(|hop| hop.contains(&"dev"));
    sound.then_some(left)
}

fn echo(draft: &mut Draft, facts: &mut Facts, command: &Command, arguments: &[&str]) {
    let lines = lines_of(command);
    // What it writes are words, in quotes or not.
    let arguments: Vec<&str> = arguments.iter().flat_map(|word| word.split_whitespace()).collect();
    let arguments = arguments.as_slice();
    let Some(into) = &command.into else { return draft.cover(lines) };
    if into.contains("/bonding/") || into.contains("bonding_masters") {
        return bond::sysfs(draft, facts, command, into, arguments);
    }
    if into.starts_with("/proc/sys/") {
        let why = "linkbal sets the sysctls that it needs: forwarding, rp_filter";
        return draft.unneeded(lines, why);
    }
    if into.ends_with("rt_tables") {
        table(facts, arguments);
        return draft.unneeded(lines, "linkbal has tables of its own");
    }
    if into.starts_with("/dev/") || *into == "&" || into.starts_with('&') {
        return draft.cover(lines);
    }
    draft.unneeded(lines, FILES_STAY);
}

/// Takes a name of a routing table: its number and the name.
fn table(facts: &mut Facts, words: &[&str]) {
    let mut words = words.iter().filter(|word| !word.starts_with('-'));
    if let (Some(number), Some(name)) = (words.next(), words.next())
        && number.parse::<u32>().is_ok()
    {
        facts.tables.push(((*number).to_owned(), (*name).to_owned()));
    }
}

fn ip(draft: &mut Draft, facts: &mut Facts, command: &Command, arguments: &[&str]) {
    let lines = lines_of(command);
    if within::is_batch(arguments) {
        return draft
            .untranslated(lines, "the commands that it reads are not in the text behind it");
    }
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
