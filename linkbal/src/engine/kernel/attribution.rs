//! Connections that are older than linkbal, or than its nft table.
//!
//! A connection gets its mark and its translation from its first packet. One that began before
//! linkbal started, while the nft table was flushed, or at a partner that did not hand its mark
//! over, has none, and would never get any. Such connections are looked for once the table is in
//! place, and at intervals: one that has the address of an uplink gets the mark of that uplink; one
//! that left by an uplink without that uplink's address is forgotten, so that its next packet
//! begins it anew, with a translation, or gets the mark of that uplink if nothing is translated
//! there. All others are left alone.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use linkbal_common::{mark::MarkMask, tables::bypass, uplink::Family};

use super::nft_text::NftExempt;

/// Data by which connections are attributed to uplinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// linkbal's bits of the connection marks.
    pub mask: MarkMask,
    /// The uplinks.
    pub uplinks: Vec<Owner>,
    /// Exemptions from translation, by all uplinks or by some.
    pub exempt: Vec<NftExempt>,
    /// Known networks, with who routes them: one of [`linkbal_common::tables::bypass`].
    pub known: BTreeMap<IpNet, u32>,
}

/// Addresses and prefixes of an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Index of the uplink.
    pub index: u32,
    /// Addresses of the uplink.
    pub addresses: Vec<IpAddr>,
    /// Prefixes that the provider assigned for hosts.
    pub prefixes: Vec<IpNet>,
    /// Families in which the uplink translates all other sources.
    pub translates: Vec<Family>,
}

/// A connection as connection tracking knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source of the first packet, as it was sent.
    pub source: IpAddr,
    /// Destination of the first packet, as it was sent.
    pub destination: IpAddr,
    /// Source of the replies.
    pub reply_source: IpAddr,
    /// Destination of the replies: the source of the packets after translation.
    pub reply_destination: IpAddr,
    /// Mark of the connection.
    pub mark: u32,
}

/// The treatment of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// The connection is left alone.
    Keep,
    /// The connection gets these bits in its mark.
    Mark(u32),
    /// The treatment depends on the uplink that the connection left by, if the flow table knows it:
    /// the connection is forgotten if that uplink is in `translating`, and so should have
    /// translated it, and gets the uplink's mark otherwise.
    AsItLeft {
        /// The uplinks that translate such connections; bit `i` is uplink `i`.
        translating: u32,
    },
}

impl Adoption {
    /// Returns the treatment of a connection.
    pub fn judge(&self, ends: &Ends) -> Attribution {
        if ends.mark & self.mask.connection() != 0
            || self.is_own(&ends.source) && self.is_own(&ends.destination)
            || [ends.source, ends.destination].iter().any(is_local)
        {
            return Attribution::Keep;
        }
        let leads_out =
            |address| self.routed_by(address).map(bypass::routed_by) != Some(bypass::MAIN);
        if leads_out(&ends.destination) {
            if self.follows_routes(ends) {
                return Attribution::Keep;
            }
            if let Some(uplink) = self.owner(&ends.reply_destination) {
                return Attribution::Mark(self.mask.encode(uplink));
            }
            let from_here = !leads_out(&ends.source);
            let untranslated = ends.reply_destination == ends.source;
            return match from_here && untranslated {
                true => Attribution::AsItLeft { translating: self.translating(ends) },
                false => Attribution::Keep,
            };
        }
        match self.owner(&ends.destination) {
            Some(uplink) if leads_out(&ends.source) => {
                Attribution::Mark(self.mask.encode(uplink) | self.mask.inbound())
            }
            _ => Attribution::Keep,
        }
    }

    /// Returns whether a connection has no uplink: it may be in an IPsec tunnel.
    fn follows_routes(&self, ends: &Ends) -> bool {
        let untranslated = ends.reply_destination == ends.source;
        untranslated && self.exempting(ends).any(NftExempt::follows_routes)
    }

