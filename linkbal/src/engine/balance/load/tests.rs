use std::sync::Arc;

use linkbal_common::{
    pick::pick,
    uplink::{Family, UpMask},
};
use proptest::prelude::*;

use super::*;
use crate::{
    config::Config,
    engine::{
        Command, Engine, Event,
        admin::AdminState,
        indexed::{self, Indexed},
        policy::{self, Policy},
        report::Report,
    },
};

const MBIT: u64 = 1_000_000;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn traffic(down: u64) -> [Octets; 1] {
    [Octets { down, up: down / 10 }]
}

/// Returns the seconds after which a load becomes full or not, given its rate in Mbit/s for each
/// second.
fn turns(rates: impl IntoIterator<Item = u64>) -> Vec<(u64, bool)> {
    let capacity = Capacity { down: 100 * MBIT, up: 10 * MBIT };
    let (mut load, mut bytes, mut turns) = (Load::default(), 0, Vec::new());
    for (second, rate) in (0..).zip(rates) {
        load.count(&traffic(bytes), s(second));
        turns.extend(load.judge(capacity, 0.9, s(second)).map(|full| (second, full)));
        bytes += rate * MBIT / 8;
    }
    turns
}

fn hold(rate: u64, seconds: usize) -> impl Iterator<Item = u64> {
    std::iter::repeat_n(rate, seconds)
}

#[test]
fn what_an_interface_does_not_count_is_counted_by_the_datapath() {
    let mut load = Load::default();
    for second in 0..=30 {
        let interface = Octets { down: 0, up: second * 100_000 };
        load.count(&[interface, traffic(second * 1_000_000)[0]], s(second));
    }
    assert!((load.down() / 8e6 - 1.0).abs() < 0.001 && (load.up() / 8e5 - 1.0).abs() < 0.001);
}

#[test]
fn the_rate_follows_the_counters_within_seconds() {
    let mut load = Load::default();
    for second in 0..=3 {
        load.count(&traffic(second * 1_000_000), s(second));
    }
    assert!((load.down() / 8e6 - 0.632).abs() < 0.001, "after one time constant: {}", load.down());
    for second in 4..=30 {
        load.count(&traffic(second * 1_000_000), s(second));
    }
    assert!((load.down() / 8e6 - 1.0).abs() < 0.001 && (load.up() / 8e5 - 1.0).abs() < 0.001);
    load.count(&[], s(31));
    assert_eq!((load.down(), load.up()), (0.0, 0.0), "without an interface nothing flows");
}

#[test]
fn an_interface_that_was_made_anew_is_no_burst() {
    let mut load = Load::default();
    load.count(&traffic(1 << 40), s(0));
    load.count(&traffic(0), s(1));
    assert_eq!(load.down(), 0.0);
    load.count(&traffic(1_000_000), s(2));
    assert!(load.down() < 8e6);
    // Read twice at once, as after a delay: counted with the next one.
    let before = load.down();
    load.count(&traffic(1_100_000), s(2) + Duration::from_millis(1));
    assert_eq!(load.down(), before);
    load.count(&traffic(1_000_000), s(3));
    assert!(load.down() < before);
}

#[test]
fn bursts_fill_nothing_and_pauses_empty_nothing() {
    assert_eq!(turns(hold(100, 7).chain(hold(0, 20))), []);
    assert_eq!(turns(hold(89, 300)), []);
    // At 100 of 100 the smoothed rate is at 90 after 7 s, and has been for 2 s after 9.
    assert_eq!(turns(hold(100, 300)), [(9, true)]);
    let paused = hold(100, 30).chain(hold(0, 2)).chain(hold(100, 30));
    assert_eq!(turns(paused), [(9, true)]);
    assert_eq!(turns(hold(100, 30).chain(hold(75, 300))), [(9, true)], "75 is not below 72");
    assert_eq!(turns(hold(100, 30).chain(hold(0, 300))), [(9, true), (36, false)]);
}

#[test]
fn the_busier_direction_counts() {
    let mut load = Load::default();
    load.count(&[Octets::default()], s(0));
    load.count(&[Octets { down: 0, up: 1_000_000 }], s(60));
    let used = load.share(Capacity { down: 100 * MBIT, up: MBIT });
    assert!((used * 60.0 - 8.0).abs() < 0.01, "{used}");
}

/// A gateway whose uplinks `a`, `b`, .. have these lines in their sections.
struct World {
    engine: Engine,
    indexed: Vec<Indexed>,
    policy: Policy,
    avoided: UpMask,
    bytes: Vec<u64>,
    now: Duration,
    reports: Vec<Report>,
    weighings: Vec<Duration>,
}

