//! Keys of other tools, and what they are called here: mwan3, VyOS, pfSense, netplan, iptables,
//! keepalived and the like.

use toml::de::DeValue;

use super::key::Keys;
use crate::config::keys;

/// A key that was meant by another name.
pub(in crate::config) struct Meant {
    /// The key.
    pub(in crate::config) key: &'static str,
    /// Advice, if it is more than the name of the key.
    pub(in crate::config) help: Option<String>,
}

/// Words of others in a section: the section, the words, the key, and what to write if it is more
/// than the key's name.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str);

/// Names are compared without case, hyphens and underscores.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("", &["uplinks", "wan", "wans", "link", "links", "isp", "provider", "providers", "interfaces",
        "interface", "ethernets", "gateways"], "uplink",
        "write a section for each uplink, like [uplink.fiber], and in it interface = \"eth0\""),
    ("", &["member", "members", "policy", "policies", "group", "groups"], "uplink",
        "shares and order are `weight` and `tier` of [uplink.NAME]; uplinks of some flows are `use` of \
         a [[rule]]"),
    ("", &["rules", "route", "routes", "firewallrule"], "rule",
        "write each rule as [[rule]], with match = { .. } and use = \"fiber\""),
    ("", &["health", "check", "checks", "monitor", "healthcheck", "probes", "ping"], "probe", ""),
    ("", &["loadbalancing", "loadbalance", "balancing"], "balance",
        "weights are keys of [uplink.NAME]; [balance] has only `adaptive`"),
    ("", &["hook", "scripts", "script"], "hooks", ""),
    ("", &["notification", "notifications", "mail", "email", "smtp", "alert", "alerts", "webhook",
        "webhooks", "telegram", "receiver", "receivers"], "notify",
        "write a section for each receiver, like [notify.admin], with url = \"https://..\" or \
         server = \"smtps://mail.example.com\""),
    ("", &["global", "globals", "general", "settings", "main", "mark", "table"], "kernel",
        "numbers of marks, tables and rules are in [kernel]"),
    ("", &["snat", "masquerade"], "nat", "masquerading is the default; exemptions are in [nat]"),
    ("", &["network", "networks", "inside", "internal"], "lan", ""),
    ("", &["offload", "fastpath", "flowtable", "flowoffload"], "accelerate", ""),
    ("", &["persistence", "affinity", "session", "sessions"], "sticky", ""),
    ("", &["dnsmasq", "resolver", "resolvers"], "dns", ""),
    ("lan", &["interface", "iface", "ifaces", "ifname", "device", "devices", "dev", "bridge",
        "inboundinterface"], "interfaces", "write a list, like interfaces = [\"br-lan\"]"),
    ("lan", &["network", "networks", "subnet", "subnets", "address", "addresses", "prefix"],
        "interfaces", "interfaces decide what the LAN is: write interfaces = [\"br-lan\"]"),
    ("uplink.NAME", &["iface", "ifname", "dev", "device", "interfaces", "nic", "port", "link",
        "physif"], "interface", "write one name, like interface = \"eth0\""),
    ("uplink.NAME", &["metric", "priority", "preference", "order", "rank", "distance", "level"], "tier",
        "the lowest `tier` that is usable takes new flows: write tier = 1 for the first choice"),
    ("uplink.NAME", &["gateway4", "gateway6", "gw", "nexthop", "router", "gatewayip", "routes", "via",
        "defaultgateway"], "gateway",
        "write gateway = \"192.0.2.1\", or gateway = { ipv4 = \"192.0.2.1\", ipv6 = \"auto\" }"),
    ("uplink.NAME", &["ratio", "share", "percent", "percentage"], "weight", ""),
    ("uplink.NAME", &["bandwidth", "speed", "rate", "download", "upload", "down", "up", "bw"],
        "capacity", "write capacity = { down = \"100mbit\", up = \"20mbit\" }"),
    ("uplink.NAME", &["track", "trackip", "trackips", "target", "targets", "check", "checks",
        "monitor", "monitorip", "ping", "host", "hosts", "test", "health", "healthcheck", "interval",
        "timeout", "failurecount", "successcount", "quorum", "reliability", "hold", "holdmax",
        "limits", "ondegraded", "probes", "count"], "probe",
        "keys of probes stand in `probe`, like probe = { targets = [\"1.1.1.1\"], interval = \"1s\" }"),
    ("uplink.NAME", &["masquerade", "snat", "natoutbound"], "nat", ""),
    ("uplink.NAME", &["dns", "nameserver", "nameservers", "dnsservers", "resolver"], "resolvers", ""),
    ("uplink.NAME", &["mss", "clampmss", "tcpmss"], "mtu",
        "the TCP MSS follows from it: write mtu = 1492"),
    ("uplink.NAME", &["flushconntrack", "flush", "killstates"], "on_down", ""),
    ("uplink.NAME", &["failback", "preempt"], "on_up", ""),
    ("uplink.NAME", &["offload", "fastpath"], "accelerate", ""),
    ("uplink.NAME", &["vip", "virtualipaddress", "virtualaddress"], "virtual_addresses", ""),
    ("uplink.NAME", &["publicip", "subnet", "subnets", "prefixes"], "prefix", ""),
    ("probe", &["target", "track", "trackip", "trackips", "host", "hosts", "ping", "monitorip",
        "url", "server", "servers"], "targets", "write a list, like targets = [\"1.1.1.1\"]"),
    ("probe", &["down", "failures", "fails", "failure", "fall", "failcount", "count", "retries"],
        "failure_count", ""),
    ("probe", &["up", "success", "successes", "rise", "recovery", "recoveries"], "success_count", ""),
    ("probe", &["reliability", "needed", "minimum"], "quorum", ""),
    ("probe", &["frequency", "every", "period", "delay"], "interval", ""),
    ("probe", &["damping", "dampening", "wait", "recoveryinterval"], "hold", ""),
    ("probe", &["loss", "latency", "jitter", "maxlatency", "maxloss", "failureloss",
        "failurelatency", "losslow", "losshigh", "latencyhigh", "checkquality"], "limits",
        "limits of quality stand in `limits`, like limits = { loss = \"5%\", latency = \"300ms\" }"),
    ("probe.limits", &["packetloss", "failureloss", "maxloss", "losshigh"], "loss", ""),
    ("probe.limits", &["rtt", "delay", "failurelatency", "maxlatency", "latencyhigh"], "latency", ""),
    ("rule", &["source", "destination", "domain", "protocol", "sport", "dport", "dscp", "interface",
        "vlan", "mac", "src", "dst", "srcip", "dstip", "destip", "saddr", "daddr", "from", "to",
        "proto", "ports", "port", "dports", "srcport", "dstport", "destport", "sourceport",
        "destinationport", "host", "hosts", "domains", "iface", "ipset", "inboundinterface",
        "matches", "when", "filter", "sourceaddress", "destinationaddress"], "match",
        "conditions stand in `match`, like match = { source = \"192.168.1.0/24\", dport = 443 }"),
    ("rule", &["uplink", "uplinks", "via", "gateway", "policy", "usepolicy", "out", "outbound", "wan",
        "members", "member", "interfaces", "table", "target", "lookup"], "use",
        "write use = \"fiber\", or a list in order of preference, like use = [\"fiber\", \"cable\"]"),
    ("rule", &["fallback", "lastresort", "action", "elsedo", "default", "failover"], "otherwise", ""),
    ("rule", &["persistent", "persistence", "timeout", "affinity", "session"], "sticky",
        "write sticky = { by = \"src\", idle = \"10m\" }"),
    ("rule.match", &["ports", "port", "dports", "dstport", "destport", "destinationport",
        "destinationports", "dstports", "destports", "tcpport", "udpport"], "dport", ""),
    ("rule.match", &["sports", "srcport", "sourceport", "sourceports", "srcports"], "sport", ""),
    ("rule.match", &["src", "srcip", "saddr", "from", "sourceip", "sourceaddress", "sources",
        "client", "clients"], "source", ""),
    ("rule.match", &["dst", "dest", "dstip", "destip", "daddr", "to", "destinationip",
        "destinationaddress", "destinations", "ipset"], "destination", ""),
    ("rule.match", &["proto", "protocols", "l4proto", "ipprotocol"], "protocol", ""),
    ("rule.match", &["host", "hostname", "hosts", "fqdn", "domains", "name", "url", "site"],
        "domain", ""),
    ("rule.match", &["iface", "iif", "iifname", "dev", "device", "ininterface", "interfaces",
        "inboundinterface", "srciface", "zone"], "interface", ""),
    ("rule.match", &["tos", "dscpclass", "trafficclass"], "dscp", ""),
    ("rule.match", &["vlanid", "vid", "vlans", "tag"], "vlan", ""),
    ("rule.match", &["srcmac", "macaddress", "sourcemac", "macs", "hwaddr", "ethersaddr"], "mac", ""),
    ("rule.sticky", &["timeout", "time", "ttl"], "idle", ""),
    ("sticky", &["port", "dport", "dports"], "ports", "write a list, like ports = [443]"),
    ("sticky", &["timeout", "time", "ttl"], "idle", ""),
    ("nat", &["exclude", "excludes", "exempts", "except", "nonat"], "exempt", ""),
    ("nat.exempt", &["src", "saddr", "from", "sourceaddress"], "source", ""),
    ("nat.exempt", &["dst", "dest", "daddr", "to", "destinationaddress"], "destination", ""),
    ("nat.exempt", &["interface", "outboundinterface", "oif", "via", "uplinks"], "uplink",
        "write the name of the uplink, not of its interface"),
    ("hooks", &["onevent", "ondown", "onup", "onfailover", "script", "exec", "command", "program",
        "notify", "hook", "run"], "on_change",
        "one program is run for each event: write on_change = [\"/usr/local/bin/notify\"]"),
    ("notify.NAME", &["webhook", "uri", "endpoint", "link", "hook"], "url", ""),
    ("notify.NAME", &["host", "smtp", "mailserver", "relay", "smtpserver", "smarthost"], "server",
        "write server = \"smtps://mail.example.com\""),
    ("notify.NAME", &["mail", "email", "recipient", "recipients", "rcpt"], "to", ""),
    ("notify.NAME", &["sender", "mailfrom"], "from", ""),
    ("notify.NAME", &["username", "login"], "user", ""),
    ("notify.NAME", &["password", "pass", "secret"], "password_file",
        "secrets are not in this file: write it into one that only root may read, and name that: \
         password_file = \"/etc/linkbal/mail-password\""),
    ("notify.NAME", &["token", "apikey", "key", "bearer"], "token_file",
        "secrets are not in this file: write it into one that only root may read, and name that: \
         token_file = \"/etc/linkbal/token-of-chat\""),
    ("notify.NAME", &["body", "payload", "message", "json", "format", "data"], "template", ""),
    ("notify.NAME", &["header"], "headers", ""),
    ("notify.NAME", &["event", "kinds", "severity", "on"], "events", ""),
    ("notify.NAME", &["ratelimit", "rate", "max", "perhour"], "limit", ""),
    ("notify.NAME", &["delay", "wait", "summaryafter", "group", "collect"], "gather", ""),
    ("notify.NAME", &["starttls", "ssl", "encryption", "security"], "tls", ""),
    ("dns", &["servers", "server", "nameserver", "nameservers", "resolver"], "resolvers", ""),
    ("kernel", &["mark", "markmask", "fwmark", "mmxmask", "mask"], "fwmark_mask", ""),
    ("kernel", &["table", "tables", "firsttable", "routingtable"], "table_base", ""),
    ("kernel", &["priority", "pref", "rulepref", "rulebase"], "rule_priority", ""),
    ("kernel", &["maxflows", "conntrackmax", "flowtable", "flows"], "flow_table_size", ""),
    ("kernel", &["seed", "hashseed", "seedfile"], "hash_seed_file", ""),
    ("accelerate", &["offload", "type", "method"], "mode", ""),
    ("accelerate", &["exclude", "excludes"], "except", ""),
    ("firewall", &["input", "incoming", "policy", "zone"], "inbound", ""),
    ("bond.NAME", &["slaves", "interfaces", "ports", "slave", "bondslaves"], "members", ""),
    ("bond.NAME", &["miimonitorinterval", "mii", "bondmiimon"], "miimon", ""),
    ("bond.NAME", &["bondmode"], "mode", ""),
    ("bond.NAME", &["arpiptarget", "arptarget", "arptargets"], "arp_ip_targets", ""),
    ("bond.NAME", &["transmithashpolicy", "hashpolicy"], "xmit_hash_policy", ""),
    ("bond.NAME", &["address", "ip", "ipaddr"], "addresses",
        "write a list, like addresses = [\"192.0.2.2/30\"]"),
    ("bond.NAME", &["hwaddr", "macaddress"], "mac", ""),
];

