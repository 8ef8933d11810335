//! OpenWrt's mwan3: interfaces, members, policies and rules.

mod interface;
mod network;
mod rule;

use super::{
    model::{Draft, LastResort, Member, Policy},
    note::{Lines, NoteKind},
    uci::{self, Section},
};

/// Reads /etc/config/mwan3, and the devices from /etc/config/network if it is there.
///
/// # Errors
/// The part that is missing, if it is no configuration of mwan3.
pub(super) fn read(text: &str, network: Option<&str>) -> Result<Draft, String> {
    let file = uci::parse(text);
    if !file.sections.iter().any(|section| section.kind == "interface") {
        return Err("it has no section `config interface`".into());
    }
    if file.sections.iter().all(|section| !matches!(&*section.kind, "member" | "policy" | "rule")) {
        return Err("it has no members, policies and rules, as /etc/config/mwan3 has".into());
    }
    let mut draft =
        Draft { significant: file.significant.iter().copied().collect(), ..Draft::default() };
    let network = network.map(network::read);
    draft.cover(file.sections.iter().flat_map(|one| one.again.iter().copied()).collect::<Lines>());
    let sections = with_conditions(&mut draft, file.sections);
    let merged = interface::read_all(&mut draft, &sections, network.as_ref());
    if draft.uplinks.is_empty() {
        return Err("no interface in it is enabled".into());
    }
    globals(&mut draft, &sections);
    let policies = policies(&mut draft, &sections, &merged);
    let main = network.as_ref().map(|network| network.main_table(&draft)).unwrap_or_default();
    for section in sections.iter().filter(|section| section.kind == "rule") {
        rule::read(&mut draft, section, &policies, network.as_ref(), &main);
    }
    flush(&mut draft, &sections);
    unknown_sections(&mut draft, &sections);
    if let Some(network) = &network {
        network.lan(&draft).iter().for_each(|name| draft.add_lan(name, Lines::default()));
        draft.lan.iter_mut().for_each(|lan| lan.remark = "of the file of networks".into());
    }
    no_default(&mut draft);
    Ok(draft)
}

/// Puts the options of Teltonika's `config condition` into the interface that they are for.
fn with_conditions(draft: &mut Draft, sections: Vec<Section>) -> Vec<Section> {
    let (conditions, mut sections): (Vec<Section>, Vec<Section>) =
        sections.into_iter().partition(|section| section.kind == "condition");
    for condition in conditions {
        let name =
            condition.get("interface").map(|option| option.value.clone()).unwrap_or_default();
        let of = |section: &&mut Section| section.kind == "interface" && section.name == name;
        let told = [Some(condition.line), condition.get("interface").map(|option| option.line)];
        draft.cover(told.into_iter().flatten().collect::<Lines>());
        match sections.iter_mut().find(of) {
            Some(interface) => {
                let own = condition.options.into_iter().filter(|option| option.key != "interface");
                interface.options.extend(own);
            }
            None => {
                let why = "a condition for an interface that is not configured";
                draft.untranslated(condition.lines().collect::<Lines>(), why);
            }
        }
    }
    sections
}

fn globals(draft: &mut Draft, sections: &[Section]) {
    for section in sections.iter().filter(|section| section.kind == "globals") {
        draft.cover(section.line);
        for option in &section.options {
            let why = match &*option.key {
                "enabled" if section.flag("enabled") == Some(true) => {
                    draft.cover(option.line);
                    continue;
                }
                "mmx_mask" => "linkbal has bits of the fwmark of its own: kernel.fwmark_mask",
                "rtmon_interval" => "linkbal follows routes by the kernel's news",
                "logging" | "loglevel" => "linkbal logs changes by itself",
                "rt_table_lookup" => {
                    let why = "routes of other tables are not looked at: destinations with a route in \
                               the main table are left to it, so put them there";
                    draft.untranslated(option.line, why);
                    continue;
                }
                "local_source" => {
                    let why = "the gateway's own connections leave with their uplink's address";
                    draft.unneeded(option.line, why);
                    continue;
                }
                key => {
                    draft.untranslated(option.line, format!("linkbal has nothing like `{key}`"));
                    continue;
                }
            };
            draft.unneeded(option.line, why);
        }
    }
}

/// Returns the policies by name; `merged` are the names of interfaces that became parts of others.
fn policies(
    draft: &mut Draft,
    sections: &[Section],
    merged: &[(String, String)],
) -> Vec<(String, Policy)> {
    let members = members(draft, sections, merged);
    let mut policies = Vec::new();
    for section in sections.iter().filter(|section| section.kind == "policy") {
        let mut policy = Policy { lines: section.line.into(), ..Policy::default() };
        policy.last_resort = LastResort::Implied("reject");
        for option in &section.options {
            match &*option.key {
                "use_member" => {}
                "last_resort" => {
                    policy.last_resort = last_resort(draft, &option.value, option.line);
                }
                key => draft.untranslated(option.line, format!("linkbal has nothing like `{key}`")),
            }
        }
        for (name, line) in section.all("use_member") {
            match members.iter().find(|(known, _)| known == name) {
                Some((_, Some(member))) => add_member(draft, &mut policy, member, line),
                Some((_, None)) => draft.untranslated(line, "its interface is not used"),
                None => draft.untranslated(line, format!("there is no member `{name}`")),
            }
        }
        draft.cover(section.lines().collect::<Lines>());
        policies.push((section.name.clone(), policy));
    }
    policies
}