impl World {
    fn new(uplinks: &[&str], rest: &str) -> World {
        let sections = ('a'..)
            .zip(uplinks)
            .map(|(name, lines)| format!("[uplink.{name}]\ninterface = \"wan-{name}\"\n{lines}\n"));
        let text = format!("{}{rest}", sections.collect::<String>());
        let config = Config::parse(&text, "test").expect("a valid configuration");
        let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
        let up = (1u32 << uplinks.len()) - 1;
        let up = UpMask(up | up << 16);
        World {
            policy: policy::compile(&config, &indexed, None),
            engine: Engine::new(config, indexed.clone(), up, Vec::new(), &BTreeMap::new(), s(0)),
            indexed,
            avoided: UpMask::default(),
            bytes: vec![0; uplinks.len()],
            now: s(0),
            reports: Vec::new(),
            weighings: Vec::new(),
        }
    }

    /// Lets a second pass with these rates, in Mbit/s; then reads the counters.
    fn second(&mut self, rates: &[f64]) {
        self.now += s(1);
        for (bytes, rate) in self.bytes.iter_mut().zip(rates) {
            *bytes += (rate * 1e6 / 8.0) as u64;
        }
        let interfaces = self.indexed.iter().zip(&self.bytes).map(|(indexed, bytes)| {
            (indexed.config.interface.clone(), Octets { down: *bytes, up: 0 })
        });
        let counts = Counts { interfaces: interfaces.collect(), uplinks: BTreeMap::new() };
        self.tell(Event::LoadCounted(counts));
    }

    fn tell(&mut self, event: Event) {
        self.engine.handle_event(event, self.now);
        while let Some(command) = self.engine.next_command() {
            match command {
                Command::SetAvoidMask(mask) => self.avoided = mask,
                Command::SetWeights(weights) => {
                    self.weighings.push(self.now);
                    self.policy.set_weights(&self.indexed, &weights);
                }
                Command::Report(report) => self.reports.push(report),
                _ => {}
            }
        }
    }

    /// Returns the uplink of a new flow, as the datapath chooses it.
    fn choose(&self, hash: u32) -> usize {
        let bucket = &self.policy.buckets[hash as usize % 4096];
        let preferred = self.engine.up().without(self.avoided);
        let chosen = pick(bucket, preferred, Family::Ipv4)
            .or_else(|| pick(bucket, self.engine.up(), Family::Ipv4));
        chosen.expect("an uplink is up") as usize
    }

    /// Simulates flows of 1 Mbit/s, of which `arrivals` begin in each second, and last `life`
    /// seconds. Returns the mean rates of the last half.
    fn simulate(&mut self, seconds: u64, arrivals: u32, life: u64) -> Vec<f64> {
        let mut flows: Vec<(u64, usize)> = Vec::new();
        let mut sums = vec![0.0; self.bytes.len()];
        let mut hash = 1u32;
        for second in 0..seconds {
            for _ in 0..arrivals {
                hash = hash.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                flows.push((second + life, self.choose(hash >> 8)));
            }
            flows.retain(|(end, _)| *end > second);
            let mut rates = vec![0.0; self.bytes.len()];
            flows.iter().for_each(|(_, uplink)| rates[*uplink] += 1.0);
            self.second(&rates);
            if second >= seconds / 2 {
                sums.iter_mut().zip(&rates).for_each(|(sum, rate)| *sum += rate);
            }
        }
        sums.iter().map(|sum| sum / (seconds - seconds / 2) as f64).collect()
    }
}

const LIMITED: &str = "capacity = \"100mbit\"\nspillover = 0.5";

