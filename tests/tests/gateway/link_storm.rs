//! A storm of ten thousand changes of links in a few seconds, which delays no failover.

use std::fmt::Write as _;
use std::thread;
use std::time::Instant;

use linkbal_lab::topology::plan::Family;
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::kernel::up_mask;
use crate::usage::{cpu, memory};

const CHANGES: usize = 10_000;
/// Number of veth pairs that are changed.
const PAIRS: usize = 20;

/// Returns a batch for `ip` that creates links, changes them all the time, renames some, and
/// deletes them.
fn storm() -> String {
    let mut batch = String::new();
    let mut lines = 0;
    let mut add = |line: String| {
        writeln!(batch, "{line}").unwrap();
        lines += 1;
        lines
    };
    for pair in 0..PAIRS {
        add(format!("link add storm{pair} type veth peer name peer{pair}"));
    }
    for round in 0.. {
        let name = format!("storm{}", round % PAIRS);
        add(format!("link set {name} mtu {}", 1300 + round % 200));
        add(format!("link set {name} up"));
        add(format!("link set {name} alias {round}"));
        if round % 10 == 0 {
            add(format!("link set {name} down"));
            add(format!("link set {name} name other"));
            add(format!("link set other name {name}"));
        }
        if add(format!("link set peer{} alias {round}", round % PAIRS)) >= CHANGES - PAIRS {
            break;
        }
    }
    for pair in 0..PAIRS {
        writeln!(batch, "link del storm{pair}").unwrap();
    }
    batch
}

#[test]
fn a_storm_of_link_events_costs_little_and_delays_no_failover() {
    let gateway = Gateway::pair();
    let pid = gateway.daemon.id();
    let observations = || gateway.daemon.status().unwrap()["observations"].as_u64().unwrap();
    let before = (cpu(pid), memory(pid, "VmRSS"), observations());
    let namespace = gateway.lab.gateway.clone();
    let begin = Instant::now();
    let storm = thread::spawn(move || {
        namespace.ip_batch(&storm()).unwrap();
        begin.elapsed()
    });
    wait::until("the storm", LIMIT, || {
        let links = gateway.lab.gateway.run("ip", &["-o", "link"])?;
        Ok(links.contains("storm19").then_some(()))
    })
    .unwrap();
    gateway.lab.cut_cable(0).unwrap();
    let cut = Instant::now();
    wait::until("a failover", LIMIT, || {
        Ok((up_mask(&gateway.lab.gateway, Family::V4) == 0b10).then_some(()))
    })
    .unwrap();
    let failover = (cut.elapsed(), !storm.is_finished());
    let lasted = storm.join().unwrap();
    gateway.assert_uplinks(20, &[1]);
    // All changes are processed: a new one is noticed at once.
    gateway.lab.plug_cable(0).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);

    let spent = cpu(pid) - before.0;
    let rss = memory(pid, "VmHWM").saturating_sub(before.1);
    let observed = observations() - before.2;
    println!(
        "{CHANGES} changes in {lasted:.1?}: {observed} observations, {spent}0 ms of CPU, memory at \
         most {rss} KiB more; failover after {:.1?}, in the storm: {}",
        failover.0, failover.1
    );
    // 16 at once and 5 a second.
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(observed as usize <= 16 + 5 * (seconds + 1), "{observed} in {seconds} s");
    assert!(rss < 16 * 1024, "{rss} KiB");
}
