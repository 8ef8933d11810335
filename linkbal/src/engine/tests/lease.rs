//! Addresses and gateways that come and go.

use super::*;
use crate::engine::{command::Unmarked, kernel::lease::GRACE};

const V4: Family = Family::Ipv4;

impl World {
    /// Changes the kernel, and lets it say so.
    fn change(&mut self, change: impl FnOnce(&mut Snapshot)) -> &mut World {
        change(&mut self.kernel);
        self.engine.handle_event(Event::Network(NetworkEvent::Changed), self.now);
        self
    }

    fn after(&mut self, pause: Duration) -> Vec<Command> {
        let end = self.now + pause;
        self.run_until(end).decisions()
    }

    /// Returns the routes of linkbal's table for the first uplink and IPv4, but for the refusal.
    fn table(&self) -> Vec<String> {
        let routes = self.kernel.routes.iter().filter(|route| {
            route.table == 2601 && route.family() == Family::Ipv4 && route.metric == 1
        });
        routes.map(ToString::to_string).collect()
    }

    fn reason(&self, uplink: u32, family: Family) -> String {
        self.engine.uplinks()[uplink as usize].health[family].reason().to_string()
    }
}

fn is_default_of(route: &Route, ifindex: u32, family: Family) -> bool {
    route.table == TABLE_MAIN
        && route.is_default()
        && route.ifindex == Some(ifindex)
        && route.family() == family
}

/// Removes the last address of an interface, and all routes by it, those of linkbal too.
fn flush(kernel: &mut Snapshot, ifindex: u32) {
    kernel.addresses.retain(|held| held.ifindex != ifindex || held.address.is_ipv6());
    kernel.routes.retain(|route| route.ifindex != Some(ifindex) || route.family() == Family::Ipv6);
}

/// Adds a lease of the first uplink.
fn lease(kernel: &mut Snapshot, own: &str, router: &str) {
    let held = Address { address: address(own), ..kernel.addresses[0] };
    kernel.addresses.push(Address { ifindex: 3, prefix_length: 24, ..held });
    kernel.routes.push(default_route(3, router, 100));
}

fn ended(commands: &[Command]) -> Vec<(u32, Family, Vec<IpAddr>)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::EndFlows { uplink, family, own, .. } => Some((*uplink, *family, own.clone())),
        _ => None,
    });
    each.collect()
}

fn avoided(commands: &[Command]) -> Vec<u32> {
    let each = commands.iter().filter_map(|command| match command {
        Command::SetAvoidMask(mask) => Some(mask.0),
        _ => None,
    });
    each.collect()
}

fn addresses(commands: &[Command]) -> Vec<(String, String, bool)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::Report(Report::Address { from, to, gone, .. }) => {
            Some((from.to_string(), to.to_string(), *gone))
        }
        _ => None,
    });
    each.collect()
}

/// Returns two uplinks, the first of which has an address for the page of its modem, listed first.
fn with_modem_page() -> World {
    let mut world = both_up();
    world.change(|kernel| {
        let page = Address { address: address("192.168.100.2"), ..kernel.addresses[1] };
        kernel.addresses.insert(0, Address { prefix_length: 24, ..page });
    });
    assert_eq!(addresses(&world.after(GRACE)), []);
    world
}

/// Removes the lease of the first uplink, not the address for the page.
fn lose_lease(kernel: &mut Snapshot) {
    kernel.addresses.retain(|held| held.address != address("203.0.113.2"));
    kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4));
}

#[test]
fn a_lost_lease_is_held_beside_an_address_for_the_modem_s_page() {
    let mut world = with_modem_page();
    world.change(lose_lease);
    let commands = world.after(GRACE - ms(100));
    assert_eq!((masks(&commands), addresses(&commands)), (vec![], vec![]));
    assert_eq!(world.table(), ["blackhole 0.0.0.0/0 table 2601 metric 1"]);
    world.change(|kernel| lease(kernel, "203.0.113.2", "203.0.113.1"));
    let commands = world.after(10 * GRACE);
    assert_eq!(
        (masks(&commands), addresses(&commands), ended(&commands)),
        (vec![], vec![], vec![])
    );
}

