use super::*;
use crate::engine::{indexed, kernel::network::TABLE_LOCAL};

const CONFIG: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
                      gateway = \"192.0.2.1\"\n";

fn machine() -> Snapshot {
    let link = |ifindex, name: &str| Link::ethernet(ifindex, name);
    let held = |ifindex, text: &str| super::super::kernel::network::Address {
        ifindex,
        address: text.parse().expect("an address"),
        prefix_length: 24,
        deprecated: false,
        temporary: false,
        held: false,
    };
    let born = IpRule {
        family: Family::Ipv4,
        priority: 0,
        source: None,
        destination: None,
        from_here: false,
        fwmark: None,
        device: None,
        table: TABLE_LOCAL,
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: 2,
        more: String::new(),
    };
    Snapshot {
        links: [(2, link(2, "lan0")), (3, link(3, "wan-a"))].into(),
        addresses: vec![held(2, "10.0.0.1"), held(3, "192.0.2.2")],
        rules: vec![born],
        sysctls: [("net/ipv4/ip_forward".to_owned(), "0".to_owned())].into(),
        ..Snapshot::default()
    }
}

fn plan(snapshot: &Snapshot) -> (Decided, Vec<String>) {
    let config = Config::parse(CONFIG, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let up = UpMask(u32::MAX);
    let decided = decide(&config, indexed, up, snapshot.clone(), Survey::default());
    let lines = decided.network(snapshot).iter().map(Difference::line).collect();
    (decided, lines)
}

#[test]
fn differences_are_spelled_as_people_know_them() {
    let (decided, lines) = plan(&machine());
    for line in [
        "+ ip     -4 rule pref 26100 lookup main suppress_prefixlength 0 protocol 201",
        "+ ip     -4 rule pref 26110 from 192.0.2.2/32 lookup 2601 protocol 201",
        "+ ip     -4 rule pref 26010 fwmark 0x1000000/0x1f000000 lookup 2601 protocol 201",
        "+ ip     -4 route default via 192.0.2.1 dev wan-a onlink table 2601 metric 1 protocol 201",
        "+ ip     -4 route unreachable default table 2601 metric 4294967295 protocol 201",
        "~ sysctl net.ipv4.ip_forward: 0 -> 1",
    ] {
        assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}");
    }
    assert!(decided.nft().is_some());
}

#[test]
fn a_machine_that_is_as_it_should_be_has_none() {
    let mut machine = machine();
    let (decided, _) = plan(&machine);
    super::super::kernel::diff::assume(&mut machine, &decided.changes);
    let (_, lines) = plan(&machine);
    assert_eq!(lines, [""; 0]);
    // What is too much, and what is different.
    machine.rules.push(IpRule { protocol: PROTOCOL, ..rule_of(26_150) });
    let gateway = |route: &mut Route| route.nexthop = Some("192.0.2.9".parse().expect("one"));
    machine.routes.iter_mut().filter(|route| route.nexthop.is_some()).for_each(gateway);
    let (_, lines) = plan(&machine);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("- ip     -4 rule pref 26150 ")));
    assert!(lines.iter().any(|line| line.starts_with("~ ip     -4 route default via 192.0.2.1 ")));
}

fn rule_of(priority: u32) -> IpRule {
    let mut rules = machine().rules;
    IpRule { priority, table: 2601, ..rules.remove(0) }
}

#[test]
fn indexes_of_interfaces_are_compared_as_names() {
    let snapshot = machine();
    let (index, link) = snapshot.links.iter().next().expect("an interface");
    let listing = |first: &str| {
        format!(
            "\tiif {first} ip daddr 192.0.2.1 accept\n\
             \tiif 9999 ip daddr 192.0.2.2 accept\n\
             \tiif . ip daddr {{ {first} . 192.0.2.1, 9999 . 192.0.2.2 }} accept\n\
             \toif vmap {{ {first} : goto to_0, 9999 : goto to_1 }}\n"
        )
    };
    let named = listing(&format!("\"{}\"", link.name));
    assert_eq!(with_names(&listing(&index.to_string()), &snapshot), named);
    assert_eq!(with_names(&named, &snapshot), named);
    let other = format!("\tct mark {index} counter\n");
    assert_eq!(with_names(&other, &snapshot), other);
}

#[test]
fn nft_tables_are_compared_line_by_line() {
    let before = "table inet linkbal {\n\tchain a {\n\t\tx\n\t\ty\n\t}\n}\n";
    let lines = |after: &str| -> Vec<String> {
        nft_lines(before, after).iter().map(Difference::line).collect()
    };
    assert_eq!(lines(before), [""; 0]);
    assert_eq!(lines(&before.replace('y', "z")), ["- nft        y", "+ nft        z"]);
    assert_eq!(lines(&before.replace("\t\tx\n\t\ty", "\t\ty\n\t\tx")).len(), 1);
}

#[test]
fn a_long_plan_is_summed_up_by_program() {
    let of = |by: &str| Difference::new(Sign::Add, by, "x".into());
    let all = [of("nft"), of("ip"), of("nft")];
    assert_eq!(summary(&all), "1 by ip, 2 by nft");
    assert_eq!(summary(&[]), "");
}

#[test]
fn programs_that_are_too_many_are_named_by_their_interface() {
    let (decided, _) = plan(&machine());
    let config = Config::parse(CONFIG, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let policy = super::super::policy::compile(&config, &indexed, None);
    let mut snapshot = machine();
    snapshot.links.insert(1, Link::ethernet(1, "lo"));
    let pinned = Pinned { interfaces: [1, 9].into(), ..Pinned::default() };
    let found = decided.datapath(&config, &policy, &pinned, &snapshot);
    let lines: Vec<String> = found.iter().map(Difference::line).collect();
    for name in ["lo", "if9"] {
        let line = format!("- bpf    programs at ingress and egress of {name}");
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
}
