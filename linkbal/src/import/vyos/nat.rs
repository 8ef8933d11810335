//! Exceptions from the translation of addresses: `nat source`, and `service nat` of EdgeOS.

use crate::import::{
    model::{Draft, Setting},
    tree::Node,
    values::{self, one_or_list, quote},
};

/// Translation of balanced flows there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Balanced {
    /// The rules say which ones: EdgeOS.
    ByRules,
    /// All, before any of the rules: VyOS.
    Always,
    /// None: VyOS with `disable-source-nat`.
    Never,
}

/// Reads the rules below a node.
pub(in crate::import) fn read(draft: &mut Draft, node: Option<&Node>, balanced: Balanced) {
    let mut rules = node.map_or(Vec::new(), |node| node.values("rule"));
    rules.retain(|rule| rule.get("disable").is_none());
    rules.sort_by_key(|rule| rule.word.parse::<u32>().unwrap_or(u32::MAX));
    for (at, rule) in rules.iter().enumerate() {
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
            let before = rules.get(..at).unwrap_or_default();
            if balanced == Balanced::Never {
                let why = "linkbal translates nothing here (`nat = \"off\"`): the rule stays yours";
                draft.unneeded(rule.lines(), why);
            } else if before.iter().any(|other| covers(other, rule)) {
                draft.unneeded(rule.lines(), "never reached: a rule before it translates the same");
            } else {
                exclude(draft, rule, uplinks, balanced);
            }
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

/// Returns whether a part of a rule is an interface or an address, or says nothing about packets.
fn is_known(child: &Node) -> bool {
    const SILENT: [&str; 7] =
        ["exclude", "description", "outbound-interface", "type", "log", "source", "destination"];
    SILENT.contains(&&*child.word) || child.word == "protocol" && child.get("all").is_some()
}

/// Returns whether a rule translates all that a later exception names.
fn covers(rule: &Node, exception: &Node) -> bool {
    let translation =
        |child: &Node| matches!(&*child.word, "translation" | "outside-address") || is_known(child);
    let device = |node: &Node| {
        let device = node.get("outbound-interface")?;
        let (name, _) = device.value("name").or_else(|| node.value("outbound-interface"))?;
        Some(name.to_owned())
    };
    let outward = rule.value("type").is_none_or(|(kind, _)| kind != "destination");
    let same = device(rule).is_some_and(|one| device(exception) == Some(one));
    let nets = |node: &Node, side: &str| match node.get(side) {
        None => Some(None),
        Some(node) if node.children.iter().all(|child| child.word == "address") => {
            values::prefixes(node.value("address")?.0).ok().map(Some)
        }
        Some(_) => None,
    };
    let within = |side: &str| match (nets(rule, side), nets(exception, side)) {
        (Some(None), _) => true,
        (Some(Some(all)), Some(Some(own))) => {
            own.iter().all(|net| all.iter().any(|one| one.contains(net)))
        }
        _ => false,
    };
    rule.get("exclude").is_none()
        && rule.children.iter().all(translation)
        && outward
        && same
        && within("source")
        && within("destination")
}

/// Makes an exception of a rule, or says that it is to be written by hand.
fn exclude(draft: &mut Draft, rule: &Node, uplinks: Option<Vec<String>>, balanced: Balanced) {
    let mut entries = Vec::new();
    let mut inside = false;
    let mut sound = rule.children.iter().all(is_known);
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
    if !inside && balanced == Balanced::Always {
        let why = "balanced flows are translated there before this rule is asked, as they are here; \
                   nat.exempt leaves some as they are";
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
