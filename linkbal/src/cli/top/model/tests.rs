use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;

use super::*;
use crate::{
    api::{drill::DrillOutcome, flows::FlowSummary},
    cli::top::samples::{after, client, event, flow, gateway, status, uplink},
    cli::top::{busy::FlowAnswer, prompt::DRILL_TIME},
    engine::admin::AdminState,
};

fn press(model: &mut Model, keys: &str) -> Option<Action> {
    let keys = keys.chars().map(|key| match key {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\x1b' => KeyCode::Esc,
        'v' => KeyCode::Down,
        '^' => KeyCode::Up,
        key => KeyCode::Char(key),
    });
    let now = model.now;
    keys.map(|key| model.update(Input::Key(key.into()), now)).last().flatten()
}

fn admin(uplink: &str, admin: AdminState, now: bool) -> Option<Action> {
    Some(Action::Order(Order::Admin { uplink: uplink.into(), admin, now }))
}

#[test]
fn a_verb_that_users_feel_needs_a_yes() {
    let mut model = gateway();
    for (verb, state) in [("d", AdminState::Drained), ("x", AdminState::Disabled)] {
        assert_eq!(press(&mut model, verb), None);
        assert!(matches!(model.dialog, Some(Dialog::Ask(_))), "{verb}");
        assert_eq!(press(&mut model, "\n"), None, "only y is a yes");
        assert_eq!(press(&mut model, "n"), None);
        assert_eq!(model.remark.as_ref().map(|it| &*it.text), Some("nothing was done"));
        assert_eq!(press(&mut model, &format!("{verb}y")), admin("isp-a", state, false));
        assert_eq!(model.dialog, None);
    }
    assert_eq!(press(&mut model, "ven"), admin("isp-b", AdminState::Enabled, true));
    assert_eq!(press(&mut model, "e"), None);
    assert_eq!(model.remark.as_ref().map(|it| &*it.text), Some("isp-b is already enabled"));
}

#[test]
fn a_drill_is_watched_and_ended() {
    let mut model = gateway();
    let Some(Action::Order(Order::Drill(request))) = press(&mut model, "ty") else {
        panic!("no drill")
    };
    assert_eq!((&*request.uplink, request.time, request.force), ("isp-a", DRILL_TIME, false));
    let hear = |model: &mut Model, update| {
        let news = Input::News(News::Drill(update));
        assert_eq!(model.update(news, Duration::from_secs(2)), None);
    };
    hear(&mut model, DrillUpdate::Began { time_ms: 30_000, families: vec!["ipv4".into()] });
    let last = model.drill.as_ref().map(|(_, last)| &**last);
    assert_eq!(last, Some("nothing passes isp-a (ipv4); t ends it"));
    let mut other = model.clone();
    assert_eq!(press(&mut other, "t"), Some(Action::EndDrill));
    assert_eq!(other.drill, None);
    let outcome = DrillOutcome {
        found_down_ms: vec![("ipv4".into(), Some(412))],
        up_again_ms: Some(33_900),
        packets_dropped: 120,
        flows_moved: 40,
        connections_reset: 25,
        connections_silent: 1,
    };
    hear(&mut model, DrillUpdate::Done(outcome));
    let Some(Dialog::Text { text, .. }) = &model.dialog else { panic!("no summary") };
    assert!(text.starts_with("found out: ipv4 after 412 ms"), "{text}");
    assert_eq!(model.drill, None);
}

#[test]
fn a_refusal_is_shown_until_the_next_key() {
    let mut model = gateway();
    let refused = News::Done(Err("only root may do this".into()));
    model.update(Input::News(refused), Duration::from_secs(2));
    assert!(model.remark.as_ref().is_some_and(|it| it.is_bad));
    press(&mut model, "v");
    assert_eq!(model.remark, None);
    model.update(Input::News(News::DrillFailed("no".into())), Duration::from_secs(2));
    model.update(Input::Tick, Duration::from_secs(60));
    assert_eq!(model.remark, None, "it goes by itself, too");
}

