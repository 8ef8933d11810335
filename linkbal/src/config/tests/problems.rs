//! Every kind of problem: its place, its message and its advice.

use super::*;

mod bond;
mod ipv6;
mod meant;
mod nat;
mod numbers;
mod rules;
mod text;
mod tunnel;

/// Returns `line:column message | help` of every problem.
fn problems(text: &str) -> Vec<String> {
    let error = Config::parse(text, "test.toml").expect_err("a file with problems");
    let shown = error.to_string();
    error
        .problems()
        .iter()
        .map(|problem| {
            let at = problem.location.as_ref().expect("a place");
            let place = format!("{}:{}", at.line, at.column);
            assert!(shown.contains(&format!("[test.toml:{place}]")), "{place} is not in:\n{shown}");
            format!("{place} {} | {}", problem.message, problem.help)
        })
        .collect()
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "in:\n{text}");
}

/// Expects the problems of `lines`, which begin at line 5 in the section of an uplink.
#[track_caller]
pub(super) fn expect_after_smallest(lines: &str, expected: &[&str]) {
    expect(&format!("{SMALLEST}{lines}"), expected);
}

const LAN_HELP: &str = "write the section [lan] and in it a list, like interfaces = [\"br-lan\"]";
const UPLINK_HELP: &str =
    "write a section [uplink.fiber] (the name is yours) and in it interface = \"eth0\"";

fn with_help(problem: &str, help: &str) -> String {
    format!("{problem} | {help}")
}

#[test]
fn missing_sections() {
    let no_lan = |at| with_help(&format!("{at} no LAN interface is given"), LAN_HELP);
    let no_uplink = |at| with_help(&format!("{at} no uplink is given"), UPLINK_HELP);
    expect("", &[&no_uplink("1:1")]);
    expect("# nothing yet\n", &[&no_uplink("2:1")]);
    expect("[lan]\n[uplink]", &[&no_uplink("2:1")]);
    let off = "[local]\nbalance = false\n";
    expect(off, &[&no_lan("3:1"), &no_uplink("3:1")]);
    expect(&format!("{off}[lan]\n[uplink]"), &[&no_lan("3:1"), &no_uplink("4:1")]);
    let empty_list = SMALLEST.replace("\"br-lan\"", "");
    expect(&format!("{off}{empty_list}"), &[&no_lan("4:14")]);
}

#[test]
fn missing_interface() {
    expect_after_smallest(
        "[uplink.cable]\nweight = 3\n",
        &["5:1 uplink cable has no interface | add a line like interface = \"eth0\""],
    );
}

#[test]
fn unknown_keys() {
    expect_after_smallest(
        "wieght = 3\ncolour = 1\n[kernel]\nmark_mask = 1\n[probes]\n[web]\n",
        &[
            "5:1 unknown key `uplink.fiber.wieght` | did you mean `weight`?",
            "6:1 unknown key `uplink.fiber.colour` | remove it; the keys here are: \
             interface, weight, tier, capacity, spillover, gateway, over, endpoint, nat, ipv6, prefix, \
             npt, virtual_addresses, on_down, on_up, reclaim_after, mtu, accelerate, resolvers, \
             probe",
            "8:1 unknown key `kernel.mark_mask` | did you mean `fwmark_mask`?",
            "9:2 unknown key `probes` | did you mean `probe`?",
            "10:2 unknown key `web` | remove it; the keys here are: \
             lan, local, bond, uplink, nat, firewall, accelerate, balance, probe, sticky, rule, dns, api, hooks, notify, kernel",
        ],
    );
}

/// Checks that a misspelled key is not reported as missing as well.
#[test]
fn misspelled_required_keys() {
    let problem = "5:1 unknown key `uplink.fiber.interfce` | did you mean `interface`?";
    let text = SMALLEST.replace("interface =", "\ninterfce =");
    expect(&text, &[problem]);
    let text = SMALLEST.replace("[lan]", "[lann]");
    expect(&text, &["1:2 unknown key `lann` | did you mean `lan`?"]);
}

#[test]
fn only_interfaces_of_the_lan_can_be_left_out() {
    expect_after_smallest(
        "[accelerate]\nmode = \"ebpf\"\nexcept = [\"br-len\", \"br-*\", \"br-*\"]\n",
        &[
            "7:11 `accelerate.except`: br-len is not an interface of the LAN | did you mean \"br-lan\"? \
             the interfaces of [lan] are: br-lan",
            "7:29 `accelerate.except`: br-* is listed twice | remove one of the two",
        ],
    );
}