#[test]
fn a_lease_that_stays_away_ends_with_its_own_flows() {
    let mut world = with_modem_page();
    world.change(lose_lease);
    let commands = world.after(10 * GRACE);
    assert_eq!(masks(&commands).last(), Some(&0x3_0002));
    let moved = ("203.0.113.2".to_owned(), "192.168.100.2".to_owned(), true);
    assert_eq!(addresses(&commands), [moved]);
    let own: Vec<IpAddr> = ended(&commands).into_iter().flat_map(|(.., own)| own).collect();
    assert!(own.contains(&address("203.0.113.2")), "{own:?}");
}

#[test]
fn another_lease_beside_an_address_for_the_modem_s_page_is_followed() {
    let mut world = with_modem_page();
    world.change(|kernel| {
        lose_lease(kernel);
        lease(kernel, "198.51.100.7", "198.51.100.1");
    });
    let commands = world.after(GRACE);
    let moved = ("203.0.113.2".to_owned(), "198.51.100.7".to_owned(), true);
    assert_eq!(addresses(&commands), [moved]);
    assert_eq!(ended(&commands), [(A, Family::Ipv4, vec![address("203.0.113.2")])]);
}

#[test]
fn a_default_route_that_is_back_in_time_was_never_missed() {
    for family in Family::ALL {
        let mut world = both_up();
        let before = world.table();
        world.change(|kernel| kernel.routes.retain(|route| !is_default_of(route, 3, family)));
        let commands = world.after(GRACE - ms(100));
        let bit = UpMask::default().with(A, family, true).0;
        assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![bit]));
        assert_eq!(world.table(), before);
        let router = if family == Family::Ipv4 { "203.0.113.1" } else { "fe80::1" };
        world.change(|kernel| kernel.routes.push(default_route(3, router, 100)));
        let commands = world.after(10 * GRACE);
        assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![0]));
        assert_eq!((ended(&commands), forgotten(&commands)), (vec![], vec![]));
    }
}

#[test]
fn what_is_gone_for_a_moment_is_told_with_the_time_left() {
    let mut world = both_up();
    let gap = |world: &World| {
        let uplink = world.engine.uplinks().by_index(A).expect("an uplink");
        world.engine.gap(uplink, Family::Ipv4).map(|gap| gap.to_string())
    };
    assert_eq!(gap(&world), None);
    world.change(|kernel| flush(kernel, 3));
    world.after(GRACE / 2);
    let told = gap(&world).expect("an address is missing");
    assert!(told.starts_with("no ipv4 address on wan-a for 2 s: new flows avoid it"), "{told}");
    assert!(told.contains("down in 3 s unless"), "{told}");
    world.change(|kernel| lease(kernel, "203.0.113.2", "203.0.113.1"));
    world.after(ms(100));
    assert_eq!(gap(&world), None);

    world.change(|kernel| kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4)));
    world.after(ms(100));
    let told = gap(&world).expect("a route is missing");
    assert!(told.starts_with("no ipv4 default route on wan-a for 0 s"), "{told}");
    world.after(2 * GRACE);
    assert_eq!(gap(&world), None, "it is down by now");
    let uplink = world.engine.uplinks().by_index(A).expect("an uplink");
    let command = world.engine.lost_route(uplink, Family::Ipv4).expect("a route that is lost");
    assert!(command.starts_with("ip route add default via 203.0.113.1 dev wan-a"), "{command}");
}

#[test]
fn a_default_route_that_stays_away_is_an_outage() {
    let mut world = both_up();
    world.change(|kernel| kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4)));
    let commands = world.after(GRACE + ms(100));
    assert_eq!(masks(&commands), [0x0003_0002]);
    assert_eq!(ended(&commands).len(), 1);
    assert!(world.reason(A, V4).starts_with("no ipv4 gateway known on wan-a: no default route"));
}

