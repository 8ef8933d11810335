//! Questions before a verb that users feel.

use std::time::Duration;

use crate::{
    api::{
        drill::DrillRequest,
        status::{Status, Uplink},
    },
    engine::admin::AdminState,
};

/// Longest time of a drill, as that of `linkbal drill`.
pub(super) const DRILL_TIME: Duration = Duration::from_secs(30);

/// An order for the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Another administrative state.
    Admin {
        /// Name of the uplink.
        uplink: String,
        /// The state.
        admin: AdminState,
        /// Set if it need not prove itself.
        now: bool,
    },
    /// A drill.
    Drill(DrillRequest),
}

/// A question whose answer is yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The verb, and the uplink.
    pub(super) title: String,
    /// The consequences.
    pub(super) text: String,
    /// The order after a yes.
    pub(super) order: Order,
}

/// Asks whether an uplink is to be drained or disabled.
pub(super) fn admin(status: &Status, uplink: &Uplink, admin: AdminState) -> Prompt {
    let name = &uplink.name;
    let alone = alone(status, name);
    let (verb, text) = match admin {
        AdminState::Drained => ("drain", drained(uplink, &alone)),
        _ => ("disable", disabled(uplink, &alone)),
    };
    let order = Order::Admin { uplink: name.clone(), admin, now: false };
    Prompt { title: format!("{verb} {name}"), text, order }
}

/// Asks whether an uplink is to have a drill.
pub(super) fn drill(status: &Status, uplink: &Uplink) -> Prompt {
    let name = &uplink.name;
    let time = humantime::format_duration(DRILL_TIME);
    let effect = effect(uplink, &alone(status, name));
    let text = format!(
        "Nothing passes {name} for {time}: it is like a real outage for its users. {effect} The drill ends \
         sooner by t, or when you leave."
    );
    let request = DrillRequest { uplink: name.clone(), time: DRILL_TIME, force: false };
    Prompt { title: format!("drill {name}"), text, order: Order::Drill(request) }
}

fn drained(uplink: &Uplink, alone: &[&str]) -> String {
    let name = &uplink.name;
    let stay = match uplink.live_flows {
        None => "Those that it has stay.".to_owned(),
        Some(0) => "It has no live flow.".to_owned(),
        Some(1) => "Its 1 live flow stays.".to_owned(),
        Some(flows) => format!("Its {flows} live flows stay."),
    };
    let last = match alone {
        [] => String::new(),
        families => {
            let families = families.join(" and ");
            format!(" No other uplink is usable for {families}: new flows go on using it there.")
        }
    };
    format!("New flows avoid {name} until it is enabled. {stay}{last}")
}

fn disabled(uplink: &Uplink, alone: &[&str]) -> String {
    let name = &uplink.name;
    format!("{name} is out of use until it is enabled. {}", effect(uplink, alone))
}

/// Says what becomes of the flows of an uplink that ends.
fn effect(uplink: &Uplink, alone: &[&str]) -> String {
    let flows = match uplink.live_flows {
        Some(0) => "It has no live flow.".to_owned(),
        Some(1) => format!("Its 1 live flow ends or moves to another uplink, {END}"),
        Some(flows) => format!("Its {flows} live flows end or move to other uplinks, {END}"),
        None => format!("Its live flows end or move to other uplinks, {END}"),
    };
    match alone {
        [] => flows,
        families => {
            let families = families.join(" and ");
            format!("NO OTHER UPLINK is usable for {families}: users have none there. {flows}")
        }
    }
}

const END: &str = "as `on_down` says: by default, TCP clients get a reset, and connect again.";

/// Returns the families in which an uplink is up, and no other one is that new flows may use.
fn alone<'a>(status: &'a Status, name: &str) -> Vec<&'a str> {
    let up = |uplink: &'a Uplink| {
        let up = uplink.families().filter(|(_, health)| health.state.is_up());
        up.map(|(family, _)| family.name())
    };
    let others = status.uplinks.iter().filter(|other| other.name != name);
    let usable: Vec<&str> = others.flat_map(up).collect();
    let own = status.uplinks.iter().filter(|uplink| uplink.name == name).flat_map(up);
    own.filter(|family| !usable.contains(family)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::samples::{status, uplink};

    #[test]
    fn a_prompt_says_what_users_will_feel() {
        let status = status(&[uplink("isp-a", "up"), uplink("isp-b", "up")]);
        let drain = admin(&status, &status.uplinks[0], AdminState::Drained);
        assert_eq!(drain.title, "drain isp-a");
        assert_eq!(
            drain.text,
            "New flows avoid isp-a until it is enabled. Its 623 live flows stay."
        );
        let disable = admin(&status, &status.uplinks[0], AdminState::Disabled);
        assert_eq!(
            disable.text,
            "isp-a is out of use until it is enabled. Its 623 live flows end or move to other uplinks, as \
             `on_down` says: by default, TCP clients get a reset, and connect again."
        );
        let order =
            Order::Admin { uplink: "isp-a".into(), admin: AdminState::Disabled, now: false };
        assert_eq!(disable.order, order);
        let drill = drill(&status, &status.uplinks[0]);
        assert!(drill.text.starts_with("Nothing passes isp-a for 30s"), "{}", drill.text);
        assert!(drill.text.contains("623 live flows"), "{}", drill.text);
    }

    #[test]
    fn the_last_uplink_is_called_so() {
        let mut status = status(&[uplink("isp-a", "up"), uplink("isp-b", "down")]);
        let ask = |status: &Status, state| admin(status, &status.uplinks[0], state).text;
        let disable = ask(&status, AdminState::Disabled);
        assert!(disable.contains("NO OTHER UPLINK is usable for ipv4"), "{disable}");
        let drain = ask(&status, AdminState::Drained);
        assert!(drain.contains("new flows go on using it there"), "{drain}");
        status.uplinks[0].live_flows = Some(1);
        let one = ask(&status, AdminState::Disabled);
        assert!(one.contains("Its 1 live flow ends or moves"), "{one}");
        status.uplinks[0].live_flows = None;
        let unknown = ask(&status, AdminState::Disabled);
        assert!(unknown.contains("Its live flows end or move"), "{unknown}");
    }
}
