//! Rules that are never reached, since an earlier one matches all that they match.
//!
//! Every dimension of a match is a set of numbers, kept as sorted ranges with gaps between them. A
//! match covers another one if it does in every dimension, and a set covers another one if each
//! range of that lies within a single range of it. Only domains are kept as they are: a set of them
//! covers another one if it has each name of that, or a parent of the name.

use std::collections::BTreeSet;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::domain::with_parents;
use crate::config::Match;

/// Returns the matches that a single earlier one covers: index of the later one, and of the first
/// such.
pub(super) fn find(matches: &[&Match], lan: &[&str]) -> Vec<(usize, usize)> {
    // A pattern in a rule stands for one more interface, which may be none of its own.
    let mut lan = lan.to_vec();
    for name in matches.iter().flat_map(|one| &one.interface) {
        if !lan.contains(&name.as_str()) {
            lan.push(name);
        }
    }
    let extents: Vec<Extent<'_>> = matches.iter().map(|one| Extent::of(one, &lan)).collect();
    let first_cover = |later: usize| (0..later).find(|at| extents[*at].covers(&extents[later]));
    (0..extents.len()).filter_map(|later| Some((later, first_cover(later)?))).collect()
}

/// All flows of a match.
struct Extent<'a> {
    /// Sources and destinations, for each family.
    addresses: [[Ranges; 2]; 2],
    /// Protocols, ports, DSCPs, interfaces, VLANs and MACs.
    others: [Ranges; 7],
    /// Domains; none means all destinations.
    domains: BTreeSet<&'a str>,
}

/// A number past all values of a dimension, for flows that lack it, such as untagged ones a VLAN.
const ABSENT: u128 = u128::MAX;

impl<'a> Extent<'a> {
    fn of(flows: &'a Match, lan: &[&str]) -> Extent<'a> {
        let protocol = flows.protocol.iter().map(|number| single(*number));
        let ports = |list: &[(u16, u16)]| {
            let ranges = list.iter().map(|(first, last)| (u128::from(*first), u128::from(*last)));
            Ranges::new(ranges.collect(), ABSENT)
        };
        let dscp = flows.dscp.iter().map(|value| single(*value));
        let interface = flows.interface.iter().map(|name| single(index_of(name, lan) as u64));
        let vlan = flows.vlan.iter().map(|vlan| single(*vlan));
        let mac = flows.mac.iter().map(|octets| {
            let bits = octets.iter().fold(0, |bits, octet| bits << 8 | u64::from(*octet));
            single(bits)
        });
        let last_interface = lan.len().saturating_sub(1) as u128;
        Extent {
            addresses: Family::ALL.map(|family| {
                [&flows.source, &flows.destination].map(|nets| Ranges::of_addresses(nets, family))
            }),
            others: [
                Ranges::new(protocol.collect(), 255),
                ports(&flows.source_port),
                ports(&flows.destination_port),
                Ranges::new(dscp.collect(), 63),
                Ranges::new(interface.collect(), last_interface),
                Ranges::new(vlan.collect(), ABSENT),
                Ranges::new(mac.collect(), ABSENT),
            ],
            domains: flows.domain.iter().map(String::as_str).collect(),
        }
    }

    /// Returns whether all flows of `other` are flows of this one.
    fn covers(&self, other: &Extent<'_>) -> bool {
        let all_cover = |ours: &[Ranges], theirs: &[Ranges]| {
            ours.iter().zip(theirs).all(|(ours, theirs)| ours.covers(theirs))
        };
        self.covers_domains(other)
            && all_cover(&self.others, &other.others)
            && self.addresses.iter().zip(&other.addresses).all(|(ours, theirs)| {
                let no_flows = theirs.iter().any(|ranges| ranges.0.is_empty());
                no_flows || all_cover(ours, theirs)
            })
    }

    fn covers_domains(&self, other: &Extent<'_>) -> bool {
        let covered = |name| with_parents(name).any(|parent| self.domains.contains(parent));
        self.domains.is_empty()
            || !other.domains.is_empty() && other.domains.iter().all(|name| covered(name))
    }
}

fn single(value: impl Into<u128>) -> (u128, u128) {
    let value = value.into();
    (value, value)
}

fn index_of(name: &str, lan: &[&str]) -> usize {
    lan.iter().position(|known| *known == name).expect("each name of a rule is among them")
}

/// A set of numbers: first and last of ranges that are sorted and do not touch.
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Creates the set of the numbers in any of `ranges`; all from 0 to `last` if there are none.
    fn new(ranges: Vec<(u128, u128)>, last: u128) -> Ranges {
        if ranges.is_empty() { Ranges(vec![(0, last)]) } else { Ranges::joined(ranges) }
    }

    /// Creates the set of the addresses of a family in any of `nets`; all of the family if there
    /// are no `nets`.
    fn of_addresses(nets: &[IpNet], family: Family) -> Ranges {
        if nets.is_empty() {
            let bits = if family == Family::Ipv4 { u32::MAX.into() } else { u128::MAX };
            return Ranges(vec![(0, bits)]);
        }
        let range = |net: &IpNet| match (net, family) {
            (IpNet::V4(net), Family::Ipv4) => {
                Some((u32::from(net.network()).into(), u32::from(net.broadcast()).into()))
            }
            (IpNet::V6(net), Family::Ipv6) => {
                Some((u128::from(net.network()), u128::from(net.broadcast())))
            }
            _ => None,
        };
        Ranges::joined(nets.iter().filter_map(range).collect())
    }

    fn joined(mut ranges: Vec<(u128, u128)>) -> Ranges {
        ranges.sort_unstable();
        ranges.dedup_by(|next, joined| {
            let touches = next.0 <= joined.1.saturating_add(1);
            if touches {
                joined.1 = joined.1.max(next.1);
            }
            touches
        });
        Ranges(ranges)
    }

    /// Returns whether this set covers another one. Goes through both once, in steps that double:
    /// fast for sets of similar and of different sizes.
    fn covers(&self, other: &Ranges) -> bool {
        let mut rest = &self.0[..];
        other.0.iter().all(|(first, last)| {
            let mut end = 1usize;
            while end < rest.len() && rest[end].0 <= *first {
                end = end.saturating_mul(2);
            }
            let near = &rest[..end.min(rest.len())];
            let after = near.partition_point(|range| range.0 <= *first);
            rest = &rest[after.saturating_sub(1)..];
            after > 0 && rest[0].1 >= *last
        })
    }
}

#[cfg(test)]
mod tests;
