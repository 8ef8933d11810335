//! Attaching and detaching, as `bpftool` and `tc` see it.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use linkbal::{
    engine::kernel::network::{Link, Role},
    per_family::PerFamily,
    sys::{
        datapath::{
            Datapath,
            attach::{Method, detach_clsact},
        },
        host::instance::{Instance, remove_files},
    },
};
use linkbal_common::{maps, names};
use linkbal_lab::{namespace::Namespace, wait};
use serde_json::Value;

use crate::instance::{instance, remove};

/// Time that a listing may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a program in the thread's network namespace; returns its output.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("failed to run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns how often the program with this id is attached to an interface: by tcx links, which this
/// `bpftool` only shows as links, and by filters.
fn attached(program: u64) -> Result<usize> {
    // bpftool gives up when a link of another test vanishes while it lists them.
    let list = |of| -> Result<Value> {
        let listing = || Ok(output("bpftool", &["-j", of, "show"]).ok());
        Ok(serde_json::from_str(&wait::until("a list of bpftool", LIMIT, listing)?)?)
    };
    let links = list("link")?;
    let links = links.as_array().context("no list of links")?;
    let links = links.iter().filter(|link| link["prog_id"] == program).count();
    let filters = list("net")?;
    let filters = filters[0]["tc"].as_array().context("no list of filters")?;
    Ok(links + filters.iter().filter(|filter| filter["id"] == program).count())
}

/// Returns the ids of the programs, at ingress and at egress, that are pinned now.
fn pinned_programs(instance: &Instance) -> Result<Vec<u64>> {
    let pinned = |name| {
        let pin = instance.bpf_dir.join(name);
        let pin = pin.to_str().context("a path in UTF-8")?;
        let text = output("bpftool", &["-j", "prog", "show", "pinned", pin])?;
        let program: Value = serde_json::from_str(&text)?;
        program["id"].as_u64().context("a program has an id")
    };
    [names::PROGRAM_INGRESS, names::PROGRAM_EGRESS].into_iter().map(pinned).collect()
}

