//! `[firewall]`: what connections from outside may reach.

use toml::Spanned;

use super::{problem::Fault, reader::Section, value};

/// What `[firewall]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// What connections that come in by an uplink may reach behind this machine.
    pub inbound: Inbound,
    /// Whether connections that come in by an uplink may leave by an uplink.
    pub transit: bool,
}

/// What connections that come in by an uplink may reach behind this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// [`Inbound::Established`] where linkbal itself turned forwarding on, and nobody else filters
    /// what is forwarded; else [`Inbound::Open`].
    #[default]
    Auto,
    /// Only what is forwarded to them on purpose (DNAT), and what belongs to connections from inside.
    Established,
    /// Whatever routes lead to.
    Open,
}

/// `[firewall]`.
pub(super) fn read(root: &Section) -> Firewall {
    let help = "write the section [firewall] and in it inbound = \"established\"";
    let Some(section) = root.section("firewall", help) else { return Firewall::default() };
    let section = section.knowing(&["inbound", "transit"]);
    let inbound = section.get("inbound", |value| match value::text(value)? {
        "auto" => Ok(Inbound::Auto),
        "established" => Ok(Inbound::Established),
        "open" => Ok(Inbound::Open),
        other => Err(Fault::new(
            format!("{other:?} is unknown"),
            "write \"established\" (from outside, hosts behind this machine are reached by forwarded \
             ports alone), \"open\" (other firewalls decide), or \"auto\"",
        )),
    });
    let transit = section.get("transit", value::boolean);
    Firewall {
        inbound: inbound.map_or(Inbound::default(), Spanned::into_inner),
        transit: transit.is_some_and(Spanned::into_inner),
    }
}
