//! `firewall modify`: the rules that send flows to a group or a table.

use super::group::Group;
use crate::import::{
    excluded::{self, MainTable},
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    tree::Node,
    values::{self, one_or_list, quote},
    vyos::{
        main_table,
        rule::{addresses, ports},
    },
};

/// Groups of addresses that stand for the address of an interface.
const OWN_ADDRESS: &str = "ADDRv";

/// Reads all rule sets. `attached` are the sets and the interfaces that they are attached to.
pub(super) fn read_all(
    draft: &mut Draft,
    root: &Node,
    groups: &[Group],
    attached: &[(String, String)],
    main: &MainTable,
) {
    let Some(firewall) = root.get("firewall") else {
        return;
    };
    for set in firewall.values("ipv6-modify") {
        let why =
            "rules of `ipv6-modify` are not read: write a [[rule]] with `destination = \"::/0\"`";
        draft.untranslated(set.lines(), why);
    }
    draft.covered.extend(firewall.get("modify").map(|modify| modify.line.into()));
    for set in firewall.values("modify") {
        draft.cover(set.line);
        let devices: Vec<&str> = attached
            .iter()
            .filter(|(name, _)| *name == set.word)
            .map(|(_, device)| device.as_str())
            .collect();
        if devices.is_empty() {
            draft.untranslated(set.lines(), format!("`{}` is attached to no interface", set.word));
            continue;
        }
        let all = attached.iter().all(|(name, _)| *name == set.word);
        let mut rules = set.values("rule");
        rules.sort_by_key(|rule| rule.word.parse::<u32>().unwrap_or(u32::MAX));
        for node in rules {
            let devices = if all { &[] } else { &*devices };
            let reader = Reader { root, firewall, groups, main, devices };
            reader.read(draft, node);
        }
        for child in set.children.iter().filter(|child| child.word != "rule") {
            draft.unneeded(child.lines(), "stays outside linkbal");
        }
    }
}

/// The sections that rules refer to.
struct Reader<'a> {
    root: &'a Node,
    firewall: &'a Node,
    groups: &'a [Group],
    main: &'a MainTable,
    /// The interfaces of the set, if others have another set.
    devices: &'a [&'a str],
}