#[test]
fn without_its_address_an_uplink_sends_nothing_and_is_not_asked() {
    let mut world = both_up();
    world.answers[A as usize][V4] = false;
    world.change(|kernel| flush(kernel, 3));
    let commands = world.after(GRACE - ms(100));
    assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![1]));
    assert_eq!(world.table(), ["blackhole 0.0.0.0/0 table 2601 metric 1"]);
    let unmarked = world.kernel.routes.iter().find(|route| route.table == 2600);
    assert_eq!(unmarked.and_then(|route| route.ifindex), Some(4));

    world.answers[A as usize][V4] = true;
    world.change(|kernel| lease(kernel, "203.0.113.2", "203.0.113.1"));
    let commands = world.after(10 * GRACE);
    assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![0]));
    // Connections that were translated meanwhile are forgotten, whatever their address.
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[0])]);
    assert_eq!((ended(&commands), addresses(&commands)), (vec![], vec![]));
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.1 dev 3 table 2601 metric 1"]);
}

#[test]
fn a_lost_address_is_an_outage_after_a_while() {
    let mut world = both_up();
    world.change(|kernel| flush(kernel, 3));
    let commands = world.after(GRACE + ms(100));
    assert_eq!(masks(&commands), [0x0003_0002]);
    assert_eq!(ended(&commands), [(A, Family::Ipv4, vec![])]);
    assert_eq!(world.reason(A, V4), "no ipv4 address on wan-a");
    // Another one ends what was left, as soon as it is there.
    world.change(|kernel| lease(kernel, "203.0.113.9", "203.0.113.1"));
    let commands = world.after(ms(20_000));
    assert_eq!(addresses(&commands), [("203.0.113.2".into(), "203.0.113.9".into(), true)]);
    assert_eq!(masks(&commands), [0x0003_0003]);
}

#[test]
fn another_address_ends_the_flows_of_the_former_one_once_the_routes_are_in_place() {
    let mut world = both_up();
    world.change(|kernel| {
        flush(kernel, 3);
        lease(kernel, "198.18.0.9", "198.18.0.1");
    });
    let commands = world.after(ms(1000));
    assert_eq!(masks(&commands), [] as [u32; 0]);
    let former = vec![address("203.0.113.2")];
    assert_eq!(ended(&commands), [(A, Family::Ipv4, former)]);
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[0])]);
    let position = |wanted: &dyn Fn(&Command) -> bool| commands.iter().position(wanted);
    let applied = position(&|command| matches!(command, Command::Apply(_)));
    assert!(applied < position(&|command| matches!(command, Command::EndFlows { .. })));
    assert_eq!(world.table(), ["0.0.0.0/0 via 198.18.0.1 dev 3 table 2601 metric 1"]);
}

/// Checks a client that removes its route, sets another address, and then its route again.
#[test]
fn another_address_of_the_same_network_keeps_the_gateway_until_there_is_a_route_again() {
    let mut world = both_up();
    world.change(|kernel| kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4)));
    let before = world.after(ms(200));
    world.change(|kernel| {
        let own = Address { ifindex: 3, prefix_length: 24, ..kernel.addresses[0] };
        kernel.addresses.retain(|held| held.ifindex != 3 || held.address.is_ipv6());
        kernel.addresses.push(Address { address: address("203.0.113.9"), ..own });
    });
    let commands = [before, world.after(GRACE / 2)].concat();
    assert_eq!(masks(&commands), [] as [u32; 0]);
    assert_eq!(ended(&commands), [(A, Family::Ipv4, vec![address("203.0.113.2")])]);
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.1 dev 3 table 2601 metric 1"]);
    world.change(|kernel| kernel.routes.push(default_route(3, "203.0.113.3", 100)));
    assert_eq!(masks(&world.after(10 * GRACE)), [] as [u32; 0]);
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.3 dev 3 table 2601 metric 1"]);
}