#[test]
fn a_full_uplink_is_avoided_until_it_has_room_again() {
    let mut world = World::new(&[LIMITED, "tier = 2"], "");
    (0..10).for_each(|_| world.second(&[100.0, 0.0]));
    assert_eq!(world.avoided, UpMask(0x0001_0001));
    assert_eq!(world.choose(0), 1);
    (0..20).for_each(|_| world.second(&[0.0, 100.0]));
    assert_eq!(world.avoided, UpMask(0));
    assert_eq!(world.choose(0), 0);
    let turns: Vec<_> = world
        .reports
        .iter()
        .map(|report| match report {
            Report::Load { uplink, full, .. } => (uplink.as_str(), *full),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(turns, [("a", true), ("a", false)]);
}

#[test]
fn with_all_full_or_drained_none_is_avoided_for_its_load() {
    let mut world = World::new(&[LIMITED, LIMITED, ""], "");
    (0..10).for_each(|_| world.second(&[100.0, 0.0, 0.0]));
    assert_eq!(world.avoided, UpMask(0x0001_0001));
    world.tell(Event::Admin { uplink: 2, admin: AdminState::Drained });
    assert_eq!(world.avoided, UpMask(0x0005_0005));
    (0..10).for_each(|_| world.second(&[100.0, 100.0, 0.0]));
    assert_eq!(world.avoided, UpMask(0x0004_0004), "the drained one alone");
    world.tell(Event::Admin { uplink: 2, admin: AdminState::Enabled });
    assert_eq!(world.avoided, UpMask(0x0003_0003));
    world.tell(Event::Admin { uplink: 2, admin: AdminState::Disabled });
    assert_eq!(world.avoided, UpMask(0), "what is down is no choice");
}

#[test]
fn uplinks_on_one_interface_are_told_apart_by_the_datapath() {
    let sharing = |gateway: u8| format!("gateway = \"192.0.2.{gateway}\"\n{LIMITED}");
    let mut world = World::new(&[&sharing(1), &sharing(2)], "");
    let uplinks = world.engine.context.uplinks.iter_mut();
    uplinks.for_each(|each| Arc::make_mut(&mut each.config).interface = "wan".into());
    for second in 0..10 {
        let all = Octets { down: second * 12_500_000, up: 0 };
        let counts = Counts {
            interfaces: [("wan".to_owned(), all)].into(),
            uplinks: [(0, Octets::default()), (1, all)].into(),
        };
        world.now = s(second);
        world.tell(Event::LoadCounted(counts));
    }
    assert_eq!(world.avoided, UpMask(0x0002_0002));
}

#[test]
fn spillover_holds_the_first_uplink_at_its_share_and_nothing_flaps() {
    for second in ["tier = 2", "weight = 1"] {
        let mut world = World::new(&[&format!("weight = 1000\n{LIMITED}"), second], "");
        // 120 Mbit/s in all, where the first line spills over at 50.
        let rates = world.simulate(1200, 6, 20);
        assert!((35.0..=65.0).contains(&rates[0]), "{second}: {rates:?}");
        assert!((rates[0] + rates[1] - 120.0).abs() < 0.1, "{second}: {rates:?}");
        // Full and empty again at most once in the life of a flow.
        let turns = world.reports.len();
        assert!((2..=2 * 1200 / 20).contains(&turns), "{second}: {turns} turns");
    }
}

#[test]
fn what_fits_is_not_spilled() {
    let mut world = World::new(&[LIMITED, "tier = 2"], "");
    assert_eq!(world.simulate(600, 2, 20), [40.0, 0.0]);
    assert_eq!(world.reports, []);
}

#[test]
fn adaptive_weights_prefer_the_line_with_room() {
    let lines = ["capacity = \"50mbit\"", "capacity = \"500mbit\""];
    let fixed = World::new(&lines, "").simulate(1200, 4, 20);
    assert!((fixed[0] - 40.0).abs() < 5.0, "{fixed:?}");
    let mut world = World::new(&lines, "[balance]\nadaptive = true\n");
    let rates = world.simulate(1200, 4, 20);
    assert!(rates[0] < 30.0 && rates[1] > 50.0, "{rates:?}");
    assert!(world.weighings.windows(2).all(|pair| pair[1] - pair[0] >= s(10)));
    assert!(!world.weighings.is_empty());
}

#[test]
fn steady_loads_change_no_weights() {
    let adaptive = "[balance]\nadaptive = true\n";
    let mut world = World::new(&["capacity = \"100mbit\"", ""], adaptive);
    (0..100).for_each(|_| world.second(&[50.0, 50.0]));
    let settled = world.weighings.len();
    (0..600).for_each(|second| world.second(&[50.0 + f64::from(second % 3), 50.0]));
    assert_eq!(world.weighings.len(), settled);
    assert!((world.engine.weights.of(0) - 0.5).abs() < 0.1);
    assert_eq!(world.engine.weights.of(1), 1.0, "without a capacity it keeps its weight");
    (0..100).for_each(|_| world.second(&[300.0, 50.0]));
    assert_eq!(world.engine.weights.of(0), 0.2, "an overloaded line keeps a fifth");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn load_alone_never_takes_the_last_usable_uplink(
        limited in prop::collection::vec(any::<bool>(), 4),
        seconds in prop::collection::vec(
            (prop::collection::vec(0.0..200.0f64, 4), 1usize..20, 0u32..12), 1..20,
        ),
    ) {
        let lines: Vec<&str> =
            limited.iter().map(|limited| if *limited { LIMITED } else { "" }).collect();
        let mut world = World::new(&lines, "");
        let states = [AdminState::Enabled, AdminState::Drained, AdminState::Disabled];
        let mut asked = [AdminState::Enabled; 4];
        for (rates, times, state) in seconds {
            let (uplink, admin) = (state % 4, states[state as usize / 4]);
            asked[uplink as usize] = admin;
            world.tell(Event::Admin { uplink, admin });
            for _ in 0..times {
                world.second(&rates);
                let usable = world.engine.up();
                for family in Family::ALL {
                    let of = |wanted: bool| (0..4).filter(move |at| {
                        usable.contains(*at, family)
                            && (asked[*at as usize] == AdminState::Drained) == wanted
                    });
                    let mut rest = of(false).peekable();
                    let none = rest.peek().is_none();
                    prop_assert!(none || of(true).all(|at| world.avoided.contains(at, family)));
                    prop_assert!(none || rest.any(|at| !world.avoided.contains(at, family)));
                }
            }
        }
    }

    #[test]
    fn turns_keep_their_distance(rates in prop::collection::vec(0u64..200, 1..300)) {
        let turns = turns(rates);
        for pair in turns.windows(2) {
            let least = if pair[1].1 { FILLING } else { EMPTYING };
            prop_assert!(s(pair[1].0 - pair[0].0) >= least && pair[0].1 != pair[1].1);
        }
    }
}
