//! Cost of the datapath: `cargo xtask bench datapath`.
//!
//! The kernel runs the loaded programs on packets (`BPF_PROG_TEST_RUN`) and reports the time. The
//! figures do not include system calls, but they include the kernel's work around each run, which
//! is the time of the empty program. The rounds of all cases alternate, so that a machine that is
//! busy for a while does not favour one of them.
#![allow(missing_docs, reason = "a benchmark has no users")]

mod bed;
mod empty;
mod figures;
#[path = "../../tests/datapath/flow_packet.rs"]
mod flow_packet;
#[path = "../../tests/datapath/instance.rs"]
mod instance;

use std::fs;

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use linkbal::bytes::bytes;
use linkbal_common::{counter::Counter, names};

use crate::{
    bed::{Bed, INTERFACE},
    figures::{Figure, median},
    flow_packet::FlowPacket,
};

const ROUNDS: usize = 7;

/// Number of runs of one packet in a round.
const REPEATS: u32 = 1_000_000;

/// Number of new flows in a round.
const NEW_FLOWS: u32 = 100_000;

/// Maximum extra cost of a new flow with 128 rules instead of one, as a share.
const TOLERANCE: f64 = 0.1;

/// Offsets of the addresses and ports in the packets, source and destination.
const ADDRESSES: [usize; 2] = [26, 30];
const PORTS: [usize; 2] = [34, 36];

/// Size of `struct __sk_buff` (include/uapi/linux/bpf.h), and the range of `ingress_ifindex` in it.
const SK_BUFF_SIZE: usize = 192;
const INGRESS_IFINDEX: std::ops::Range<usize> = 36..40;

fn main() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("linkbal's datapath on Linux {}", release.trim());
    let mut plain = Bed::new("")?;
    let mut ruled: Vec<Ruled> = [
        ("no rules", String::new()),
        ("1 rule", bed::rules(1)),
        ("128 rules", bed::rules(128)),
        ("100,000 source prefixes", bed::prefixes("source", 10)),
        ("100,000 destination prefixes", bed::prefixes("destination", 20)),
    ]
    .into_iter()
    .map(|(name, rules)| Ok(Ruled { name, bed: Bed::new(&rules)?, next: 0 }))
    .collect::<Result<_>>()?;
    print_sizes(&mut plain, &ruled)?;
    let empty = empty::load(&plain.instance.bpf_dir.join("empty"))?;

    println!("\none packet again and again, {REPEATS} runs a round, {ROUNDS} rounds");
    let again = repeated(&empty, &mut plain, &mut ruled)?;
    figures::print(&again);
    println!(
        "\neach packet a new flow, the median of {NEW_FLOWS} single runs a round, {ROUNDS} rounds"
    );
    let new = new_flows(&empty, &mut plain, &mut ruled)?;
    figures::print(&new);

    println!("\n128 rules against 1 rule, by the minima:");
    let few_rules = [("decided", &again), ("decided and proposed", &new)].map(|(what, figures)| {
        let [one, many] = ["1 rule", "128 rules"].map(|rules| {
            let found = figures.iter().find(|figure| figure.name.ends_with(&format!(", {rules}")));
            f64::from(found.map_or(0, Figure::minimum))
        });
        let more = many / one - 1.0;
        println!("  {what:<54} {:>+6.1} %, at most {:.0} %", more * 100.0, TOLERANCE * 100.0);
        more < TOLERANCE
    });
    ensure!(few_rules == [true, true], "the rules cost more than they may");
    Ok(())
}

/// A datapath with rules, and the number of its latest new flow.
struct Ruled {
    name: &'static str,
    bed: Bed,
    next: u32,
}

impl Ruled {
    /// Makes the packet one of a flow that is new: from another host and to another server.
    fn new_flow<'a>(&mut self, packets: &'a mut FlowPacket) -> &'a [u8] {
        self.next += 1;
        // An odd factor takes each number to one of its own, far from that of the number before.
        let host = self.next.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff;
        with_server(packets.from(host, 1), host)
    }

    /// Returns the loaded program's time for the first packet of a new flow, in nanoseconds.
    fn begin_flow(&mut self, packets: &mut FlowPacket) -> Result<u32> {
        let frame = self.new_flow(packets);
        run_on(self.bed.datapath.program(names::PROGRAM_INGRESS)?, frame, 0, 1)
    }
}

/// Sets the destination of the packet to one of 2^24 servers.
fn with_server(frame: &mut [u8], server: u32) -> &[u8] {
    let address = 20 << 24 | server;
    frame[ADDRESSES[1]..ADDRESSES[1] + 4].copy_from_slice(&address.to_be_bytes());
    frame
}

/// Prints the instructions that the verifier walked through, the time to write the rules, and
/// memory.
fn print_sizes(plain: &mut Bed, ruled: &[Ruled]) -> Result<()> {
    println!("\ninstructions that the verifier walked through, of at most 1,000,000");
    plain.datapath.load_local()?;
    let mut programs: Vec<_> = plain.datapath.programs().collect();
    programs.sort_by_key(|(name, _)| *name);
    for (name, program) in programs {
        let count = program.info()?.verified_instruction_count();
        println!("  {name:<54} {:>7}", count.map_or("?".into(), |count| count.to_string()));
    }
    println!("\nwriting the policy into new maps");
    for Ruled { name, bed, .. } in ruled {
        println!("  {name:<54} {:>7.1} ms", bed.written_in.as_secs_f64() * 1e3);
    }
    println!("\nkernel memory of the maps with the default sizes");
    let mut memory: Vec<(String, u64)> = plain.datapath.map_memory()?.into_iter().collect();
    memory.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    for (name, size) in memory.iter().filter(|(_, size)| *size >= 1 << 17) {
        println!("  {name:<54} {:>11}", bytes(*size));
    }
    for Ruled { name, bed, .. } in ruled {
        let total = bed.datapath.map_memory()?.values().sum();
        println!("  {:<54} {:>11}", format!("all maps with {name}"), bytes(total));
    }
    Ok(())
}

