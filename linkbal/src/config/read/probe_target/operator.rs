//! Operators of targets: targets of one operator fail together.

use std::net::IpAddr;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use crate::config::{Host, Target};

/// Public resolvers that are widely known, as published by their operators.
const RESOLVERS: [(&str, &[&str]); 4] = [
    ("Cloudflare", &["1.1.1.1/32", "1.0.0.1/32", "2606:4700:4700::/48"]),
    ("Google", &["8.8.8.8/32", "8.8.4.4/32", "2001:4860:4860::/48"]),
    ("Quad9", &["9.9.9.9/32", "149.112.112.112/32", "2620:fe::/48"]),
    ("OpenDNS", &["208.67.222.222/32", "208.67.220.220/32", "2620:119::/32"]),
];

/// Second-level domains of countries under which names are registered.
const SECOND_LEVELS: [&str; 8] = ["ac", "co", "com", "edu", "gov", "net", "org", "or"];

/// Returns the one operator that runs all targets which judge `family`, if it is known.
pub(in crate::config) fn only_operator(targets: &[Target], family: Family) -> Option<String> {
    let mut operators = targets.iter().filter(|target| target.judges(family)).map(operator);
    let first = operators.next()??;
    operators.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

fn operator(target: &Target) -> Option<String> {
    if let Target::Http(target) = target
        && let Host::Name(name) = &target.host
    {
        return Some(registrable(name).to_owned());
    }
    resolver(target.address()?).map(str::to_owned)
}

fn resolver(address: IpAddr) -> Option<&'static str> {
    let runs = |prefixes: &&[&str]| {
        let nets = prefixes.iter().map(|prefix| prefix.parse::<IpNet>().expect("a prefix"));
        nets.into_iter().any(|net| net.contains(&address))
    };
    RESOLVERS.iter().find(|(_, prefixes)| runs(prefixes)).map(|(name, _)| *name)
}

/// Returns the registered part of a name, as far as its form tells: `example.com`, `example.co.uk`.
fn registrable(name: &str) -> &str {
    let mut labels = name.rsplit('.');
    let top = labels.next().unwrap_or_default();
    let second = labels.next().unwrap_or_default();
    let inner = if top.len() == 2 && SECOND_LEVELS.contains(&second) { 2 } else { 1 };
    let start = name.rmatch_indices('.').nth(inner);
    start.and_then(|(at, dot)| name.get(at..)?.strip_prefix(dot)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_registered() {
        for (name, part) in [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("www.example.co.uk", "example.co.uk"),
            ("example.co.uk", "example.co.uk"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registrable(name), part);
        }
    }

    #[test]
    fn the_resolvers_are_known() {
        let known = |text: &str| resolver(text.parse().expect("an address"));
        assert_eq!(known("8.8.4.4"), Some("Google"));
        assert_eq!(known("2620:fe::9"), Some("Quad9"));
        assert_eq!(known("8.8.4.5"), None);
    }
}
