//! The engine with a clock in hand.

use std::{mem, net::IpAddr};

use crate::{
    config::Target,
    per_family::{PerFamily, other},
};

use super::{
    event::Lifetime,
    health::State,
    kernel::{
        conflict::survey::Survey,
        network::{
            Address, Change, IpRule, Link, NetworkEvent, PROTOCOL, Role, Route, RouteKind,
            Snapshot, TABLE_MAIN,
        },
        reconcile::SETTLE,
    },
    *,
};

mod admin;
mod bond;
mod drift;
mod ipv6;
mod lease;
mod quality;
mod reconfigure;
mod shortcuts;
mod standby;
mod traffic;

const CONFIG: &str = r#"
[lan]
interfaces = ["lan0"]
[uplink.a]
interface = "wan-a"
weight = 30
[uplink.b]
interface = "wan-b"
weight = 70
[probe]
targets = ["198.51.100.1", "2001:db8:ff::1"]
timeout = "200ms"
"#;

const NONE_ANSWERS: PerFamily<bool> = PerFamily { ipv4: false, ipv6: false };
const ALL_ANSWER: PerFamily<bool> = PerFamily { ipv4: true, ipv6: true };

const A: u32 = 0;
const B: u32 = 1;
const IFINDEX: [u32; 2] = [3, 4];
const FWMARK: [u32; 2] = [0x0100_0000, 0x0200_0000];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn link(ifindex: u32, name: &str, carrier: bool) -> Link {
    Link {
        ifindex,
        name: name.into(),
        up: true,
        carrier,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn default_route(ifindex: u32, nexthop: &str, metric: u32) -> Route {
    let nexthop = address(nexthop);
    let everything = if nexthop.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    Route {
        table: TABLE_MAIN,
        destination: everything.parse().expect("a prefix"),
        metric,
        kind: RouteKind::Unicast,
        nexthop: Some(nexthop),
        ifindex: Some(ifindex),
        onlink: false,
        protocol: 16,
        mtu: None,
    }
}

fn born_rule(family: Family) -> IpRule {
    IpRule {
        family,
        priority: 32_766,
        source: None,
        destination: None,
        from_here: false,
        fwmark: None,
        device: None,
        table: TABLE_MAIN,
        suppress_prefix_length: None,
        forwarded_goto: None,
        protocol: 2,
        more: String::new(),
    }
}

/// Returns a LAN and two uplinks with both families, as DHCP and router advertisements leave them.
fn machine() -> Snapshot {
    let links = [link(2, "lan0", true), link(3, "wan-a", true), link(4, "wan-b", true)];
    let held = |ifindex, text| Address {
        ifindex,
        address: address(text),
        prefix_length: 24,
        deprecated: false,
        temporary: false,
        held: false,
    };
    Snapshot {
        tunnels: BTreeMap::new(),
        sysctls_before: BTreeMap::new(),
        sysctls_set: BTreeMap::new(),
        filtered: Default::default(),
        links: links.map(|link| (link.ifindex, link)).into(),
        addresses: vec![
            held(2, "10.0.0.1"),
            held(3, "203.0.113.2"),
            held(4, "192.0.2.2"),
            Address { prefix_length: 64, ..held(3, "2001:db8:a::2") },
            Address { prefix_length: 64, ..held(4, "2001:db8:b::2") },
        ],
        routes: vec![
            default_route(3, "203.0.113.1", 100),
            default_route(4, "192.0.2.1", 200),
            default_route(3, "fe80::1", 100),
            default_route(4, "fe80::2", 200),
        ],
        rules: Family::ALL.map(born_rule).into(),
        sysctls: [("net/ipv4/ip_forward".to_owned(), "0".to_owned())].into(),
        nft_current: false,
        flowtable_stale: false,
        bonding: None,
        unobserved: BTreeMap::new(),
    }
}

/// An engine, its kernel and its lines.
struct World {
    engine: Engine,
    kernel: Snapshot,
    now: Duration,
    /// Set if the targets answer, by uplink and family.
    answers: [PerFamily<bool>; 2],
    /// An uplink, and an address that never answers by it.
    deaf: Option<(u32, IpAddr)>,
    /// Reason with which probes that are not answered fail at once; `None`: they are lost.
    failure: Option<&'static str>,
    /// Observations and changes that a busy machine has yet to make; `None`: it is not busy.
    late: Option<Vec<Command>>,
    /// The nft tables of others.
    survey: Survey,
    /// Commands other than probes and observations, with their times.
    heard: Vec<(Duration, Command)>,
}

impl World {
    fn new(kernel: Snapshot) -> World {
        World::with_up_mask(kernel, UpMask::default())
    }

    fn with_up_mask(kernel: Snapshot, up: UpMask) -> World {
        World::with_config(CONFIG, kernel, up)
    }

    fn with_config(text: &str, kernel: Snapshot, up: UpMask) -> World {
        World::with_admin(text, kernel, up, &BTreeMap::new())
    }

    fn with_admin(
        text: &str,
        kernel: Snapshot,
        up: UpMask,
        requested: &BTreeMap<String, AdminState>,
    ) -> World {
        let config = Config::parse(text, "test").expect("a valid configuration");
        let indexed = indexed::assign(&config.uplinks, &Default::default());
        let engine = Engine::new(config, indexed, up, Vec::new(), requested, ms(0));
        World::of(engine, kernel)
    }

    fn of(engine: Engine, kernel: Snapshot) -> World {
        World {
            engine,
            kernel,
            now: ms(0),
            answers: [ALL_ANSWER; 2],
            deaf: None,
            failure: None,
            late: None,
            survey: Survey::default(),
            heard: Vec::new(),
        }
    }

    /// Lets time pass, and acts like the daemon.
    fn run_until(&mut self, end: Duration) -> &mut World {
        loop {
            while let Some(command) = self.engine.next_command() {
                self.perform(command);
            }
            match self.engine.poll_timeout() {
                Some(due) if due <= end => self.now = self.now.max(due),
                _ => break,
            }
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
        self
    }

    fn perform(&mut self, command: Command) {
        if let Some(late) = &mut self.late
            && matches!(command, Command::Observe | Command::Apply(_))
        {
            return late.push(command);
        }
        match command {
            Command::Observe => {
                let observed = Event::Observed(self.kernel.clone());
                self.engine.handle_event(observed, self.now);
            }
            Command::Survey(_) => {
                let surveyed = Event::Surveyed(self.survey.clone());
                self.engine.handle_event(surveyed, self.now);
            }
            Command::SendProbes { uplink, family, fwmark, round, targets, .. } => {
                let at = uplink as usize;
                assert_eq!(fwmark, FWMARK[at]);
                for target in targets {
                    let deaf = self.deaf.map(|(at, address)| (at, Target::Echo(address)));
                    if deaf == Some((uplink, target.clone())) {
                        continue;
                    }
                    if self.answers[at][family] {
                        let answer = Event::ProbeAnswer { uplink, family, target, round };
                        self.engine.handle_event(answer, self.now + ms(5));
                    } else if let Some(reason) = self.failure {
                        let reason = reason.to_owned();
                        let failed = Event::ProbeFailed {
                            uplink,
                            family,
                            target,
                            round,
                            reason,
                            kind: None,
                        };
                        self.engine.handle_event(failed, self.now);
                    }
                }
            }
            other => {
                let applied = if let Command::Apply(changes) = &other {
                    kernel::diff::assume(&mut self.kernel, changes);
                    true
                } else {
                    false
                };
                self.heard.push((self.now, other));
                if applied {
                    self.engine.handle_event(Event::Applied, self.now);
                }
            }
        }
    }

    /// Sets the carrier of an uplink's link, and tells the engine.
    fn set_carrier(&mut self, uplink: u32, carrier: bool) -> &mut World {
        let at = uplink as usize;
        let link = link(IFINDEX[at], ["wan-a", "wan-b"][at], carrier);
        self.kernel.links.insert(link.ifindex, link.clone());
        self.engine.handle_event(Event::Network(NetworkEvent::Link(link)), self.now);
        self
    }

    fn heard(&mut self) -> Vec<Command> {
        mem::take(&mut self.heard).into_iter().map(|(_, command)| command).collect()
    }

    /// Returns the commands that were heard, without those that every observation brings.
    fn decisions(&mut self) -> Vec<Command> {
        let regular = |command: &Command| {
            use Command::{
                AdoptConnections, Attach, SetBypass, SetUplinkAddresses, SetUplinkInterfaces,
                SetUplinkMtu,
            };
            matches!(
                command,
                AdoptConnections(_)
                    | Attach(_)
                    | SetBypass(_)
                    | SetUplinkAddresses(_)
                    | SetUplinkInterfaces(_)
                    | SetUplinkMtu(_)
            )
        };
        self.heard().into_iter().filter(|command| !regular(command)).collect()
    }
}

fn forgotten(commands: &[Command]) -> Vec<(Family, u32)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::ForgetConnections { family, fwmark } => Some((*family, *fwmark)),
        _ => None,
    });
    each.collect()
}

