//! Uplinks without IPv6, and those whose hosts have addresses of the provider.

use ipnet::IpNet;

use super::*;

/// Returns a world with `lines` in the section of uplink a.
fn world(lines: &str, up: UpMask) -> World {
    let config = CONFIG.replace("weight = 30\n", &format!("weight = 30\n{lines}\n"));
    assert_ne!(config, CONFIG);
    World::with_config(&config, machine(), up)
}

fn of_ipv6(rules: &[IpRule], table: u32) -> usize {
    let ours = rules.iter().filter(|rule| rule.family == Family::Ipv6 && rule.table == table);
    ours.count()
}

#[test]
fn an_uplink_whose_ipv6_is_off_has_nothing_of_it_and_that_is_no_news() {
    let mut world = world("ipv6 = \"off\"", UpMask::default());
    let commands = world.run_until(ms(5000)).heard();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0003));
    assert_eq!(reports(&commands).len(), 3);
    let kernel = &world.kernel;
    assert_eq!(of_ipv6(&kernel.rules, 2601), 0);
    assert_eq!(of_ipv6(&kernel.rules, 2602), 3);
    let routes = kernel.routes.iter().filter(|route| route.family() == Family::Ipv6);
    assert!(routes.clone().all(|route| route.table != 2601));
    assert_eq!(routes.filter(|route| route.table == 2602).count(), 2);
    let addresses = commands.iter().find_map(|command| match command {
        Command::SetUplinkAddresses(addresses) => Some(addresses),
        _ => None,
    });
    let addresses = addresses.expect("the datapath hears of the addresses");
    assert!(addresses.contains_key(&(A, Family::Ipv4)));
    assert!(!addresses.contains_key(&(A, Family::Ipv6)));
    let a = &world.engine.uplinks()[A as usize];
    assert!(a.family(Family::Ipv6).is_none() && a.state() == State::Up);
    let probes_ipv6 = a.health.ipv6.deadline();
    assert_eq!(probes_ipv6, None);
}

#[test]
fn flows_of_an_uplink_whose_ipv6_was_switched_off_are_moved() {
    let mut world = world("ipv6 = \"off\"", UpMask(0x0003_0003));
    let commands = world.run_until(ms(1000)).decisions();
    assert_eq!(masks(&commands), [0x0002_0003]);
    assert_eq!(forgotten(&commands), [(Family::Ipv6, FWMARK[A as usize])]);
}

#[test]
fn targets_of_ipv6_alone_do_not_judge_an_uplink_without_it() {
    let lines = "ipv6 = \"off\"\ngateway = \"fe80::1\"\nprobe = { targets = [\"2001:db8:ff::1\"] }";
    let mut world = world(lines, UpMask::default());
    let commands = world.run_until(ms(5000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0003));
}

#[test]
fn a_providers_prefix_leads_to_its_uplink_where_no_mark_does() {
    let mut world = world("ipv6 = \"prefix\"\nprefix = \"2001:db8:a:100::/56\"", UpMask::default());
    world.run_until(ms(1000));
    let rules = world.kernel.rules.iter();
    let mut ours: Vec<_> =
        rules.filter(|rule| rule.protocol == PROTOCOL && rule.family == Family::Ipv6).collect();
    ours.sort_by_key(|rule| rule.priority);
    let tables: Vec<_> = ours.iter().map(|rule| rule.table).collect();
    assert_eq!(tables, [0, 2601, 2602, 254, 2601, 2602, 254, 2601, 2601, 2602, 2600]);
    let sources: Vec<_> = ours.iter().filter_map(|rule| rule.source).collect();
    let expected = ["2001:db8:a::2/128", "2001:db8:a:100::/56", "2001:db8:b::2/128"];
    assert_eq!(sources, expected.map(|text| text.parse::<IpNet>().expect("a prefix")));
    assert!(ours[4].fwmark.is_some() && ours[7].fwmark.is_none());
}
