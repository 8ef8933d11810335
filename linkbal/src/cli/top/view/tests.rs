use std::time::Duration;

use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;
use crate::{
    api::{
        flows::{ByteCounting, FlowSummary},
        status::Status,
    },
    cli::top::{
        busy::FlowAnswer,
        model::Dialog,
        news::{Input, News},
        samples::{after, client, event, family, flow, gateway, status, uplink},
    },
};

fn plain() -> Paint {
    Paint::new(|_| None)
}

fn full() -> Paint {
    Paint::new(|name| match name {
        "LANG" => Some("C.UTF-8".to_owned()),
        "TERM" => Some("xterm".to_owned()),
        _ => None,
    })
}

fn terminal(model: &Model, width: u16, height: u16, paint: Paint) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, model, paint)).expect("it is drawn");
    terminal
}

/// Returns the lines of a screen, without spaces at their ends.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(model, width, height, plain());
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(width.into());
    let row = |row: &[ratatui::buffer::Cell]| {
        row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>()
    };
    rows.map(|cells| row(cells).trim_end().to_owned()).collect()
}

fn assert_has(screen: &[String], words: &[&str]) {
    let text = screen.join("\n");
    words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in\n{text}"));
}

#[test]
fn the_usual_terminal_shows_uplinks_reasons_and_flows() {
    let shown = screen(&gateway(), 80, 24);
    let expected = [
        "linkbal: 2 uplinks, 1 down, 1246 flows, pid 712 since 22 November 02:08     live",
        "  UPLINK   FLOWS  TARGET  ACTUAL         DOWN           UP    USED",
        "      STATE               LOSS 6 min       LATENCY 6 min        JITTER 6 min",
        "> isp-a      623  30.0 %  31.2 %   7.7 Mbit/s 312.5 kbit/s  77.0 % [========   ]",
        "    + ipv4 up            1.2 %             12.3 ms              0.4 ms",
        "  isp-b      623  30.0 %  31.2 %   7.7 Mbit/s 312.5 kbit/s  77.0 % [========   ]",
        "    ! ipv4 down          100 %                   -                   -",
        "isp-a ipv4 is up since 2026-11-22 02:08:43 UTC: targets answer",
        "[2:flows] 3:clients  4:events",
        " PROTO CLIENT           DESTINATION      UPLINK   RATE  AGE     UP   DOWN",
        " tcp   10.77.0.12:40000 198.51.100.1:443 isp-a       -   3m   9.1K   1.2M",
    ];
    assert_eq!(shown[..expected.len()], expected);
    assert_eq!(
        shown[23],
        "q quit  ? keys  Tab next  Enter open  d drain  x disable  e enable  t drill"
    );
}

#[test]
fn a_large_terminal_shows_all_lists_at_once() {
    let shown = screen(&gateway(), 120, 40);
    assert_has(&shown, &["[2:flows]", "[3:clients]", "[4:events]", "laptop", "isp-a, isp-b"]);
    assert_has(
        &shown,
        &["22 Nov 05:56:21 ! uplink isp-a ipv4: up -> down: 3 rounds of probes failed"],
    );
}

#[test]
fn a_tiny_terminal_shows_the_part_that_keys_are_for() {
    let mut model = gateway();
    let shown = screen(&model, 40, 10);
    assert_has(&shown, &["> isp-a", "+ ipv4 up", "! ipv4 down"]);
    model.focus = Part::Events;
    let shown = screen(&model, 40, 10);
    assert_has(&shown, &["[4:events]", "22 Nov 05:56:21 ! uplink"]);
    assert!(!shown.join("").contains("isp-b"));
}