fn masks(commands: &[Command]) -> Vec<u32> {
    let each = commands.iter().filter_map(|command| match command {
        Command::SetUpMask(mask) => Some(mask.0),
        _ => None,
    });
    each.collect()
}

fn reports(commands: &[Command]) -> Vec<(String, Family, State)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::Report(Report::Uplink { uplink, family, transition, .. }) => {
            Some((uplink.clone(), *family, transition.to))
        }
        _ => None,
    });
    each.collect()
}

/// Returns the command that attaches the LAN and both uplinks.
fn attached() -> Command {
    let uplinks = [link(3, "wan-a", true), link(4, "wan-b", true)];
    let lan = vec![(Role::Lan, link(2, "lan0", true))];
    Command::Attach([lan, uplinks.map(|link| (Role::Wan, link)).into()].concat())
}

/// Goes on with another configuration.
fn reconfigure(world: &mut World, text: &str) {
    let config = Config::parse(text, "test").expect("a valid configuration");
    let indexed = indexed::assign(&config.uplinks, &Default::default());
    world.engine.reconfigure(config, indexed, &BTreeMap::new(), world.now);
}

fn both_up() -> World {
    let mut world = World::new(machine());
    world.run_until(ms(1000)).heard();
    world
}

#[test]
fn at_the_start_everything_is_installed_and_the_first_answers_bring_the_uplinks_up() {
    let mut world = World::new(machine());
    let commands = world.run_until(ms(100)).heard();
    // A program that begins to run knows the network.
    let attached = commands.iter().position(|command| *command == attached());
    let attached = attached.expect("the datapath is attached");
    let known: Vec<_> = commands[..attached].iter().map(mem::discriminant).collect();
    let told = [
        Command::SetUplinkAddresses(BTreeMap::new()),
        Command::SetUplinkMtu(BTreeMap::new()),
        Command::SetUplinkInterfaces(BTreeMap::new()),
    ];
    assert_eq!(known, told.map(|command| mem::discriminant(&command)));
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
    assert_eq!(reports(&commands).len(), 4);
    let table = |id| world.kernel.routes.iter().filter(move |route| route.table == id);
    assert_eq!(table(2601).count(), 4, "a default route and a refusal in each family");
    assert!(table(2602).any(|route| route.nexthop == Some(address("192.0.2.1"))));
    // By weight the second uplink takes what carries no mark.
    assert!(table(2600).any(|route| route.nexthop == Some(address("192.0.2.1"))));
    assert_eq!(world.kernel.sysctls["net/ipv4/ip_forward"], "1");
    assert!(world.kernel.nft_current);
}

