//! `nat` of an uplink, and `[nat]`.

use linkbal_common::uplink::Family;

use super::*;

pub(super) fn of_the_full_file() -> Vec<Exempt> {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect();
    vec![
        Exempt {
            source: nets(&["10.0.0.0/24"]),
            destination: nets(&["192.168.50.0/24", "192.168.60.1/32"]),
            uplinks: vec![],
        },
        Exempt {
            source: vec![],
            destination: nets(&["10.0.0.0/8"]),
            uplinks: vec!["fiber".into(), "dsl-2".into()],
        },
    ]
}

#[test]
fn without_nat_nothing_is_translated_but_what_ipv6_says() {
    for (lines, expected) in [
        ("", [true, true]),
        ("nat = \"masquerade\"", [true, true]),
        ("nat = \"off\"", [false, false]),
        ("nat = \"off\"\nipv6 = \"masquerade\"", [false, true]),
        ("ipv6 = \"routed\"", [true, false]),
        ("ipv6 = \"off\"", [true, false]),
        ("ipv6 = \"prefix\"\nprefix = \"2001:db8::/64\"", [true, true]),
        ("nat = \"off\"\nipv6 = \"prefix\"\nprefix = \"2001:db8::/64\"", [false, false]),
    ] {
        let config = parse(&format!("{SMALLEST}{lines}\n"));
        assert_eq!(Family::ALL.map(|family| config.uplinks[0].translates(family)), expected);
    }
}

#[test]
fn prefixes_of_both_families_belong_to_an_uplink() {
    let config = parse(&format!(
        "{SMALLEST}ipv6 = \"prefix\"\nprefix = [\"2001:db8::/64\", \"198.51.100.64/28\"]\n"
    ));
    let prefixes: Vec<_> = config.uplinks[0].prefixes().map(|net| net.to_string()).collect();
    assert_eq!(prefixes, ["198.51.100.64/28", "2001:db8::/64"]);
    let alone = parse(&format!("{SMALLEST}prefix = \"198.51.100.64/28\"\n"));
    assert_eq!(alone.uplinks[0].ipv6, Ipv6::Masquerade);
    assert_eq!(alone.uplinks[0].prefixes().count(), 1);
}
