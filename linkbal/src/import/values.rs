//! Values that several dialects have: prefixes, ports, protocols, and how TOML writes them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

pub(super) use crate::commented::{host, is_device, list, one_or_list, quote};

/// Most prefixes that a range of addresses becomes.
const MAX_RANGE: usize = 64;

/// Names of ports as in /etc/services.
const SERVICES: [(&str, u16); 44] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("pop3", 110),
    ("sunrpc", 111),
    ("nntp", 119),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmptrap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("submissions", 465),
    ("smtps", 465),
    ("isakmp", 500),
    ("syslog", 514),
    ("rtsp", 554),
    ("submission", 587),
    ("ldaps", 636),
    ("domain-s", 853),
    ("rsync", 873),
    ("imaps", 993),
    ("pop3s", 995),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("mysql", 3306),
    ("ms-wbt-server", 3389),
    ("ipsec-nat-t", 4500),
    ("sip", 5060),
    ("sip-tls", 5061),
];

/// Names of protocols: of linkbal, and others with their numbers.
const PROTOCOLS: [(&str, &str); 20] = [
    ("tcp", "\"tcp\""),
    ("udp", "\"udp\""),
    ("sctp", "\"sctp\""),
    ("icmp", "\"icmp\""),
    ("icmpv6", "\"icmp\""),
    ("ipv6-icmp", "\"icmp\""),
    ("gre", "\"gre\""),
    ("esp", "\"esp\""),
    ("ah", "\"ah\""),
    ("ipip", "\"ipip\""),
    ("igmp", "2"),
    ("egp", "8"),
    ("igp", "9"),
    ("ipv6", "41"),
    ("rsvp", "46"),
    ("eigrp", "88"),
    ("ospf", "89"),
    ("pim", "103"),
    ("vrrp", "112"),
    ("l2tp", "115"),
];

/// Parses addresses as tools write them: an address, a prefix with a length or a mask, a range, or a
/// list of these with commas. Returns prefixes without bits behind their length; none for "any".
///
/// # Errors
/// The reason why linkbal cannot say it.
pub(super) fn prefixes(text: &str) -> Result<Vec<IpNet>, String> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(rest) = part.strip_prefix('!') {
            return Err(format!("linkbal has no \"all but {rest}\""));
        }
        if matches!(part, "any" | "all" | "anywhere" | "0/0" | "0") {
            all.push(IpNet::V4(Ipv4Net::default()));
        } else if let Some((first, last)) = part.split_once('-') {
            all.extend(range(first, last).ok_or_else(|| no_prefix(part))?);
        } else {
            all.push(prefix(part)?);
        }
    }
    Ok(all)
}

fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(canonical(address.into()));
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(canonical(net.trunc()));
    }
    let (address, mask) = text.split_once('/').ok_or_else(|| no_prefix(text))?;
    let address: Ipv4Addr = address.parse().map_err(|_| no_prefix(text))?;
    let mask: Ipv4Addr = mask.parse().map_err(|_| no_prefix(text))?;
    let length = mask.to_bits().leading_ones();
    if mask.to_bits().checked_shl(length).unwrap_or(0) != 0 {
        return Err(format!("linkbal knows prefixes, and {mask} is a mask with holes"));
    }
    let length = u8::try_from(length).map_err(|_| no_prefix(text))?;
    Ipv4Net::new(address, length).map(|net| net.trunc().into()).map_err(|_| no_prefix(text))
}

/// Returns the prefix, an IPv4 one that is written as IPv6 as IPv4.
fn canonical(net: IpNet) -> IpNet {
    let address = net.addr().to_canonical();
    if address == net.addr() {
        return net;
    }
    IpNet::new(address, net.prefix_len().saturating_sub(96)).unwrap_or(net).trunc()
}

fn no_prefix(text: &str) -> String {
    format!("\"{text}\" is no address or prefix; names belong in a rule with `match.domain`")
}

fn range(first: &str, last: &str) -> Option<Vec<IpNet>> {
    let nets: Vec<IpNet> = match (first.trim().parse().ok()?, last.trim().parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()
        }
        _ => return None,
    };
    (nets.len() <= MAX_RANGE).then_some(nets)
}