#[test]
fn what_is_in_place_is_not_touched_again() {
    let mut world = both_up();
    let commands = world.run_until(ms(120_000)).decisions();
    assert_eq!(commands, []);
}

#[test]
fn rules_ask_for_the_device_then_the_mark_or_main_then_the_source() {
    let world = both_up();
    let rules = world.kernel.rules.iter();
    let mut ours: Vec<_> =
        rules.filter(|rule| rule.protocol == PROTOCOL && rule.family == Family::Ipv4).collect();
    ours.sort_by_key(|rule| rule.priority);
    assert_eq!(
        ours.iter().map(|rule| rule.table).collect::<Vec<_>>(),
        [0, 2601, 2602, 254, 2601, 2602, 254, 2601, 2602, 2600]
    );
    assert_eq!(ours[0].forwarded_goto, Some(ours[3].priority));
    assert_eq!((ours[1].device.as_deref(), ours[1].fwmark), (Some("wan-a"), None));
    assert_eq!(ours[3].fwmark, Some((0, 0x1f00_0000)));
    assert_eq!(ours[4].fwmark, Some((FWMARK[0], 0x1f00_0000)));
    assert_eq!([3, 6].map(|at: usize| ours[at].suppress_prefix_length), [Some(0); 2]);
    assert_eq!(ours[7].source, Some("203.0.113.2/32".parse().expect("a prefix")));
}