#[test]
fn enter_opens_what_is_selected() {
    let mut model = gateway();
    press(&mut model, "v\n");
    let Some(Dialog::Text { title, text, .. }) = &model.dialog else { panic!("no text") };
    assert!(title == "isp-b" && text.contains("restart the modem"), "{title}: {text}");
    let Some(Action::Explain(question)) = press(&mut model, "\x1b2v\n") else { panic!("no") };
    let selected = &model.busy.flows[1].flow;
    assert_eq!(question.source_port, selected.client_port);
    assert_eq!((question.protocol, question.from_gateway), (6, false));
    press(&mut model, "3\n");
    assert_eq!(model.focus, Part::Flows);
    assert_eq!(model.wanted().filter.client, Some(model.clients[0].client));
    assert!(model.busy.flows.is_empty(), "those of all are not those of this client");
    press(&mut model, "\x1b");
    assert_eq!(model.wanted().filter, Filter::default());
    press(&mut model, "4\n");
    assert!(matches!(&model.dialog, Some(Dialog::Text { text, .. }) if text.contains("#7 uplink")));
}

#[test]
fn an_explanation_is_shown() {
    let explained = News::Explained(Ok("a -> b tcp\n  now   isp-a".into()));
    let model = after(vec![explained]);
    let Some(Dialog::Text { title, text, .. }) = model.dialog else { panic!("no text") };
    assert_eq!((&*title, &*text), ("a -> b tcp", "  now   isp-a"));
    let model = after(vec![News::Explained(Err("it is gone".into()))]);
    assert!(model.remark.is_some_and(|it| it.is_bad));
}

#[test]
fn a_daemon_that_is_gone_and_comes_back_is_told_of() {
    let mut model = gateway();
    let silent = Input::News(News::Silent("linkbal is not running".into()));
    model.update(silent, Duration::from_secs(9));
    let why = "linkbal is not running".to_owned();
    assert_eq!(model.link, Link::Lost { since: Duration::from_secs(1), why });
    assert_eq!(model.uplinks().len(), 2, "what was known stays");
    let mut next = status(&[uplink("isp-a", "up")]);
    next.pid = 713;
    model.update(Input::News(News::Status(Box::new(next))), Duration::from_secs(10));
    assert_eq!(model.link, Link::Live);
    assert!(model.remark.is_some_and(|it| it.text.contains("restarted; it is pid 713")));
}

#[test]
fn events_are_kept_once_and_not_forever() {
    let mut model = gateway();
    for number in (0..1000).chain(990..1000) {
        let news = Input::News(News::Event(Box::new(event(number))));
        model.update(news, Duration::from_secs(2));
    }
    assert_eq!(model.events.len(), EVENTS);
    assert_eq!(model.events[0].sequence, 999);
    assert_eq!(model.events[1].sequence, 998);
}

#[test]
fn without_bytes_flows_are_in_another_order() {
    let summary = Some(FlowSummary { flows: 1, shown: 1, bytes: ByteCounting::Off });
    let answer = FlowAnswer { flows: vec![flow("isp-a", 1)], summary };
    let mut model = after(vec![News::Flows(answer)]);
    assert!(model.wanted().without_bytes);
    model.update(Input::News(News::Clients(vec![client(1)])), Duration::from_secs(2));
    press(&mut model, "u");
    assert_eq!(model.wanted().filter.uplink, None, "no uplink is known");
}

#[test]
fn a_key_that_comes_soon_behind_esc_is_a_key_of_its_own() {
    let mut model = gateway();
    press(&mut model, "d");
    let key = KeyEvent::new(KeyCode::Char('y'), KeyModifiers::ALT);
    assert_eq!(model.update(Input::Key(key), Duration::from_secs(2)), None);
    assert_eq!(model.dialog, None, "Esc was a no");
    let key = KeyEvent::new(KeyCode::Char('4'), KeyModifiers::ALT);
    model.update(Input::Key(key), Duration::from_secs(2));
    assert_eq!(model.focus, Part::Events);
}

#[test]
fn control_keys_work_everywhere() {
    let mut model = gateway();
    press(&mut model, "d");
    for (key, action) in [('c', Action::Quit), ('l', Action::Redraw), ('z', Action::Suspend)] {
        let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
        assert_eq!(model.update(Input::Key(key), Duration::from_secs(2)), Some(action));
    }
    assert!(matches!(model.dialog, Some(Dialog::Ask(_))));
    assert_eq!(press(&mut model, "nq"), Some(Action::Quit));
}

proptest! {
    /// Checks that no keys order what users feel without a yes.
    #[test]
    fn without_a_yes_nobody_feels_anything(keys in "[ -XZ-xz\n\t\x1b]{0,60}") {
        let mut model = gateway();
        for key in keys.chars() {
            if let Some(Action::Order(order)) = press(&mut model, &key.to_string()) {
                let harmless = matches!(order, Order::Admin { admin: AdminState::Enabled, .. });
                prop_assert!(harmless, "{order:?}");
            }
        }
    }
}