/// Returns the nanoseconds that a run of the program takes, on average over `repeat` runs.
fn run_on(program: &SchedClassifier, frame: &[u8], from: u32, repeat: u32) -> Result<u32> {
    let mut context = [0; SK_BUFF_SIZE];
    context[INGRESS_IFINDEX].copy_from_slice(&from.to_ne_bytes());
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        repeat,
        ..TestRunOptions::new()
    })?;
    Ok(result.duration.as_nanos().try_into()?)
}

/// Measures the cases that do not change when the same packet comes again.
fn repeated(empty: &SchedClassifier, plain: &mut Bed, ruled: &mut [Ruled]) -> Result<Vec<Figure>> {
    let mut packets = FlowPacket::to(53);
    let frame = with_server(packets.from(9, 1), 9).to_vec();
    let answer = turned_round(&frame);
    let mut figures: Vec<Figure> = [
        "empty program",
        "from the LAN, flow known",
        "to the LAN, from an uplink, flow known",
        "to the LAN, from elsewhere",
    ]
    .map(Figure::new)
    .into();
    figures.extend(
        ruled
            .iter()
            .map(|Ruled { name, .. }| Figure::new(format!("from the LAN, flow decided, {name}"))),
    );
    plain.learn(&frame)?;
    for ruled in ruled.iter_mut() {
        // No uplink to go to, no entry to find: each run decides.
        ruled.bed.decide(false)?;
    }
    for _ in 0..ROUNDS {
        let mut each = vec![run_on(empty, &frame, 0, REPEATS)?];
        let datapath = &mut plain.datapath;
        each.push(run_on(datapath.program(names::PROGRAM_INGRESS)?, &frame, 0, REPEATS)?);
        let egress = datapath.program(names::PROGRAM_EGRESS)?;
        each.push(run_on(egress, &answer, INTERFACE, REPEATS)?);
        each.push(run_on(egress, &answer, 0, REPEATS)?);
        for Ruled { bed, .. } in ruled.iter_mut() {
            let ingress = bed.datapath.program(names::PROGRAM_INGRESS)?;
            each.push(run_on(ingress, &frame, 0, REPEATS)?);
        }
        note(&mut figures, each);
    }
    // The figures are valid only if the programs did what they are named for.
    let repeats = ROUNDS as u64 * u64::from(REPEATS);
    ensure!(counter(plain, Counter::FlowKnown)? == repeats);
    ensure!(counter(plain, Counter::FlowProposed)? == 0);
    for ruled in ruled {
        ensure!(counter(&ruled.bed, Counter::NoUplink)? == repeats);
        ruled.bed.decide(true)?;
    }
    Ok(figures)
}

/// Measures the first packets of flows, which are decided and proposed; flows are stored at egress.
fn new_flows(empty: &SchedClassifier, plain: &mut Bed, ruled: &mut [Ruled]) -> Result<Vec<Figure>> {
    let mut packets = FlowPacket::to(53);
    let known = packets.from(9, 1).to_vec();
    let mut figures: Vec<Figure> =
        ["empty program", "from the LAN, flow known"].map(Figure::new).into();
    figures.extend(
        ruled
            .iter()
            .map(|Ruled { name, .. }| Figure::new(format!("from the LAN, flow new, {name}"))),
    );
    for _ in 0..ROUNDS {
        let ingress = plain.datapath.program(names::PROGRAM_INGRESS)?;
        let mut each = vec![
            median_of(|| run_on(empty, &known, 0, 1))?,
            median_of(|| run_on(ingress, &known, 0, 1))?,
        ];
        for ruled in ruled.iter_mut() {
            each.push(median_of(|| ruled.begin_flow(&mut packets))?);
        }
        note(&mut figures, each);
    }
    for Ruled { bed, .. } in ruled {
        let flows = ROUNDS as u64 * u64::from(NEW_FLOWS);
        ensure!(counter(bed, Counter::FlowProposed)? == flows, "some flows were not new");
    }
    Ok(figures)
}

fn median_of(mut run: impl FnMut() -> Result<u32>) -> Result<u32> {
    let mut all: Vec<u32> = (0..NEW_FLOWS).map(|_| run()).collect::<Result<_>>()?;
    Ok(median(&mut all))
}

fn note(figures: &mut [Figure], round: Vec<u32>) {
    for (figure, value) in figures.iter_mut().zip(round) {
        figure.rounds.push(value);
    }
}

fn counter(bed: &Bed, wanted: Counter) -> Result<u64> {
    let all = bed.datapath.counters()?;
    Ok(all.iter().filter(|(counter, _)| *counter == wanted).map(|(_, value)| value).sum())
}

/// Returns the answer to a packet: addresses and ports exchanged.
fn turned_round(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for ([source, destination], length) in [(ADDRESSES, 4), (PORTS, 2)] {
        answer[source..source + length].copy_from_slice(&frame[destination..destination + length]);
        answer[destination..destination + length].copy_from_slice(&frame[source..source + length]);
    }
    answer
}
