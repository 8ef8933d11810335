//! The gateways that are compared, each by everything that makes it one.
//!
//! Every gateway has the interface `lan` with 10.0.0.1/16 and fd00::1/64, and uplinks `wan1` to
//! `wanN` with 198.51.N.2/24 and 2001:db8:N::2/64, whose routers are .1 and ::1.

use serde_json::{Value, json};

/// Name of the contender that ratios are relative to, for each family.
pub(super) const MASQUERADE: &str = "masquerade";
pub(super) const MASQUERADE_IPV6: &str = "masquerade-ipv6";
/// Prefix of the names of what the baseline is about.
pub(super) const LINKBAL: &str = "linkbal";

/// A gateway.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    ipv6: bool,
    /// Number of uplinks.
    uplinks: usize,
    /// The UDP port that flows go to.
    port: u16,
    /// Set if clients keep their addresses.
    untranslated: bool,
    /// Set if its interfaces have drivers, and far ends; without linkbal, a program there forwards.
    drivers: bool,
    /// Numbers of the uplinks that flows must use.
    used: Vec<usize>,
    sysctls: &'static [(&'static str, &'static str)],
    /// Arguments of `ip`, one command a line.
    ip: &'static str,
    /// A script for nft.
    nft: &'static str,
    /// Commands of a shell.
    shell: &'static str,
    /// A configuration of linkbal.
    linkbal: Option<String>,
}

impl Contender {
    pub(super) fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Returns the description that the guest reads.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "family": if self.ipv6 { "ipv6" } else { "ipv4" },
            "uplinks": self.uplinks,
            "port": self.port,
            "untranslated": self.untranslated,
            "drivers": self.drivers,
            "used": self.used,
            "sysctls": self.sysctls,
            "ip": self.ip,
            "nft": self.nft,
            "shell": self.shell,
            "linkbal": self.linkbal,
        })
    }
}

/// A port that is in no class of sticky connections.
const PORT: u16 = 4433;
const HTTPS: u16 = 443;

const FORWARD: &[(&str, &str)] = &[("net.ipv4.ip_forward", "1")];
const FORWARD_IPV6: &[(&str, &str)] = &[("net.ipv6.conf.all.forwarding", "1")];
const MULTIPATH: &[(&str, &str)] =
    &[("net.ipv4.ip_forward", "1"), ("net.ipv4.fib_multipath_hash_policy", "1")];

const ONE_UPLINK: &str = "route add default via 198.51.1.1 dev wan1\n";

const MASQUERADE_ONE: &str = r#"
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan1" masquerade
    }
}
"#;

const MASQUERADE_TWO: &str = r#"
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname { "wan1", "wan2" } masquerade
    }
}
"#;

const FLOWTABLE: &str = r#"
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan1" masquerade
    }
}
table inet fastpath {
    flowtable fast {
        hook ingress priority filter; devices = { "lan", "wan1" };
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        meta l4proto { tcp, udp } flow add @fast
    }
}
"#;

const ECMP: &str = "route add default nexthop via 198.51.1.1 dev wan1 \
                    nexthop via 198.51.2.1 dev wan2\n";

const RESILIENT: &str = "\
nexthop add id 1 via 198.51.1.1 dev wan1
nexthop add id 2 via 198.51.2.1 dev wan2
nexthop add id 10 group 1/2 type resilient buckets 64
route add default nhid 10
";

/// One mark for each uplink, which a hash chooses for new connections.
const JHASH: &str = r#"
table ip balance {
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        iifname != "lan" accept
        ct mark != 0 meta mark set ct mark accept
        meta mark set jhash ip saddr . ip daddr . th sport . th dport mod 2 seed 42 map { 0 : 1, 1 : 2 }
        ct mark set meta mark
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname { "wan1", "wan2" } masquerade
    }
}
"#;

const JHASH_IP: &str = "\
route add default via 198.51.1.1 dev wan1
route add default via 198.51.1.1 dev wan1 table 101
route add default via 198.51.2.1 dev wan2 table 102
rule add pref 1001 fwmark 1 lookup 101
rule add pref 1002 fwmark 2 lookup 102
";