#[test]
fn wrong_types() {
    expect_after_smallest(
        "weight = \"30\"\ntier = 1.5\nprobe = [1]\n[probe]\ninterval = 200\nhold = true\n\
         quorum = 2026-01-01\ntargets = \"1.1.1.1\"\n[[sticky]]\nports = 443\nby = {}\n",
        &[
            "5:10 `uplink.fiber.weight`: expected a whole number, found a text | \
             write 30, without quotes",
            "6:8 `uplink.fiber.tier`: expected a whole number, found a decimal number | \
             write a number from 1 to 16, without quotes",
            "7:9 `uplink.fiber.probe`: expected a section, found a list | \
             write it in braces, like probe = { interval = \"500ms\" }",
            "9:12 `probe.interval`: expected a duration, found a whole number | \
             write \"200s\": with a unit, in double quotes",
            "10:8 `probe.hold`: expected a duration, found true or false | \
             write a number and a unit in double quotes, like \"200ms\", \"5s\" or \"10m\"",
            "11:10 `probe.quorum`: expected a whole number, found a date or time | \
             write a number from 1 to 1000, without quotes",
            "12:11 `probe.targets`: expected a list, found a text | \
             write addresses that answer ping, or URLs, as a list, like [\"1.1.1.1\", \
             \"https://example.com/\"]",
            "14:9 `sticky.ports`: expected a list, found a whole number | \
             write destination ports from 1 to 65535 as a list, like ports = [443]",
            "15:6 `sticky.by`: expected a word, found a section | \
             write \"src+dst\" (a source and a destination) or \"src\" (all flows of a source)",
        ],
    );
}

#[test]
fn sections_in_the_wrong_form() {
    expect(
        "lan = \"br-lan\"\nkernel = 1\nprobe = 1\nlocal.balance = \"no\"\n[[uplink]]\ninterface = \"eth0\"\n[sticky]\n",
        &[
            &with_help("1:7 `lan`: expected a section, found a text", LAN_HELP),
            "2:10 `kernel`: expected a section, found a whole number | \
             write it as the section [kernel]",
            "3:9 `probe`: expected a section, found a whole number | \
             write it as the section [probe]",
            "4:17 `local.balance`: expected true or false, found a text | \
             write false, without quotes",
            &with_help("5:1 `uplink`: expected a section, found a list", UPLINK_HELP),
            "7:1 `sticky`: expected a list, found a section | \
             write each class as [[sticky]], with two brackets on each side",
        ],
    );
    expect(
        "[lan]\ninterfaces = \"br-lan\"\n[uplink]\ninterface = \"eth0\"\n",
        &[
            &with_help("2:14 `lan.interfaces`: expected a list, found a text", LAN_HELP),
            &with_help("4:13 `uplink.interface`: expected a section, found a text", UPLINK_HELP),
        ],
    );
}

#[test]
fn bad_interface_names() {
    let help = "write a name that `ip link` shows, like \"eth0\"";
    let expected = |name: &str, reason: &str| {
        let message = format!("4:13 `uplink.fiber.interface`: {name:?} is not a network interface");
        expect(&SMALLEST.replace("eth0", name), &[&format!("{message}: {reason} | {help}")]);
    };
    expected("", "it is empty");
    expected("sixteen-bytes-12", "it is longer than 15 bytes");
    for name in ["eth/0", "eth 0", "eth0:", "lo:1"] {
        expected(name, "slashes, colons and spaces are not possible");
    }
    for name in [".", "..", "all", "default"] {
        expected(name, "the kernel reserves it");
    }
    expected("lo", "it never leaves this machine");
    let alias = "write \"eth0\": an alias is one more address of it; uplinks that share an interface \
                 need a `gateway` of their own each";
    let message = "4:13 `uplink.fiber.interface`: \"eth0:1\" is not a network interface: slashes, colons \
                   and spaces are not possible";
    expect(&SMALLEST.replace("eth0", "eth0:1"), &[&with_help(message, alias)]);
    let lan = SMALLEST.replace("\"br-lan\"", "\"br-lan\", 7, \"br lan\"");
    expect(
        &lan,
        &[
            &format!("2:25 `lan.interfaces`: expected a text, found a whole number | {help}"),
            &format!(
                "2:28 `lan.interfaces`: \"br lan\" is not a network interface: slashes, colons \
                 and spaces are not possible | {help}"
            ),
        ],
    );
}

#[test]
fn interfaces_with_two_jobs() {
    expect(
        "[lan]\ninterfaces = [\"br-lan\", \"eth0\", \"br-lan\"]\n[uplink.fiber]\ninterface = \"eth0\"",
        &[
            "2:33 `lan.interfaces`: br-lan is listed twice | remove one of the two",
            "4:13 eth0 is an interface of the LAN and of an uplink | \
             take it out of one; VLANs like \"eth0.2\" can be in both",
        ],
    );
}

