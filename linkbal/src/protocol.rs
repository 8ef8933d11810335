//! IP protocols, by the numbers and names of IANA ("Assigned Internet Protocol Numbers"), and well-known
//! ports of servers.

use std::borrow::Cow;

pub(crate) use linkbal_common::packet::has_ports;

/// Numbers of IP protocols.
pub(crate) const ICMP: u8 = libc::IPPROTO_ICMP as u8;
pub(crate) const IPIP: u8 = libc::IPPROTO_IPIP as u8;
pub(crate) const TCP: u8 = libc::IPPROTO_TCP as u8;
pub(crate) const UDP: u8 = libc::IPPROTO_UDP as u8;
pub(crate) const GRE: u8 = libc::IPPROTO_GRE as u8;
pub(crate) const ESP: u8 = libc::IPPROTO_ESP as u8;
pub(crate) const AH: u8 = libc::IPPROTO_AH as u8;
pub(crate) const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
pub(crate) const SCTP: u8 = libc::IPPROTO_SCTP as u8;

/// Protocols with names; others are shown by their numbers.
pub(crate) const NAMES: [(u8, &str); 8] = [
    (TCP, "tcp"),
    (UDP, "udp"),
    (ICMP, "icmp"),
    (ICMPV6, "icmpv6"),
    (GRE, "gre"),
    (ESP, "esp"),
    (AH, "ah"),
    (SCTP, "sctp"),
];

/// Returns the name of a protocol, or its number.
pub(crate) fn name(number: u8) -> Cow<'static, str> {
    match NAMES.iter().find(|(named, _)| *named == number) {
        Some((_, name)) => Cow::Borrowed(*name),
        None => Cow::Owned(number.to_string()),
    }
}

/// Returns the number of a protocol by its name or number.
pub(crate) fn number(text: &str) -> Option<u8> {
    let named = NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    named.map(|(number, _)| *number).or_else(|| text.parse().ok())
}

/// Returns whether packets of a protocol have no ports, but echoes with an identifier.
pub(crate) const fn has_identifier(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// Ports on which servers listen unless they are told otherwise.
pub(crate) mod port {
    pub(crate) const DNS: u16 = 53;
    pub(crate) const HTTP: u16 = 80;
    pub(crate) const NTP: u16 = 123;
    pub(crate) const HTTPS: u16 = 443;
    /// Mail with TLS from the beginning (RFC 8314).
    pub(crate) const SUBMISSIONS: u16 = 465;
    /// Mail that begins in the clear (RFC 6409).
    pub(crate) const SUBMISSION: u16 = 587;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protocols_go_by_name_or_number() {
        assert_eq!(number("UDP"), Some(17));
        assert_eq!(number("89"), Some(89));
        assert_eq!(number("256"), None);
        assert_eq!(number("x"), None);
    }

    proptest! {
        #[test]
        fn names_lead_back_to_numbers(each: u8) {
            prop_assert_eq!(number(&name(each)), Some(each));
        }
    }
}