impl Reader<'_> {
    fn read(&self, draft: &mut Draft, node: &Node) {
        draft.cover(node.line);
        if node.get("disable").is_some() {
            return draft.untranslated(node.lines(), "the rule is disabled");
        }
        let mut rule = Rule { lines: node.line.into(), ..Rule::default() };
        rule.title = match node.value("description") {
            Some((text, _)) => format!("rule {}: {text}", node.word),
            None => format!("rule {}", node.word),
        };
        if !self.devices.is_empty() {
            let names: Vec<String> = self.devices.iter().map(|name| quote(name)).collect();
            rule.matches.push(Setting::new("interface", one_or_list(&names), node.line));
        }
        for child in &node.children {
            self.condition(draft, &mut rule, child);
        }
        let own = |side: &str| {
            let groups = node.at(&[side, "group"]).map(|group| group.values("address-group"));
            groups.into_iter().flatten().any(|name| name.word.starts_with(OWN_ADDRESS))
        };
        if own("destination") {
            let why = "what is sent to the gateway's own addresses is not balanced";
            return draft.unneeded(node.lines(), why);
        }
        if own("source") {
            let why = "what has one of the gateway's own addresses is no flow of the LAN: it leaves by \
                       the uplink of its address by itself";
            return draft.unneeded(node.lines(), why);
        }
        self.action(draft, node, rule);
    }

    fn condition(&self, draft: &mut Draft, rule: &mut Rule, node: &Node) {
        match &*node.word {
            "action" | "description" | "modify" => draft.cover(node.lines()),
            "log" => draft.untranslated(node.lines(), "flows are not logged by rule"),
            "protocol" => {
                let text = node.children.first().map_or("all", |value| &value.word);
                match values::protocols(text) {
                    Ok(None) => draft.cover(node.lines()),
                    Ok(Some(names)) => {
                        let setting = Setting::new("protocol", one_or_list(&names), node.lines());
                        rule.matches.push(setting);
                    }
                    Err(why) => rule.broken.push(why),
                }
            }
            "source" => self.side(draft, rule, node, "source", "sport"),
            "destination" => self.side(draft, rule, node, "destination", "dport"),
            // A flow has its uplink from its first packet on.
            "state" if node.value("new").is_some_and(|(value, _)| value == "enable") => {
                draft.cover(node.lines());
            }
            word => rule.broken.push(format!("linkbal has nothing like `{word}`")),
        }
    }

    fn side(&self, draft: &mut Draft, rule: &mut Rule, node: &Node, address: &str, port: &str) {
        draft.cover(node.line);
        for child in &node.children {
            match &*child.word {
                "address" => addresses(rule, child, address),
                "port" => ports(rule, child, port),
                "mac-address" if address == "source" => {
                    let macs: Vec<String> =
                        child.children.iter().map(|mac| quote(&mac.word.to_lowercase())).collect();
                    if !macs.is_empty() {
                        rule.matches.push(Setting::new("mac", one_or_list(&macs), child.lines()));
                    }
                }
                "group" => {
                    draft.cover(child.line);
                    for group in &child.children {
                        self.group(draft, rule, group, address, port);
                    }
                }
                word => rule.broken.push(format!("linkbal has nothing like `{word}`")),
            }
        }
    }

    /// Puts the members of a group into the conditions.
    fn group(&self, draft: &mut Draft, rule: &mut Rule, node: &Node, address: &str, port: &str) {
        let Some(name) = node.children.first() else { return };
        draft.cover(node.lines());
        let kind = &*node.word;
        let group = self.firewall.get("group").and_then(|all| all.at(&[kind, &name.word]));
        let Some(group) = group else {
            if !name.word.starts_with(OWN_ADDRESS) {
                rule.broken.push(format!("there is no {kind} `{}`", name.word));
            }
            return;
        };
        let key = match kind {
            "address-group" | "ipv6-address-group" => "address",
            "network-group" | "ipv6-network-group" => "network",
            "port-group" => "port",
            other => return rule.broken.push(format!("linkbal has nothing like `{other}`")),
        };
        let members = Node {
            word: key.into(),
            line: node.line,
            again: Vec::new(),
            children: group.values(key).into_iter().cloned().collect(),
        };
        draft.cover(group.lines());
        draft.covered.extend(self.firewall.get("group").map(|all| all.line.into()));
        match key {
            "port" => ports(rule, &members, port),
            _ => addresses(rule, &members, address),
        }
    }

    fn action(&self, draft: &mut Draft, node: &Node, mut rule: Rule) {
        let lines = node.lines();
        let Some(modify) = node.get("modify") else {
            return match node.value("action").map(|(action, _)| action) {
                // Later rules do not see what is accepted.
                Some("accept") => excluded::leave(draft, rule, lines, self.main),
                Some("drop" | "reject") => {
                    draft.untranslated(lines, "linkbal refuses no flows by rule: a firewall does");
                }
                _ => draft.unneeded(lines, "the rule chooses no uplink: it stays outside linkbal"),
            };
        };
        if let Some((name, line)) = modify.value("lb-group") {
            let Some(group) = self.groups.iter().find(|group| group.name == name) else {
                return draft.untranslated(lines, format!("there is no group `{name}`"));
            };
            let mut policy = group.policy.clone();
            policy.lines = policy.lines.and(&line.into());
            rule.policy = Some(policy);
            rule.sticky.clone_from(&group.sticky);
            if !rule.broken.is_empty() {
                rule.lines = lines;
            }
            return draft.rules.push(rule);
        }
        match modify.value("table") {
            Some(("main", _)) => excluded::leave(draft, rule, lines, self.main),
            Some((table, _)) => match main_table::of_table(draft, self.root, table) {
                Some(route) => {
                    let member = |(tier, uplink): (u32, String)| Member {
                        uplink,
                        tier,
                        weight: 1,
                        lines: Lines::default(),
                    };
                    if route.partial {
                        let why =
                            format!("some ways of table {table} are by no uplink that is known");
                        draft.changed(lines.clone(), why);
                    }
                    let (members, last_resort) =
                        (route.ways.into_iter().map(member).collect(), route.last_resort);
                    rule.policy = Some(Policy { members, last_resort, lines });
                    draft.rules.push(rule);
                }
                None => {
                    draft.untranslated(lines, format!("the uplink of table {table} is not known"));
                }
            },
            None => {
                draft.untranslated(lines, "linkbal only chooses uplinks, and modifies no packets");
            }
        }
    }
}