#[test]
fn uplinks_that_cannot_be_told_apart() {
    let clash = |first: &str, second: &str, shared: &str| {
        let help = "give each its own gateway, like gateway = \"192.0.2.1\", or its own interface";
        expect_after_smallest(
            &format!("{first}\n[uplink.cable]\ninterface = \"eth0\"\n{second}\n"),
            &[&format!("7:13 uplinks fiber and cable on eth0 share {shared} | {help}")],
        );
    };
    clash("", "", "the gateway \"auto\"");
    clash("gateway = \"auto\"", "gateway = {}", "the gateway \"auto\"");
    let one = "gateway = \"192.0.2.1\"";
    clash(one, one, "the gateway 192.0.2.1");
    let both = "gateway = { ipv4 = \"192.0.2.1\", ipv6 = \"fe80::1\" }";
    clash(one, both, "the gateway 192.0.2.1");
    clash("gateway = { ipv4 = \"192.0.2.2\", ipv6 = \"fe80::1\" }", both, "the gateway fe80::1");
}

/// Checks that a refused gateway is not taken for "auto".
#[test]
fn bad_gateways() {
    let help = "write the address of the provider's router, like \"192.0.2.1\"; or write \"auto\"";
    expect_after_smallest(
        "gateway = \"192.0.2\"\n[uplink.b]\ninterface = \"eth0\"\ngateway = { ipv4 = \"fe80::1\" }\n\
         [uplink.c]\ninterface = \"eth0\"\ngateway = { ipv6 = \"192.0.2.3\", ipv5 = \"\" }\n\
         [uplink.d]\ninterface = \"eth0\"\ngateway = 4\n",
        &[
            &format!("5:11 `uplink.fiber.gateway`: \"192.0.2\" is not an IP address | {help}"),
            "8:20 `uplink.b.gateway.ipv4`: fe80::1 is an IPv6 address | \
             write an IPv4 address, or the IPv6 one under `ipv6`; or write \"auto\"",
            "11:20 `uplink.c.gateway.ipv6`: 192.0.2.3 is an IPv4 address | \
             write an IPv6 address, or the IPv4 one under `ipv4`; or write \"auto\"",
            "11:33 unknown key `uplink.c.gateway.ipv5` | \
             did you mean `ipv6`?",
            "14:11 `uplink.d.gateway`: expected an IP address, found a whole number | \
             write the address of the provider's router, like \"192.0.2.1\"; or \"auto\", or \
             { ipv4 = \"192.0.2.1\", ipv6 = \"auto\" }",
        ],
    );
}

#[test]
fn unusable_gateways() {
    let help = "write the address of the provider's router, like \"192.0.2.1\"; or write \"auto\"";
    let kinds = [
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("224.0.0.1", "a multicast address"),
        ("ff02::2", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("::ffff:192.0.2.1", "an IPv4 address written as IPv6"),
    ];
    for (address, kind) in kinds {
        let message = format!("5:11 `uplink.fiber.gateway`: {address} is {kind} | {help}");
        expect_after_smallest(&format!("gateway = \"{address}\"\n"), &[&message]);
    }
}

#[test]
fn weights_and_tiers() {
    expect_after_smallest(
        "weight = 0\ntier = 2\n[uplink.lte]\ninterface = \"wwan0\"\ntier = 2\nweight = 0\n\
         [uplink.cable]\ninterface = \"eth1\"\n",
        &["5:10 no uplink of tier 2 has a weight above 0 | \
           give a weight of 1 or more to one of: fiber, lte"],
    );
    expect_after_smallest(
        "weight = 10001\ntier = 0\n[uplink.lte]\ninterface = \"wwan0\"\ntier = 17\nweight = -1\n\
         [uplink.cable]\ninterface = \"eth1\"\ntier = \"2\"\nweight = 0\n",
        &[
            "5:10 `uplink.fiber.weight`: 10001 is not within 0 to 10000 | \
             write a number from 0 to 10000",
            "6:8 `uplink.fiber.tier`: 0 is not within 1 to 16 | write a number from 1 to 16",
            "9:8 `uplink.lte.tier`: 17 is not within 1 to 16 | write a number from 1 to 16",
            "10:10 `uplink.lte.weight`: -1 is not within 0 to 10000 | \
             write a number from 0 to 10000",
            "13:8 `uplink.cable.tier`: expected a whole number, found a text | \
             write 2, without quotes",
        ],
    );
}

#[test]
fn bad_uplink_names() {
    let help = "use 1 to 32 letters, digits, - and _";
    for (name, like) in [
        ("my fiber", ", like \"my-fiber\""),
        ("über", ", like \"ber\""),
        ("a.b", ", like \"a-b\""),
        ("", ""),
        ("thirty-three-letters-are-too-many", ", like \"thirty-three-letters-are-too-man\""),
    ] {
        let help = &format!("{help}{like}");
        let text = SMALLEST.replace("fiber", &format!("{name:?}"));
        let message = format!("3:9 {name:?} is not possible as the name of an uplink");
        expect(&text, &[&with_help(&message, help)]);
    }
}

/// Counts the uplinks in the order of the file, not of the names.
#[test]
fn too_many_uplinks() {
    expect(
        &many_uplinks(17),
        &["35:9 17 uplinks, at most 16 are possible | remove uplinks until 16 are left"],
    );
}
