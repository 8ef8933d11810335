//! `ipv6`, `prefix` and `npt`.

use super::*;

const PREFIX_HELP: &str = "write what the provider gave out to you, like \"2001:db8:a::/56\" or \
                           \"198.51.100.64/28\"";
const NPT_HELP: &str = "write the prefix that is used inside only, like \"fd00::/64\"";

/// Expects the one problem of `lines`, which begin at line 5 in the section of an uplink.
#[track_caller]
fn expect_one(lines: &str, expected: &str) {
    expect_after_smallest(&format!("{lines}\n"), &[expected]);
}

#[test]
fn modes_that_are_none() {
    expect_one(
        "ipv6 = \"on\"\nprefix = \"2001:db8::/56\"",
        "5:8 `uplink.fiber.ipv6`: \"on\" is unknown | write \"masquerade\" (one address for all), \
         \"prefix\" (hosts have addresses of the provider), \"routed\" (no translation) or \"off\" \
         (no IPv6)",
    );
    expect_one(
        "ipv6 = false",
        "5:8 `uplink.fiber.ipv6`: expected a word, found true or false | write \"masquerade\" (one \
         address for all), \"prefix\" (hosts have addresses of the provider), \"routed\" (no \
         translation) or \"off\" (no IPv6)",
    );
}

#[test]
fn prefixes_that_are_missing_or_mean_nothing() {
    expect_one(
        "ipv6 = \"prefix\"",
        &format!("3:1 ipv6 = \"prefix\", but no prefix is given | {PREFIX_HELP}"),
    );
    expect_one(
        "ipv6 = \"prefix\"\nprefix = \"198.51.100.64/28\"",
        &format!(
            "6:10 `uplink.fiber.prefix`: ipv6 = \"prefix\", but no prefix of IPv6 is given | \
             {PREFIX_HELP}"
        ),
    );
    for mode in
        ["", "ipv6 = \"off\"", "ipv6 = \"masquerade\"", "ipv6 = \"routed\"", "nat = \"off\""]
    {
        let used = "is used with ipv6 = \"prefix\" only | write ipv6 = \"prefix\", or remove";
        expect_after_smallest(
            &format!("prefix = \"2001:db8::/64\"\nnpt = \"fd00::/64\"\n{mode}\n"),
            &[
                &format!("5:10 `uplink.fiber.prefix`: one of IPv6 {used} `prefix`"),
                &format!("6:7 `uplink.fiber.npt`: it {used} `npt`"),
            ],
        );
    }
}

#[test]
fn prefixes_that_no_host_has() {
    for (prefix, message) in [
        ("2001:db8:a::", "\"2001:db8:a::\" has no prefix length"),
        ("192.0.2.0", "\"192.0.2.0\" has no prefix length"),
        ("127.0.0.0/8", "127.0.0.0/8 is not for hosts of a network"),
        ("169.254.0.0/16", "169.254.0.0/16 is not for hosts of a network"),
        ("224.0.0.0/24", "224.0.0.0/24 is not for hosts of a network"),
        ("0.0.0.0/0", "0.0.0.0/0 is not for hosts of a network"),
        ("64.0.0.0/7", "64.0.0.0/7 is more than a provider has"),
        ("fe80::/64", "fe80::/64 is not for hosts of a network"),
        ("ff0e::/16", "ff0e::/16 is not for hosts of a network"),
        ("::/0", "::/0 is not for hosts of a network"),
        ("2000::/3", "2000::/3 is more than a provider has"),
    ] {
        expect_one(
            &format!("ipv6 = \"prefix\"\nprefix = \"{prefix}\""),
            &format!("6:10 `uplink.fiber.prefix`: {message} | {PREFIX_HELP}"),
        );
        expect_one(
            &format!("ipv6 = \"prefix\"\nprefix = \"2001:db8::/64\"\nnpt = \"{prefix}\""),
            &format!("7:7 `uplink.fiber.npt`: {message} | {NPT_HELP}"),
        );
    }
    expect_one(
        "ipv6 = \"prefix\"\nprefix = \"2001:db8::/64\"\nnpt = \"192.0.2.0/24\"",
        &format!("7:7 `uplink.fiber.npt`: 192.0.2.0/24 is an IPv4 prefix | {NPT_HELP}"),
    );
    expect_one(
        "ipv6 = \"prefix\"\nprefix = [\"2001:db8:a::1/56\"]",
        "6:11 `uplink.fiber.prefix`: 2001:db8:a::1/56 has bits of the address set after its \
         prefix | write \"2001:db8:a::/56\", or \"2001:db8:a::1\" for the one host",
    );
    let many: Vec<_> = (0..17).map(|n| format!("\"2001:db8:{n:x}::/48\"")).collect();
    let problem =
        problems(&format!("{SMALLEST}ipv6 = \"prefix\"\nprefix = [{}]\n", many.join(", ")));
    assert_eq!(problem.len(), 1, "{problem:?}");
    assert!(problem[0].ends_with(
        "`uplink.fiber.prefix`: 17 prefixes, at most 16 are possible | \
         join neighbours to a shorter prefix"
    ));
}

