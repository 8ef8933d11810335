//! The chains of marks: the uplink of a connection, and the treatment of its packets.

use std::collections::BTreeMap;

use linkbal_common::mark::{MarkMask, RESET};

use super::{
    Nft, NftUplink, Target, branch, exempt, family, firewall, is_quotable, prefixes, quoted,
    source_validation,
};

/// Returns the chains that set and read the marks of connections.
pub(super) fn chains(nft: &Nft, uplinks: &[&NftUplink]) -> String {
    let mask = nft.mask;
    let each: String = uplinks.iter().map(|uplink| of_uplink(uplink.index, mask)).collect();
    let leaving = exempt::tunnelled(&nft.exempt);
    let interfaces = quoted(uplinks.iter().map(|uplink| &uplink.ifname));
    // Packets from an IPsec tunnel have the uplink's interface, too; its policy has checked them.
    let tunnelled = if nft.ipsec { "    meta ipsec exists return\n" } else { "" };
    let arriving = format!("{tunnelled}    jump anti_spoofing\n");
    let [transit, from_outside] = firewall::transit(&nft.firewall, uplinks, mask);
    let [at, destinations] = firewall::destinations(uplinks);
    let validation = source_validation::parts(&nft.validation, &nft.lan, mask);
    each + &invalid(&interfaces)
        + &validation.chains
        + &proposals(uplinks, mask, &validation.proposal)
        + &firewall::sources(&nft.firewall, uplinks, &validation.anti_spoofing)
        + &transit
        + &at
        + &arrivals(nft, uplinks, &arriving)
        + &departures(uplinks, mask, &(from_outside + leaving))
        + &format!(
            "  chain unmarked {{
{own_interface}{}{destinations}{unmarked}    {INVALID}
  }}
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta mark & {mask:#010x} == 0x00000000 goto unmarked
    meta mark & {proposal:#010x} == {proposal:#010x} goto proposal
    {INVALID}
  }}
  chain answers {{
    type route hook output priority mangle; policy accept;
    {}
  }}
",
            of_others(nft, uplinks),
            vmap(uplinks, mask, "answer", mask.inbound()),
            own_interface = firewall::own_interface(uplinks),
            unmarked = validation.unmarked,
            mask = mask.0,
            proposal = mask.proposal(),
        )
}

/// The rule for packets that connection tracking does not know.
const INVALID: &str = "ct state invalid jump invalid";

/// Returns the chain that drops such packets if they are about to leave by an uplink: they would do
/// so with their private address.
fn invalid(interfaces: &str) -> String {
    format!(
        "  chain invalid {{
    fib daddr . mark oifname {{ {interfaces} }} counter drop
  }}
"
    )
}

/// Returns the chains of one uplink. They set constants: copying our bits of one mark to another
/// one and keeping its foreign bits takes two registers, which kernels have since Linux 6.14.
fn of_uplink(index: u32, mask: MarkMask) -> String {
    let foreign = !mask.0;
    let number = mask.encode(index);
    let (proposal, inbound) = (mask.proposal(), mask.inbound());
    let chain = |name: &str, key: &str, bits: u32| {
        format!(
            "  chain {name}_{index} {{
    {key} mark set {key} mark & {foreign:#010x} | {bits:#010x}
  }}
"
        )
    };
    chain("to", "ct", number)
        + &chain("from", "ct", number | inbound)
        + &chain("use", "meta", number | proposal)
        + &chain("use_from", "meta", number | proposal | inbound)
        + &chain("answer", "meta", number)
}

/// Returns a look-up of the connection's uplink that continues in the chain of that uplink.
fn vmap(uplinks: &[&NftUplink], mask: MarkMask, chain: &str, flag: u32) -> String {
    let targets = targets(uplinks, mask, chain, flag);
    format!("ct mark & {:#010x} vmap {{ {targets} }}", mask.connection())
}

/// Returns the elements of such a look-up.
fn targets(uplinks: &[&NftUplink], mask: MarkMask, chain: &str, flag: u32) -> String {
    let target = |uplink: &&NftUplink| {
        let index = uplink.index;
        format!("{:#010x} : goto {chain}_{index}", mask.encode(index) | flag)
    };
    uplinks.iter().map(target).collect::<Vec<_>>().join(", ")
}