#[test]
fn a_lost_carrier_counts_at_once_and_in_the_right_order() {
    let mut world = both_up();
    let cut = world.now;
    world.set_carrier(B, false).run_until(cut);
    let commands = world.heard();
    assert_eq!(commands[0], Command::SetUpMask(UpMask(0x0001_0001)));
    for (family, at) in [(Family::Ipv4, 1), (Family::Ipv6, 3)] {
        assert!(matches!(&commands[at], Command::EndFlows { uplink: B, family: of, own, .. }
                if *of == family && own.iter().all(|own| own.is_ipv4() == (family == Family::Ipv4))));
        assert_eq!(forgotten(&commands[at + 1..at + 2]), [(family, FWMARK[1])]);
    }
    let Command::Apply(changes) = &commands[5] else { panic!("{:?}", commands[5]) };
    assert!(changes.iter().any(|change| matches!(
        change,
        Change::ReplaceRoute(route) if route.table == 2600 && route.ifindex == Some(3)
    )));
    let down = |family| ("b".to_owned(), family, State::Down);
    assert_eq!(reports(&commands[6..]), [down(Family::Ipv4), down(Family::Ipv6)]);
    assert_eq!(commands.len(), 8);
}

/// Checks that `on_down` of the dead uplink decides about its flows.
#[test]
fn flows_of_a_dead_uplink_can_move_or_wait() {
    for (on_down, ended, forgotten_families) in [("move", 0, 2), ("keep", 0, 0), ("reset", 2, 2)] {
        let line = format!("weight = 70\non_down = \"{on_down}\"");
        let text = CONFIG.replace("weight = 70", &line);
        let mut world = World::with_config(&text, machine(), UpMask::default());
        world.run_until(ms(1000)).heard();
        let cut = world.now;
        world.set_carrier(B, false).run_until(cut);
        let commands = world.heard();
        let ends = commands.iter().filter(|each| matches!(each, Command::EndFlows { .. }));
        assert_eq!(ends.count(), ended, "{on_down}");
        assert_eq!(forgotten(&commands).len(), forgotten_families, "{on_down}");
    }
}

#[test]
fn silence_is_noticed_within_a_second_and_the_other_uplink_is_not_touched() {
    let mut world = both_up();
    world.answers[A as usize] = NONE_ANSWERS;
    let start = world.now;
    world.run_until(start + ms(1000));
    let commands = world.decisions();
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[0]), (Family::Ipv6, FWMARK[0])]);
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
    assert!(reports(&commands).iter().all(|(name, ..)| name == "a"));
}