    /// Returns the exemptions from translation that match a connection.
    fn exempting(&self, ends: &Ends) -> impl Iterator<Item = &NftExempt> {
        let is_in = |address, prefixes: &[IpNet]| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address))
        };
        let (source, destination) = (ends.source, ends.destination);
        self.exempt.iter().filter(move |exempt| {
            is_in(source, &exempt.source) && is_in(destination, &exempt.destination)
        })
    }

    /// Returns the uplinks that translate a connection; bit `i` is uplink `i`.
    fn translating(&self, ends: &Ends) -> u32 {
        let family = if ends.source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let exempt = self.exempting(ends).fold(0, |all, exempt| match &exempt.uplinks {
            Some(uplinks) => uplinks.iter().fold(all, |all, index| all | bit(*index)),
            None => u32::MAX,
        });
        let translating = self.uplinks.iter().filter(|uplink| uplink.translates.contains(&family));
        translating.fold(0, |all, uplink| all | bit(uplink.index)) & !exempt
    }

    fn is_own(&self, address: &IpAddr) -> bool {
        self.uplinks.iter().any(|uplink| uplink.addresses.contains(address))
    }

    /// Returns the uplink that an address belongs to, if it is the only one.
    fn owner(&self, address: &IpAddr) -> Option<u32> {
        let owns = |uplink: &&Owner| {
            let given = uplink.prefixes.iter().any(|prefix| prefix.contains(address));
            given || uplink.addresses.contains(address)
        };
        let mut owners = self.uplinks.iter().filter(owns);
        let first = owners.next()?;
        owners.next().is_none().then_some(first.index)
    }

    /// Returns who routes an address, by the longest prefix.
    fn routed_by(&self, address: &IpAddr) -> Option<u32> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest).rev().find_map(|length| {
            let prefix = IpNet::new(*address, length).ok()?.trunc();
            self.known.get(&prefix).copied()
        })
    }
}

/// Returns the bit of an uplink.
fn bit(index: u32) -> u32 {
    1_u32.checked_shl(index).unwrap_or_default()
}