/// Checks that nothing is ended with no uplink to begin anew on.
#[test]
fn flows_of_a_former_address_wait_for_a_way_out() {
    let mut world = both_up();
    world.answers = [PerFamily { ipv4: false, ipv6: true }; 2];
    world.after(ms(5000));
    world.change(|kernel| {
        flush(kernel, 3);
        lease(kernel, "198.18.0.9", "198.18.0.1");
    });
    let commands = world.after(ms(5000));
    assert_eq!((ended(&commands), forgotten(&commands)), (vec![], vec![]));
    world.answers[A as usize][V4] = true;
    let commands = world.after(ms(20_000));
    assert_eq!(masks(&commands), [0x0003_0001]);
    let of_a: Vec<_> = ended(&commands).into_iter().filter(|(index, ..)| *index == A).collect();
    assert_eq!(of_a, [(A, Family::Ipv4, vec![address("203.0.113.2")])]);
}

#[test]
fn another_gateway_with_the_same_address_ends_nothing() {
    let mut world = both_up();
    world.change(|kernel| {
        kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4));
        kernel.routes.push(default_route(3, "203.0.113.254", 300));
        // The lower metric counts.
        kernel.routes.push(default_route(3, "203.0.113.253", 200));
    });
    let commands = world.after(ms(10_000));
    assert_eq!((masks(&commands), ended(&commands)), (vec![], vec![]));
    assert_eq!((forgotten(&commands), avoided(&commands)), (vec![], vec![]));
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.253 dev 3 table 2601 metric 1"]);
}

#[test]
fn temporary_and_new_addresses_end_nothing_and_one_that_is_past_hands_over() {
    let mut world = both_up();
    let stable = world.kernel.addresses[3];
    let temporary =
        |text| Address { address: address(text), temporary: true, deprecated: false, ..stable };
    for text in ["2001:db8:a::71", "2001:db8:a::72"] {
        // The kernel lists the latest one first.
        world.change(|kernel| kernel.addresses.insert(0, temporary(text)));
        let commands = world.after(ms(1000));
        assert_eq!((ended(&commands), addresses(&commands)), (vec![], vec![]));
        world.change(|kernel| kernel.addresses.retain(|held| !held.temporary));
        let commands = world.after(ms(1000));
        assert_eq!((ended(&commands), forgotten(&commands)), (vec![], vec![]));
    }
    // The prefix changes: the former one is valid for a while, but no longer preferred.
    world.change(|kernel| {
        kernel.addresses[3].deprecated = true;
        kernel.addresses.push(Address { address: address("2001:db8:a:1::2"), ..stable });
    });
    let commands = world.after(ms(1000));
    assert_eq!(addresses(&commands), [("2001:db8:a::2".into(), "2001:db8:a:1::2".into(), false)]);
    world.change(|kernel| kernel.addresses.retain(|held| !held.deprecated));
    let commands = world.after(ms(20_000));
    assert_eq!((ended(&commands), masks(&commands)), (vec![], vec![]));
}

#[test]
fn a_route_that_another_interface_took_over_is_remembered_with_its_address() {
    let mut world = both_up();
    world.change(|kernel| {
        kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4));
        kernel.routes.push(default_route(4, "192.0.2.1", 100));
    });
    let commands = world.after(10 * GRACE);
    assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![]));
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.1 dev 3 table 2601 metric 1"]);
    // So it is after a restart.
    let kernel = world.kernel.clone();
    let mut world = World::with_up_mask(kernel, UpMask(0x0003_0003));
    let commands = world.after(10 * GRACE);
    assert_eq!((masks(&commands), ended(&commands)), (vec![], vec![]));
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.1 dev 3 table 2601 metric 1"]);
    // Another address has another gateway.
    world.change(|kernel| {
        flush(kernel, 3);
        let held = Address { address: address("198.18.0.9"), ..kernel.addresses[0] };
        kernel.addresses.push(Address { ifindex: 3, ..held });
    });
    world.after(GRACE + ms(100));
    assert!(world.reason(A, V4).starts_with("no ipv4 gateway known"), "{}", world.reason(A, V4));
}

