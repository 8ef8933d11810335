use super::*;

/// Expects the problems of `lines`, which begin at line 5 of a file whose uplink, in the first four
/// lines, is on bond0.
#[track_caller]
fn expect_of_bond(lines: &str, expected: &[&str]) {
    let base = "lan.interfaces = [\"br-lan\"]\n[uplink.a]\ninterface = \"bond0\"\n\n";
    expect(&format!("{base}{lines}"), expected);
}

const BOND: &str = "[bond.bond0]\nmode = \"active-backup\"\nmembers = [\"eth1\", \"eth2\"]\n";

const MODES: &str =
    "balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb";

#[test]
fn what_a_bond_needs() {
    expect_of_bond(
        "[bond.bond0]\n",
        &[
            &format!(
                "5:1 bond bond0 has no mode | add a line like mode = \"active-backup\"; the modes \
                 are: {MODES}"
            ),
            "5:1 bond bond0 has no members | write the network cards that form the bond as a \
             list, like members = [\"eth1\", \"eth2\"]",
        ],
    );
    expect_of_bond(
        "[bond.bond0]\nmode = \"balance\"\nmembers = []\n",
        &[
            &format!(
                "6:8 `bond.bond0.mode`: \"balance\" is unknown | the kernel's names are: {MODES}"
            ),
            "7:11 `bond.bond0.members`: the list is empty | write the network cards that form the \
             bond as a list, like members = [\"eth1\", \"eth2\"]",
        ],
    );
    expect_of_bond(
        "[bond.bond0]\nmode = \"802.3a\"\nmembers = [\"eth1\", \"eth1\"]\nmiimom = 5\n",
        &[
            &format!(
                "6:8 `bond.bond0.mode`: \"802.3a\" is unknown | did you mean \"802.3ad\"? the \
                 kernel's names are: {MODES}"
            ),
            "7:20 `bond.bond0.members`: eth1 is listed twice | remove one of the two",
            "8:1 unknown key `bond.bond0.miimom` | did you mean `miimon`?",
        ],
    );
}

#[test]
fn names_that_no_bond_can_have() {
    let bond = |name: &str| format!("[bond.{name}]\nmode = \"broadcast\"\nmembers = [\"eth1\"]\n");
    expect_of_bond(
        &bond("sixteen-bytes-16"),
        &["5:7 \"sixteen-bytes-16\" is not a network interface: it is longer than 15 bytes | \
           write a name that `ip link` shows, like \"eth0\""],
    );
    expect_of_bond(
        &bond("\"bond%d\""),
        &["5:7 \"bond%d\" is not a network interface: % is not possible | write a name like bond0"],
    );
    expect_of_bond(
        &bond("lo"),
        &["5:7 \"lo\" is not a network interface: it never leaves this machine | write a name \
           that `ip link` shows, like \"eth0\""],
    );
}

#[test]
fn monitoring_is_by_one_way() {
    expect_of_bond(
        &format!("{BOND}miimon = 100\narp_interval = 500\narp_ip_targets = [\"192.0.2.1\"]\n"),
        &[
            "8:10 `bond.bond0.miimon`: it cannot be used together with arp_interval | remove one of \
           the two: miimon looks at the carrier, arp_interval asks",
        ],
    );
    expect_of_bond(
        &format!("{BOND}arp_interval = \"1s\"\n"),
        &["5:1 arp_interval, but no arp_ip_targets are given | add the hosts to ask, like \
           arp_ip_targets = [\"192.0.2.1\"]"],
    );
    expect_of_bond(
        &format!("{BOND}arp_ip_targets = \"192.0.2.1\"\narp_validate = \"all\"\n"),
        &[
            "8:18 `bond.bond0.arp_ip_targets`: no host is asked without arp_interval | add \
             arp_interval = 1000 in place of miimon, or remove `arp_ip_targets`",
            "9:16 `bond.bond0.arp_validate`: no host is asked without arp_interval | add \
             arp_interval = 1000 in place of miimon, or remove `arp_validate`",
        ],
    );
    expect_of_bond(
        &format!("{BOND}miimon = 0\n"),
        &["8:10 `bond.bond0.miimon`: 0 is not within 10 to 60000 | write a number from 10 to \
           60000"],
    );
}

#[test]
fn arp_asks_others_at_most_sixteen() {
    let help = "write IPv4 addresses that always answer on these cards, like the routers': \
                arp_ip_targets = [\"192.0.2.1\"]";
    expect_of_bond(
        &format!(
            "{BOND}arp_interval = 100\narp_ip_targets = [\"192.0.2.2\", \"fe80::1\", \
             \"router\"]\narp_validate = \"al\"\naddresses = [\"192.0.2.2/30\"]\n"
        ),
        &[
            "9:19 `bond.bond0.arp_ip_targets`: 192.0.2.2 is an address of the bond itself | write \
             the address of another machine",
            &format!(
                "9:32 `bond.bond0.arp_ip_targets`: fe80::1 is an IPv6 address: ARP is of IPv4 | \
                 {help}"
            ),
            &format!(
                "9:43 `bond.bond0.arp_ip_targets`: \"router\" is not an IP address | {help}; \
                 names cannot be looked up while an uplink is down"
            ),
            "10:16 `bond.bond0.arp_validate`: \"al\" is unknown | the kernel's names are: none, \
             active, backup, all, filter, filter_active, filter_backup",
        ],
    );
    let targets: Vec<String> = (1..=17).map(|host| format!("\"192.0.2.{host}\"")).collect();
    expect_of_bond(
        &format!("{BOND}arp_interval = 100\narp_ip_targets = [{}]\n", targets.join(", ")),
        &["9:234 `bond.bond0.arp_ip_targets`: 17 targets, at most 16 are possible | remove some"],
    );
}