#[test]
fn one_family_can_die_alone() {
    let mut world = both_up();
    world.answers[A as usize].ipv6 = false;
    let start = world.now;
    let commands = world.run_until(start + ms(10_000)).decisions();
    assert_eq!(masks(&commands), [0x0002_0003]);
    assert_eq!(forgotten(&commands), [(Family::Ipv6, FWMARK[0])]);
}

#[test]
fn recovery_returns_the_same_mask_and_forgets_nothing() {
    let mut world = both_up();
    world.answers[A as usize] = NONE_ANSWERS;
    world.run_until(ms(5000)).heard();
    world.answers[A as usize] = ALL_ANSWER;
    let commands = world.run_until(ms(20_000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
    assert_eq!(forgotten(&commands), []);
    assert_eq!(reports(&commands).len(), 2);
}

#[test]
fn with_no_way_left_nothing_is_forgotten_until_there_is_one() {
    let mut world = both_up();
    world.answers = [PerFamily { ipv4: false, ipv6: true }, ALL_ANSWER];
    world.run_until(ms(3000)).heard();
    world.answers = [PerFamily { ipv4: false, ipv6: true }; 2];
    let commands = world.run_until(ms(6000)).decisions();
    assert_eq!(masks(&commands), [0x0003_0000]);
    assert_eq!(forgotten(&commands), []);
    // The first one to come back: the flows of the other one can go there now.
    world.answers = [ALL_ANSWER, PerFamily { ipv4: false, ipv6: true }];
    let commands = world.run_until(ms(20_000)).decisions();
    assert_eq!(masks(&commands), [0x0003_0001]);
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[1])]);
}

#[test]
fn an_uplink_that_comes_back_first_keeps_its_own_flows() {
    let mut world = both_up();
    world.answers[A as usize] = PerFamily { ipv4: false, ipv6: true };
    world.run_until(ms(3000)).heard();
    world.answers[B as usize] = PerFamily { ipv4: false, ipv6: true };
    world.run_until(ms(6000)).heard();
    world.answers[B as usize] = ALL_ANSWER;
    let commands = world.run_until(ms(20_000)).decisions();
    assert_eq!(masks(&commands), [0x0003_0002]);
    assert_eq!(forgotten(&commands), []);
}

