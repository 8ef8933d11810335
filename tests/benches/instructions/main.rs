//! Instructions that a whole gateway takes for a packet: `cargo xtask bench instructions`.
//!
//! This program runs in a guest whose processor takes one nanosecond for each instruction, so that
//! the CPU time of a thread is a number of instructions. It makes the gateways of a plan, one after
//! the other, sends frames into the network stack of each and counts them where they leave. For the
//! whole way of a frame the kernel stays in this thread.
#![allow(missing_docs, reason = "a benchmark has no users")]

mod bpf;
mod frame;
mod gateway;
mod measure;
mod plan;
mod programs;

use std::{env, fs, os::fd::AsRawFd as _, process::ExitCode};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    gateway::Gateway,
    measure::{Bench, Figure},
    plan::{Contender, Direction, Measurement, Plan},
    programs::Programs,
};

fn main() -> Result<ExitCode> {
    // cargo adds `--bench` to the arguments.
    let path = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let path =
        path.context("this program runs in a guest, see `cargo xtask bench instructions`")?;
    let plan = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let plan: Plan =
        serde_json::from_str(&plan).with_context(|| format!("failed to parse {path}"))?;
    seed_random().context("failed to seed the random numbers")?;
    let programs = Programs::load()?;
    let mut failed = false;
    for measurement in &plan.measurements {
        for (number, contender) in plan.contenders.iter().enumerate() {
            let with_generator = number == 0;
            if let Err(error) = run(&programs, contender, measurement, with_generator) {
                // The host reads lines.
                let why = format!("{error:#}").replace('\n', " | ");
                println!("failed {}: {why}", contender.name);
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Gives the kernel entropy, which a guest without devices never gets. Without it each random byte
/// is computed anew, and connection tracking wants one for each new flow: 10,000 instructions.
fn seed_random() -> Result<()> {
    /// `struct rand_pool_info` (include/uapi/linux/random.h).
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; 64],
    }
    nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 3, 8), PoolInfo);
    let pool = PoolInfo { entropy_bits: 512, size: 64, bytes: [0x5a; 64] };
    let device = fs::File::open("/dev/urandom")?;
    // SAFETY: the kernel reads a struct with as many bytes behind it as `size` says.
    unsafe { add_entropy(device.as_raw_fd(), &raw const pool)? };
    Ok(())
}

/// Measures one contender and prints its figures.
fn run(
    programs: &Programs,
    contender: &Contender,
    measurement: &Measurement,
    with_generator: bool,
) -> Result<()> {
    let gateway = Gateway::new(contender, programs).context("failed to make the gateway")?;
    let mut bench = Bench::new(programs, contender, &gateway);
    bench.establish(measurement.flows)?;
    if with_generator {
        print("generator", Direction::Up, measurement.flows, &bench.generator()?);
    }
    for direction in &measurement.directions {
        let figure = match direction {
            Direction::Up => bench.up()?,
            Direction::Down => bench.down()?,
            Direction::New => bench.new_flows()?,
        };
        print(&contender.name, *direction, measurement.flows, &figure);
    }
    Ok(())
}

/// Prints a figure as the host reads it.
fn print(contender: &str, direction: Direction, flows: u32, figure: &Figure) {
    let line = json!({
        "contender": contender,
        "direction": direction.name(),
        "flows": flows,
        "packets": figure.packets,
        "instructions": figure.instructions,
        "spread": figure.spread,
    });
    println!("measured {line}");
}