/// Checks default routes that are lost together, such as one route to both.
#[test]
fn routes_that_go_together_take_over_nothing() {
    let mut kernel = machine();
    kernel.routes.iter_mut().for_each(|route| route.metric = 0);
    let mut world = World::new(kernel);
    world.after(ms(1000));
    world.change(|kernel| {
        kernel.routes.retain(|route| {
            !Family::ALL
                .iter()
                .any(|family| is_default_of(route, 3, *family) || is_default_of(route, 4, *family))
        });
    });
    assert_eq!(masks(&world.after(GRACE + ms(100))).last(), Some(&0));
}

#[test]
fn a_router_that_withdraws_its_ipv6_route_is_no_router_though_there_is_another() {
    let mut world = both_up();
    world.change(|kernel| {
        kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv6));
        kernel.routes.push(default_route(4, "fe80::2", 100));
    });
    assert_eq!(masks(&world.after(GRACE + ms(100))), [0x0002_0003]);
}

#[test]
fn an_interface_of_another_name_is_gone_and_back_with_its_own() {
    let mut world = both_up();
    let renamed = link(3, "old-a", true);
    world.kernel.links.insert(3, renamed.clone());
    world.engine.handle_event(Event::Network(NetworkEvent::Link(renamed)), world.now);
    let commands = world.run_until(world.now).decisions();
    assert_eq!(masks(&commands), [0x0002_0002], "at once");
    assert_eq!(world.reason(A, V4), "interface wan-a does not exist");
    // A new device of the name has nothing yet.
    world.change(|kernel| drop(kernel.links.insert(9, link(9, "wan-a", true))));
    world.after(ms(1000));
    assert_eq!(world.reason(A, V4), "no ipv4 address on wan-a");
    world.change(|kernel| {
        let moved = |ifindex: &mut u32| *ifindex = if *ifindex == 3 { 9 } else { *ifindex };
        kernel.addresses.iter_mut().for_each(|held| moved(&mut held.ifindex));
        kernel.routes.iter_mut().flat_map(|route| &mut route.ifindex).for_each(moved);
    });
    assert_eq!(masks(&world.after(ms(20_000))).last(), Some(&0x0003_0003));
    assert_eq!(world.table(), ["0.0.0.0/0 via 203.0.113.1 dev 9 table 2601 metric 1"]);
}

#[test]
fn two_uplinks_with_one_address_are_told_apart_by_the_mark_alone() {
    let mut kernel = machine();
    kernel.addresses[2].address = address("203.0.113.2");
    let mut world = World::new(kernel);
    let commands = world.after(ms(60_000));
    let sources = world.kernel.rules.iter().filter_map(|rule| rule.source);
    let sources: Vec<_> = sources.filter(|source| source.addr().is_ipv4()).collect();
    assert_eq!(sources, []);
    let told = |commands: &[Command]| -> Vec<Option<String>> {
        let troubles = commands.iter().filter_map(|command| match command {
            Command::Report(Report::Refused { what, problem }) => {
                assert_eq!(what, "address 203.0.113.2");
                Some(problem.clone())
            }
            _ => None,
        });
        troubles.collect()
    };
    let problems = told(&commands);
    assert!(matches!(&problems[..], [Some(text)] if text.starts_with("a and b have it: ")));
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
    world.change(|kernel| kernel.addresses[2].address = address("192.0.2.2"));
    assert_eq!(told(&world.after(ms(1000))), [None]);
    assert!(world.kernel.rules.iter().any(|rule| rule.source.is_some()));
}

