//! `load-balance group`: interfaces, their tests and shares.

use crate::import::{
    model::{Device, Draft, Member, Policy, Setting, Uplink},
    note::Lines,
    tree::Node,
    values::{self, list, quote},
};

/// A group.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) policy: Policy,
    /// The value of a rule's `sticky`.
    pub(super) sticky: Option<Setting>,
    /// Set if the gateway's own connections use it.
    pub(super) local: bool,
}

/// Reads all groups.
pub(super) fn read_all(draft: &mut Draft, balance: &Node) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut local = Vec::new();
    for node in balance.values("group") {
        draft.cover(node.line);
        groups.push(read(draft, node));
        local.extend(node.value("lb-local").map(|(value, line)| (value == "disable", line)));
    }
    if !local.is_empty() && local.iter().all(|(off, _)| *off) {
        let lines: Lines = local.iter().map(|(_, line)| *line).collect();
        draft.local_off = Some(Setting::new("balance", "false".into(), lines));
    }
    for child in balance.children.iter().filter(|child| child.word != "group") {
        draft.untranslated(child.lines(), format!("linkbal has nothing like `{}`", child.word));
    }
    groups
}

fn read(draft: &mut Draft, node: &Node) -> Group {
    let mut members = Vec::new();
    for interface in node.values("interface") {
        members.push(member(draft, interface));
    }
    for child in &node.children {
        match (&*child.word, child.children.first().map(|value| &*value.word)) {
            ("interface" | "sticky", _) => {}
            ("lb-local", Some("enable" | "disable")) => draft.cover(child.lines()),
            ("lb-local-metric-change", _) => draft.unneeded(
                child.lines(),
                "linkbal changes no metrics: what has no mark follows its table of the best uplink",
            ),
            ("flush-on-active", Some("disable")) => draft.cover(child.lines()),
            ("flush-on-active", _) => draft.changed(
                child.lines(),
                "linkbal never ends flows of uplinks that work, but those of a higher tier if you add \
                 on_up = \"reclaim\" to that uplink",
            ),
            ("gateway-update-interval", _) => draft.unneeded(
                child.lines(),
                "linkbal follows gateways by the kernel's news",
            ),
            ("transition-script", _) => draft.untranslated(
                child.lines(),
                "write hooks.on_change = [\"/the/program\"]: the event is in LINKBAL_EVENT, \
                 LINKBAL_UPLINK and LINKBAL_TO, not in arguments",
            ),
            ("exclude-local-dns", Some("disable")) => draft.cover(child.lines()),
            ("exclude-local-dns", _) => draft.untranslated(
                child.lines(),
                "a resolver of one provider goes into `resolvers` of its uplink; all others are \
                 balanced",
            ),
            (word, _) => draft.untranslated(child.lines(), format!("linkbal has nothing like `{word}`")),
        }
    }
    let lines = node.line.into();
    Group {
        name: node.word.clone(),
        policy: Policy { members, lines, ..Policy::default() },
        sticky: sticky(draft, node),
        local: node.value("lb-local").is_none_or(|(value, _)| value != "disable"),
    }
}

fn member(draft: &mut Draft, node: &Node) -> Member {
    draft.cover(node.line);
    let mut lines: Lines = node.line.into();
    let mut member =
        Member { uplink: node.word.clone(), tier: 1, weight: 1, lines: Lines::default() };
    let known = draft.uplinks.iter().position(|uplink| uplink.id == node.word);
    let mut uplink = match known {
        Some(at) => draft.uplinks.remove(at),
        None => {
            let device = if values::is_device(&node.word) {
                Device::Known(node.word.clone(), node.line.into())
            } else {
                Device::Unknown
            };
            Uplink::new(&node.word, node.line, device)
        }
    };
    for child in &node.children {
        match &*child.word {
            "failover-only" => {
                member.tier = 2;
                lines = lines.and(&child.line.into());
            }
            "weight" => {
                lines = lines.and(&child.lines());
                let weight = child.children.first().and_then(|value| value.word.parse().ok());
                match weight {
                    Some(weight) => member.weight = weight,
                    None => draft.changed(child.lines(), "no number: the weight is 1"),
                }
            }
            "route-test" => route_test(draft, &mut uplink, child),
            "route" => {
                let why = "linkbal has tables of its own, with the gateway of the interface's default \
                           route, or with `gateway`";
                draft.unneeded(child.lines(), why);
            }
            word => draft.untranslated(child.lines(), format!("linkbal has nothing like `{word}`")),
        }
    }
    draft.uplinks.insert(known.unwrap_or(draft.uplinks.len()), uplink);
    member.lines = lines;
    member
}