/// VyOS 1.5 (`nftables-wlb.j2`, `wanloadbalance.py`) with one rule for the LAN, two interfaces of
/// weight 1 and sticky connections.
const VYOS: &str = r#"
table ip vyos_wanloadbalance {
    chain wlb_nat_postrouting {
        type nat hook postrouting priority srcnat - 1; policy accept;
        ct mark 0xc9 oifname wan1 counter snat to 198.51.1.2
        ct mark 0xca oifname wan2 counter snat to 198.51.2.2
    }
    chain wlb_mangle_prerouting {
        type filter hook prerouting priority mangle; policy accept;
        iifname "wan1" ct state new ct mark set 0xc9
        iifname "wan2" ct state new ct mark set 0xca
        iifname "lan" ct state new counter numgen random mod 2 vmap { 0 : jump wlb_mangle_isp_wan1, 1 : jump wlb_mangle_isp_wan2 }
        iifname "lan" counter meta mark set ct mark
    }
    chain wlb_mangle_output {
        type filter hook output priority -150; policy accept;
    }
    chain wlb_mangle_isp_wan1 {
        meta mark set 0xc9 ct mark set 0xc9 counter accept
    }
    chain wlb_mangle_isp_wan2 {
        meta mark set 0xca ct mark set 0xca counter accept
    }
}
"#;

const VYOS_IP: &str = "\
route add default via 198.51.1.1 dev wan1
route add default via 198.51.2.1 dev wan2 metric 2
route add default via 198.51.1.1 dev wan1 table 201
route add default via 198.51.2.1 dev wan2 table 202
rule add fwmark 0xc9 table 201
rule add fwmark 0xca table 202
";

/// mwan3 2.11 of OpenWrt with its default configuration for two uplinks: a sticky rule for HTTPS
/// and a balanced rule for all else.
const MWAN3: &str = r#"
for set in custom connected dynamic; do
    ipset create mwan3_${set}_ipv4 hash:net
done
for net in 10.0.0.0/16 198.51.1.0/24 198.51.2.0/24 127.0.0.0/8 224.0.0.0/3; do
    ipset add mwan3_connected_ipv4 $net
done
ipset create mwan3_rule_ipv4_https hash:ip,mark markmask 0x3f00 timeout 600
iptables-restore --noflush <<'RULES'
*nat
-A POSTROUTING -o wan1 -j MASQUERADE
-A POSTROUTING -o wan2 -j MASQUERADE
COMMIT
*mangle
:mwan3_hook - [0:0]
:mwan3_ifaces_in - [0:0]
:mwan3_iface_in_wan - [0:0]
:mwan3_iface_in_wanb - [0:0]
:mwan3_custom_ipv4 - [0:0]
:mwan3_connected_ipv4 - [0:0]
:mwan3_dynamic_ipv4 - [0:0]
:mwan3_rules - [0:0]
:mwan3_rule_https - [0:0]
:mwan3_policy_balanced - [0:0]
-A PREROUTING -j mwan3_hook
-A OUTPUT -j mwan3_hook
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_ifaces_in
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_custom_ipv4
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_connected_ipv4
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_dynamic_ipv4
-A mwan3_hook -m mark --mark 0x0/0x3f00 -j mwan3_rules
-A mwan3_hook -j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook -m mark ! --mark 0x3f00/0x3f00 -j mwan3_custom_ipv4
-A mwan3_hook -m mark ! --mark 0x3f00/0x3f00 -j mwan3_connected_ipv4
-A mwan3_hook -m mark ! --mark 0x3f00/0x3f00 -j mwan3_dynamic_ipv4
-A mwan3_ifaces_in -m mark --mark 0x0/0x3f00 -j mwan3_iface_in_wan
-A mwan3_ifaces_in -m mark --mark 0x0/0x3f00 -j mwan3_iface_in_wanb
-A mwan3_iface_in_wan -i wan1 -m set --match-set mwan3_custom_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wan -i wan1 -m set --match-set mwan3_connected_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wan -i wan1 -m set --match-set mwan3_dynamic_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wan -i wan1 -m mark --mark 0x0/0x3f00 -m comment --comment wan -j MARK --set-xmark 0x100/0x3f00
-A mwan3_iface_in_wanb -i wan2 -m set --match-set mwan3_custom_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wanb -i wan2 -m set --match-set mwan3_connected_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wanb -i wan2 -m set --match-set mwan3_dynamic_ipv4 src -m mark --mark 0x0/0x3f00 -m comment --comment default -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_iface_in_wanb -i wan2 -m mark --mark 0x0/0x3f00 -m comment --comment wanb -j MARK --set-xmark 0x200/0x3f00
-A mwan3_custom_ipv4 -m set --match-set mwan3_custom_ipv4 dst -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_connected_ipv4 -m set --match-set mwan3_connected_ipv4 dst -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_dynamic_ipv4 -m set --match-set mwan3_dynamic_ipv4 dst -j MARK --set-xmark 0x3f00/0x3f00
-A mwan3_policy_balanced -m mark --mark 0x0/0x3f00 -m statistic --mode random --probability 0.5 -m comment --comment "wanb 1 2" -j MARK --set-xmark 0x200/0x3f00
-A mwan3_policy_balanced -m mark --mark 0x0/0x3f00 -m comment --comment "wan 1 1" -j MARK --set-xmark 0x100/0x3f00
-A mwan3_rule_https -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x200/0x3f00
-A mwan3_rule_https -m mark --mark 0x200/0x3f00 -m set ! --match-set mwan3_rule_ipv4_https src,src -j MARK --set-xmark 0x0/0x3f00
-A mwan3_rule_https -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
-A mwan3_rule_https -m mark --mark 0x100/0x3f00 -m set ! --match-set mwan3_rule_ipv4_https src,src -j MARK --set-xmark 0x0/0x3f00
-A mwan3_rule_https -m mark --mark 0x0/0x3f00 -j mwan3_policy_balanced
-A mwan3_rule_https -m mark ! --mark 0x3c00/0x3c00 -j SET --del-set mwan3_rule_ipv4_https src,src
-A mwan3_rule_https -m mark ! --mark 0x3c00/0x3c00 -j SET --add-set mwan3_rule_ipv4_https src,src
-A mwan3_rules -p tcp -m multiport --dports 443 -m mark --mark 0x0/0x3f00 -m comment --comment https -j mwan3_rule_https
-A mwan3_rules -m mark --mark 0x0/0x3f00 -m comment --comment default_rule_v4 -j mwan3_policy_balanced
COMMIT
RULES
"#;