fn add_member(draft: &mut Draft, policy: &mut Policy, member: &Member, line: usize) {
    let lines = member.lines.clone().and(&line.into());
    match policy.members.iter_mut().find(|known| known.uplink == member.uplink) {
        None => policy.members.push(Member { lines, ..member.clone() }),
        Some(known) => {
            if (known.tier, known.weight) != (member.tier, member.weight) {
                let why = format!(
                    "{} is in the policy already, with another metric or weight: the first one counts",
                    member.uplink
                );
                draft.changed(line, why);
            }
            known.lines = known.lines.clone().and(&lines);
        }
    }
}

fn last_resort(draft: &mut Draft, value: &str, line: usize) -> LastResort {
    draft.cover(line);
    match value {
        "unreachable" => LastResort::Said("reject", line.into()),
        "blackhole" => LastResort::Said("drop", line.into()),
        "default" => {
            let why = "last_resort `default`: while none of its uplinks is usable, the others carry \
                       the flows, or, without any, the main table";
            draft.changed(line, why);
            LastResort::Balance
        }
        other => {
            draft.untranslated(line, format!("the last resort `{other}` is not known"));
            LastResort::Implied("reject")
        }
    }
}

/// Returns the members by name; `None` for one whose interface is not used.
fn members(
    draft: &mut Draft,
    sections: &[Section],
    merged: &[(String, String)],
) -> Vec<(String, Option<Member>)> {
    let mut members = Vec::new();
    for section in sections.iter().filter(|section| section.kind == "member") {
        let number = |draft: &mut Draft, key: &str| match section.get(key) {
            None => 1,
            Some(option) => option.value.parse().unwrap_or_else(|_| {
                draft.changed(option.line, format!("`{key}` is no number: 1 is taken"));
                1
            }),
        };
        let (tier, weight) = (number(draft, "metric"), number(draft, "weight"));
        for option in &section.options {
            if !matches!(&*option.key, "interface" | "metric" | "weight") {
                draft.untranslated(
                    option.line,
                    format!("linkbal has nothing like `{}`", option.key),
                );
            }
        }
        let interface =
            section.get("interface").map(|option| option.value.clone()).unwrap_or_default();
        let of = merged.iter().find(|(from, _)| *from == interface);
        let uplink = of.map_or(interface.clone(), |(_, to)| to.clone());
        let lines: Lines = section.lines().collect();
        draft.cover(lines.clone());
        if draft.uplink(&uplink).is_none() {
            let why =
                format!("the member's interface `{interface}` is not configured or not enabled");
            draft.untranslated(lines, why);
            members.push((section.name.clone(), None));
            continue;
        }
        members.push((section.name.clone(), Some(Member { uplink, tier, weight, lines })));
    }
    members
}

/// Says what becomes of flows when an interface is flushed on its return: those of worse tiers end.
fn flush(draft: &mut Draft, sections: &[Section]) {
    let mut returns: Vec<(String, usize)> = Vec::new();
    for section in sections.iter().filter(|section| section.kind == "interface") {
        let events = section.all("flush_conntrack");
        let on_return =
            events.filter(|(event, _)| matches!(*event, "ifup" | "connected" | "always"));
        returns.extend(on_return.map(|(_, line)| (section.name.clone(), line)));
    }
    if returns.is_empty() {
        return;
    }
    let lines: Lines = returns.iter().map(|(_, line)| *line).collect();
    let why = "flush_conntrack when it comes back: linkbal never ends flows of uplinks that work, but \
               those of a higher tier if you add on_up = \"reclaim\" to that uplink";
    draft.changed(lines, why);
}

fn unknown_sections(draft: &mut Draft, sections: &[Section]) {
    const KNOWN: [&str; 5] = ["globals", "interface", "member", "policy", "rule"];
    for section in sections.iter().filter(|section| !KNOWN.contains(&&*section.kind)) {
        let why = format!("mwan3 has no section `{}`", section.kind);
        draft.untranslated(section.lines().collect::<Lines>(), why);
    }
}

/// Says that all flows are balanced if no rule takes them.
fn no_default(draft: &mut Draft) {
    let all = |setting: &super::model::Setting| {
        setting.key == "destination" && matches!(&*setting.value, "\"0.0.0.0/0\"" | "\"::/0\"")
    };
    let default =
        draft.rules.iter().any(|rule| rule.matches.iter().all(all) && rule.broken.is_empty());
    if !default {
        let why = "no rule takes all flows: mwan3 leaves those to the main table, linkbal shares them \
                   by weight; a last [[rule]] with `use` says otherwise";
        draft.note(NoteKind::Changed, Lines::default(), why);
    }
}
