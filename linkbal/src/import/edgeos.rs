//! EdgeOS: `load-balance group`, and the rules of `firewall modify` that use the groups.

mod group;
mod modify;

use self::group::Group;
use super::{
    model::{Draft, Member, Policy},
    note::{IPV4_ALONE, Lines, NoteKind},
    tree::{self, Node},
    vyos,
};

/// Reads a configuration.
///
/// # Errors
/// The part that is missing, if it is no configuration of EdgeOS with load balancing.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let tree = tree::parse(text);
    let Some(balance) = tree.root.get("load-balance") else {
        return Err("it has no `load-balance group`".into());
    };
    let mut draft =
        Draft { significant: tree.significant.iter().copied().collect(), ..Draft::default() };
    draft.cover(balance.line);
    let groups = group::read_all(&mut draft, balance);
    if draft.uplinks.is_empty() {
        return Err("`load-balance` names no interfaces".into());
    }
    let main = vyos::main_table::read(&draft, &tree);
    let attached = attached(&mut draft, &tree.root);
    modify::read_all(&mut draft, &tree.root, &groups, &attached, &main);
    default(&mut draft, &groups, main.uplink);
    let balanced = vyos::nat::Balanced::ByRules;
    vyos::nat::read(&mut draft, tree.root.at(&["service", "nat"]), balanced);
    draft.note(NoteKind::Changed, Lines::default(), IPV4_ALONE);
    vyos::rest(&mut draft, &tree, "load-balance");
    Ok(draft)
}

/// Sets what becomes of flows that no rule takes: they use the group that the gateway's own connections
/// use, or the only one.
fn default(draft: &mut Draft, groups: &[Group], main: Option<String>) {
    let all = draft.rules.iter().any(|rule| rule.matches.is_empty() && rule.broken.is_empty());
    let mut local = groups.iter().filter(|group| group.local);
    let group = match (local.next(), local.next(), groups) {
        (Some(group), None, _) | (_, _, [group]) => group,
        _ if main.is_some() => return vyos::default(draft, main),
        _ => return of_groups(draft, groups, all),
    };
    if all {
        return;
    }
    let why = format!("flows that no rule takes use the group {}", group.name);
    draft.note(NoteKind::Changed, Lines::default(), why);
    draft.default = Some(group.policy.clone());
}

/// Shares flows that no rule takes among all uplinks, but for those that only ever stand by.
fn of_groups(draft: &mut Draft, groups: &[Group], all: bool) {
    vyos::default(draft, None);
    let mut members: Vec<Member> = Vec::new();
    for member in groups.iter().flat_map(|group| &group.policy.members) {
        match members.iter_mut().find(|known| known.uplink == member.uplink) {
            Some(known) => known.tier = known.tier.min(member.tier),
            None => members.push(Member { weight: 1, ..member.clone() }),
        }
    }
    if !all && members.iter().any(|member| member.tier > 1) {
        draft.default = Some(Policy { members, ..Policy::default() });
    }
}

/// Returns the interfaces that rule sets of `modify` are attached to, by name of the set.
fn attached(draft: &mut Draft, root: &Node) -> Vec<(String, String)> {
    let mut attached = Vec::new();
    for kind in root.values("interfaces") {
        for device in &kind.children {
            follow(draft, device, &device.word, 0, &mut attached);
        }
    }
    attached
}

/// Looks for rule sets at a device, and at VLANs and PPPoE sessions of it.
fn follow(
    draft: &mut Draft,
    node: &Node,
    name: &str,
    depth: usize,
    attached: &mut Vec<(String, String)>,
) {
    if let Some((set, line)) =
        node.at(&["firewall", "in"]).and_then(|inward| inward.value("modify"))
    {
        attached.push((set.to_owned(), name.to_owned()));
        draft.add_lan(name, line);
        draft.cover(line);
    }
    if depth > 3 {
        return;
    }
    let below = depth.saturating_add(1);
    for vlan in node.values("vif") {
        follow(draft, vlan, &format!("{name}.{}", vlan.word), below, attached);
    }
    for session in node.values("pppoe") {
        follow(draft, session, &format!("pppoe{}", session.word), below, attached);
    }
}