/// Connected networks stand in each table, as mwan3rtmon copies them.
const MWAN3_IP: &str = "\
route add default via 198.51.1.1 dev wan1 metric 10
route add default via 198.51.2.1 dev wan2 metric 20
route add default via 198.51.1.1 dev wan1 table 1
route add default via 198.51.2.1 dev wan2 table 2
route add 10.0.0.0/16 dev lan table 1
route add 10.0.0.0/16 dev lan table 2
route add 198.51.1.0/24 dev wan1 table 1
route add 198.51.2.0/24 dev wan2 table 2
rule add pref 1001 iif wan1 lookup 1
rule add pref 1002 iif wan2 lookup 2
rule add pref 2001 fwmark 0x100/0x3f00 lookup 1
rule add pref 2002 fwmark 0x200/0x3f00 lookup 2
rule add pref 2061 fwmark 0x3d00/0x3f00 blackhole
rule add pref 2062 fwmark 0x3e00/0x3f00 unreachable
rule add pref 3001 fwmark 0x100/0x3f00 unreachable
rule add pref 3002 fwmark 0x200/0x3f00 unreachable
";

const ONE_UPLINK_IPV6: &str = "route add default via 2001:db8:1::1 dev wan1\n";

const MASQUERADE_ONE_IPV6: &str = r#"
table ip6 nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan1" masquerade
    }
}
"#;

/// A seed for the choice of uplinks: with one of its own, each run would share flows differently.
const SEED: &str = "umask 077\necho 00112233445566778899aabbccddeeff > /run/bench-seed\n";

/// Returns all contenders, in the order in which they are measured.
pub(super) fn all() -> Vec<Contender> {
    [others(), linkbals()].concat()
}

/// Returns the gateways without linkbal.
fn others() -> Vec<Contender> {
    let one = Contender {
        name: MASQUERADE,
        ipv6: false,
        uplinks: 1,
        port: PORT,
        untranslated: false,
        drivers: false,
        used: vec![1],
        sysctls: FORWARD,
        ip: ONE_UPLINK,
        nft: MASQUERADE_ONE,
        shell: "",
        linkbal: None,
    };
    let two = Contender { uplinks: 2, used: vec![1, 2], nft: MASQUERADE_TWO, ..one.clone() };
    vec![
        one.clone(),
        Contender { name: "plain", untranslated: true, nft: "", ..one.clone() },
        Contender { name: "plain-xdp", drivers: true, untranslated: true, nft: "", ..one.clone() },
        Contender { name: "flowtable", nft: FLOWTABLE, ..one.clone() },
        Contender { name: "ecmp", sysctls: MULTIPATH, ip: ECMP, ..two.clone() },
        Contender { name: "resilient", sysctls: MULTIPATH, ip: RESILIENT, ..two.clone() },
        Contender { name: "jhash", ip: JHASH_IP, nft: JHASH, ..two.clone() },
        Contender { name: "vyos", ip: VYOS_IP, nft: VYOS, ..two.clone() },
        Contender { name: "mwan3", ip: MWAN3_IP, nft: "", shell: MWAN3, ..two },
        Contender {
            name: MASQUERADE_IPV6,
            ipv6: true,
            sysctls: FORWARD_IPV6,
            ip: ONE_UPLINK_IPV6,
            nft: MASQUERADE_ONE_IPV6,
            ..one
        },
    ]
}