#[test]
fn a_missing_interface_is_said_and_picked_up_when_it_appears() {
    let mut kernel = machine();
    let gone = kernel.links.remove(&4).expect("wan-b");
    kernel.addresses.retain(|address| address.ifindex != 4);
    kernel.routes.retain(|route| route.ifindex != Some(4));
    let mut world = World::new(kernel);
    let commands = world.run_until(ms(2000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0001_0001));
    let reasons = commands.iter().filter_map(|command| match command {
        Command::Report(Report::Uplink { uplink, reason, .. }) if uplink == "b" => {
            Some(reason.to_string())
        }
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["interface wan-b does not exist"; 2]);
    world.kernel = Snapshot { nft_current: true, ..machine() };
    world.engine.handle_event(Event::Network(NetworkEvent::Link(gone)), ms(2000));
    let commands = world.run_until(ms(20_000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
}

#[test]
fn a_missing_lan_interface_is_said_once_and_used_when_it_appears() {
    let mut kernel = machine();
    let lan = kernel.links.remove(&2).expect("lan0");
    let mut world = World::new(kernel);
    let said = |commands: &[Command], exists| {
        let report = Command::Report(Report::Lan { interface: "lan0".into(), exists });
        commands.iter().filter(|command| **command == report).count()
    };
    let commands = world.run_until(ms(100_000)).heard();
    assert_eq!((said(&commands, false), said(&commands, true)), (1, 0));
    world.kernel.links.insert(2, lan.clone());
    world.engine.handle_event(Event::Network(NetworkEvent::Link(lan)), ms(100_000));
    let commands = world.run_until(ms(101_000)).heard();
    assert_eq!((said(&commands, false), said(&commands, true)), (0, 1));
    assert!(commands.contains(&attached()));
}

#[test]
fn an_uplink_without_ipv6_is_no_news() {
    let mut kernel = machine();
    kernel.addresses.retain(|address| address.ifindex != 3 || address.address.is_ipv4());
    let mut world = World::new(kernel);
    let commands = world.run_until(ms(5000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0003));
    assert_eq!(reports(&commands).len(), 3);
    let a = &world.engine.uplinks()[A as usize];
    assert!(a.family(Family::Ipv6).is_none() && a.state() == State::Up);
}

#[test]
fn a_restarted_engine_keeps_what_the_datapath_has() {
    let mut world = World::with_up_mask(machine(), UpMask(0x0003_0003));
    let commands = world.run_until(ms(10_000)).decisions();
    assert!(masks(&commands).is_empty(), "nothing changed");
    assert_eq!(reports(&commands), []);
}

#[test]
fn a_changed_gateway_is_followed() {
    let mut world = both_up();
    world.kernel.routes.retain(|route| route.table != TABLE_MAIN || route.ifindex != Some(3));
    world.kernel.routes.push(default_route(3, "203.0.113.254", 100));
    world.kernel.routes.push(default_route(3, "fe80::1", 100));
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), ms(1000));
    world.run_until(ms(1100));
    let mut table = world.kernel.routes.iter().filter(|route| route.table == 2601);
    assert!(table.any(|route| route.nexthop == Some(address("203.0.113.254"))));
}

#[test]
fn what_others_delete_comes_back_and_what_others_own_stays() {
    let mut world = both_up();
    let foreign = Route { table: 2601, metric: 7, ..default_route(3, "203.0.113.9", 7) };
    world.kernel.routes.push(foreign.clone());
    let before = world.kernel.clone();
    world.kernel.rules.retain(|rule| rule.protocol != PROTOCOL);
    world.kernel.routes.retain(|route| route.protocol != PROTOCOL);
    world.kernel.nft_current = false;
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), ms(1000));
    world.run_until(ms(1100));
    let sorted = |mut snapshot: Snapshot| {
        snapshot.routes.sort();
        snapshot.rules.sort();
        snapshot
    };
    assert_eq!(sorted(world.kernel.clone()), sorted(before));
    assert!(world.kernel.routes.contains(&foreign));
}

#[test]
fn the_nft_table_is_written_anew_when_it_shall_say_something_else() {
    let shared = r#"
[lan]
interfaces = ["lan0"]
[uplink.a]
interface = "wan-a"
gateway = "2001:db8:a::1"
[uplink.b]
interface = "wan-a"
gateway = "2001:db8:b::1"
[probe]
targets = []
"#;
    let mut world = World::with_config(shared, machine(), UpMask::default());
    let written = |commands: Vec<Command>| -> Vec<String> {
        let applied = commands.into_iter().filter_map(|command| match command {
            Command::Apply(changes) => Some(changes),
            _ => None,
        });
        let texts = applied.flatten().filter_map(|change| match change {
            Change::ReplaceNft(text) => Some(text),
            _ => None,
        });
        texts.collect()
    };
    assert_eq!(written(world.run_until(ms(1000)).heard()).len(), 1);
    let first = world.kernel.addresses[3];
    let second = Address { address: address("2001:db8:b::2"), ..first };
    world.kernel.addresses.push(second);
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), ms(1000));
    let texts = written(world.run_until(ms(100_000)).heard());
    assert!(
        matches!(&texts[..], [text] if text.contains("snat ip6 to 2001:db8:b::2")),
        "{texts:?}"
    );
}

#[test]
fn an_overrun_observes_anew_at_once() {
    let mut world = both_up();
    world.engine.handle_event(Event::Network(NetworkEvent::Overrun), ms(1000));
    assert_eq!(world.engine.poll_timeout(), Some(ms(1000)));
    world.engine.handle_timeout(ms(1000));
    let commands: Vec<_> = std::iter::from_fn(|| world.engine.next_command()).collect();
    assert!(commands.contains(&Command::Observe));
}

