//! `linkbal top` on a terminal, and `linkbal status --watch`: what is on the screen, what keys do, and that the
//! terminal is as before.

mod pane;

use std::fs::{self, File};
use std::process::Stdio;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::wait;
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use self::pane::Pane;
use crate::fixture::{Gateway, LIMIT, config, linkbal, text, uplink_status};

/// Starts a daemon in place of one that has ended.
fn start_again(gateway: &mut Gateway) {
    let mut next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old one is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
}

fn admin(gateway: &Gateway, uplink: &str) -> String {
    let status = gateway.daemon.status().unwrap();
    uplink_status(&status, uplink)["admin"].as_str().unwrap().to_owned()
}

#[test]
fn top_shows_an_outage_and_drains_an_uplink_by_a_key() {
    let mut gateway = Gateway::pair();
    let pane = Pane::start(&gateway.lab, "");
    pane.wait_for(&["> isp-a", "  isp-b", "+ ipv4 up", "live", "[2:flows]"]);
    assert!(pane.is_on_another_screen());

    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    pane.wait_for(&["! ipv4 down", "isp-a ipv4 is down", "no carrier on wan-a", "1 down"]);
    pane.press(&["4"]);
    pane.wait_for(&["[4:events]", "! uplink isp-a ipv4: up -> down"]);

    pane.press(&["1", "Down"]);
    pane.wait_for(&["> isp-b"]);
    pane.press(&["d"]);
    pane.wait_for(&["drain isp-b", "new flows go on using it", "y: do it"]);
    pane.press(&["n"]);
    pane.wait_for(&["nothing was done"]);
    assert_eq!(admin(&gateway, "isp-b"), "enabled");
    pane.press(&["d"]);
    pane.wait_for(&["drain isp-b"]);
    pane.press(&["y"]);
    pane.wait_for(&["isp-b is now drained"]);
    pane.wait_for(&["~ ipv4 draining"]);
    assert_eq!(admin(&gateway, "isp-b"), "drained");
    pane.press(&["e"]);
    pane.wait_for(&["isp-b is now enabled"]);
    assert_eq!(admin(&gateway, "isp-b"), "enabled");

    pane.press(&["q"]);
    pane.assert_restored();
}

#[test]
fn top_drills_an_uplink_and_ends_the_drill_by_a_key() {
    let mut gateway = Gateway::pair();
    let pane = Pane::start(&gateway.lab, "");
    pane.wait_for(&["> isp-a", "live"]);
    pane.press(&["t"]);
    pane.wait_for(&["drill isp-a", "Nothing passes isp-a for 30s", "y: do it"]);
    pane.press(&["y"]);
    pane.wait_for(&["drill active on isp-a", "! ipv4 down"]);
    assert_eq!(gateway.daemon.status().unwrap()["drill"], "isp-a");
    pane.press(&["t"]);
    gateway.daemon.wait_for("the end of the drill", LIMIT, |it| it["drill"].is_null()).unwrap();
    // To leave ends a drill, too.
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    pane.press(&["t"]);
    pane.wait_for(&["y: do it"]);
    pane.press(&["y"]);
    gateway.daemon.wait_for("a drill", LIMIT, |it| it["drill"] == "isp-a").unwrap();
    pane.press(&["C-c"]);
    pane.assert_restored();
    gateway.daemon.wait_for("the end of the drill", LIMIT, |it| it["drill"].is_null()).unwrap();
}

#[test]
fn top_explains_the_selected_flow() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(2);
    let pane = Pane::start(&gateway.lab, "");
    pane.press(&["2"]);
    pane.wait_for(&[">tcp"]);
    pane.press(&["Enter"]);
    let shown = pane.wait_for(&["now ", "if down", "Esc back"]);
    let sources =
        flows.reports().iter().map(|flow| flow.spec.source.to_string()).collect::<Vec<_>>();
    let title = shown.lines().find(|line| line.contains(" -> ")).unwrap();
    assert!(sources.iter().any(|source| title.contains(source)), "{title}\n{sources:?}");
    pane.press(&["Escape"]);
    pane.wait_for(&[">tcp", "? keys"]);
    pane.press(&["q"]);
    pane.assert_restored();
}

#[test]
fn top_goes_on_when_the_daemon_hangs_dies_and_comes_back() {
    let mut gateway = Gateway::pair();
    let pane = Pane::start(&gateway.lab, "");
    pane.wait_for(&["> isp-a", "live"]);

    gateway.daemon.signal(Signal::SIGSTOP).unwrap();
    pane.wait_for(&["NO ANSWER", "does not answer within 3 s"]);
    pane.press(&["?"]);
    pane.wait_for(&["drain the uplink: asks first"]);
    pane.press(&["Escape"]);
    gateway.daemon.signal(Signal::SIGCONT).unwrap();
    pane.wait_for(&["  live"]);

    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    pane.wait_for(&["NO ANSWER", "linkbal is not running"]);
    start_again(&mut gateway);
    let pid = format!("pid {}", gateway.daemon.id());
    pane.wait_for(&["  live", &pid, "+ ipv4 up"]);
    pane.press(&["4"]);
    pane.wait_for(&["init -> up"]);

    // Other sizes.
    pane.resize(120, 40);
    pane.wait_for(&["[2:flows]", "[3:clients]", "[4:events]"]);
    pane.resize(40, 10);
    pane.press(&["1"]);
    pane.wait_for(&["> isp-a", "+ ipv4 up"]);
    pane.press(&["q"]);
    pane.assert_restored();
}

#[test]
fn a_signal_restores_the_terminal_and_no_colour_is_none() {
    let gateway = Gateway::pair();
    for (variables, is_coloured) in [("NO_COLOR=1", false), ("TERM=vt100", false), ("", true)] {
        let pane = Pane::start(&gateway.lab, variables);
        pane.wait_for(&["> isp-a", "+ ipv4 up", "live"]);
        assert_eq!(pane.has_colours(), is_coloured, "{variables}");
        kill(pane.child(), Signal::SIGTERM).unwrap();
        pane.assert_restored();
    }
}

#[test]
fn without_a_terminal_top_says_what_to_do_instead() {
    let gateway = Gateway::pair();
    let output = linkbal(&gateway.lab, &["top"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("linkbal status --watch") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_watched_status_goes_on_without_the_daemon_and_ends_by_ctrl_c() {
    let mut gateway = Gateway::pair();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("watched");
    let mut command = gateway.lab.gateway.command(gateway.daemon.program());
    command.args(["status", "--watch", "1"]).stdin(Stdio::null());
    command.stdout(File::create(&path).unwrap());
    let mut watcher = gateway.lab.gateway.spawn(&mut command).unwrap();
    let printed = |what: &str, count: usize| {
        wait::until(what, LIMIT, || {
            let text = fs::read_to_string(&path)?;
            Ok((text.matches(what).count() >= count).then_some(text))
        })
        .unwrap()
    };
    let text = printed("ipv4 up", 4);
    assert!(!text.contains('\x1b'), "{text:?}");
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    printed("linkbal is not running", 1);
    start_again(&mut gateway);
    let known = printed("ipv4 up", 4).matches("ipv4 up").count();
    printed("ipv4 up", known + 2);
    watcher.signal(Signal::SIGINT).unwrap();
    assert_eq!(watcher.wait(LIMIT).unwrap().code(), Some(0));
}
