//! Keywords of `ip`, of which many may be cut short, as iproute2 reads them.

/// Words of a route that have a value and may be cut short, the first of which counts.
const ROUTE_SHORT: [&str; 7] =
    ["dsfield", "expires", "metric", "priority", "realms", "protocol", "table"];

/// Words of a route that have a value.
const ROUTE: [&str; 15] = [
    "via",
    "from",
    "dev",
    "oif",
    "src",
    "as",
    "tos",
    "scope",
    "preference",
    "pref",
    "proto",
    "weight",
    "mtu",
    "nhid",
    "vrf",
];

/// Further ones, which say how connections by the route behave.
pub(super) const TUNING: [&str; 14] = [
    "advmss",
    "hoplimit",
    "reordering",
    "rtt",
    "rttvar",
    "window",
    "cwnd",
    "initcwnd",
    "initrwnd",
    "ssthresh",
    "features",
    "quickack",
    "congctl",
    "rto_min",
];

/// Words of an ip rule that may be cut short, the first of which counts.
const RULE_SHORT: [&str; 7] =
    ["preference", "order", "priority", "dsfield", "realms", "protocol", "table"];

/// Words of an ip rule that have a value.
const RULE: [&str; 18] = [
    "from",
    "to",
    "tos",
    "fwmark",
    "lookup",
    "suppress_prefixlength",
    "suppress_ifgroup",
    "dev",
    "iif",
    "oif",
    "uidrange",
    "ipproto",
    "sport",
    "dport",
    "goto",
    "tun_id",
    "nat",
    "map-to",
];

/// Types of routes.
const TYPES: [&str; 11] = [
    "unicast",
    "local",
    "broadcast",
    "multicast",
    "anycast",
    "throw",
    "unreachable",
    "blackhole",
    "prohibit",
    "nat",
    "xresolve",
];

/// A route as `ip route` takes it, in any order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// Empty if none is said.
    pub(super) kind: &'a str,
    /// Empty if none is said.
    pub(super) destination: &'a str,
    /// The words with their values.
    pub(super) pairs: Vec<(&'a str, &'a str)>,
    /// The same for each next hop, if it has several.
    pub(super) hops: Vec<Vec<(&'a str, &'a str)>>,
}

/// Reads the words of a route.
pub(super) fn route<'a>(words: &[&'a str]) -> Route<'a> {
    let mut route = Route::default();
    let mut parts = words.split(|word| *word == "nexthop");
    if let Some(own) = parts.next() {
        route.pairs = pairs(own, &mut route.kind, &mut route.destination);
    }
    let (mut kind, mut destination) = ("", "");
    route.hops = parts.map(|hop| pairs(hop, &mut kind, &mut destination)).collect();
    route
}

/// Returns words with their values; what is left is the type and the destination.
fn pairs<'a>(
    words: &[&'a str],
    kind: &mut &'a str,
    destination: &mut &'a str,
) -> Vec<(&'a str, &'a str)> {
    const FLAGS: [&str; 4] = ["onlink", "equalize", "pervasive", "offload"];
    // Words before a value that say more about it.
    const BEFORE: [&str; 3] = ["inet", "inet6", "lock"];
    let mut pairs = Vec::new();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        if let Some(key) = of_route(word) {
            words.next_if(|value| BEFORE.contains(value));
            pairs.push((key, words.next().unwrap_or_default()));
        } else if word == "to" {
            *destination = words.next().unwrap_or_default();
        } else if destination.is_empty() && TYPES.contains(&word) {
            *kind = word;
        } else if destination.is_empty() && !FLAGS.contains(&word) {
            *destination = word;
        }
    }
    pairs
}

/// Returns the value of a word.
pub(super) fn value<'a>(pairs: &[(&'a str, &'a str)], keys: &[&str]) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| keys.contains(key)).map(|(_, value)| *value)
}

fn of_route(word: &str) -> Option<&'static str> {
    keyword(word, &ROUTE, &ROUTE_SHORT).or_else(|| keyword(word, &TUNING, &[]))
}

/// Returns the whole word of an ip rule's.
pub(super) fn of_rule(word: &str) -> Option<&'static str> {
    keyword(word, &RULE, &RULE_SHORT)
}

/// Returns the value of the table in words of a route or an ip rule.
pub(super) fn table<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut pairs = words.iter().zip(words.iter().skip(1));
    let is_table = |word: &str| matches!(of_rule(word), Some("table" | "lookup"));
    pairs.find(|(key, _)| is_table(key)).map(|(_, value)| *value)
}

fn keyword(word: &str, whole: &[&'static str], short: &[&'static str]) -> Option<&'static str> {
    let exact = whole.iter().chain(short).find(|key| **key == word);
    let cut = || short.iter().find(|key| !word.is_empty() && key.starts_with(word));
    exact.or_else(cut).copied()
}

/// Returns a destination with the parts of its address that `ip` lets be left out: `10/8`.
pub(super) fn whole_address(text: &str) -> String {
    let Some((address, length)) = text.split_once('/') else { return text.to_owned() };
    let parts = address.split('.').count();
    if parts > 3 || !address.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return text.to_owned();
    }
    format!("{address}{}/{length}", ".0".repeat(4_usize.saturating_sub(parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_cut_short_are_those_of_iproute2() {
        for word in ["t", "ta", "tab", "tabl", "table"] {
            assert_eq!((of_route(word), of_rule(word)), (Some("table"), Some("table")), "{word}");
        }
        let of_rules = ["p", "pre", "pri", "prio", "o", "lookup", "fwmark"].map(of_rule);
        let expected =
            ["preference", "preference", "priority", "priority", "order", "lookup", "fwmark"];
        assert_eq!(of_rules, expected.map(Some));
        assert_eq!(["look", "fr", "", "x"].map(of_rule), [None; 4]);
        assert_eq!(["metr", "proto"].map(of_route), [Some("metric"), Some("proto")]);
    }

    #[test]
    fn the_destination_is_what_is_left() {
        for text in [
            "table 10 10.9.0.0/16 dev eth2 mtu lock 1400",
            "dev eth2 table 10 mtu 1400 to 10.9.0.0/16",
            "10.9.0.0/16 dev eth2 t 10 mtu 1400 onlink",
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            let route = route(&words);
            assert_eq!(route.destination, "10.9.0.0/16", "{text}");
            let of = |key| value(&route.pairs, &[key]);
            assert_eq!(
                (of("dev"), of("table"), of("mtu")),
                (Some("eth2"), Some("10"), Some("1400"))
            );
        }
        let local = route(&["local", "0.0.0.0/0", "dev", "lo"]);
        assert_eq!((local.kind, local.destination), ("local", "0.0.0.0/0"));
        assert_eq!(whole_address("10/8"), "10.0.0.0/8");
        assert_eq!(whole_address("192.168/16"), "192.168.0.0/16");
    }
}
