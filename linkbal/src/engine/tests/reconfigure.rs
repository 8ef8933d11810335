//! A change of the configuration while everything runs.

use super::*;
use crate::engine::{
    flows::Former,
    reconfigure::{refusal, renamed},
};

fn config(text: &str) -> Config {
    Config::parse(text, "test").expect("a valid configuration")
}

/// Reconfigures the engine with `text`, now.
fn reconfigure(world: &mut World, text: &str) -> Vec<Command> {
    reconfigure_requesting(world, text, &BTreeMap::new())
}

fn reconfigure_requesting(
    world: &mut World,
    text: &str,
    requested: &BTreeMap<String, AdminState>,
) -> Vec<Command> {
    let config = config(text);
    let known = world.engine.uplinks().indexed().into_iter();
    let known: Vec<Indexed> = known.collect();
    let mut indexes = indexed::indexes(&known, &BTreeMap::new());
    indexes.extend(renamed(&known, &config.uplinks));
    let indexed = indexed::assign(&config.uplinks, &indexes);
    world.engine.reconfigure(config, indexed, requested, world.now);
    let now = world.now;
    world.run_until(now).heard()
}

fn attached(commands: &[Command]) -> usize {
    commands.iter().filter(|command| matches!(command, Command::Attach(_))).count()
}

fn without_b() -> String {
    CONFIG.replace("[uplink.b]\ninterface = \"wan-b\"\nweight = 70\n", "")
}

#[test]
fn the_same_configuration_changes_the_datapath_and_nothing_else() {
    let mut world = both_up();
    let commands = reconfigure(&mut world, CONFIG);
    assert!(attached(&commands) > 0, "{commands:?}");
    let others = |command: &&Command| !matches!(command, Command::Attach(_));
    assert_eq!(commands.iter().filter(others).count(), 0, "{commands:?}");
    let a = &world.engine.uplinks()[A as usize];
    assert_eq!((a.state(), a.health.ipv4.since()), (State::Up, ms(5)), "no new verdict");
    let now = world.now;
    assert_eq!(world.run_until(now + ms(60_000)).decisions(), []);
}

#[test]
fn health_goes_on_by_the_new_probe() {
    let mut world = both_up();
    let text = CONFIG.replace("198.51.100.1", "198.51.100.9") + "interval = \"2s\"\n";
    assert!(masks(&reconfigure(&mut world, &text)).is_empty());
    let now = world.now;
    world.deaf = Some((A, address("198.51.100.1")));
    assert!(masks(&world.run_until(now + ms(10_000)).decisions()).is_empty());
    world.deaf = Some((A, address("198.51.100.9")));
    assert_eq!(masks(&world.run_until(now + ms(30_000)).decisions()), [0x0003_0002]);
}

#[test]
fn flows_of_a_removed_uplink_end_before_the_datapath_changes() {
    let mut world = both_up();
    let commands = reconfigure(&mut world, &without_b());
    assert_eq!(commands[0], Command::SetUpMask(UpMask(0x0001_0001)));
    assert!(matches!(commands[1], Command::EndFlows { uplink: B, family: Family::Ipv4, .. }));
    assert_eq!(forgotten(&commands[..5]), Family::ALL.map(|family| (family, FWMARK[1])));
    let attach = commands.iter().position(|command| matches!(command, Command::Attach(_)));
    assert!(attach.is_some_and(|at| at >= 5), "{commands:?}");
    let left = world.kernel.rules.iter().filter(|rule| rule.fwmark.is_some_and(|of| of.0 != 0));
    assert_eq!(left.count(), 2, "that of the other one, in each family");
    assert!(!world.kernel.routes.iter().any(|route| route.table == 2602));
}

#[test]
fn nothing_is_forgotten_while_no_uplink_is_usable() {
    let mut world = both_up();
    let cut = world.now;
    world.set_carrier(A, false).run_until(cut).heard();
    let commands = reconfigure(&mut world, &without_b());
    assert_eq!(masks(&commands), [0]);
    assert_eq!(forgotten(&commands), []);
    let now = world.now;
    let commands = world.set_carrier(A, true).run_until(now + ms(10_000)).heard();
    let forgotten = forgotten(&commands);
    assert!(forgotten.contains(&(Family::Ipv4, FWMARK[1])), "{forgotten:?}");
}

