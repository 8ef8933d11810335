//! Black holes, which end by the kernel's own clock.

use std::time::Duration;

use anyhow::{Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use linkbal::{
    engine::kernel::network::Link,
    per_family::PerFamily,
    sys::datapath::{
        Datapath,
        attach::{Method, detach_clsact},
    },
};
use linkbal_common::{drill::Drill, names};
use linkbal_lab::{namespace::Namespace, wait};

use crate::{
    attach::if_tcx,
    instance::{instance, remove},
};

/// Time that the end of a black hole may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The return values that drop a packet (`TC_ACT_SHOT`) and let other programs see it.
const DROP: u32 = 2;
const NEXT: u32 = u32::MAX;

/// Returns the verdict of a program on an ARP frame.
fn verdict(datapath: &mut Datapath, program: &str) -> Result<u32> {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    Ok(datapath.program(program)?.test_run(options)?.return_value)
}

fn drill_and_exit(datapath: &mut Datapath) -> Result<()> {
    let ifindex = nix::net::if_::if_nametoindex("wan0")?;
    let name = "wan0".to_owned();
    let link = Link {
        ifindex,
        name,
        up: true,
        carrier: true,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    };
    // Short enough to wait for, and long enough to be seen.
    let before = datapath.drilled()?;
    let hole = datapath.install_black_hole(&link, Drill::default(), Duration::from_secs(2))?;
    // As if the daemon had died: nobody removes it.
    std::mem::forget(hole);
    for program in names::DRILL_PROGRAMS {
        ensure!(verdict(datapath, program)? == DROP, "{program} does not drop");
    }
    ensure!(datapath.drilled()? - before == 2, "{} packets", datapath.drilled()?);
    for program in names::DRILL_PROGRAMS {
        let over = || Ok((verdict(datapath, program)? == NEXT).then_some(()));
        wait::until("the end of the black hole", LIMIT, over)?;
    }
    Ok(())
}

fn start_drill(method: Method) -> Result<()> {
    let namespace = Namespace::new("drill")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "wan0", "type", "veth", "peer", "name", "isp0"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 65_536, method)?;
        drill_and_exit(&mut datapath)?;
        let failures = detach_clsact(&instance.run_dir);
        ensure!(failures.is_empty(), "{failures:?}");
        let left = namespace.run("tc", &["qdisc", "show", "dev", "wan0"])?;
        ensure!(!left.contains("clsact"), "left behind: {left}");
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn a_drill_ends_without_the_daemon() -> Result<()> {
    if_tcx(start_drill)
}

#[test]
fn a_drill_with_clsact_filters_ends_and_is_torn_down() -> Result<()> {
    start_drill(Method::Clsact)
}
