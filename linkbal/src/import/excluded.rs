//! Flows that a tool leaves to the main table.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    values,
};

/// Facts about the main table.
#[derive(Debug, Default)]
pub(super) struct MainTable {
    /// The uplink of its default route, if it is known.
    pub(super) uplink: Option<String>,
    /// Destinations of its other routes, as far as they are configured.
    pub(super) routes: Vec<IpNet>,
}

/// Translates a rule whose flows follow the main table. Networks of one's own have a route there, and
/// are not translated; to others the default route leads, by which addresses are translated.
pub(super) fn leave(draft: &mut Draft, rule: Rule, lines: Lines, main: &MainTable) {
    if !rule.broken.is_empty() {
        let why = format!("the rule is left out: {}", rule.broken.join("; "));
        return draft.untranslated(lines, why);
    }
    let addresses = ["source", "destination"];
    let destinations = rule.matches.iter().find(|one| one.key == "destination");
    let others = || rule.matches.iter().filter(|one| !addresses.contains(&&*one.key));
    if main.leaves(&rule) {
        if let Some(nets) = destinations.filter(|nets| is_taken(draft, &nets.value)) {
            let why = format!(
                "an earlier rule takes a part of {}, and an exemption would come before it: write \
                 nat.exempt for what is left of it",
                nets.value
            );
            return draft.untranslated(lines, why);
        }
        if let Some(dropped) = others().next() {
            let why = format!(
                "it is exempt whichever interface it comes in by, not only {}",
                dropped.value
            );
            draft.changed(lines.clone(), why);
        }
        let said = rule.matches.iter().filter(|one| addresses.contains(&&*one.key));
        let keys: Vec<String> = said.map(|one| format!("{} = {}", one.key, one.value)).collect();
        let setting = Setting::new("exempt", format!("{{ {} }}", keys.join(", ")), lines.clone());
        let remark = "routes of the main table lead there; not translated";
        draft.add_exempt(setting.remark(remark));
        return draft.cover(lines);
    }
    let Some(uplink) = &main.uplink else {
        let why = "its flows follow the main table; linkbal leaves only destinations to it that have a \
                   route of their own there: name an uplink in `use`";
        return draft.untranslated(lines, why);
    };
    let why = format!("its flows follow the default route, which is that of {uplink}");
    draft.changed(lines.clone(), why);
    let member = Member { uplink: uplink.clone(), tier: 1, weight: 1, lines: Lines::default() };
    let policy = Policy { members: vec![member], lines, ..Policy::default() };
    draft.rules.push(Rule { policy: Some(policy), ..rule });
}

/// Returns whether an earlier rule takes flows to some of the destinations of a value.
fn is_taken(draft: &Draft, value: &str) -> bool {
    let earlier = draft.rules.iter().flat_map(|rule| &rule.matches);
    let mut earlier = earlier.filter(|one| one.key == "destination");
    let wanted: Vec<IpNet> = nets_of(value).flatten().collect();
    let meets = |net: IpNet| wanted.iter().any(|one| one.contains(&net) || net.contains(one));
    earlier.any(|one| {
        nets_of(&one.value).flatten().any(|net| !values::is_whole_family(&net) && meets(net))
    })
}

/// Returns the prefixes of a value of TOML; `None` for what is none.
pub(super) fn nets_of(value: &str) -> impl Iterator<Item = Option<IpNet>> + '_ {
    let parse = |text: &str| text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
    // Every second part is within quotes.
    value.split('"').skip(1).step_by(2).map(move |text| parse(text).ok())
}

impl MainTable {
    /// Returns whether a rule is for networks of one's own: these are the same by whichever interface
    /// flows come in.
    pub(super) fn leaves(&self, rule: &Rule) -> bool {
        let keys = ["source", "destination", "interface"];
        let destinations = rule.matches.iter().find(|one| one.key == "destination");
        rule.matches.iter().all(|one| keys.contains(&&*one.key))
            && destinations.is_some_and(|nets| self.leads_inside(&nets.value))
    }

    /// Returns whether all destinations of a value are private, or have a route of their own.
    fn leads_inside(&self, value: &str) -> bool {
        let mut nets = nets_of(value).peekable();
        let inside = |net: IpNet| {
            values::is_private(&net) || self.routes.iter().any(|route| route.contains(&net))
        };
        nets.peek().is_some() && nets.all(|net| net.is_some_and(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_routed_destinations_are_inside() {
        let routes = vec!["203.0.113.0/24".parse().expect("a prefix")];
        let main = MainTable { uplink: None, routes };
        let inside = ["\"10.0.0.0/8\"", "[\"192.168.1.1\", \"fd00::/8\"]", "\"203.0.113.128/25\""];
        assert!(inside.into_iter().all(|value| main.leads_inside(value)));
        let outside =
            ["\"8.8.8.8\"", "[\"10.0.0.1\", \"2001:db8::1\"]", "\"10.0.0.0/7\"", "", "\"::/0\""];
        assert!(!outside.into_iter().any(|value| main.leads_inside(value)));
    }
}
