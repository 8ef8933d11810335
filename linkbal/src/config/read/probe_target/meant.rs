//! Targets that were written in another way: what was probably meant.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::read::target;
use crate::{
    config::{Target, diagnostics::problem::Fault},
    protocol::port,
};

/// Schemes of targets, with those of others that mean the same.
const SCHEMES: [(&str, &[&str]); 5] = [
    ("tcp", &["tcp", "tls", "ssl"]),
    ("dns", &["dns", "udp", "domain"]),
    ("ntp", &["ntp"]),
    ("http", &["http"]),
    ("https", &["https"]),
];

/// Schemes of others for an echo request.
const ECHO: [&str; 4] = ["ping", "icmp", "icmpv6", "ping6"];

/// Parses a target, and advises what was probably meant by another text.
pub(in crate::config) fn advised(value: &DeValue<'_>) -> Result<Target, Fault> {
    target(value).map_err(|fault| match value.as_str().and_then(meant) {
        Some(help) => Fault::new(fault.message, help),
        None => fault,
    })
}

/// Returns advice for a text that is no target; `None` if nothing is known.
fn meant(text: &str) -> Option<String> {
    let proposed = proposals(text.trim()).into_iter().filter(|text| is_target(text));
    let proposed: Vec<String> = proposed.map(|text| format!("{text:?}")).collect();
    (!proposed.is_empty()).then(|| format!("write {}", proposed.join(" or ")))
}

fn is_target(text: &str) -> bool {
    target(&DeValue::String(text.into())).is_ok()
}

fn proposals(text: &str) -> Vec<String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let server = match address.port() {
            port::DNS => format!("dns://{}", bare(address.ip())),
            _ => format!("dns://{address}"),
        };
        return vec![format!("tcp://{address}"), server];
    }
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = unbracketed {
        return vec![address.to_owned()];
    }
    let Some((scheme, rest)) = scheme(text) else { return Vec::new() };
    let scheme = scheme.to_ascii_lowercase();
    if ECHO.contains(&&*scheme) {
        let host = rest.trim_end_matches('/');
        return vec![host.trim_matches(['[', ']']).to_owned()];
    }
    let known = SCHEMES.iter().find(|(_, names)| names.contains(&&*scheme));
    known.map(|(name, _)| with_scheme(name, rest)).into_iter().collect()
}

/// Returns a target of a kind; an address of IPv6 stands in brackets there.
fn with_scheme(name: &str, rest: &str) -> String {
    match rest.parse::<IpAddr>() {
        Ok(address) => format!("{name}://{}", bare(address)),
        Err(_) => format!("{name}://{rest}"),
    }
}

fn bare(address: IpAddr) -> String {
    crate::config::Host::Address(address).to_string()
}

/// Splits what stands before and behind a mark like `://`, whatever part of it is missing.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let at = text.find([':', '/'])?;
    let (scheme, rest) = text.split_at(at);
    // Nothing stands where the host should, in http:///path.
    let rest = Some(rest).filter(|rest| !rest.starts_with(":///"))?;
    let rest = rest.trim_start_matches([':', '/']);
    let word = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric());
    (word && scheme.starts_with(|c: char| c.is_ascii_alphabetic())).then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_spellings_become_targets() {
        for (text, help) in [
            ("http:/x", "\"http://x\""),
            ("http:example.com/alive", "\"http://example.com/alive\""),
            ("HTTPS://example.com/", "\"https://example.com/\""),
            ("dns:8.8.8.8", "\"dns://8.8.8.8\""),
            ("dns://2620:fe::fe", "\"dns://[2620:fe::fe]\""),
            ("udp://8.8.8.8:53", "\"dns://8.8.8.8:53\""),
            ("tcp:1.1.1.1:443", "\"tcp://1.1.1.1:443\""),
            ("ntp:192.0.2.1", "\"ntp://192.0.2.1\""),
            ("8.8.8.8:53", "\"tcp://8.8.8.8:53\" or \"dns://8.8.8.8\""),
            ("[2620:fe::fe]:853", "\"tcp://[2620:fe::fe]:853\" or \"dns://[2620:fe::fe]:853\""),
            ("ping://8.8.8.8", "\"8.8.8.8\""),
            ("icmp:8.8.8.8", "\"8.8.8.8\""),
            ("icmp://[2620:fe::fe]/", "\"2620:fe::fe\""),
            ("[2620:fe::fe]", "\"2620:fe::fe\""),
        ] {
            assert_eq!(meant(text).as_deref(), Some(&*format!("write {help}")), "{text}");
        }
        for text in [
            "",
            "dns.google",
            "1.1.1.256",
            "tcp://1.1.1.1",
            "8.8.8.8:0",
            "ftp://x",
            "://",
            "http:///x",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-z]{0,4}[:/]{0,3}[0-9a-f.:\\[\\]/]{0,20}|\\PC*") {
            meant(&text);
        }
    }
}
