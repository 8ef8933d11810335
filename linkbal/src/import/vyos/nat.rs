//! Exceptions from the translation of addresses: `nat source`, and `service nat` of EdgeOS.

use crate::import::{
    model::{Draft, Setting},
    tree::Node,
    values::{self, one_or_list, quote},
};

/// Reads the rules below a node.
pub(in crate::import) fn read(draft: &mut Draft, node: Option<&Node>) {
    let rules = node.map_or(Vec::new(), |node| node.values("rule"));
    for rule in rules.into_iter().filter(|rule| rule.get("disable").is_none()) {
        let device = ["outbound-interface"].iter().find_map(|key| rule.get(key));
        // The name stands behind `name` in later versions.
        let names =
            device.map(|node| [node.values("name"), node.children.iter().collect()].concat());
        let uplinks = names.map(|names| -> Vec<String> {
            let known = names.into_iter().filter(|name| draft.uplink(&name.word).is_some());
            known.map(|name| quote(&name.word)).collect()
        });
        if uplinks.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        if rule.get("exclude").is_some() {
            exclude(draft, rule, uplinks);
        } else if let Some(address) = other_address(rule) {
            let why = format!(
                "linkbal translates to the address of the uplink's interface, not to {address}"
            );
            draft.untranslated(rule.lines(), why);
        }
    }
}

/// Returns the address that a rule translates to, if that is not the interface's own.
fn other_address(rule: &Node) -> Option<&str> {
    let of = |key: &str| rule.get(key).and_then(|node| node.value("address"));
    let (address, _) = of("translation").or_else(|| of("outside-address"))?;
    (address != "masquerade").then_some(address)
}

/// Makes an exception of a rule, or says that it is to be written by hand.
fn exclude(draft: &mut Draft, rule: &Node, uplinks: Option<Vec<String>>) {
    const SILENT: [&str; 7] =
        ["exclude", "description", "outbound-interface", "type", "log", "source", "destination"];
    let known = |child: &Node| {
        SILENT.contains(&&*child.word) || child.word == "protocol" && child.get("all").is_some()
    };
    let mut entries = Vec::new();
    let mut inside = false;
    let mut sound = rule.children.iter().all(known);
    for side in ["source", "destination"] {
        let Some(node) = rule.get(side) else { continue };
        sound &= node.children.iter().all(|child| child.word == "address");
        let Some((text, _)) = node.value("address") else { continue };
        match values::prefixes(text) {
            Ok(nets) if nets.iter().any(values::is_whole_family) => {}
            Ok(nets) => {
                inside |= side == "destination" && nets.iter().all(values::is_private);
                entries.push(format!("{side} = {}", one_or_list(&values::prefix_texts(&nets))));
            }
            Err(_) => sound = false,
        }
    }
    if !sound || entries.is_empty() {
        let why = "linkbal translates what this leaves as it is: write it as nat.exempt";
        return draft.untranslated(rule.lines(), why);
    }
    // Without an uplink, it follows the routes of the main table, as what is private does.
    if !inside {
        let all = || draft.uplinks.iter().map(|uplink| quote(&uplink.id)).collect();
        let uplinks: Vec<String> = uplinks.unwrap_or_else(all);
        entries.push(format!("uplink = {}", one_or_list(&uplinks)));
    }
    let value = format!("{{ {} }}", entries.join(", "));
    draft.add_exempt(Setting::new("exempt", value, rule.lines()));
}