/// Returns the gateways with linkbal, which turns forwarding on itself.
fn linkbals() -> Vec<Contender> {
    let default = Contender {
        name: LINKBAL,
        ipv6: false,
        uplinks: 2,
        port: PORT,
        untranslated: false,
        drivers: false,
        used: vec![1, 2],
        sysctls: &[],
        ip: "",
        nft: "",
        shell: SEED,
        linkbal: Some(config(2, "")),
    };
    let with = |rules: &str| Some(config(2, rules));
    vec![
        default.clone(),
        Contender { name: "linkbal-https", port: HTTPS, ..default.clone() },
        Contender { name: "linkbal-100-rules", linkbal: with(&rules(100)), ..default.clone() },
        Contender { name: "linkbal-domains", linkbal: with(&domains(10)), ..default.clone() },
        Contender {
            name: "linkbal-16-uplinks",
            uplinks: 16,
            used: vec![16],
            linkbal: Some(config(16, "")),
            ..default.clone()
        },
        Contender { name: "linkbal-flowtable", linkbal: with(OFFLOAD), ..default.clone() },
        Contender { name: "linkbal-ebpf", linkbal: with(EBPF), ..default.clone() },
        Contender { name: "linkbal-ebpf-ipv6", ipv6: true, linkbal: with(EBPF), ..default.clone() },
        Contender { name: "linkbal-xdp", drivers: true, linkbal: with(XDP), ..default.clone() },
        Contender {
            name: "linkbal-xdp-ipv6",
            ipv6: true,
            drivers: true,
            linkbal: with(XDP),
            ..default.clone()
        },
        Contender { name: "linkbal-ipv6", ipv6: true, ..default },
    ]
}

/// The section that has established flows take shortcuts.
const EBPF: &str = "[accelerate]\nmode = \"ebpf\"\n";

/// The same at the drivers of interfaces.
const XDP: &str = "[accelerate]\nmode = \"xdp\"\n";
/// The section that has the kernel's flowtable forward them.
const OFFLOAD: &str = "[accelerate]\nmode = \"flowtable\"\n";

/// Returns a configuration of linkbal. Of more than two uplinks, the last one is the best.
fn config(uplinks: usize, rules: &str) -> String {
    let uplink = |number: usize| {
        let tier = if uplinks > 2 && number < uplinks { 2 } else { 1 };
        format!(
            "[uplink.isp{number}]\n\
             interface = \"wan{number}\"\n\
             gateway = {{ ipv4 = \"198.51.{number}.1\", ipv6 = \"2001:db8:{number}::1\" }}\n\
             tier = {tier}\n"
        )
    };
    let uplinks: String = (1..=uplinks).map(uplink).collect();
    // Nobody answers probes here.
    format!(
        "[lan]\n\
         interfaces = [\"lan\"]\n\
         [probe]\n\
         targets = []\n\
         [kernel]\n\
         hash_seed_file = \"/run/bench-seed\"\n\
         {uplinks}{rules}"
    )
}

/// Returns `count` rules, of which the last one matches all flows.
fn rules(count: usize) -> String {
    let other = |number: usize| {
        format!(
            "[[rule]]\n\
             match = {{ source = \"172.16.{number}.0/24\", dport = {number} }}\n\
             use = \"isp1\"\n"
        )
    };
    let last = "[[rule]]\n\
                match = { source = \"10.0.0.0/8\", protocol = \"udp\" }\n\
                use = { isp1 = 1, isp2 = 1 }\n";
    (1..count).map(other).collect::<String>() + last
}

/// Returns `count` rules by domain, none of which matches.
fn domains(count: usize) -> String {
    let rule = |number: usize| {
        format!("[[rule]]\nmatch = {{ domain = \"bank{number}.example\" }}\nuse = \"isp1\"\n")
    };
    let resolvers = "[dns]\nresolvers = [\"192.0.2.53\"]\n";
    (1..=count).map(rule).collect::<String>() + resolvers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_without_spaces() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|contender| contender.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| !name.contains(' ')));
    }

    #[test]
    fn the_last_of_many_uplinks_is_the_best() {
        let config = config(16, "");
        assert_eq!(config.matches("tier = 2").count(), 15);
        assert!(config.ends_with("tier = 1\n"));
    }

    #[test]
    fn rules_are_as_many_as_asked_for() {
        assert_eq!(rules(100).matches("[[rule]]").count(), 100);
        assert_eq!(domains(10).matches("[[rule]]").count(), 10);
    }
}