#[test]
fn what_only_some_modes_have() {
    expect_of_bond(
        "[bond.bond0]\nmode = \"balance-rr\"\nmembers = [\"eth1\"]\nprimary = \"eth1\"\n\
         lacp_rate = \"fast\"\nxmit_hash_policy = \"layer2\"\n",
        &[
            "8:11 `bond.bond0.primary`: mode balance-rr does not have it | remove it, or use one \
             of the modes that do: active-backup, balance-tlb, balance-alb",
            "9:13 `bond.bond0.lacp_rate`: mode balance-rr does not have it | remove it, or use \
             one of the modes that do: 802.3ad",
            "10:20 `bond.bond0.xmit_hash_policy`: mode balance-rr does not have it | remove it, \
             or use one of the modes that do: balance-xor, 802.3ad, balance-tlb",
        ],
    );
    for mode in ["802.3ad", "balance-tlb", "balance-alb"] {
        expect_of_bond(
            &format!(
                "[bond.bond0]\nmode = \"{mode}\"\nmembers = [\"eth1\"]\narp_interval = 100\n\
                 arp_ip_targets = [\"192.0.2.1\"]\n"
            ),
            &[&format!(
                "8:16 `bond.bond0.arp_interval`: mode {mode} does not have it | remove it, or \
                 use one of the modes that do: balance-rr, active-backup, balance-xor, broadcast"
            )],
        );
    }
    expect_of_bond(
        &format!("{BOND}primary = \"eth3\"\n"),
        &["8:11 `bond.bond0.primary`: eth3 is not a member | did you mean \"eth2\"? the members \
           are: eth1, eth2"],
    );
}

#[test]
fn a_card_is_in_one_place() {
    let second = "[bond.bond1]\nmode = \"broadcast\"\nmembers = [\"eth2\", \"bond0\"]\n";
    expect_of_bond(
        &format!("{BOND}{second}"),
        &[
            "10:12 `bond.bond1.members`: eth2 is in bond0, too | take it out of one of the two",
            "10:20 `bond.bond1.members`: bond0 is a bond, which cannot be a member | write \
             network cards only",
            "10:20 `bond.bond1.members`: bond0 is used by itself, too | use bond1 there: a member \
             is only a part of its bond",
        ],
    );
    expect_of_bond(
        "[bond.bond0]\nmode = \"broadcast\"\nmembers = [\"br-lan\"]\n",
        &["7:12 `bond.bond0.members`: br-lan is used by itself, too | use bond0 there: a member \
           is only a part of its bond"],
    );
}

#[test]
fn addresses_are_those_of_hosts() {
    let help = "write an address with the prefix length of its network, like \"192.0.2.2/30\" or \
                \"2001:db8::2/64\"";
    let own = "write the address of this machine in that network";
    let at = |at: &str, problem: &str, help: &str| {
        format!("{at} `bond.bond0.addresses`: {problem} | {help}")
    };
    let problems = [
        at("9:3", "\"192.0.2.1\" has no prefix length", help),
        at("10:3", "\"192.0.2.1/33\" is not an address", help),
        at("11:3", "192.0.2.4 names the network 192.0.2.4/30", own),
        at("12:3", "192.0.2.7 broadcasts to the network 192.0.2.4/30", own),
        at("13:3", "2001:db8:: names the network 2001:db8::/64", own),
        at("14:3", "127.0.0.1 is a loopback address", help),
        at("16:3", "192.0.2.5 is given twice", "remove one of the two"),
    ];
    expect_of_bond(
        &format!(
            "{BOND}addresses = [\n  \"192.0.2.1\",\n  \"192.0.2.1/33\",\n  \"192.0.2.4/30\",\n  \
             \"192.0.2.7/30\",\n  \"2001:db8::/64\",\n  \"127.0.0.1/8\",\n  \"192.0.2.5/30\",\n  \
             \"192.0.2.5/24\",\n]\n"
        ),
        &problems.each_ref().map(String::as_str),
    );
}

#[test]
fn numbers_of_the_interface() {
    expect_of_bond(
        &format!(
            "{BOND}mac = \"01:00:00:00:00:01\"\nmtu = 1000\npromisc = 1\n\
             addresses = [\"2001:db8::2/64\"]\n"
        ),
        &[
            "8:7 `bond.bond0.mac`: it is the address of a group | write the address of one card, \
             like \"02:00:00:00:00:01\"",
            "9:7 `bond.bond0.mtu`: 1000 is too small for IPv6 | write 1280 or more, or remove the \
             IPv6 addresses",
            "10:11 `bond.bond0.promisc`: expected true or false, found a whole number | write \
             true or false, without quotes",
        ],
    );
    expect_of_bond(
        &format!("{BOND}mac = \"00:00:00:00:00:00\"\nmtu = 60\n"),
        &[
            "8:7 `bond.bond0.mac`: it is all zeros | write the address of one card, like \
             \"02:00:00:00:00:01\"",
            "9:7 `bond.bond0.mtu`: 60 is not within 68 to 65535 | write a number from 68 to 65535",
        ],
    );
}