/// Starts with `text` beside a datapath of the usual configuration, with both uplinks up.
fn restart(text: &str) -> World {
    let indexed = |config: &Config| indexed::assign(&config.uplinks, &BTreeMap::new());
    let (before, config, up) = (indexed(&config(CONFIG)), config(text), UpMask(0x0003_0003));
    let now = indexed(&config);
    let former = Former::find(&before, &now, up);
    World::of(Engine::new(config, now, up, former, &BTreeMap::new(), ms(0)), machine())
}

#[test]
fn a_restart_ends_the_flows_of_an_uplink_that_is_gone_or_elsewhere() {
    for text in [without_b(), CONFIG.replace("\"wan-b\"", "\"wan-c\"")] {
        let mut world = restart(&text);
        let commands = world.run_until(ms(0)).heard();
        assert_eq!(commands[0], Command::SetUpMask(UpMask(0x0001_0001)), "{commands:?}");
        assert!(matches!(commands[1], Command::EndFlows { uplink: B, family: Family::Ipv4, .. }));
        assert_eq!(forgotten(&commands[..5]), Family::ALL.map(|family| (family, FWMARK[1])));
        assert_eq!(world.engine.uplinks()[A as usize].state(), State::Up);
        let all = world.run_until(ms(10_000)).heard();
        assert!(masks(&all).iter().all(|mask| *mask == 0x0001_0001), "{all:?}");
    }
    let mut world = restart(CONFIG);
    let commands = world.run_until(ms(0)).heard();
    assert_eq!((masks(&commands), forgotten(&commands)), (vec![], vec![]));
}

#[test]
fn what_a_datapath_has_up_is_cleared_even_if_its_configuration_is_lost() {
    let config = config(&without_b());
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let former = Former::find(&[], &indexed, UpMask(0x0001_0003));
    let expected = Former {
        index: B,
        interface: None,
        reset: true,
        stale: PerFamily { ipv4: true, ipv6: false },
    };
    assert_eq!(former, [expected]);
}

#[test]
fn a_restart_forgets_nothing_while_no_uplink_is_usable() {
    let config = config(&without_b());
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let former = Former::find(&[], &indexed, UpMask(0b10));
    let up = UpMask(0b10);
    let mut engine = Engine::new(config, indexed, up, former, &BTreeMap::new(), ms(0));
    assert_eq!(engine.next_command(), Some(Command::SetUpMask(UpMask(0))));
    assert_eq!(engine.next_command(), None);
    let mut world = World::of(engine, machine());
    let commands = world.run_until(ms(10_000)).heard();
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[1])]);
}

#[test]
fn an_uplink_that_was_removed_by_mistake_keeps_its_flows() {
    let mut world = both_up();
    let cut = world.now;
    world.set_carrier(B, false).run_until(cut).heard();
    // The other one is taken out: nothing is usable, so its flows are kept.
    let without_a = CONFIG.replace("[uplink.a]\ninterface = \"wan-a\"\nweight = 30\n", "");
    assert_ne!(without_a, CONFIG);
    assert_eq!(forgotten(&reconfigure(&mut world, &without_a)), []);
    let mut commands = reconfigure(&mut world, CONFIG);
    let now = world.now;
    commands.extend(world.run_until(now + ms(10_000)).heard());
    assert_eq!(masks(&commands).last(), Some(&0x0001_0001));
    assert_eq!(forgotten(&commands), [], "its own flows go on");
}

