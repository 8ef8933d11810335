//! Shortcuts, and what keeps flows from them.

use super::*;
use crate::engine::{
    kernel::network::Tunnel,
    obstacles::{Obstacle, Obstacles, Scope},
};

const WITH_SHORTCUTS: &str = "[accelerate]\nmode = \"ebpf\"\n";

/// Returns what the kernel answers if there is nothing but linkbal.
fn nothing() -> Obstacles {
    Obstacles { everywhere: None, ingress: [2, 3, 4].map(|ifindex| (ifindex, None)).into() }
}

fn scopes(commands: &[Command]) -> Vec<Scope> {
    let each = commands.iter().filter_map(|command| match command {
        Command::SetShortcuts(scope) => Some(scope.clone()),
        _ => None,
    });
    each.collect()
}

fn said(commands: &[Command]) -> Vec<(String, bool)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::Report(Report::Shortcuts { obstacle, there }) => {
            Some((obstacle.to_string(), *there))
        }
        _ => None,
    });
    each.collect()
}

fn world(more: &str) -> World {
    let config = format!("{CONFIG}\n{WITH_SHORTCUTS}{more}");
    let mut world = World::with_config(&config, machine(), UpMask::default());
    world.run_until(ms(1000));
    world
}

fn told(world: &mut World, obstacles: &Obstacles) -> Vec<Command> {
    world.engine.handle_event(Event::Obstacles(obstacles.clone()), world.now);
    world.run_until(world.now).heard()
}

fn scope(uplinks: u32, left_out: &[u32]) -> Scope {
    Scope { uplinks, left_out: left_out.iter().copied().collect() }
}

#[test]
fn there_are_no_shortcuts_before_it_is_known_what_they_pass_by() {
    let mut world = world("");
    assert_eq!(scopes(&world.heard()), []);
    let half = Obstacles { ingress: [(3, None)].into(), ..Obstacles::default() };
    assert_eq!(scopes(&told(&mut world, &half)), [scope(0b01, &[2])]);
    assert_eq!(scopes(&told(&mut world, &nothing())), [scope(0b11, &[])]);
    assert_eq!(scopes(&told(&mut world, &nothing())), []);
}

#[test]
fn ipsec_policies_end_all_shortcuts_and_a_filter_those_of_its_interface() {
    let mut world = world("");
    told(&mut world, &nothing());
    let ipsec = Obstacles { everywhere: Some("IPsec policies exist".into()), ..nothing() };
    let commands = told(&mut world, &ipsec);
    assert_eq!(scopes(&commands), [scope(0, &[2])]);
    assert_eq!(said(&commands), [("IPsec policies exist".to_owned(), true)]);
    let commands = told(&mut world, &nothing());
    assert_eq!(scopes(&commands), [scope(0b11, &[])]);
    assert_eq!(said(&commands), [("IPsec policies exist".to_owned(), false)]);
    for (ifindex, uplinks, left_out) in [(2, 0b11, &[2][..]), (4, 0b01, &[])] {
        let mut filter = nothing();
        filter.ingress.insert(ifindex, Some("tc filter u32 (pref 1)".into()));
        let commands = told(&mut world, &filter);
        assert_eq!(scopes(&commands), [scope(uplinks, left_out)]);
        assert!(said(&commands).iter().any(|(_, there)| *there), "{commands:?}");
        assert_eq!(said(&told(&mut world, &nothing())).len(), 1);
    }
}

#[test]
fn a_tunnel_that_needs_the_route_of_each_packet_has_none() {
    let mut machine = machine();
    let sixrd = Tunnel { by_route: true, ..Tunnel::default() };
    machine.tunnels = [(2, sixrd.clone()), (4, sixrd)].into();
    let config = format!("{CONFIG}\n{WITH_SHORTCUTS}");
    let mut world = World::with_config(&config, machine, UpMask::default());
    world.run_until(ms(1000));
    let commands = told(&mut world, &nothing());
    assert_eq!(scopes(&commands), [scope(0b01, &[2])]);
    let why = world.engine.obstacle_of_lan("lan0");
    assert_eq!(why, Some(Obstacle::Driver { interface: "lan0".into() }));
}

#[test]
fn what_the_configuration_leaves_out_is_no_news() {
    let mut world = world("except = [\"lan0\"]\n");
    let mut filters = nothing();
    filters.ingress.insert(2, Some("tc filter u32 (pref 1)".into()));
    let commands = told(&mut world, &filters);
    assert_eq!((scopes(&commands), said(&commands)), (vec![scope(0b11, &[2])], vec![]));
    let why = world.engine.obstacle_of_lan("lan0");
    assert_eq!(why, Some(Obstacle::Configured("[accelerate] leaves it out")));
}

#[test]
fn another_datapath_is_told_again() {
    let mut world = world("");
    told(&mut world, &nothing());
    let text = format!("{CONFIG}\n{WITH_SHORTCUTS}");
    let config = Config::parse(&text, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &Default::default());
    world.engine.reconfigure(config, indexed, &BTreeMap::new(), world.now);
    let commands = world.run_until(world.now).heard();
    let at = |wanted: fn(&Command) -> bool| commands.iter().position(wanted).expect("a command");
    let told = at(|command| matches!(command, Command::SetShortcuts(_)));
    assert!(told < at(|command| matches!(command, Command::Attach(_))), "{commands:?}");
    assert_eq!(scopes(&commands), [scope(0b11, &[])]);
}

#[test]
fn there_are_no_shortcuts_while_connection_tracking_would_take_their_packets_for_invalid() {
    const LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
    let config = format!("{CONFIG}\n{WITH_SHORTCUTS}");
    let mut machine = machine();
    machine.sysctls.insert(LIBERAL.into(), "0".into());
    let mut world = World::with_config(&config, machine, UpMask::default());
    world.run_until(ms(1000));
    assert_eq!(world.kernel.sysctls[LIBERAL], "1");
    assert_eq!(scopes(&told(&mut world, &nothing())), [scope(0b11, &[])]);
    world.kernel.sysctls.insert(LIBERAL.into(), "0".into());
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let commands = world.run_until(ms(2000)).heard();
    assert_eq!(scopes(&commands)[0], scope(0, &[2]), "{commands:?}");
}
