//! `nat` and `[nat]`.

use super::*;

/// Expects the one problem of an entry, which begins at line 6, column 11.
#[track_caller]
fn expect_entry(entry: &str, expected: &str) {
    expect_after_smallest(&format!("[nat]\nexempt = [{entry}]\n"), &[expected]);
}

#[test]
fn a_translation_that_is_none() {
    expect_after_smallest(
        "nat = \"none\"\n",
        &[
            "5:7 `uplink.fiber.nat`: \"none\" is unknown | write \"masquerade\" (hosts leave with the \
           uplink's address) or \"off\" (they keep theirs: the provider, or a router behind, knows \
           them)",
        ],
    );
}

#[test]
fn entries_that_say_nothing_or_too_much() {
    let help = "write each one in braces, like exempt = [{ source = \"10.0.0.0/24\", destination = \
                \"192.168.50.0/24\" }]";
    expect_entry("{}", &format!("6:11 it names neither source nor destination | {help}"));
    expect_entry(
        "{ uplink = \"fiber\" }",
        "6:11 it names neither source nor destination | write nat = \"off\" in the section of the \
         uplink, or add `destination`",
    );
    expect_entry(
        "\"10.0.0.0/24\"",
        &format!("6:11 `nat.exempt`: expected a section, found a text | {help}"),
    );
    let many = vec!["{ source = \"10.0.0.1\" }"; 65].join(", ");
    let problem = problems(&format!("{SMALLEST}[nat]\nexempt = [{many}]\n"));
    assert_eq!(problem.len(), 1, "{problem:?}");
    let expected = "`nat.exempt`: 65 entries, at most 64 are possible | join entries: source and \
                    destination can be lists";
    assert!(problem[0].ends_with(expected), "{problem:?}");
}

#[test]
fn names_and_prefixes_that_are_none() {
    expect_entry(
        "{ source = \"10.0.0.0/24\", uplink = \"fibre\" }",
        "6:46 `nat.exempt.uplink`: there is no uplink \"fibre\" | did you mean \"fiber\"? the \
         uplinks are: fiber",
    );
    expect_entry(
        "{ source = \"10.0.0.7/24\" }",
        "6:22 `nat.exempt.source`: 10.0.0.7/24 has bits of the address set after its prefix | \
         write \"10.0.0.0/24\", or \"10.0.0.7\" for the one host",
    );
    expect_entry(
        "{ source = 10 }",
        "6:22 `nat.exempt.source`: expected a prefix, found a whole number | write an address or a \
         prefix, like \"192.168.50.0/24\"",
    );
    expect_entry(
        "{ dest = \"10.0.0.0/24\", source = \"10.0.0.0/24\" }",
        "6:13 unknown key `nat.exempt.dest` | did you mean `destination`?",
    );
}

#[test]
fn ends_of_different_families() {
    expect_entry(
        "{ source = \"10.0.0.0/24\", destination = \"fd50::/64\" }",
        "6:22 `nat.exempt.source`: 10.0.0.0/24 has no destination of IPv4 to go with | add a \
         destination of IPv4, or remove it",
    );
    expect_entry(
        "{ source = \"10.0.0.0/24\", destination = [\"10.9.0.0/16\", \"fd50::/64\"] }",
        "6:67 `nat.exempt.destination`: fd50::/64 has no source of IPv6 to go with | add a source \
         of IPv6, or remove it",
    );
}