#[test]
fn what_waited_for_a_removed_uplink_moves() {
    let text = CONFIG.replace("weight = 70", "weight = 70\non_down = \"keep\"");
    let mut world = World::with_config(&text, machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let commands = reconfigure(&mut world, &without_b());
    assert!(!commands.iter().any(|command| matches!(command, Command::EndFlows { .. })));
    assert_eq!(forgotten(&commands).len(), 2);
}

#[test]
fn a_new_uplink_comes_up_after_it_is_in_place_and_answers() {
    let mut world = World::with_config(&without_b(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let commands = reconfigure(&mut world, CONFIG);
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
    let applied = commands.iter().position(|command| matches!(command, Command::Apply(_)));
    let up = commands.iter().position(|command| matches!(command, Command::SetUpMask(_)));
    assert!(applied < up, "{commands:?}");
}

#[test]
fn a_new_uplink_that_was_disabled_stays_so() {
    let mut world = World::with_config(&without_b(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let requested = BTreeMap::from([("b".to_owned(), AdminState::Disabled)]);
    reconfigure_requesting(&mut world, CONFIG, &requested);
    let now = world.now;
    world.run_until(now + ms(10_000));
    assert_eq!(world.engine.up(), UpMask(0x0001_0001));
    assert_eq!(world.engine.uplinks()[B as usize].state(), State::AdminDown);
}

#[test]
fn an_uplink_on_another_interface_is_another_one() {
    let mut world = both_up();
    let text = CONFIG.replace("\"wan-b\"", "\"wan-c\"");
    let commands = reconfigure(&mut world, &text);
    assert!(masks(&commands).iter().all(|mask| *mask == 0x0001_0001), "{commands:?}");
    assert_eq!(forgotten(&commands).len(), 2);
    let b = &world.engine.uplinks()[B as usize];
    assert_eq!(b.health.ipv4.reason().to_string(), "interface wan-c does not exist");
    assert_eq!(b.index, B, "its mark and its table stay");
}

#[test]
fn another_name_is_no_other_uplink() {
    let mut world = both_up();
    world.engine.handle_event(Event::Admin { uplink: B, admin: AdminState::Drained }, world.now);
    let now = world.now;
    world.run_until(now).heard();
    let commands = reconfigure(&mut world, &CONFIG.replace("uplink.b", "uplink.fiber"));
    assert!(masks(&commands).is_empty());
    assert_eq!(forgotten(&commands), []);
    let fiber = &world.engine.uplinks()[B as usize];
    assert_eq!((fiber.admin, fiber.config.name.as_str()), (AdminState::Drained, "fiber"));
}

#[test]
fn names_follow_their_uplinks_only_where_that_is_certain() {
    let before = indexed::assign(&config(CONFIG).uplinks, &BTreeMap::new());
    let names = |text: &str| renamed(&before, &config(text).uplinks);
    assert_eq!(names(CONFIG), BTreeMap::new());
    let both = CONFIG.replace("uplink.a", "uplink.x").replace("uplink.b", "uplink.y");
    assert_eq!(names(&both), BTreeMap::from([("x".into(), 0), ("y".into(), 1)]));
    let elsewhere = CONFIG.replace("uplink.b", "uplink.y").replace("wan-b", "wan-c");
    assert_eq!(names(&elsewhere), BTreeMap::new());
    let swapped = CONFIG.replace("\"wan-a\"", "\"x\"").replace("\"wan-b\"", "\"wan-a\"");
    assert_eq!(names(&swapped), BTreeMap::new(), "names that stay are what counts");
}

#[test]
fn the_index_of_a_former_uplink_is_given_away_last() {
    let before = indexed::assign(&config(CONFIG).uplinks, &BTreeMap::new());
    let indexes = indexed::indexes(&before, &BTreeMap::new());
    let next = config(&CONFIG.replace("uplink.b", "uplink.c").replace("wan-b", "wan-c"));
    let next = indexed::assign(&next.uplinks, &indexes);
    assert_eq!(next.iter().map(|each| each.index).collect::<Vec<_>>(), [0, 2]);
    let indexes = indexed::indexes(&next, &indexes);
    assert_eq!(indexes, BTreeMap::from([("a".into(), 0), ("b".into(), 1), ("c".into(), 2)]));
    let many = (0..16).map(|n| format!("[uplink.u{n:02}]\ninterface = \"wan{n}\"\n"));
    let many = format!("[lan]\ninterfaces = [\"lan0\"]\n{}", many.collect::<String>());
    let many = indexed::assign(&config(&many).uplinks, &indexes);
    assert_eq!(many.last().map(|each| each.index), Some(2), "when there is no other");
}

#[test]
fn connections_of_a_former_uplink_are_reset_as_was_said() {
    let both = indexed::assign(&config(CONFIG).uplinks, &BTreeMap::new());
    let one = indexed::assign(&config(&without_b()).uplinks, &BTreeMap::new());
    let before = indexed::on_down(&both, 0);
    assert_eq!((before, indexed::on_down(&one, before)), (0b11, 0b11));
    let moved = CONFIG.replace("weight = 70", "weight = 70\non_down = \"move\"");
    let moved = indexed::assign(&config(&moved).uplinks, &BTreeMap::new());
    assert_eq!(indexed::on_down(&moved, before), 0b01);
    assert_eq!(indexed::on_down(&one, 0b10 << 16), 0b01, "nobody waits for it");
}

#[test]
fn another_fwmark_mask_needs_a_restart() {
    let before = config(CONFIG);
    let after = config(&format!("{CONFIG}[kernel]\nfwmark_mask = 0x7f0000\n"));
    assert_eq!(refusal(&before, &before), None);
    let said = refusal(&before, &after).expect("a refusal");
    assert!(said.contains("from 0x7f000000 to 0x7f0000") && said.contains("restart"), "{said}");
    let others = config(&format!(
        "{CONFIG}[kernel]\nflow_table_size = 4096\ntable_base = 5000\nrule_priority = 100\n"
    ));
    assert_eq!(refusal(&before, &others), None);
}

#[test]
fn other_tables_and_priorities_take_the_place_of_the_old_ones() {
    let mut world = both_up();
    let text = format!("{CONFIG}[kernel]\ntable_base = 5000\nrule_priority = 100\n");
    reconfigure(&mut world, &text);
    let ours = |rule: &&IpRule| rule.protocol == PROTOCOL;
    assert!(world.kernel.rules.iter().filter(ours).all(|rule| rule.priority < 300));
    assert!(!world.kernel.routes.iter().any(|route| (2600..2700).contains(&route.table)));
    assert!(world.kernel.routes.iter().any(|route| route.table == 5001));
}

#[test]
fn domains_of_rules_are_resolved_once() {
    let rule = |name: &str| format!("{CONFIG}[[rule]]\nmatch = {{ domain = [{name:?}] }}\n");
    let mut world = World::with_config(&rule("a.example"), machine(), UpMask::default());
    let asked = |commands: Vec<Command>| -> Vec<String> {
        let names = commands.into_iter().filter_map(|command| match command {
            Command::Resolve { name } => Some(name),
            _ => None,
        });
        names.collect()
    };
    let commands = world.run_until(ms(1000)).heard();
    assert_eq!(asked(commands), ["a.example"]);
    let both = rule("a.example\", \"b.example").replace("\\\"", "\"");
    let mut commands = reconfigure(&mut world, &both);
    commands.extend(world.run_until(ms(2000)).heard());
    assert_eq!(asked(commands), ["b.example"]);
}

/// Checks an interface that vanishes while the changes of another configuration are under way.
#[test]
fn a_vanished_interface_is_not_ignored_until_everything_is_in_place() {
    let mut world = both_up();
    world.late = Some(Vec::new());
    let text = CONFIG.replace("[probe]", "[[rule]]\nmatch = { dport = 25 }\nuse = \"a\"\n[probe]");
    reconfigure(&mut world, &text.replace("weight = 70", "weight = 70\nnat = \"off\""));
    assert!(!world.engine.is_installed());
    world.kernel.links.remove(&IFINDEX[1]);
    let gone = NetworkEvent::LinkGone { ifindex: IFINDEX[1] };
    world.engine.handle_event(Event::Network(gone), world.now);
    let now = world.now;
    assert_eq!(masks(&world.run_until(now).heard()), [0x0001_0001]);
    // The uplink that is there goes on, and nothing is overdue for ever.
    for _ in 0..100 {
        let Some(due) = world.engine.poll_timeout() else { break };
        world.now = world.now.max(due);
        let now = world.now;
        world.engine.handle_timeout(now);
        while let Some(command) = world.engine.next_command() {
            world.perform(command);
        }
    }
    assert!(world.now > now + ms(1000), "{:?}", world.now - now);
    assert_eq!(world.engine.uplinks()[A as usize].state(), State::Up);
}

#[test]
fn rounds_of_an_uplink_without_an_interface_are_not_overdue() {
    let mut world = both_up();
    let ready = |world: &World| world.engine.uplinks()[B as usize].health.ipv4.is_ready();
    assert!(ready(&world));
    // Nobody has told the engine what it is to do about that.
    if let Some(snapshot) = world.engine.context.snapshot.as_mut() {
        snapshot.links.remove(&IFINDEX[1]);
    }
    for _ in 0..3 {
        let due = verdicts::deadline(&world.engine.context).expect("rounds");
        world.now = world.now.max(due);
        world.engine.handle_timeout(world.now);
        assert!(verdicts::deadline(&world.engine.context).is_some_and(|due| due > world.now));
    }
}