#[test]
fn many_uplinks_with_long_names_are_scrolled() {
    let names: Vec<String> = (0..16).map(|n| format!("provider-with-a-long-name-{n:02}")).collect();
    let mut uplinks: Vec<_> = names.iter().map(|name| uplink(name, "up")).collect();
    for uplink in &mut uplinks {
        uplink.ipv6 = serde_json::from_value(family("down")).expect("a family");
    }
    let mut model = after(vec![News::Status(Box::new(status(&uplinks)))]);
    for (width, height) in [(80, 24), (120, 40), (40, 10)] {
        let shown = screen(&model, width, height);
        let row = shown.iter().position(|line| line.starts_with("> provider")).expect("a row");
        assert!(shown[row + 1].contains("ipv4 up") && shown[row + 2].contains("ipv6 down"));
        assert!(shown.iter().all(|line| line.chars().count() <= usize::from(width)));
    }
    model.cursors.uplinks.step(&names, 15);
    let shown = screen(&model, 80, 24);
    let row = shown.iter().position(|line| line.starts_with("> provider")).expect("a row");
    assert!(shown[row + 2].contains("ipv6 down"), "{shown:#?}");
    assert_has(&shown, &["provider-with-a-long-name-15 ipv4 is up", "[2:flows]"]);
}

#[test]
fn a_silent_daemon_is_told_of_and_what_was_stays() {
    let mut model = gateway();
    let silent = News::Silent("linkbal is not running; start it: systemctl start linkbal".into());
    model.update(Input::News(silent), Duration::from_secs(13));
    let shown = screen(&model, 80, 24);
    assert!(shown[0].ends_with("NO ANSWER for 12 s"), "{}", shown[0]);
    assert!(shown[1].starts_with("! linkbal is not running; start it:"), "{}", shown[1]);
    assert_has(&shown, &["> isp-a"]);
    let nothing = after(Vec::new());
    assert!(screen(&nothing, 80, 24)[0].ends_with("asking .."));
}

#[test]
fn what_is_not_as_usual_is_above_all() {
    let mut now: Status = status(&[uplink("isp-a", "up")]);
    now.installed = false;
    now.drill = Some("isp-a".into());
    now.confirm_within_s = Some(50);
    now.refused = [("a".to_owned(), "b".to_owned())].into();
    let shown = screen(&after(vec![News::Status(Box::new(now))]), 80, 24);
    assert_has(&shown, &["! not in place yet", "! drill active on isp-a", "(1 more: s)"]);
}

#[test]
fn a_question_and_the_keys_are_before_all_else() {
    let mut model = gateway();
    let press = |model: &mut Model, key: char| {
        let key = crossterm::event::KeyCode::Char(key).into();
        model.update(Input::Key(key), Duration::from_secs(1))
    };
    press(&mut model, 'x');
    for (width, height) in [(80, 24), (40, 12)] {
        let shown = screen(&model, width, height);
        assert_has(&shown, &["disable isp-a", "623 live", "y: do it   n, Esc: leave it"]);
    }
    press(&mut model, 'n');
    assert_has(&screen(&model, 80, 24), &["nothing was done"]);
    press(&mut model, '?');
    assert_has(&screen(&model, 80, 24), &["drain the uplink: asks first", "any key goes back"]);
}

#[test]
fn without_bytes_the_title_says_what_to_do() {
    let summary = Some(FlowSummary { flows: 40, shown: 1, bytes: ByteCounting::Off });
    let flows = vec![flow("isp-a", 1)];
    let model = after(vec![News::Flows(FlowAnswer { flows, summary })]);
    assert_has(
        &screen(&model, 80, 24),
        &["40 live, the latest to send first", "nf_conntrack_acct=1"],
    );
}

#[test]
fn colours_are_for_those_who_have_them() {
    let model = gateway();
    let colours = |paint| {
        let terminal = terminal(&model, 80, 24, paint);
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(colours(full()) && !colours(plain()));
}

proptest! {
    /// Checks that nothing panics, whatever the terminal's size.
    #[test]
    fn any_size_can_be_drawn(width in 1u16..140, height in 1u16..60, focus in 0usize..4, dialog in 0u8..4) {
        let mut model = gateway();
        model.clients.push(client(1));
        model.events.push_front(event(8));
        model.focus = Part::ALL[focus];
        model.dialog = match dialog {
            0 => None,
            1 => Some(Dialog::Keys),
            2 => Some(Dialog::Text { title: "t".repeat(99), text: "a b\n".repeat(99), scroll: 7 }),
            _ => Some(Dialog::Text { title: String::new(), text: String::new(), scroll: u16::MAX }),
        };
        model.say("something long ".repeat(20), true);
        terminal(&model, width, height, full());
        terminal(&model, width, height, plain());
    }
}