#[test]
fn the_datapath_hears_of_the_uplinks_interfaces_and_of_their_changes() {
    let mut world = World::new(machine());
    let told = |world: &mut World| {
        let all = world.heard().into_iter();
        let maps = all.filter_map(|command| match command {
            Command::SetUplinkInterfaces(uplinks) => Some(uplinks),
            _ => None,
        });
        maps.collect::<Vec<_>>()
    };
    world.run_until(ms(100));
    assert_eq!(told(&mut world), [BTreeMap::from([(3, A), (4, B)])]);
    world.kernel.links.remove(&3);
    world.kernel.links.insert(9, link(9, "wan-a", true));
    world.engine.handle_event(Event::Network(NetworkEvent::Overrun), ms(200));
    world.run_until(ms(300));
    assert_eq!(told(&mut world), [BTreeMap::from([(9, A), (4, B)])]);
}

#[test]
fn with_no_uplink_there_a_datapath_of_before_is_told_so() {
    let mut kernel = machine();
    kernel.links.retain(|ifindex, _| *ifindex == 2);
    let mut world = World::new(kernel);
    world.run_until(ms(100));
    assert!(world.heard().contains(&Command::SetUplinkInterfaces(BTreeMap::new())));
}

#[test]
fn nothing_is_asked_or_said_before_the_first_changes_are_made() {
    let mut world = World::new(machine());
    world.engine.handle_timeout(ms(0));
    assert_eq!(world.engine.next_command(), Some(Command::Observe));
    world.engine.handle_event(Event::Observed(world.kernel.clone()), ms(1));
    let commands: Vec<_> = std::iter::from_fn(|| world.engine.next_command()).collect();
    assert!(commands.iter().any(|command| matches!(command, Command::Apply(_))));
    let probes = |command: &Command| matches!(command, Command::SendProbes { .. });
    assert!(!commands.iter().any(probes) && masks(&commands).is_empty());
    world.engine.handle_event(Event::Applied, ms(30));
    assert!(std::iter::from_fn(|| world.engine.next_command()).any(|command| probes(&command)));
}

/// Returns a world of [`CONFIG`] with a rule for two domains.
fn with_domains() -> World {
    let rule = "[[rule]]\nmatch = { domain = [\"bank.com\", \"b.br\"] }\nuse = \"a\"\n";
    World::with_config(&format!("{CONFIG}{rule}"), machine(), UpMask::default())
}

fn lookups(commands: &[Command]) -> Vec<&str> {
    let each = commands.iter().filter_map(|command| match command {
        Command::Resolve { name } => Some(name.as_str()),
        _ => None,
    });
    each.collect()
}

fn resolved(world: &mut World, name: &str, addresses: &[Lifetime]) -> Vec<Command> {
    let event = Event::Resolved { name: name.into(), addresses: addresses.into() };
    world.engine.handle_event(event, world.now);
    world.run_until(world.now).heard()
}

fn not_resolved(world: &mut World, name: &str) -> Vec<Command> {
    let event = Event::NotResolved { name: name.into(), reason: "no answer".into() };
    world.engine.handle_event(event, world.now);
    world.run_until(world.now).heard()
}