/// Returns whether an address never crosses an uplink.
fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_unspecified()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::*;

    const MASK: MarkMask = MarkMask(DEFAULT_MASK);

    fn adoption() -> Adoption {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let owner = |index, addresses: &[&str], prefixes: &[&str]| Owner {
            index,
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            prefixes: prefixes.iter().map(|text| net(text)).collect(),
            translates: Family::ALL.into(),
        };
        Adoption {
            mask: MASK,
            uplinks: vec![
                owner(0, &["203.0.113.2", "203.0.113.7", "192.168.1.2"], &["2001:db8:a::/56"]),
                owner(1, &["192.0.2.2", "192.168.1.2"], &["100.66.0.0/28"]),
                Owner { translates: Vec::new(), ..owner(2, &["192.0.0.2"], &[]) },
            ],
            exempt: vec![
                NftExempt {
                    source: vec![net("10.0.0.0/24")],
                    destination: vec![net("192.168.50.0/24")],
                    uplinks: None,
                },
                NftExempt {
                    destination: vec![net("192.168.60.0/24")],
                    uplinks: Some(vec![1]),
                    ..NftExempt::default()
                },
            ],
            known: [
                ("10.0.0.0/8", bypass::MAIN),
                ("100.66.0.0/28", bypass::MAIN),
                ("192.168.50.0/24", bypass::UPLINK),
                ("2001:db8:a::/56", bypass::MAIN),
                ("203.0.113.0/24", bypass::UPLINK),
                ("203.0.113.2/32", bypass::MAIN),
                ("203.0.113.7/32", bypass::MAIN),
                ("192.0.2.0/24", bypass::UPLINK),
                ("192.0.2.2/32", bypass::MAIN),
            ]
            .map(|(text, by)| (net(text), by))
            .into(),
        }
    }

    fn judged(
        mark: u32,
        [source, destination, reply_source, reply_destination]: [&str; 4],
    ) -> Attribution {
        let address = |text: &str| text.parse().expect("an address");
        adoption().judge(&Ends {
            source: address(source),
            destination: address(destination),
            reply_source: address(reply_source),
            reply_destination: address(reply_destination),
            mark,
        })
    }

    const SERVER: &str = "198.51.100.7";
    const HOST: &str = "10.0.0.9";

    #[test]
    fn what_has_the_address_of_an_uplink_gets_its_mark() {
        let [a, b] = [0, 1].map(|uplink| MASK.encode(uplink));
        for (ends, mark) in [
            ([HOST, SERVER, SERVER, "203.0.113.2"], a),
            ([HOST, SERVER, SERVER, "203.0.113.7"], a),
            ([HOST, SERVER, SERVER, "192.0.2.2"], b),
            (["192.0.2.2", SERVER, SERVER, "192.0.2.2"], b),
            ([HOST, "203.0.113.99", "203.0.113.99", "203.0.113.2"], a),
            (["2001:db8:a::9", "2001:db8:ff::1", "2001:db8:ff::1", "2001:db8:a::9"], a),
            ([SERVER, "203.0.113.2", HOST, SERVER], a | MASK.inbound()),
            ([SERVER, "192.0.2.2", "192.0.2.2", SERVER], b | MASK.inbound()),
            (["203.0.113.99", "192.0.2.2", HOST, "203.0.113.99"], b | MASK.inbound()),
            (["100.66.0.9", SERVER, SERVER, "100.66.0.9"], b),
            ([SERVER, "100.66.0.9", "100.66.0.9", SERVER], b | MASK.inbound()),
        ] {
            assert_eq!(judged(0, ends), Attribution::Mark(mark), "{ends:?}");
            assert_eq!(
                judged(5, ends),
                Attribution::Mark(mark),
                "foreign bits are no mark of ours"
            );
            assert_eq!(judged(MASK.encode(7), ends), Attribution::Keep, "it has one: {ends:?}");
        }
    }

    #[test]
    fn what_leaves_with_its_own_address_is_forgotten_if_an_uplink_should_have_translated_it() {
        let to = |source, server| judged(0, [source, server, server, source]);
        let all = Attribution::AsItLeft { translating: 0b11 };
        assert_eq!(to(HOST, SERVER), all);
        assert_eq!(to(HOST, "203.0.113.9"), all);
        assert_eq!(to(HOST, "192.168.50.9"), Attribution::Keep, "exempt, perhaps in a tunnel");
        assert_eq!(to("10.0.1.9", "192.168.50.9"), all, "another source");
        assert_eq!(
            to(HOST, "192.168.60.9"),
            Attribution::AsItLeft { translating: 0b01 },
            "by uplink 1"
        );
    }

    #[test]
    fn all_others_are_left_alone() {
        for ends in [
            // Inside, and to the gateway itself.
            [HOST, "10.1.0.1", "10.1.0.1", HOST],
            [HOST, "203.0.113.2", "203.0.113.2", HOST],
            ["203.0.113.2", "192.0.2.2", "192.0.2.2", "203.0.113.2"],
            // Port forwards that are used from inside.
            [HOST, "203.0.113.2", "10.0.0.80", HOST],
            // Translated to something that is no uplink's, or two uplinks' address.
            [HOST, SERVER, SERVER, "100.64.0.1"],
            [HOST, SERVER, SERVER, "192.168.1.2"],
            // Passing through.
            [SERVER, "100.99.0.1", "100.99.0.1", SERVER],
            ["127.0.0.1", SERVER, SERVER, "127.0.0.1"],
            ["fe80::1", "2001:db8:ff::1", "2001:db8:ff::1", "fe80::1"],
            [HOST, "224.0.0.251", "224.0.0.251", HOST],
        ] {
            assert_eq!(judged(0, ends), Attribution::Keep, "{ends:?}");
        }
    }
}