/// Returns the name of an interface, or the pattern of some: iptables and VyOS end these with `+`.
pub(super) fn pattern(text: &str) -> String {
    text.strip_suffix('+').map_or_else(|| text.to_owned(), |start| format!("{start}*"))
}

/// Returns prefixes as TOML: each in quotes, hosts without a length, once.
pub(super) fn prefix_texts(nets: &[IpNet]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for net in nets {
        let text = if net.prefix_len() == net.max_prefix_len() {
            quote(&net.addr().to_string())
        } else {
            quote(&net.to_string())
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Parses ports as tools write them: numbers, names, ranges with `-` or `:`, and lists with commas.
/// Returns them as TOML.
///
/// # Errors
/// The reason why linkbal cannot say it.
pub(super) fn ports(text: &str) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(rest) = part.strip_prefix('!') {
            return Err(format!("linkbal has no \"all ports but {rest}\""));
        }
        let port = match (port(part), part.split_once(['-', ':'])) {
            (Some(number), _) => number.to_string(),
            (None, Some((first, last))) => {
                let (first, last) = (if first.is_empty() { "1" } else { first }, last);
                let last = if last.is_empty() { "65535" } else { last };
                match (port(first).or((first == "0").then_some(1)), port(last)) {
                    (Some(first), Some(last)) if first <= last => quote(&format!("{first}-{last}")),
                    _ => return Err(format!("\"{part}\" is no range of ports")),
                }
            }
            (None, None) => return Err(format!("the number of port \"{part}\" is not known")),
        };
        if !all.contains(&port) {
            all.push(port);
        }
    }
    Ok(all)
}

fn port(text: &str) -> Option<u16> {
    let text = text.trim();
    let named = || SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    text.parse().ok().filter(|port| *port > 0).or_else(named)
}

/// Parses a protocol, by name or number, to TOML; `None` for all of them.
///
/// # Errors
/// The reason why linkbal cannot say it.
pub(super) fn protocols(text: &str) -> Result<Option<Vec<String>>, String> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(rest) = text.strip_prefix('!') {
        return Err(format!("linkbal has no \"all protocols but {}\"", rest.trim()));
    }
    match &*text {
        "all" | "any" | "ip" | "0" | "" => return Ok(None),
        "tcp_udp" | "tcpudp" => return Ok(Some(vec![quote("tcp"), quote("udp")])),
        _ => {}
    }
    let mut all: Vec<String> = Vec::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let named =
            PROTOCOLS.iter().find(|(name, _)| *name == part).map(|(_, toml)| (*toml).to_owned());
        let number = || part.parse::<u8>().ok().map(|number| number.to_string());
        let toml = named.or_else(number);
        let toml = toml.ok_or_else(|| format!("the number of protocol \"{part}\" is not known"))?;
        if !all.contains(&toml) {
            all.push(toml);
        }
    }
    Ok(Some(all))
}

/// Returns whether a prefix is within the ranges of private networks: RFC 1918, shared addresses
/// (RFC 6598), unique local ones (RFC 4193), and those of a link.
pub(super) fn is_private(net: &IpNet) -> bool {
    let within = |high: [u8; 4], length| {
        Ipv4Net::new(high.into(), length).is_ok_and(|range| IpNet::V4(range).contains(net))
    };
    match net {
        IpNet::V4(_) => [
            ([10, 0, 0, 0], 8),
            ([172, 16, 0, 0], 12),
            ([192, 168, 0, 0], 16),
            ([100, 64, 0, 0], 10),
            ([169, 254, 0, 0], 16),
        ]
        .into_iter()
        .any(|(high, length)| within(high, length)),
        IpNet::V6(net) => {
            net.prefix_len() >= 7 && net.addr().is_unique_local()
                || net.prefix_len() >= 10 && net.addr().is_unicast_link_local()
        }
    }
}

/// Returns whether all destinations of a family are within the prefix.
pub(super) fn is_whole_family(net: &IpNet) -> bool {
    net.prefix_len() == 0
}