#[test]
fn domains_are_resolved_once_an_uplink_is_up_and_again_in_time() {
    let mut world = with_domains();
    let commands = world.run_until(ms(100)).heard();
    let position = |wanted: &dyn Fn(&Command) -> bool| commands.iter().position(wanted);
    let first_up = position(&|command| matches!(command, Command::SetUpMask(mask) if mask.0 != 0));
    let first_lookup = position(&|command| matches!(command, Command::Resolve { .. }));
    assert!(first_up.expect("an uplink") < first_lookup.expect("a lookup"));
    assert_eq!(lookups(&commands), ["b.br", "bank.com"]);
    let addresses = [(address("192.0.2.80"), ms(1000)), (address("2001:db8::80"), ms(100_000))];
    let learned = [(address("192.0.2.80"), ms(60_000)), (address("2001:db8::80"), ms(100_000))];
    let learn = Command::Learn { name: "bank.com".into(), addresses: learned.into() };
    assert_eq!(resolved(&mut world, "bank.com", &addresses), [learn]);
    assert_eq!(resolved(&mut world, "b.br", &[]), []);
    assert!(lookups(&world.run_until(ms(45_099)).heard()).is_empty());
    assert_eq!(lookups(&world.run_until(ms(45_100)).heard()), ["bank.com"]);
}

#[test]
fn a_name_that_fails_is_said_once_and_again_when_it_works() {
    let mut world = with_domains();
    world.run_until(ms(1000)).heard();
    let said = |failure: Option<&str>| {
        let failure = failure.map(str::to_owned);
        Command::Report(Report::Domain { domain: "bank.com".into(), failure })
    };
    assert_eq!(not_resolved(&mut world, "bank.com"), [said(Some("no answer"))]);
    world.run_until(ms(6000)).heard();
    assert_eq!(not_resolved(&mut world, "bank.com"), []);
    world.run_until(ms(16_000)).heard();
    assert_eq!(resolved(&mut world, "bank.com", &[])[0], said(None));
}

#[test]
fn nothing_is_resolved_and_no_name_blamed_while_no_uplink_is_up() {
    let mut world = with_domains();
    world.run_until(ms(1000)).heard();
    world.answers = [NONE_ANSWERS; 2];
    world.run_until(ms(5000)).heard();
    assert_eq!(not_resolved(&mut world, "bank.com"), []);
    assert!(lookups(&world.run_until(ms(100_000)).heard()).is_empty());
    world.answers = [ALL_ANSWER; 2];
    assert_eq!(lookups(&world.run_until(ms(110_000)).heard()), ["bank.com"]);
}

#[test]
fn with_domains_the_datapath_reads_what_this_machine_hears_of_dns_servers() {
    let mut kernel = machine();
    kernel.links.insert(1, link(1, "lo", true));
    let mut world = with_domains();
    world.kernel = kernel;
    let commands = world.run_until(ms(0)).heard();
    let outside = [link(1, "lo", true), link(3, "wan-a", true), link(4, "wan-b", true)];
    let outside = outside.map(|link| (Role::WanDns, link));
    let lan = (Role::Lan, link(2, "lan0", true));
    assert!(commands.contains(&Command::Attach([vec![lan], outside.into()].concat())));
}

/// Checks two providers at one card: each gateway is asked in the name of the address in its network.
#[test]
fn uplinks_of_one_interface_ask_by_their_own_addresses() {
    let text = CONFIG
        .replace("interface = \"wan-a\"", "interface = \"wan-a\"\ngateway = \"203.0.113.1\"")
        .replace("interface = \"wan-b\"", "interface = \"wan-a\"\ngateway = \"192.0.2.1\"");
    let mut kernel = machine();
    kernel.addresses[2].ifindex = IFINDEX[0];
    let mut world = World::with_config(&text, kernel, UpMask::default());
    let mut asked: BTreeMap<u32, Option<IpAddr>> = BTreeMap::new();
    for _ in 0..50 {
        while let Some(command) = world.engine.next_command() {
            if let Command::SendProbes { uplink, family: Family::Ipv4, own, .. } = command {
                asked.insert(uplink, own);
            } else {
                world.perform(command);
            }
        }
        let Some(due) = world.engine.poll_timeout() else { break };
        world.now = world.now.max(due);
        world.engine.handle_timeout(world.now);
    }
    let own = ["203.0.113.2", "192.0.2.2"].map(|text| Some(address(text)));
    assert_eq!(asked, BTreeMap::from([(A, own[0]), (B, own[1])]));
}