/// Plays pppd, in the order of the kernel's messages: the interface is there and down; it has an
/// address and a peer; it is up; the default route has no gateway. When the line is lost, all of it
/// goes with the interface, and the next call makes another one.
#[test]
fn a_line_that_is_dialled_again_is_another_interface_with_another_address() {
    let text = CONFIG.replace("wan-a", "ppp0");
    let mut kernel = machine();
    kernel.links.remove(&3);
    kernel.addresses.retain(|held| held.ifindex != 3);
    kernel.routes.retain(|route| route.ifindex != Some(3));
    let mut world = World::with_config(&text, kernel, UpMask::default());
    world.after(ms(1000));
    assert_eq!(world.reason(A, V4), "interface ppp0 does not exist");

    dial(&mut world, 7, "100.64.3.7");
    assert_eq!(masks(&world.after(ms(20_000))), [0x0002_0003]);
    assert_eq!(world.table(), ["0.0.0.0/0 dev 7 table 2601 metric 1"]);

    hang_up(&mut world, 7);
    let commands = world.run_until(world.now).decisions();
    assert_eq!(masks(&commands), [0x0002_0002], "at once");
    assert_eq!(ended(&commands), [(A, Family::Ipv4, vec![address("100.64.3.7")])]);

    dial(&mut world, 8, "100.64.9.1");
    let commands = world.after(ms(20_000));
    assert_eq!(addresses(&commands), [("100.64.3.7".into(), "100.64.9.1".into(), true)]);
    assert_eq!(masks(&commands), [0x0002_0003]);
    assert_eq!(world.table(), ["0.0.0.0/0 dev 8 table 2601 metric 1"]);
    // The provider gives out the same address again: flows that wait go on.
    hang_up(&mut world, 8);
    world.after(ms(1000));
    dial(&mut world, 9, "100.64.9.1");
    let commands = world.after(ms(30_000));
    assert_eq!((addresses(&commands), ended(&commands)), (vec![], vec![]));
    assert_eq!(masks(&commands).last(), Some(&0x0002_0003));
}

fn ppp(ifindex: u32, up: bool) -> Link {
    Link { up, point_to_point: true, ethernet: false, ..link(ifindex, "ppp0", up) }
}

fn dial(world: &mut World, ifindex: u32, own: &str) {
    let tell = |world: &mut World, event| {
        world.engine.handle_event(Event::Network(event), world.now);
        let soon = world.now + ms(3);
        world.run_until(soon);
    };
    world.kernel.links.insert(ifindex, ppp(ifindex, false));
    tell(world, NetworkEvent::Link(ppp(ifindex, false)));
    let held = Address { ifindex, prefix_length: 32, ..world.kernel.addresses[0] };
    world.kernel.addresses.push(Address { address: address(own), ..held });
    tell(world, NetworkEvent::Changed);
    world.kernel.links.insert(ifindex, ppp(ifindex, true));
    tell(world, NetworkEvent::Link(ppp(ifindex, true)));
    let route = Route { nexthop: None, ..default_route(ifindex, "192.0.2.9", 0) };
    world.kernel.routes.push(route);
    tell(world, NetworkEvent::Changed);
}

fn hang_up(world: &mut World, ifindex: u32) {
    world.kernel.links.remove(&ifindex);
    world.kernel.addresses.retain(|held| held.ifindex != ifindex);
    world.kernel.routes.retain(|route| route.ifindex != Some(ifindex));
    world.engine.handle_event(Event::Network(NetworkEvent::AddressGone { ifindex }), world.now);
    world.engine.handle_event(Event::Network(NetworkEvent::Link(ppp(ifindex, false))), world.now);
    world.engine.handle_event(Event::Network(NetworkEvent::LinkGone { ifindex }), world.now);
}

