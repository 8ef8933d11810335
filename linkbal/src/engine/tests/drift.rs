//! Repairs of what others undo.

use super::*;
use crate::engine::kernel::{
    conflict::survey::MarkChange,
    network::Unobserved,
    refusal::{KernelRefusal, Resource},
    resource::{Part, Process, ResourceKind},
};

/// Deletes something of ours, and tells the engine.
fn undo(world: &mut World, what: ResourceKind, undo: impl FnOnce(&mut Snapshot)) {
    undo(&mut world.kernel);
    let by = Some(Process { pid: 812, name: Some("NetworkManager".into()) });
    let event = NetworkEvent::ResourceChanged { what, by };
    world.engine.handle_event(Event::Network(event), world.now);
}

fn told(commands: &[Command]) -> Vec<&Report> {
    let reports = commands.iter().filter_map(|command| match command {
        Command::Report(report) => Some(report),
        _ => None,
    });
    reports.collect()
}

fn lose_rule(kernel: &mut Snapshot) {
    let lost = |rule: &IpRule| rule.priority == 26_100 && rule.family == Family::Ipv4;
    kernel.rules.retain(|rule| !lost(rule));
}

#[test]
fn what_is_undone_is_repaired_after_the_settling_time_and_told_with_who_did_it() {
    type Case = (ResourceKind, fn(&mut Snapshot), &'static str);
    let cases: [Case; 4] = [
        (ResourceKind::Rules, lose_rule, "ip rule 26100: ipv4 lookup main suppress_prefixlength 0"),
        (
            ResourceKind::Routes,
            |kernel| kernel.routes.retain(|route| route.table != 2602),
            "route 0.0.0.0/0 via 192.0.2.1 dev wan-b table 2602 metric 1",
        ),
        (ResourceKind::Nft, |kernel| kernel.nft_current = false, "nft table inet linkbal"),
        (
            ResourceKind::Sysctls,
            |kernel| drop(kernel.sysctls.insert("net/ipv4/ip_forward".into(), "0".into())),
            "sysctl net.ipv4.ip_forward = 1",
        ),
    ];
    for (kind, lose, name) in cases {
        let mut world = both_up();
        let before = world.kernel.clone();
        undo(&mut world, kind, lose);
        let now = world.now;
        world.run_until(now + SETTLE);
        let sorted = |kernel: &Snapshot| {
            let mut kernel = kernel.clone();
            kernel.rules.sort();
            kernel.routes.sort();
            kernel
        };
        assert_eq!(sorted(&world.kernel), sorted(&before), "{name}");
        let commands = world.decisions();
        let reports = told(&commands);
        let [Report::Repair { kind: of, what, by: Some(by), .. }] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!((*of, by.pid), (kind, 812));
        assert!(what.iter().any(|what| what == name), "{what:?}");
        // The news of our own change leads to nothing more.
        world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
        assert_eq!(world.run_until(now + ms(10_000)).decisions(), []);
    }
}

#[test]
fn a_repair_war_is_not_fought() {
    let mut world = both_up();
    let mut reports = Vec::new();
    let mut applied = 0;
    for round in 0..120 {
        undo(&mut world, ResourceKind::Rules, lose_rule);
        world.run_until(ms(1000 + 500 * (round + 1)));
        let commands = world.decisions();
        applied += commands.iter().filter(|each| matches!(each, Command::Apply(_))).count();
        reports.extend(told(&commands).into_iter().cloned());
    }
    // Five at once, and one in ten seconds for the rest of the minute.
    assert!((9..=11).contains(&applied), "{applied}");
    assert_eq!(reports.len(), 6, "{reports:?}");
    assert!(matches!(&reports[5], Report::Throttled { by: Some(_), pace: Some(_), .. }));
    assert_eq!(world.engine.drift().throttled().count(), 1);
    // Everything else is repaired as ever.
    undo(&mut world, ResourceKind::Nft, |kernel| kernel.nft_current = false);
    let now = world.now;
    world.run_until(now + ms(400));
    assert!(world.kernel.nft_current);
    // The other side gives up.
    world.run_until(now + ms(120_000));
    let commands = world.decisions();
    assert_eq!(world.kernel.rules.iter().filter(|rule| rule.priority == 26_100).count(), 2);
    let reports = told(&commands);
    assert!(matches!(reports[..], [Report::Repair { .. }, Report::Throttled { pace: None, .. }]));
    assert_eq!(world.engine.drift().throttled().count(), 0);
}

/// Lets a busy machine take some time for what was asked of it, without an answer to any probe.
fn be_busy(world: &mut World, time: Duration) {
    world.late = Some(Vec::new());
    let end = world.now + time;
    world.run_until(end);
    for command in world.late.take().unwrap_or_default() {
        world.perform(command);
    }
}

#[test]
fn probes_that_are_lost_while_something_is_undone_blame_nobody() {
    let mut world = both_up();
    let start = world.now;
    world.answers = [NONE_ANSWERS; 2];
    undo(&mut world, ResourceKind::Rules, lose_rule);
    // The observation takes its time, and so does the repair.
    be_busy(&mut world, ms(2000));
    be_busy(&mut world, ms(2000));
    world.answers = [ALL_ANSWER; 2];
    let commands = world.run_until(start + ms(10_000)).decisions();
    assert_eq!(masks(&commands), [0; 0], "{commands:#?}");
    assert_eq!(world.kernel.rules.iter().filter(|rule| rule.priority == 26_100).count(), 2);
    // Once that is over, silence counts as ever.
    world.answers[A as usize] = NONE_ANSWERS;
    let commands = world.run_until(start + ms(11_000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
}

#[test]
fn an_observation_from_before_ends_no_pause() {
    let mut world = both_up();
    world.late = Some(Vec::new());
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let now = world.now + SETTLE;
    world.run_until(now);
    assert!(matches!(world.late.as_deref(), Some([Command::Observe])), "it is under way");
    let before = world.kernel.clone();
    world.now += ms(1);
    world.answers = [NONE_ANSWERS; 2];
    undo(&mut world, ResourceKind::Rules, lose_rule);
    world.late = Some(Vec::new());
    world.engine.handle_event(Event::Observed(before), world.now);
    be_busy(&mut world, ms(2000));
    be_busy(&mut world, ms(2000));
    world.answers = [ALL_ANSWER; 2];
    let now = world.now + ms(5000);
    let commands = world.run_until(now).decisions();
    assert_eq!(masks(&commands), [0; 0], "{commands:#?}");
}

#[test]
fn a_repair_that_is_never_made_pauses_probes_for_5_seconds() {
    let mut world = both_up();
    let start = world.now;
    world.answers[A as usize] = NONE_ANSWERS;
    undo(&mut world, ResourceKind::Rules, lose_rule);
    world.late = Some(Vec::new());
    let commands = world.run_until(start + ms(7000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
}

#[test]
fn a_dead_uplink_is_found_during_a_repair_war() {
    let mut world = both_up();
    world.answers[A as usize] = NONE_ANSWERS;
    let found = (0..120).find(|_| {
        undo(&mut world, ResourceKind::Rules, lose_rule);
        let next = world.now + ms(100);
        world.run_until(next);
        masks(&world.decisions()).last() == Some(&0x0002_0002)
    });
    assert!(found.is_some_and(|round| round < 30), "{found:?}");
}

#[test]
fn what_the_kernel_drops_with_an_interface_is_no_interference() {
    let mut world = both_up();
    let down = Link { up: false, carrier: false, ..link(4, "wan-b", false) };
    world.engine.handle_event(Event::Network(NetworkEvent::Link(down)), world.now);
    world.kernel.routes.retain(|route| route.ifindex != Some(4) || route.table == TABLE_MAIN);
    world.set_carrier(B, true);
    world.run_until(ms(3000));
    let commands = world.decisions();
    let repairs = told(&commands).into_iter().filter(|each| matches!(each, Report::Repair { .. }));
    assert_eq!(repairs.count(), 0, "{commands:#?}");
    assert!(
        world.kernel.routes.iter().any(|route| route.table == 2602 && route.ifindex == Some(4))
    );
}

/// Checks an observation that was under way when a verdict changed routes: it does not show them
/// yet.
#[test]
fn what_was_not_there_yet_was_not_undone() {
    let mut world = both_up();
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let now = world.now + SETTLE;
    world.engine.handle_timeout(now);
    while let Some(command) = world.engine.next_command() {
        assert!(!matches!(command, Command::Apply(_)));
    }
    let old = world.kernel.clone();
    world.now = now;
    world.set_carrier(B, false).run_until(now);
    world.engine.handle_event(Event::Observed(old), now);
    world.run_until(now + ms(1000));
    let commands = world.decisions();
    let repairs = told(&commands).into_iter().filter(|each| matches!(each, Report::Repair { .. }));
    assert_eq!(repairs.count(), 0, "{commands:#?}");
}

#[test]
fn missing_parts_of_the_datapath_are_restored_until_they_are_throttled() {
    let mut world = both_up();
    let parts = || vec![Part::Pin("FLOWS".into()), Part::Local];
    for round in 0..20 {
        world.engine.handle_event(Event::DatapathPartsMissing(parts()), ms(1000 + round));
    }
    let commands = world.run_until(ms(1100)).decisions();
    let restored = commands.iter().filter(|each| **each == Command::Restore(parts()));
    assert_eq!(restored.count(), 5);
    assert_eq!(world.engine.drift().throttled().count(), 2);
}

#[test]
fn a_storm_of_news_is_observed_at_its_pace() {
    let mut world = both_up();
    let mut observed = 0;
    for at in 0..10_000 {
        world.now = ms(1000 + at);
        let veth = Link { ifindex: 100 + at as u32 % 50, ..link(100, "veth", at % 2 == 0) };
        world.engine.handle_event(Event::Network(NetworkEvent::Link(veth)), world.now);
        world.engine.handle_timeout(world.now);
        while let Some(command) = world.engine.next_command() {
            observed += usize::from(command == Command::Observe);
            world.perform(command);
        }
    }
    assert!((30..80).contains(&observed), "{observed} observations in 10 s");
}

#[test]
fn a_refusal_is_told_once_and_so_is_its_end() {
    let mut world = both_up();
    let what = "sysctl net.ipv4.ip_forward = 1".to_owned();
    let path = || "net/ipv4/ip_forward".to_owned();
    for at in [2000, 3000] {
        world.kernel.sysctls.insert(path(), "0".into());
        world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
        world.run_until(ms(at));
        let refusal = KernelRefusal {
            resource: Resource::Sysctl { path: path(), value: "1".into() },
            errno: Some(30),
            message: "Read-only file system".into(),
        };
        world.engine.handle_event(Event::NotApplied(vec![refusal]), world.now);
        world.kernel.sysctls.insert(path(), "0".into());
    }
    world.run_until(ms(3500));
    let commands = world.decisions();
    let troubles =
        told(&commands).into_iter().filter(|each| matches!(each, Report::Refused { .. }));
    assert_eq!(troubles.count(), 1);
    assert!(world.engine.refused()[&what].contains("docker run --sysctl"));
    world.kernel.sysctls.insert(path(), "1".into());
    world.run_until(ms(40_000));
    let commands = world.decisions();
    let over = Report::Refused { what, problem: None };
    assert_eq!(told(&commands), [&over]);
    assert!(world.engine.refused().is_empty());
}

/// Checks that what cannot be observed is neither repaired nor taken for undone.
#[test]
fn what_cannot_be_observed_is_told_once_and_so_is_its_end() {
    let mut world = both_up();
    let what = "the program nft".to_owned();
    let silent = (Unobserved::Nft, "nft did not answer within 10 s and was killed".to_owned());
    world.kernel.unobserved = [silent].into();
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let commands = world.run_until(ms(100_000)).decisions();
    let [Report::Refused { problem: Some(problem), .. }] = told(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert!(problem.contains("not seen") && problem.contains("10 s"), "{problem}");
    assert_eq!(world.engine.refused().len(), 1);
    world.kernel.unobserved.clear();
    let commands = world.run_until(ms(200_000)).decisions();
    assert_eq!(told(&commands), [&Report::Refused { what, problem: None }]);
    assert!(world.engine.refused().is_empty());
}

#[test]
fn conflicts_are_told_when_they_come_and_when_they_go() {
    let mut world = both_up();
    let foreign = IpRule { protocol: 18, table: 77, ..born_rule(Family::Ipv4) };
    world.kernel.rules.push(IpRule { priority: 26_050, ..foreign });
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let commands = world.run_until(ms(2000)).decisions();
    let [Report::Conflict { conflict, there: true }] = told(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert!(conflict.owner == "keepalived" && !conflict.compatible);
    assert!(world.engine.conflicts().contains(conflict));
    world.kernel.rules.pop();
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let commands = world.run_until(ms(3000)).decisions();
    assert!(matches!(told(&commands)[..], [Report::Conflict { there: false, .. }]));
    // What the rule may have led elsewhere is looked at again before that.
    assert_eq!(world.run_until(ms(5000)).decisions(), []);
    // A table of somebody else's that changes is looked at, once its changes have settled.
    let by = Some(Process { pid: 812, name: Some("firewalld".into()) });
    let changed = || Event::Network(NetworkEvent::OtherTables { by: by.clone() });
    let chain = "inet a b".into();
    let mark = MarkChange { chain, of_connection: false, bits: !0, rules: vec![], by: None };
    world.survey.marks.push(mark);
    world.engine.handle_event(changed(), world.now);
    let commands = world.run_until(ms(5050)).decisions();
    let [Report::Conflict { conflict, there: true }] = told(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(conflict.owner, "firewalld (process 812)");
    // A process that changes things all the time is not looked at all the time.
    world.engine.handle_event(changed(), world.now);
    assert_eq!(world.engine.conflicts.survey_at(&world.engine.context), Some(ms(6050)));
    assert_eq!(world.run_until(ms(9000)).decisions(), []);
}

/// Returns whether the nft table is written with the MTU of an uplink.
fn has_mtu(commands: &[Command]) -> bool {
    let written = commands.iter().rev().find_map(|command| match command {
        Command::Apply(changes) => changes.iter().find_map(|change| match change {
            Change::ReplaceNft(text) => Some(text),
            _ => None,
        }),
        _ => None,
    });
    written.is_some_and(|text| text.contains("maxseg"))
}

fn set_mtu(world: &mut World) {
    let text = CONFIG.replace("weight = 30", "weight = 30\nmtu = 1400");
    reconfigure(world, &text);
}

#[test]
fn a_text_of_the_nft_table_that_is_held_back_is_written_later() {
    let mut world = both_up();
    for at in [1100, 1200, 1300, 1400, 1500, 12_000, 12_100] {
        undo(&mut world, ResourceKind::Nft, |kernel| kernel.nft_current = false);
        world.run_until(ms(at)).heard();
    }
    assert_eq!(world.engine.drift().throttled().count(), 1);
    assert!(world.kernel.nft_current, "it was repaired at the slow pace");
    set_mtu(&mut world);
    let now = world.now;
    assert!(!has_mtu(&world.run_until(now + ms(1000)).decisions()), "it waits");
    assert!(has_mtu(&world.run_until(now + ms(11_000)).decisions()));
}

#[test]
fn a_text_of_the_nft_table_that_was_refused_is_written_again() {
    let mut world = both_up();
    set_mtu(&mut world);
    let now = world.now;
    assert!(has_mtu(&world.run_until(now).heard()));
    // The table in force is an older one, which nobody else touched.
    let refusal = KernelRefusal {
        resource: Resource::NftTable,
        errno: None,
        message: "nft has not answered".into(),
    };
    world.engine.handle_event(Event::NotApplied(vec![refusal]), world.now);
    assert!(has_mtu(&world.run_until(now + ms(40_000)).decisions()));
}
