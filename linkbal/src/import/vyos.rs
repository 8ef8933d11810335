//! VyOS: `load-balancing wan`.

mod health;
pub(super) mod main_table;
pub(super) mod nat;
pub(super) mod rule;

use std::collections::BTreeSet;

use super::{
    model::{Draft, Member, Policy, Setting},
    note::{IPV4_ALONE, Lines, NoteKind},
    tree::{self, Node, Tree},
    values,
};

/// Reads a configuration.
///
/// # Errors
/// The part that is missing, if it is no configuration of VyOS with WAN load balancing.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let tree = tree::parse(text);
    let Some(wan) = tree.root.at(&["load-balancing", "wan"]) else {
        return Err("it has no `load-balancing wan`".into());
    };
    let mut draft =
        Draft { significant: tree.significant.iter().copied().collect(), ..Draft::default() };
    draft.covered.extend(tree.root.get("load-balancing").map(|node| node.line.into()));
    draft.cover(wan.line);
    health::read(&mut draft, wan);
    let main = main_table::read(&draft, &tree);
    rule::read_all(&mut draft, wan, &main);
    if draft.uplinks.is_empty() {
        return Err("`load-balancing wan` names no interfaces".into());
    }
    options(&mut draft, wan);
    if let Some(node) = wan.get("enable-local-traffic") {
        draft.cover(node.line);
    } else {
        let setting = Setting::new("balance", "false".into(), wan.line);
        draft.local_off = Some(setting.remark("no enable-local-traffic"));
    }
    default(&mut draft, main.uplink);
    let balanced = match wan.get("disable-source-nat") {
        Some(_) => nat::Balanced::Never,
        None => nat::Balanced::Always,
    };
    nat::read(&mut draft, tree.root.at(&["nat", "source"]), balanced);
    policy_routes(&mut draft, &tree);
    draft.note(NoteKind::Changed, Lines::default(), IPV4_ALONE);
    rest(&mut draft, &tree, "load-balancing");
    Ok(draft)
}

/// Translates the options of all interfaces.
fn options(draft: &mut Draft, wan: &Node) {
    for node in &wan.children {
        match &*node.word {
            "interface-health" | "rule" | "enable-local-traffic" => draft.cover(node.line),
            "disable-source-nat" => {
                for_all(draft, &Setting::new("nat", values::quote("off"), node.line));
            }
            "flush-connections" => {
                let setting = Setting::new("on_down", values::quote("reset"), node.lines());
                for_all(
                    draft,
                    &setting.remark("only its own connections end, not all of the table"),
                );
            }
            "sticky-connections" => {
                let why = "connections from outside are always answered by the uplink that they came \
                           in by";
                draft.unneeded(node.lines(), why);
            }
            "hook" => {
                let why = "write hooks.on_change = [\"/the/program\"]: the event is in LINKBAL_EVENT, \
                           LINKBAL_UPLINK and LINKBAL_TO, not in WLB_INTERFACE_NAME and _STATE";
                draft.untranslated(node.lines(), why);
            }
            word => draft.untranslated(node.lines(), format!("linkbal has nothing like `{word}`")),
        }
    }
}

fn for_all(draft: &mut Draft, setting: &Setting) {
    for uplink in &mut draft.uplinks {
        uplink.settings.push(setting.clone());
    }
}

/// Sets what becomes of flows that no rule takes: they follow the main table there.
pub(super) fn default(draft: &mut Draft, main: Option<String>) {
    if draft.rules.iter().any(|rule| rule.matches.is_empty() && rule.broken.is_empty()) {
        return;
    }
    match main {
        Some(main) => {
            let why = format!(
                "flows that no rule takes follow the default route, which is that of {main}: it is \
                 tier 1, and all others stand by"
            );
            draft.note(NoteKind::Changed, Lines::default(), why);
            let member = Member { uplink: main, tier: 1, weight: 1, lines: Lines::default() };
            draft.default = Some(Policy { members: vec![member], ..Policy::default() });
        }
        None => {
            let why = "flows that no rule takes follow the main table there; linkbal shares them by \
                       weight; a last [[rule]] with `use` says otherwise";
            draft.note(NoteKind::Changed, Lines::default(), why);
        }
    }
}

/// Tells of rules of `policy route` that choose a line by a table.
fn policy_routes(draft: &mut Draft, tree: &Tree) {
    let sets = tree.root.at(&["policy", "route"]).into_iter().flat_map(|route| &route.children);
    for rule in sets.flat_map(|set| set.values("rule")) {
        let Some((table, _)) = rule.get("set").and_then(|set| set.value("table")) else { continue };
        let route = main_table::of_table(draft, &tree.root, table);
        let uplinks = route.map(|route| {
            let ids = route.ways.iter().map(|(_, id)| values::quote(id)).collect::<Vec<_>>();
            values::one_or_list(&ids)
        });
        let why = match uplinks {
            Some(uplinks) => format!(
                "rules of `policy route` are not read: write a [[rule]] with its conditions and \
                 use = {uplinks}, and delete it"
            ),
            None if table == "main" => {
                "rules of `policy route` are not read: flows to networks of your \
                                        own follow the main table here, too"
                    .into()
            }
            None => format!(
                "rules of `policy route` are not read, and no default route of table {table} leads to \
                 an uplink that is known: look at it"
            ),
        };
        draft.untranslated(rule.lines(), why);
    }
}

/// Counts the lines of sections that are not about balancing.
pub(super) fn rest(draft: &mut Draft, tree: &Tree, own: &str) {
    let noted = draft.notes.iter().map(|note| &note.lines).chain(&draft.covered);
    let mut told: BTreeSet<usize> = noted.flat_map(Lines::iter).collect();
    told.extend(draft.rules.iter().flat_map(|rule| rule.all_lines().iter().collect::<Vec<_>>()));
    told.extend(draft.exempt.iter().flat_map(|entry| entry.lines.iter()));
    for node in tree.root.children.iter().filter(|node| node.word != own) {
        let lines: Lines = node.lines().iter().filter(|line| !told.contains(line)).collect();
        if lines.is_empty() {
            continue;
        }
        let why = match &*node.word {
            "protocols" => {
                "routes to hosts that only make tests leave by their line are not needed: \
                            probes do that by themselves. All other routes stay yours"
                    .to_owned()
            }
            word => {
                let count = lines.iter().count();
                format!("`{word}`, {count} lines, is not about balancing: it stays outside linkbal")
            }
        };
        draft.unneeded(lines, why);
    }
    if !tree.deleted.is_empty() {
        let lines: Lines = tree.deleted.iter().copied().collect();
        draft.unneeded(lines, "taken away by a `delete` behind it");
    }
    if !tree.odd.is_empty() {
        let lines: Lines = tree.odd.iter().copied().collect();
        draft.untranslated(lines, "no line of a configuration");
    }
}