/// Translates the test of an interface. The first group that has one decides.
fn route_test(draft: &mut Draft, uplink: &mut Uplink, node: &Node) {
    draft.cover(node.line);
    if !uplink.probe.is_empty() {
        let why = "an uplink is tested in one way: that of the first group counts";
        return draft.changed(node.lines(), why);
    }
    for child in &node.children {
        match &*child.word {
            "initial-delay" => draft
                .unneeded(child.lines(), "an uplink is used as soon as a round of probes is good"),
            "count" => {
                for (key, name) in [("failure", "failure_count"), ("success", "success_count")] {
                    number(draft, uplink, child, key, name);
                }
                draft.cover(child.line);
            }
            "interval" => {
                let seconds =
                    child.children.first().and_then(|value| value.word.parse::<u32>().ok());
                match seconds.filter(|seconds| (1..=3600).contains(seconds)) {
                    Some(seconds) => {
                        let value = quote(&format!("{seconds}s"));
                        uplink.probe.push(Setting::new("interval", value, child.lines()));
                    }
                    None => draft.untranslated(child.lines(), "no number of seconds"),
                }
            }
            "type" => test(draft, uplink, child),
            word => draft.untranslated(child.lines(), format!("linkbal has nothing like `{word}`")),
        }
    }
}

fn number(draft: &mut Draft, uplink: &mut Uplink, node: &Node, key: &str, name: &str) {
    let Some((value, line)) = node.value(key) else { return };
    match value.parse::<u32>().ok().filter(|number| (1..=1000).contains(number)) {
        Some(number) => uplink.probe.push(Setting::new(name, number.to_string(), line)),
        None => draft.untranslated(line, "no number from 1 to 1000"),
    }
}

fn test(draft: &mut Draft, uplink: &mut Uplink, node: &Node) {
    draft.cover(node.line);
    for kind in &node.children {
        match (&*kind.word, kind.value("target")) {
            ("default", _) => draft.changed(
                kind.line,
                "the default test asks ping.ubnt.com: linkbal's own six targets are asked",
            ),
            ("ping", Some((target, line))) => match values::host(target) {
                Some(address) => {
                    let targets = list(&[quote(&address.to_string())]);
                    let lines = Lines::from(line).and(&kind.line.into());
                    uplink.probe.push(Setting::new("targets", targets, lines));
                }
                None => draft.untranslated(
                    kind.lines(),
                    "pings are sent to addresses, since names cannot be looked up while an uplink is \
                     down: linkbal's own six targets are asked",
                ),
            },
            ("script", _) => draft.untranslated(
                kind.lines(),
                "linkbal runs no test programs: take a target like \"https://..\" or \"tcp://..\", \
                 see docs/health-checks.md",
            ),
            _ => draft.untranslated(kind.lines(), "this kind of test is not known"),
        }
    }
}

/// Returns the value of `sticky` for rules that use the group.
fn sticky(draft: &mut Draft, node: &Node) -> Option<Setting> {
    let sticky = node.get("sticky")?;
    let on = |key: &str| sticky.value(key).is_some_and(|(value, _)| value == "enable");
    let by = match (on("source-addr"), on("dest-addr")) {
        (true, true) => "src+dst",
        (true, false) => "src",
        _ => {
            let why = "sessions are by source, or by source and destination: `sticky.by`";
            draft.untranslated(sticky.lines(), why);
            return None;
        }
    };
    for key in ["proto", "source-port", "dest-port"] {
        if let Some(child) = sticky.get(key).filter(|_| on(key)) {
            draft.untranslated(child.lines(), "protocols and ports are no part of a session");
        }
    }
    let value = format!("{{ by = {} }}", quote(by));
    Some(Setting::new("sticky", value, sticky.lines()))
}
