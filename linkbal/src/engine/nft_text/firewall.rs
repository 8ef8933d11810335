//! What may come in by an uplink: nothing that claims to be ours, nothing for another uplink's
//! address, and no more than is wanted of what is not for this machine.
//!
//! Loose source validation, which several uplinks need, accepts any source that has a route. What it
//! no longer sees is asked here, once for each connection.

use std::collections::BTreeMap;

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{NftUplink, family, is_quotable, prefixes, quoted};

/// What connections that come in by an uplink may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftFirewall {
    /// Families in which hosts behind this machine are reached by forwarded ports alone.
    pub established: Vec<Family>,
    /// Whether such connections may leave by an uplink.
    pub transit: bool,
    /// Interfaces of others that routes to the internet lead to: any source may come from there.
    pub wide: Vec<String>,
}

/// Returns the rules for the first packets of connections that come in by an uplink: none has an
/// address of this machine for a source, or of a network that is reached by another interface.
pub(super) fn sources(firewall: &NftFirewall, uplinks: &[&NftUplink]) -> String {
    let wide = firewall.wide.iter().filter(|name| is_quotable(name));
    let outside = quoted(uplinks.iter().map(|uplink| &uplink.ifname).chain(wide));
    // `fib` finds routes whose rules ask for no mark; where there is none, it says nothing.
    let mut text = format!(
        "  chain sources {{
    fib saddr type local counter drop
    fib saddr oif exists fib saddr oifname != {{ {outside} }} counter drop
"
    );
    for uplink in uplinks {
        let foreign = IpNet::aggregate(&uplink.foreign);
        for (family, _) in prefixes::FAMILIES {
            if let Some(listed) = prefixes::listed(family, &foreign) {
                let ifname = &uplink.ifname;
                text += &format!(
                    "    iifname \"{ifname}\" {family} saddr {{ {listed} }} counter drop\n"
                );
            }
        }
    }
    text + "  }\n"
}

/// Returns chains, and the rules that lead to them: packets to an uplink's address come in by that
/// uplink alone. Whoever is at another one could answer for servers otherwise.
pub(super) fn destinations(uplinks: &[&NftUplink]) -> [String; 2] {
    let mut chains = String::new();
    let mut known: BTreeMap<&str, BTreeMap<String, Vec<&NftUplink>>> = BTreeMap::new();
    for uplink in uplinks.iter().filter(|uplink| !uplink.strangers.is_empty()) {
        for address in uplink.addresses.iter().chain(&uplink.virtual_addresses) {
            let of = known.entry(family(address)).or_default();
            let of = of.entry(address.to_string()).or_default();
            if !of.contains(uplink) {
                of.push(uplink);
            }
        }
        chains += &format!(
            "  chain at_{} {{
    iifname {{ {} }} counter drop
  }}
",
            uplink.index,
            quoted(uplink.strangers.iter()),
        );
    }
    let rule = |(family, addresses): (&str, BTreeMap<String, Vec<&NftUplink>>)| {
        // An address that two uplinks have is at both.
        let sole = addresses.into_iter().filter(|(_, of)| of.len() == 1);
        let targets: Vec<String> =
            sole.map(|(address, of)| format!("{address} : goto at_{}", of[0].index)).collect();
        let rule = format!("    {family} daddr vmap {{ {} }}\n", targets.join(", "));
        if targets.is_empty() { String::new() } else { rule }
    };
    let rules = known.into_iter().map(rule).collect();
    [chains, rules]
}

/// Returns a chain for what came in by an uplink and is about to leave again, and the rule that leads
/// there. Only first packets of connections meet it.
pub(super) fn transit(
    firewall: &NftFirewall,
    uplinks: &[&NftUplink],
    mask: MarkMask,
) -> [String; 2] {
    let outside = quoted(uplinks.iter().map(|uplink| &uplink.ifname));
    let mut rules = String::new();
    if !firewall.transit {
        rules += &format!("    oifname {{ {outside} }} counter drop\n");
    }
    for family in &firewall.established {
        rules += &format!(
            "    meta nfproto {} oifname != {{ {outside} }} counter drop\n",
            family.name()
        );
    }
    if rules.is_empty() {
        return [String::new(), String::new()];
    }
    let inbound = mask.inbound();
    [
        // What was translated to another host was forwarded on purpose.
        format!(
            "  chain from_outside {{
    ct state related return
    ct status dnat return
{rules}  }}
"
        ),
        format!("    ct mark & {inbound:#010x} != 0x00000000 jump from_outside\n"),
    ]
}
