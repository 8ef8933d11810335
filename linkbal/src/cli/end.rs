//! An end of a flow, as people write it: an address or a name, with a port or without.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Ports of the schemes of addresses of pages.
const SCHEMES: [(&str, u16); 6] =
    [("http", 80), ("https", 443), ("ftp", 21), ("ssh", 22), ("ws", 80), ("wss", 443)];

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Address or name.
    pub(super) host: String,
    /// Port, if there is one.
    pub(super) port: Option<u16>,
    /// A remark on what could have been meant, too.
    pub(super) note: Option<String>,
}

impl End {
    /// Returns the address, if the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Reads `HOST`, `HOST:PORT`, `[HOST]:PORT` or the address of a page; `what` names the end.
///
/// # Errors
///
/// A text that says what to write.
pub(super) fn read(what: &str, text: &str) -> Result<End, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{what} is empty: write an address, like 198.51.100.7:443"));
    }
    match text.split_once("://") {
        Some((scheme, rest)) => page(scheme, rest),
        None => plain(text),
    }
}

/// Reads the address of a page: its host, and the port of its scheme.
fn page(scheme: &str, rest: &str) -> Result<End, String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    if authority.is_empty() {
        return Err(format!("there is no host in \"{scheme}://{rest}\": write HOST:PORT"));
    }
    let known = SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    let end = plain(authority)?;
    let port = end.port.or(known.map(|(_, port)| *port));
    match port {
        Some(_) => Ok(End { port, note: None, ..end }),
        None => Err(format!("the port of {scheme}:// is not known: write {}:PORT", end.host)),
    }
}

fn plain(text: &str) -> Result<End, String> {
    if let Some((host, rest)) = text.split_once('/') {
        return Err(no_path(text, host, rest));
    }
    if text.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(format!("{text:?} has a zone: no gateway forwards what is of one link alone"));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(End { host: text.into(), port: None, note: note(text, address) });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or("a `]` is missing behind the address: [ADDRESS]:PORT")?;
        let end = |port| End { host: host.into(), port, note: None };
        return match rest.strip_prefix(':') {
            Some(number) => Ok(end(Some(port(number)?))),
            None if rest.is_empty() => Ok(end(None)),
            None => Err(format!("{text:?} is no address with a port: write [{host}]:PORT")),
        };
    }
    match text.rsplit_once(':') {
        None => Ok(End { host: text.into(), port: None, note: None }),
        Some((host, _)) if host.contains(':') => {
            let fits = host.parse::<Ipv6Addr>().is_ok();
            let host = if fits { host } else { "ADDRESS" };
            Err(format!("{text:?} is no address: of IPv6 with a port, write [{host}]:PORT"))
        }
        Some(("", number)) => Err(format!("there is no host in {text:?}: write HOST:{number}")),
        Some((host, number)) => {
            Ok(End { host: host.into(), port: Some(port(number)?), note: None })
        }
    }
}

/// Returns the advice for a text with a slash in it.
fn no_path(text: &str, host: &str, rest: &str) -> String {
    let address = host.parse::<IpAddr>().ok();
    if text.parse::<IpNet>().is_ok_and(|net| net.addr() == net.network()) {
        return format!("{text:?} is a prefix, and a flow is of one host: write its address");
    }
    match (address, rest.parse::<u16>()) {
        (Some(IpAddr::V6(host)), Ok(number)) => {
            format!("{text:?} is no end of a flow: for a port, write [{host}]:{number}")
        }
        (_, Ok(number)) => {
            format!("{text:?} is no end of a flow: for a port, write {host}:{number}")
        }
        _ => format!("{text:?} is no host: write HOST:PORT, without a path"),
    }
}

/// Returns the remark for an address of IPv6 whose last group may have been meant as a port.
fn note(text: &str, address: Ipv6Addr) -> Option<String> {
    let (host, last) = text.rsplit_once(':')?;
    let host: Ipv6Addr = host.parse().ok()?;
    last.parse::<u16>().ok()?;
    Some(format!("{address} is taken as an address alone; with a port, it is [{host}]:{last}"))
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text:?} is no port: write 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(text: &str) -> Result<(String, Option<u16>), String> {
        read("DST", text).map(|end| (end.host, end.port))
    }

    #[test]
    fn ends_are_written_in_many_ways() {
        for (text, host, port) in [
            ("10.0.0.5", "10.0.0.5", None),
            ("10.0.0.5:40000", "10.0.0.5", Some(40_000)),
            ("fd77::5", "fd77::5", None),
            ("[fd77::5]", "fd77::5", None),
            ("[fd77::5]:53", "fd77::5", Some(53)),
            ("example.com:443", "example.com", Some(443)),
            ("https://www.bb.com.br/", "www.bb.com.br", Some(443)),
            ("HTTP://user:x@example.com:8080/a?b#c", "example.com", Some(8080)),
            ("http://[2001:db8::1]/", "2001:db8::1", Some(80)),
            ("2001:db8::7:443", "2001:db8::7:443", None),
        ] {
            assert_eq!(end(text), Ok((host.to_owned(), port)), "{text}");
        }
        let note = read("DST", "2001:db8::7:443").expect("an address").note.expect("a note");
        assert!(note.contains("[2001:db8::7]:443"), "{note}");
        assert_eq!(read("DST", "fd77::5").expect("an address").note, None);
    }

    #[test]
    fn what_is_no_end_says_what_to_write() {
        for (text, said) in [
            ("", "DST is empty"),
            ("198.51.100.7/443", "write 198.51.100.7:443"),
            ("2001:db8::7/443", "write [2001:db8::7]:443"),
            ("10.77.0.0/24", "is a prefix"),
            ("2001:db8::/32", "is a prefix"),
            ("fe80::1%eth0", "has a zone"),
            ("example.com/login", "write HOST:PORT, without a path"),
            ("198.51.100.7:0", "\"0\" is no port: write 1 to 65535"),
            ("198.51.100.7:http", "write 1 to 65535"),
            ("2001:db8:0:0:0:0:0:7:443", "write [2001:db8:0:0:0:0:0:7]:PORT"),
            ("[2001:db8::1", "`]` is missing"),
            ("[2001:db8::1]443", "write [2001:db8::1]:PORT"),
            ("gopher://example.com/", "write example.com:PORT"),
            ("https:///x", "no host"),
            (":443", "no host"),
        ] {
            let error = end(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_address_with_a_port_is_read(address: IpAddr, number in 1..=u16::MAX) {
            let text = std::net::SocketAddr::new(address, number).to_string();
            prop_assert_eq!(end(&text), Ok((address.to_string(), Some(number))));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*|[a-z0-9:/\\[\\].@]{0,20}") {
            let _ = read("DST", &text);
        }
    }
}