#[test]
fn prefixes_of_two_uplinks() {
    let both = |first: &str, second: &str| {
        format!(
            "ipv6 = \"prefix\"\nprefix = {first}\n\
             [uplink.cable]\ninterface = \"eth1\"\nipv6 = \"prefix\"\nprefix = {second}"
        )
    };
    let help = "each prefix belongs to one uplink: take it out of one of the two";
    expect_one(
        &both("\"2001:db8:a::/56\"", "[\"2001:db8:b::/56\", \"2001:db8:a:7::/64\"]"),
        &format!(
            "10:30 `uplink.cable.prefix`: 2001:db8:a:7::/64 overlaps 2001:db8:a::/56 of uplink \
             fiber | {help}"
        ),
    );
    let ipv4 = "prefix = \"198.51.100.0/24\"\n[uplink.cable]\ninterface = \"eth1\"\n\
                prefix = \"198.51.100.64/28\"";
    expect_one(
        ipv4,
        &format!(
            "8:10 `uplink.cable.prefix`: 198.51.100.64/28 overlaps 198.51.100.0/24 of uplink \
             fiber | {help}"
        ),
    );
    expect_one(
        &both("[\"2001:db8:a::/64\", \"2001:db8:a::/56\"]", "\"2001:db8:b::/64\""),
        &format!(
            "6:30 `uplink.fiber.prefix`: 2001:db8:a::/56 overlaps 2001:db8:a::/64 of uplink \
             fiber | {help}"
        ),
    );
}

#[test]
fn translations_that_do_not_fit() {
    let lines = |npt: &str| {
        format!(
            "ipv6 = \"prefix\"\nprefix = [\"2001:db8:a::/56\", \"2001:db8:b::/60\"]\nnpt = \"{npt}\""
        )
    };
    expect_one(
        &lines("fd00::/64"),
        "7:7 `uplink.fiber.npt`: fd00::/64 has no prefix of its length to be translated to | \
         write a /64 of the provider under `prefix`, or another length",
    );
    expect_one(
        &lines("2001:db8:b:10::/60").replace("b:10", "b:0"),
        &format!(
            "7:7 `uplink.fiber.npt`: 2001:db8:b::/60 overlaps 2001:db8:b::/60 of uplink fiber | \
             {NPT_HELP}"
        ),
    );
}

#[test]
fn an_mtu_suits_ipv6() {
    let message = "5:7 `uplink.fiber.mtu`: 1279 is too small for IPv6 | write 1280 or more, or \
                   ipv6 = \"off\"";
    expect_after_smallest("mtu = 1279\n", &[message]);
    for valid in ["mtu = 1280\n", "mtu = 576\nipv6 = \"off\"\n"] {
        parse(&format!("{SMALLEST}{valid}"));
    }
}