/// Longest value that advice repeats, in bytes.
const OWN_LENGTH: usize = 60;

/// Keys whose values are tables in which a word of others may stand: the section, the key, and what
/// is in the table.
static NESTED: [(&str, &str, &Keys); 3] = [
    ("uplink.NAME", "probe", &keys::probe::KEYS),
    ("rule", "match", &keys::matches::KEYS),
    ("probe", "limits", &keys::limits::KEYS),
];

/// Words that have no counterpart, whatever section they are in, and what to do instead.
const NOWHERE: &[(&[&str], &str)] = &[
    (
        &["name", "description", "comment", "title", "label", "remark"],
        "write it as a comment: # ..",
    ),
    (
        &["enabled", "enable", "disabled", "disable", "active", "status"],
        "leave it out, or put # before its lines; `linkbal disable NAME` takes an uplink out of use",
    ),
    (
        &[
            "proto",
            "dhcp",
            "dhcp4",
            "dhcp6",
            "method",
            "ipaddr",
            "netmask",
            "address",
            "addresses",
            "username",
            "password",
        ],
        "linkbal sets up no interfaces: addresses are the business of ifupdown, netplan, \
         systemd-networkd, pppd or the DHCP client",
    ),
];

/// Returns what a key that is unknown in a section was meant to be, if `known` has it.
pub(in crate::config) fn meant(path: &str, name: &str, known: &[&'static str]) -> Option<Meant> {
    let bare = bare(name);
    if let Some(key) = known.iter().find(|known| self::bare(known) == bare) {
        let help = Some(format!("write `{key}`: in lower case, with `_`"));
        return Some(Meant { key, help });
    }
    let row = ROWS.iter().find(|(of, names, ..)| *of == path && names.contains(&&*bare))?;
    let (_, _, key, help) = *row;
    Some(Meant { key, help: (!help.is_empty()).then(|| help.to_owned()) })
}

/// Returns the line to write for a value that the user gave to a key of another name, where its
/// advice has an example of the same kind: `help` is that advice.
pub(in crate::config) fn own_line(
    path: &str,
    name: &str,
    key: &str,
    help: Option<&str>,
    value: &DeValue<'_>,
    raw: &str,
) -> Option<String> {
    let help = help.filter(|_| raw.len() <= OWN_LENGTH && !raw.contains('\n'))?;
    let mark = format!("{key} = ");
    let (before, example) = help.split_once(&mark)?;
    if let Some((.., inner)) = NESTED.iter().find(|(of, at, _)| (*of, *at) == (path, key)) {
        let known: Vec<&str> = inner.all.iter().map(|key| key.name()).collect();
        let same = known.iter().find(|known| bare(known) == bare(name)).copied();
        let inner = same.or_else(|| meant(inner.path, name, &[]).map(|meant| meant.key))?;
        let is_list = inner == "targets" && !matches!(value, DeValue::Array(_));
        let own = if is_list { format!("[{raw}]") } else { raw.to_owned() };
        return Some(format!("{before}{mark}{{ {inner} = {own} }}"));
    }
    let own = match (example.chars().next()?, value) {
        ('"', DeValue::String(_)) | ('[', DeValue::Array(_)) => raw.to_owned(),
        ('[', DeValue::String(_)) => format!("[{raw}]"),
        _ => return None,
    };
    let says_so = ["write ", "write one name, like ", "write a list, like "].contains(&before);
    says_so.then(|| format!("write {key} = {own}"))
}

/// Returns what to do with a key that has no counterpart.
pub(in crate::config) fn nowhere(name: &str) -> Option<&'static str> {
    let bare = bare(name);
    NOWHERE.iter().find(|(names, _)| names.contains(&&*bare)).map(|(_, help)| *help)
}

fn bare(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::ALL;

    #[test]
    fn every_row_leads_from_an_unknown_word_to_a_key() {
        for (path, names, key, _) in ROWS {
            let keys = ALL.iter().find(|keys| keys.path == *path).expect("a section");
            let known: Vec<&str> = keys.all.iter().map(|key| key.name()).collect();
            assert!(known.contains(key), "{path}: {key}");
            for name in *names {
                assert_eq!(bare(name), *name, "{path}");
                assert!(known.iter().all(|known| bare(known) != *name), "{path}: {name} is a key");
                let found = meant(path, name, &known).expect("a counterpart");
                assert_eq!(found.key, *key, "{path}: {name} stands twice");
            }
        }
    }
}
