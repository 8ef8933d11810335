//! Flows through a gateway: first proved to arrive as they should, then counted.

use std::{
    collections::{BTreeSet, HashSet},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::{
    bpf::Program,
    frame::{Frame, Tuple},
    gateway::{Gateway, Interface, peer_mac},
    plan::Contender,
    programs::{MAX_FLOWS, Programs, State},
};

/// Number of rounds, of which the median counts: those in which a second begins cost more.
const ROUNDS: usize = 5;

/// Minimum number of packets in a round of established flows.
const PACKETS: u32 = 8_000;

/// Number of new flows in a round.
const NEW_FLOWS: u32 = 4_000;

/// The address of another machine: a unicast one, administered locally.
const OTHER: [u8; 6] = [2, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Time after which connection tracking takes UDP with answers for a lasting exchange.
const UNTIL_ASSURED: Duration = Duration::from_millis(2_500);

/// Instructions for a packet.
pub(crate) struct Figure {
    /// The median of the rounds.
    pub(crate) instructions: f64,
    /// Difference between the rounds, as a share of the median.
    pub(crate) spread: f64,
    /// Number of packets in a round.
    pub(crate) packets: u32,
}

/// The flows of one gateway.
pub(crate) struct Bench<'a> {
    programs: &'a Programs,
    contender: &'a Contender,
    gateway: &'a Gateway,
    /// Frames of the established flows from the LAN, and of their answers by uplink.
    requests: Vec<Frame>,
    answers: Vec<Vec<Frame>>,
    /// The number of the next new flow.
    next: u32,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        programs: &'a Programs,
        contender: &'a Contender,
        gateway: &'a Gateway,
    ) -> Self {
        Self { programs, contender, gateway, requests: Vec::new(), answers: Vec::new(), next: 0 }
    }

    /// Establishes flows, and proves that their packets and the answers arrive, translated.
    pub(crate) fn establish(&mut self, count: u32) -> Result<()> {
        let flows = self.begin(count)?;
        let left = self.proved(&self.requests, &flows)?;
        self.answers = vec![Vec::new(); self.gateway.uplinks.len()];
        for (uplink, tuple) in left {
            let to = self.gateway.uplinks[uplink].mac;
            let frame = tuple.answer().frame(peer_mac(uplink + 1), to)?;
            self.answers[uplink].push(frame);
        }
        self.prove_answers(&flows)?;
        // Twice: whatever a gateway does with the first packets of a flow is over then.
        for _ in 0..2 {
            sleep(UNTIL_ASSURED);
            self.round(&self.gateway.lan, &self.requests, 1)?;
            self.answer_round(1)?;
        }
        Ok(())
    }

    /// Measures frames alone: they are made, handed to the network stack and dropped there, since they are
    /// for another machine. The gateway must have no programs.
    pub(crate) fn generator(&self) -> Result<Figure> {
        let rounds = repeats(self.requests.len());
        let mut frames = self.requests.clone();
        for frame in &mut frames {
            frame[..OTHER.len()].copy_from_slice(&OTHER);
        }
        figure(|| {
            self.load(&frames, false);
            let packets = frames.len() as u32 * rounds;
            let instructions =
                self.counted(&self.programs.generator, &self.gateway.lan, packets)?;
            let arrived = self.programs.state.get(0).arrived;
            ensure!(arrived == 0, "{arrived} packets for another machine were forwarded");
            Ok((instructions, packets))
        })
    }

    /// Measures packets of established flows from the LAN.
    pub(crate) fn up(&self) -> Result<Figure> {
        let rounds = repeats(self.requests.len());
        figure(|| self.round(&self.gateway.lan, &self.requests, rounds))
    }

    /// Measures answers of established flows.
    pub(crate) fn down(&self) -> Result<Figure> {
        let rounds = repeats(self.requests.len());
        figure(|| {
            // Clients acknowledge what they get: shortcuts last while packets go both ways.
            self.round(&self.gateway.lan, &self.requests, 1)?;
            self.answer_round(rounds)
        })
    }

    /// Measures first packets of flows.
    pub(crate) fn new_flows(&mut self) -> Result<Figure> {
        let established = std::mem::take(&mut self.requests);
        let flows = self.begin(NEW_FLOWS)?;
        self.proved(&self.requests, &flows)?;
        let new = figure(|| {
            self.begin(NEW_FLOWS)?;
            self.round(&self.gateway.lan, &self.requests, 1)
        });
        self.requests = established;
        new
    }

    /// Makes the frames of flows that nobody has seen yet; returns their tuples.
    fn begin(&mut self, count: u32) -> Result<Vec<Tuple>> {
        let (family, port) = (self.contender.family, self.contender.port);
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let flows: Vec<_> = numbers.map(|number| Tuple::numbered(number, family, port)).collect();
        let frames = flows.iter().map(|flow| flow.frame(peer_mac(0), self.gateway.lan.mac));
        self.requests = frames.collect::<Result<_>>()?;
        Ok(flows)
    }

    /// Sends each frame once and checks what leaves; returns the uplink and the tuple of each.
    fn proved(&self, frames: &[Frame], flows: &[Tuple]) -> Result<Vec<(usize, Tuple)>> {
        let sent: HashSet<_> = flows.iter().collect();
        let uplinks = &self.gateway.uplinks;
        let mut left = Vec::with_capacity(frames.len());
        for (interface, tuple) in self.recorded(&self.gateway.lan, frames)? {
            let uplink = uplinks.iter().position(|uplink| uplink.sink == interface);
            let uplink = uplink.context("a packet left by no uplink")?;
            let wanted = uplinks[uplink].address;
            if self.contender.untranslated {
                ensure!(sent.contains(&tuple), "{tuple:?} was not sent");
            } else {
                ensure!(tuple.source == wanted, "{tuple:?} has another source than {wanted}");
            }
            left.push((uplink, tuple));
        }
        let distinct: HashSet<_> = left.iter().map(|(_, tuple)| tuple).collect();
        ensure!(distinct.len() == frames.len(), "flows became one");
        let used: BTreeSet<_> = left.iter().map(|(uplink, _)| uplink + 1).collect();
        let wanted: BTreeSet<_> = self.contender.used.iter().copied().collect();
        // One flow uses one of them.
        let all = used == wanted || (frames.len() == 1 && used.is_subset(&wanted));
        ensure!(all, "the uplinks {used:?} were used, not {wanted:?}");
        Ok(left)
    }

    /// Sends each answer once and checks that each client gets its own.
    fn prove_answers(&self, flows: &[Tuple]) -> Result<()> {
        let mut wanted: HashSet<_> = flows.iter().map(|flow| flow.answer()).collect();
        for (answers, uplink) in self.answers.iter().zip(&self.gateway.uplinks) {
            if answers.is_empty() {
                continue;
            }
            for (interface, tuple) in self.recorded(uplink, answers)? {
                let lan = interface == self.gateway.lan.sink;
                ensure!(lan && wanted.remove(&tuple), "the answer {tuple:?} is nobody's");
            }
        }
        ensure!(wanted.is_empty(), "{} answers are missing", wanted.len());
        Ok(())
    }

    /// Sends each frame once; returns the interfaces by which they leave, and their tuples.
    fn recorded(&self, from: &Interface, frames: &[Frame]) -> Result<Vec<(u32, Tuple)>> {
        self.load(frames, true);
        let count = frames.len();
        self.generator_of(from)?.run(&frames[0], from.index, count as u32)?;
        let arrived = self.programs.state.get(0).arrived;
        ensure!(arrived == count as u64, "{arrived} of {count} packets from {} left", from.name);
        let records = (0..count).map(|number| self.programs.records.get(number));
        records
            .map(|record| Ok((u32::try_from(record.interface)?, Tuple::of(&record.frame)?)))
            .collect()
    }

    /// Sends answers by all uplinks; returns instructions and packets.
    fn answer_round(&self, rounds: u32) -> Result<(u64, u32)> {
        let mut sum = (0, 0);
        for (answers, uplink) in self.answers.iter().zip(&self.gateway.uplinks) {
            if !answers.is_empty() {
                let (instructions, packets) = self.round(uplink, answers, rounds)?;
                sum = (sum.0 + instructions, sum.1 + packets);
            }
        }
        Ok(sum)
    }

    /// Sends each frame `rounds` times; returns instructions and packets. All must leave.
    fn round(&self, from: &Interface, frames: &[Frame], rounds: u32) -> Result<(u64, u32)> {
        self.load(frames, false);
        let packets = frames.len() as u32 * rounds;
        let instructions = self.counted(self.generator_of(from)?, from, packets)?;
        let arrived = self.programs.state.get(0).arrived;
        let wanted = u64::from(packets);
        ensure!(arrived == wanted, "{arrived} of {wanted} packets from {} left", from.name);
        Ok((instructions, packets))
    }

    /// Returns the generator for frames that come in by an interface.
    fn generator_of(&self, from: &Interface) -> Result<&Program> {
        let Some(program) = &from.program else { return Ok(&self.programs.generator) };
        self.programs.next.set(program)?;
        Ok(&self.programs.driver_generator)
    }

    /// Fills the generator's table and resets the counters.
    fn load(&self, frames: &[Frame], recording: bool) {
        assert!(frames.len() <= MAX_FLOWS);
        for (index, frame) in frames.iter().enumerate() {
            self.programs.table.set(index, *frame);
        }
        let length = frames.len() as u64;
        let recording = recording.into();
        self.programs.state.set(0, State { length, recording, ..State::default() });
    }

    /// Returns the instructions of a run.
    fn counted(&self, generator: &Program, from: &Interface, packets: u32) -> Result<u64> {
        let frame = self.programs.table.get(0);
        let before = cpu_time()?;
        generator.run(&frame, from.index, packets)?;
        Ok(cpu_time()? - before)
    }
}

/// Returns how often flows are sent in a round.
fn repeats(flows: usize) -> u32 {
    PACKETS.div_ceil(flows.max(1) as u32)
}

/// Measures rounds, each of which returns instructions and packets.
fn figure(mut round: impl FnMut() -> Result<(u64, u32)>) -> Result<Figure> {
    let mut counts = Vec::with_capacity(ROUNDS);
    let mut packets = 0;
    for _ in 0..ROUNDS {
        let (instructions, count) = round()?;
        packets = count;
        counts.push(instructions as f64 / f64::from(count));
    }
    counts.sort_by(f64::total_cmp);
    let median = counts[ROUNDS / 2];
    let spread = (counts[ROUNDS - 1] - counts[0]) / median;
    Ok(Figure { instructions: median, spread, packets })
}

/// Returns the CPU time of this thread, in nanoseconds.
fn cpu_time() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}