/// Returns the chains of packets whose flow is not in the table: the connection's uplink, if it has
/// one, replaces the proposed one. The datapath knows no connections, so it ends those from outside
/// with the others when an uplink goes down: here they go on. `first_rule` is before all others.
fn proposals(uplinks: &[&NftUplink], mask: MarkMask, first_rule: &str) -> String {
    let numbers = mask.number() | mask.proposal();
    let reset = mask.propose(0, RESET);
    // All that shall not leave has this bit in its number, and so does the last uplink.
    let blocked = mask.propose(0, 0x0f);
    let refusal = prefixes::refusal(uplinks, mask).unwrap_or_default();
    format!(
        "  chain proposal {{
{first_rule}    {INVALID}
    ct mark & {connection:#010x} != 0x00000000 goto connection
    meta mark & {blocked:#010x} == {blocked:#010x} goto blocked
  }}
  chain connection {{
    {from}
    meta mark & {numbers:#010x} == {reset:#010x} meta l4proto tcp reject with tcp reset
    {to}
    goto blocked
  }}
  chain blocked {{
{refusal}    meta mark & {numbers:#010x} == {reset:#010x} meta l4proto tcp reject with tcp reset
  }}
",
        connection = mask.connection(),
        from = vmap(uplinks, mask, "use_from", mask.inbound()),
        to = vmap(uplinks, mask, "use", 0),
    )
}

/// Returns the rule for packets of networks that are neither of the LAN nor an uplink's, which the
/// datapath does not see: containers, VPN servers. Connections that begin there follow the routes
/// and then stay on their uplink, answers leave by the uplink of the connection. Bridged networks
/// of the LAN are included if the kernel shows bridged packets to iptables and nft, since it does
/// so before the datapath sees them.
fn of_others(nft: &Nft, uplinks: &[&NftUplink]) -> String {
    if !nft.others && !nft.bridged {
        return answers_of_lan(nft, uplinks);
    }
    let lan = nft.lan.iter().filter(|name| !nft.bridged && is_quotable(name));
    let known = quoted(lan.chain(uplinks.iter().map(|uplink| &uplink.ifname)));
    let each = [(nft.mask.inbound(), "use_from"), (0, "use")];
    let targets: Vec<_> =
        each.iter().map(|(flag, chain)| targets(uplinks, nft.mask, chain, *flag)).collect();
    format!(
        "    iifname != {{ {known} }} ct mark & {:#010x} vmap {{ {} }}\n",
        nft.mask.connection(),
        targets.join(", "),
    ) + &answers_of_lan(nft, uplinks)
}

/// Returns the rule for answers of the LAN to connections from outside that a firewall gave an address
/// of this machine as their source (a masquerade towards the LAN, so that a server with another default
/// route answers here): they are for this machine, so the datapath leaves them alone.
fn answers_of_lan(nft: &Nft, uplinks: &[&NftUplink]) -> String {
    let lan = quoted(nft.lan.iter().filter(|name| is_quotable(name)));
    let inbound = nft.mask.inbound();
    let targets = targets(uplinks, nft.mask, "use_from", inbound);
    if lan.is_empty() || targets.is_empty() {
        return String::new();
    }
    format!(
        "    iifname {{ {lan} }} ct mark & {:#010x} vmap {{ {targets} }}\n",
        nft.mask.connection()
    )
}

/// Groups uplinks by their interface.
pub(super) fn by_interface<'a>(uplinks: &[&'a NftUplink]) -> BTreeMap<&'a str, Vec<&'a NftUplink>> {
    let mut interfaces: BTreeMap<&str, Vec<&NftUplink>> = BTreeMap::new();
    for uplink in uplinks {
        interfaces.entry(&uplink.ifname).or_default().push(uplink);
    }
    interfaces
}