/// Returns whether each of the programs is attached `count` times. The kernel takes a moment to free
/// a link without pins.
fn each_attached(programs: &[u64], count: usize) -> Result<bool> {
    for program in programs {
        let is_attached = || Ok((attached(*program)? == count).then_some(()));
        if wait::until("the attachments", LIMIT, is_attached).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs a test with tcx; on a kernel without it, only checks that the kernel refuses it.
pub(crate) fn if_tcx(test: impl Fn(Method) -> Result<()>) -> Result<()> {
    let result = test(Method::Tcx);
    if Method::available() == Method::Tcx {
        return result;
    }
    ensure!(result.is_err(), "tcx works, but is not used");
    Ok(())
}

fn lan0() -> Result<Link> {
    let ifindex = nix::net::if_::if_nametoindex("lan0")?;
    let name = "lan0".to_owned();
    Ok(Link {
        ifindex,
        name,
        up: true,
        carrier: true,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    })
}

/// Attaches to an interface by one method, twice; `gone` detaches at last.
fn comes_and_goes(method: Method, gone: impl Fn(&Instance)) -> Result<()> {
    let namespace = Namespace::new("attach")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        let mut programs = Vec::new();
        for round in 1..=2 {
            // Each round is a daemon of its own, which finds what the one before left.
            let mut datapath = Datapath::open_with(&instance, 1024, method)?;
            let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
            ensure!(failures.is_empty(), "{failures:?}");
            drop(datapath);
            let before = std::mem::replace(&mut programs, pinned_programs(&instance)?);
            ensure!(programs != before && each_attached(&programs, 1)?, "round {round}");
            ensure!(each_attached(&before, 0)?, "round {round}: the old programs still run");
        }
        gone(&instance);
        ensure!(each_attached(&programs, 0)?);
        ensure!(!output("tc", &["qdisc", "show", "dev", "lan0"])?.contains("clsact"));
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn tcx_links_outlive_the_daemon_and_go_with_their_pins() -> Result<()> {
    if_tcx(|method| {
        comes_and_goes(method, |instance| {
            remove_files(&instance.bpf_dir).expect("the pins can be removed");
        })
    })
}

#[test]
fn clsact_filters_outlive_the_daemon_and_go_with_their_qdisc() -> Result<()> {
    comes_and_goes(Method::Clsact, |instance| {
        let failures = detach_clsact(&instance.run_dir);
        assert!(failures.is_empty(), "{failures:?}");
    })
}

/// Attaches to an interface by one method, then to none.
fn leaves_a_former_lan(method: Method) -> Result<()> {
    let namespace = Namespace::new("former")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, method)?;
        for round in 1..=2 {
            let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
            ensure!(failures.is_empty(), "{failures:?}");
            let programs = pinned_programs(&instance)?;
            ensure!(each_attached(&programs, 1)?, "round {round}");
            let failures = datapath.take_over(&[]);
            ensure!(failures.is_empty(), "{failures:?}");
            ensure!(each_attached(&programs, 0)?, "round {round}");
            ensure!(!output("tc", &["qdisc", "show", "dev", "lan0"])?.contains("clsact"));
        }
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn an_interface_that_leaves_the_lan_loses_its_links() -> Result<()> {
    if_tcx(leaves_a_former_lan)
}

#[test]
fn an_interface_that_leaves_the_lan_loses_its_filters() -> Result<()> {
    leaves_a_former_lan(Method::Clsact)
}

#[test]
fn a_foreign_clsact_qdisc_stays() -> Result<()> {
    let namespace = Namespace::new("clsact")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    namespace.run("tc", &["qdisc", "add", "dev", "lan0", "clsact"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty(), "{failures:?}");
        let programs = pinned_programs(&instance)?;
        ensure!(each_attached(&programs, 1)?);
        ensure!(detach_clsact(&instance.run_dir).is_empty());
        ensure!(each_attached(&programs, 0)?);
        ensure!(output("tc", &["qdisc", "show", "dev", "lan0"])?.contains("clsact"));
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn filters_of_others_keep_the_qdisc_that_was_added_for_linkbal() -> Result<()> {
    let namespace = Namespace::new("shared")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        for side in ["ingress", "egress"] {
            let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
            let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
            ensure!(failures.is_empty(), "{failures:?}");
            // A classic program that says yes.
            let other = ["filter", "add", "dev", "lan0", side, "prio", "7", "bpf", "bytecode"];
            let program = ["1,6 0 0 4294967295,", "classid", "1:1"];
            namespace.run("tc", &[&other[..], &program].concat())?;
            ensure!(detach_clsact(&instance.run_dir).is_empty());
            let left = output("tc", &["filter", "show", "dev", "lan0", side])?;
            ensure!(left.contains("pref 7 ") && !left.contains("linkbal"), "{side}: {left}");
            namespace.run("tc", &["qdisc", "del", "dev", "lan0", "clsact"])?;
        }
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn a_qdisc_in_the_place_of_clsact_is_named_and_one_that_follows_it_stays() -> Result<()> {
    let namespace = Namespace::new("occupied")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    namespace.run("tc", &["qdisc", "add", "dev", "lan0", "ingress"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        let [failure] = &failures[..] else { bail!("{failures:?}") };
        let text = format!("{failure:#}");
        ensure!(text.contains("`tc qdisc del dev lan0 ingress`"), "{text}");
        ensure!(text.contains("`tc qdisc replace dev lan0 clsact`"), "{text}");
        namespace.run("tc", &["qdisc", "del", "dev", "lan0", "ingress"])?;
        namespace.run("tc", &["qdisc", "replace", "dev", "lan0", "clsact"])?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty(), "{failures:?}");
        ensure!(detach_clsact(&instance.run_dir).is_empty());
        ensure!(output("tc", &["qdisc", "show", "dev", "lan0"])?.contains("clsact"));
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn orphaned_filters_are_removed() -> Result<()> {
    let namespace = Namespace::new("unknown")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty(), "{failures:?}");
        // A classic program that says yes.
        let other = ["filter", "add", "dev", "lan0", "ingress", "prio", "7", "bpf", "bytecode"];
        namespace.run("tc", &[&other[..], &["1,6 0 0 4294967295,", "classid", "1:1"]].concat())?;
        let programs = pinned_programs(&instance)?;
        ensure!(each_attached(&programs, 1)?);
        std::fs::remove_file(instance.run_dir.join("clsact.json"))?;
        ensure!(detach_clsact(&instance.run_dir).is_empty());
        ensure!(each_attached(&programs, 0)?);
        let left = output("tc", &["filter", "show", "dev", "lan0", "ingress"])?;
        ensure!(left.contains("pref 7 ") && !left.contains("linkbal"), "{left}");
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn a_deleted_clsact_qdisc_is_restored() -> Result<()> {
    let namespace = Namespace::new("again")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty(), "{failures:?}");
        let programs = pinned_programs(&instance)?;
        namespace.run("tc", &["qdisc", "del", "dev", "lan0", "clsact"])?;
        ensure!(each_attached(&programs, 0)?);
        let ifindex = lan0()?.ifindex;
        ensure!(datapath.lost_filter(ifindex + 1).is_none(), "no interface of ours");
        let lost = datapath.lost_filter(ifindex).context("a filter of ours")?;
        datapath.restore(&lost)?;
        ensure!(each_attached(&programs, 1)?);
        Ok(())
    })();
    remove(&instance);
    result
}

/// Checks that the programs of other kinds of interfaces are loaded when one is there, and go with it.
#[test]
fn programs_of_tunnels_are_loaded_for_a_tunnel() -> Result<()> {
    let namespace = Namespace::new("kinds")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let tunnels = [names::PROGRAM_L3, names::PROGRAM_L3_EGRESS];
    let pinned = || tunnels.map(|name| instance.bpf_dir.join(name).exists());
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty() && pinned() == [false; 2], "{failures:?}");
        // It has become a tunnel.
        let failures = datapath.take_over(&[]);
        ensure!(failures.is_empty(), "{failures:?}");
        let failures = datapath.take_over(&[(Role::Lan, Link { ethernet: false, ..lan0()? })]);
        ensure!(failures.is_empty() && pinned() == [true; 2], "{failures:?}");
        ensure!(datapath.unpinned().is_empty());
        let filters = output("tc", &["filter", "show", "dev", "lan0", "ingress"])?;
        ensure!(filters.contains(names::PROGRAM_L3), "{filters}");
        drop(datapath);
        // The next daemon finds no tunnel.
        let mut datapath = Datapath::open_with(&instance, 1024, Method::Clsact)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty() && pinned() == [false; 2], "{failures:?}");
        ensure!(datapath.unpinned().is_empty());
        Ok(())
    })();
    remove(&instance);
    result
}

#[test]
fn missing_pins_and_links_are_restored() -> Result<()> {
    if_tcx(loses_its_pins)
}

fn loses_its_pins(method: Method) -> Result<()> {
    let namespace = Namespace::new("pins")?;
    let _entered = namespace.enter()?;
    namespace.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let instance = instance()?;
    let result = (|| {
        let mut datapath = Datapath::open_with(&instance, 1024, method)?;
        let failures = datapath.take_over(&[(Role::Lan, lan0()?)]);
        ensure!(failures.is_empty(), "{failures:?}");
        let programs = pinned_programs(&instance)?;
        ensure!(datapath.detached().is_empty() && datapath.unpinned().is_empty());
        // All pins, and their folder.
        remove_files(&instance.bpf_dir)?;
        ensure!(each_attached(&programs, 1)?, "without their pins they go on");
        let missing = [datapath.detached(), datapath.unpinned()].concat();
        let pins = maps::pinned().count() + names::ESSENTIAL_PROGRAMS.len();
        ensure!(missing.len() == 1 + pins, "{missing:?}");
        missing.iter().try_for_each(|part| datapath.restore(part))?;
        ensure!(datapath.detached().is_empty() && datapath.unpinned().is_empty());
        ensure!(pinned_programs(&instance)? == programs && each_attached(&programs, 1)?);
        Ok(())
    })();
    remove(&instance);
    result
}