/// Checks a DHCP client that finds the default route of another one, and sets none.
#[test]
fn an_address_without_a_gateway_is_told_from_the_start() {
    let mut kernel = machine();
    kernel.routes.retain(|route| !is_default_of(route, 3, Family::Ipv4));
    let mut world = World::new(kernel);
    world.after(ms(5000));
    let health = world.engine.uplinks()[A as usize].family(Family::Ipv4).expect("it has IPv4");
    assert!(health.reason().to_string().contains("a metric of its own"), "{}", health.reason());
}

#[test]
fn a_gateway_that_becomes_static_ends_the_wait_for_the_route() {
    let mut world = both_up();
    world.change(|kernel| kernel.routes.retain(|route| !is_default_of(route, 3, V4)));
    assert_eq!(avoided(&world.after(ms(100))), [1]);
    let text = CONFIG.replace("weight = 30", "weight = 30\ngateway = \"203.0.113.1\"");
    reconfigure(&mut world, &text);
    let commands = world.after(10 * GRACE);
    assert_eq!((masks(&commands), avoided(&commands)), (vec![], vec![0]));
}

/// Returns a machine with both uplinks on one interface.
fn shared() -> (String, Snapshot) {
    let text = CONFIG
        .replace("weight = 30", "weight = 30\ngateway = \"203.0.113.1\"")
        .replace("interface = \"wan-b\"", "interface = \"wan-a\"")
        .replace("weight = 70", "weight = 70\ngateway = \"192.0.2.1\"");
    let mut kernel = machine();
    kernel.addresses.iter_mut().filter(|own| own.ifindex == 4).for_each(|own| own.ifindex = 3);
    kernel.routes.retain(|route| route.ifindex != Some(4));
    (text, kernel)
}

#[test]
fn an_address_that_is_gone_closes_no_other_uplink_of_the_interface() {
    let (text, kernel) = shared();
    let mut world = World::with_config(&text, kernel, UpMask::default());
    world.run_until(ms(1000)).heard();
    let before = world.table();
    assert_eq!(before.len(), 1, "{before:?}");
    world.change(|kernel| kernel.addresses.retain(|own| own.address != address("192.0.2.2")));
    let commands = world.after(GRACE - ms(100));
    assert_eq!(avoided(&commands), [1 << B], "{commands:#?}");
    assert_eq!(world.table(), before);
    let other = world
        .kernel
        .routes
        .iter()
        .find(|route| route.table == 2602 && route.metric == 1 && route.family() == V4);
    assert_eq!(other.map(|route| route.kind), Some(RouteKind::Blackhole));
}

/// Returns which local connections without a mark end with an uplink.
fn unmarked(commands: &[Command]) -> Vec<(u32, Unmarked)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::EndFlows { fwmark, unmarked, .. } => Some((*fwmark, *unmarked)),
        _ => None,
    });
    each.collect()
}

#[test]
fn local_connections_end_by_their_mark_and_others_only_where_the_address_tells_them() {
    let end = |text: &str, kernel: Snapshot| {
        let mut world = World::with_config(text, kernel, UpMask::default());
        let now = world.run_until(ms(1000)).now;
        world.heard();
        unmarked(&world.set_carrier(A, false).run_until(now).heard())
    };
    let alone = format!("local.balance = false\n{CONFIG}");
    assert_eq!(end(CONFIG, machine()), [(FWMARK[0], Unmarked::UnlessBalanced); 2]);
    assert_eq!(end(&alone, machine()), [(FWMARK[0], Unmarked::Outgoing); 2]);
    let mut twins = machine();
    twins.addresses[2].address = twins.addresses[1].address;
    let told = end(&alone, twins);
    assert_eq!(told, [Unmarked::None, Unmarked::Outgoing].map(|of| (FWMARK[0], of)));
}

#[test]
fn all_local_connections_from_an_address_that_is_gone_end() {
    let mut world = both_up();
    world.change(|kernel| {
        flush(kernel, 3);
        lease(kernel, "198.18.0.9", "198.18.0.1");
    });
    assert_eq!(unmarked(&world.after(ms(1000))), [(FWMARK[0], Unmarked::All)]);
}