/// Returns the chains that mark connections which come in by an uplink. If several share an
/// interface, the destination address decides. `first_rules` are asked before. What the datapath has
/// marked comes from the LAN, if its interface says so, too: the datapath also sees the packets of a
/// VLAN, or a PPP session, at its network card, which may be one of the LAN.
fn arrivals(nft: &Nft, uplinks: &[&NftUplink], first_rules: &str) -> String {
    let mut chains = String::new();
    let mut targets = Vec::new();
    for (ifname, on) in by_interface(uplinks) {
        let first = on[0].index;
        let mark = if on.iter().all(|uplink| uplink.sole_on_interface) {
            format!("    goto from_{first}\n")
        } else {
            by_destination(&on)
        };
        targets.push(Target { ifname, ifindex: on[0].ifindex, chain: format!("arrivals_{first}") });
        chains += &format!("  chain arrivals_{first} {{\n{first_rules}{mark}  }}\n");
    }
    let proposal = nft.mask.proposal();
    let from_lan = match &nft.lan_indexes[..] {
        [] => String::new(),
        [one] => format!("    iif {one} meta mark & {proposal:#010x} == {proposal:#010x} return\n"),
        several => format!(
            "    iif {{ {} }} meta mark & {proposal:#010x} == {proposal:#010x} return\n",
            several.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
    };
    chains
        + &format!(
            "  chain arrivals {{
    type nat hook prerouting priority dstnat - 10; policy accept;
{from_lan}{}  }}
",
            branch("iif", &targets),
        )
}

/// Returns the rules that tell uplinks of one interface apart by the destination address of a
/// connection. An address that two of them have tells nothing.
fn by_destination(uplinks: &[&NftUplink]) -> String {
    // Addresses come before prefixes, which may contain them: in one map both would clash.
    let mut kinds: BTreeMap<(bool, &str), BTreeMap<String, Vec<u32>>> = BTreeMap::new();
    for uplink in uplinks {
        let own = uplink.addresses.iter();
        let own = own.map(|address| ((false, family(address)), address.to_string()));
        let given = uplink.prefixes.iter();
        let given = given.map(|prefix| ((true, family(&prefix.addr())), prefix.to_string()));
        for (kind, destination) in own.chain(given) {
            let destinations = kinds.entry(kind).or_default();
            destinations.entry(destination).or_default().push(uplink.index);
        }
    }
    let rule = |((_, family), destinations): ((bool, &str), BTreeMap<String, Vec<u32>>)| {
        let known = destinations.into_iter().filter(|(_, of)| of.len() == 1);
        let targets: Vec<_> =
            known.map(|(destination, of)| format!("{destination} : goto from_{}", of[0])).collect();
        let rule = format!("    {family} daddr vmap {{ {} }}\n", targets.join(", "));
        if targets.is_empty() { String::new() } else { rule }
    };
    kinds.into_iter().map(rule).collect()
}

/// Returns the chains that mark all other connections, by the uplink that they leave by. If several
/// share an interface, the packet's mark decides. `first_rules` as for [`arrivals`].
///
/// A connection that is tracked already and has no translation gets none any more, though nat
/// chains see its packets until it is answered (`nf_nat_setup_info` in
/// net/netfilter/nf_nat_core.c): without a mark it is found and forgotten (see
/// [`crate::engine::kernel::attribution`]).
fn departures(uplinks: &[&NftUplink], mask: MarkMask, first_rules: &str) -> String {
    let mut chains = String::new();
    let mut targets = Vec::new();
    for (ifname, on) in by_interface(uplinks) {
        let (first, ifindex) = (on[0].index, on[0].ifindex);
        if on.iter().all(|uplink| uplink.sole_on_interface) {
            targets.push(Target { ifname, ifindex, chain: format!("to_{first}") });
            continue;
        }
        targets.push(Target { ifname, ifindex, chain: format!("departures_{first}") });
        let marks = on.iter().map(|uplink| {
            format!("{:#010x} : goto to_{}", mask.encode(uplink.index), uplink.index)
        });
        let marks = marks.collect::<Vec<_>>().join(", ");
        let number = mask.number();
        chains += &format!(
            "  chain departures_{first} {{\n    meta mark & {number:#010x} vmap {{ {marks} }}\n  }}\n"
        );
    }
    chains
        + &format!(
            "  chain departures {{
    type nat hook postrouting priority srcnat - 10; policy accept;
    ct status confirmed return
{first_rules}{}  }}
",
            branch("oif", &targets)
        )
}
