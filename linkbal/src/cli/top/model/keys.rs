//! The keys, and what each does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Dialog, Model, Part, id};
use crate::{
    api::{explain::FlowQuestion, status::Uplink},
    cli::{
        status,
        top::{
            busy::BusyFlow,
            cursor::Cursor,
            news::{Action, Filter},
            prompt::{self, Order},
        },
    },
    engine::admin::AdminState,
    flows::record::FlowRecord,
    protocol,
};

/// Keys, and what they do.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::top) struct Key(
    pub(in crate::cli::top) &'static str,
    pub(in crate::cli::top) &'static str,
);

/// The keys with what they do, as `?` shows them.
pub(in crate::cli::top) const HELP: &[Key] = &[
    Key("Tab, 1 2 3 4", "uplinks, flows, clients, events"),
    Key("arrows, PgUp, PgDn", "select a row; Home the first one"),
    Key("Enter", "all of the uplink or event, the flows of the client, explain of the flow"),
    Key("d", "drain the uplink: asks first"),
    Key("x", "disable it: asks first"),
    Key("e, n", "enable it; n: at once, without its hold time"),
    Key("t", "drill, or end the drill: asks first"),
    Key("u", "flows of the selected uplink alone, or of all"),
    Key("Esc", "back; flows of all"),
    Key("s", "the whole status"),
    Key("Ctrl-L, Ctrl-Z", "draw anew; to the shell, `fg` comes back"),
    Key("q, Ctrl-C", "leave"),
];

/// Rows of a page.
const PAGE: isize = 10;

/// More rows than any list has.
const END: isize = isize::MAX;

/// Presses a key, and returns what is to be done.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('z') => Some(Action::Suspend),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        // Esc, and a key that came so soon behind it that the two are taken for one.
        press(model, KeyCode::Esc.into());
        return press(model, key.code.into());
    }
    if model.dialog.is_some() {
        return in_dialog(model, key.code);
    }
    model.remark = None;
    match key.code {
        KeyCode::Char('q') => return Some(Action::Quit),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => model.dialog = Some(Dialog::Keys),
        KeyCode::Tab | KeyCode::Right => go(model, 1),
        KeyCode::BackTab | KeyCode::Left => go(model, 3),
        KeyCode::Char(digit @ '1'..='4') => focus(model, digit),
        KeyCode::Up | KeyCode::Char('k') => step(model, -1),
        KeyCode::Down | KeyCode::Char('j') => step(model, 1),
        KeyCode::PageUp => step(model, -PAGE),
        KeyCode::PageDown => step(model, PAGE),
        KeyCode::Home => step(model, -END),
        KeyCode::End => step(model, END),
        KeyCode::Enter => return open(model),
        KeyCode::Esc => choose(model, Filter::default()),
        KeyCode::Char('u') => toggle_uplink(model),
        KeyCode::Char('s') => show_status(model),
        KeyCode::Char(verb @ ('d' | 'x' | 'e' | 'n' | 't')) => return order(model, verb),
        _ => {}
    }
    None
}

/// Presses a key while something is before all else.
fn in_dialog(model: &mut Model, key: KeyCode) -> Option<Action> {
    match model.dialog.take()? {
        Dialog::Ask(prompt) => match key {
            KeyCode::Char('y' | 'Y') => return Some(model.order(prompt.order)),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => model.say("nothing was done", false),
            _ => model.dialog = Some(Dialog::Ask(prompt)),
        },
        Dialog::Text { title, text, scroll } => {
            let scroll = match key {
                KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => scroll.saturating_add(1),
                KeyCode::PageUp => scroll.saturating_sub(10),
                KeyCode::PageDown | KeyCode::Char(' ') => scroll.saturating_add(10),
                KeyCode::Home => 0,
                KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => return None,
                _ => scroll,
            };
            // No text has more lines than bytes.
            let scroll = scroll.min(u16::try_from(text.len()).unwrap_or(u16::MAX));
            model.dialog = Some(Dialog::Text { title, text, scroll });
        }
        Dialog::Keys => {}
    }
    None
}

fn go(model: &mut Model, by: usize) {
    let at = Part::ALL.iter().position(|part| *part == model.focus).unwrap_or_default();
    let mut parts = Part::ALL.iter().cycle().skip(at.saturating_add(by));
    let part = parts.next().copied().unwrap_or_default();
    focus_on(model, part);
}

fn focus(model: &mut Model, digit: char) {
    let at = digit.to_digit(10).and_then(|digit| digit.checked_sub(1));
    let part = at.and_then(|at| Part::ALL.get(usize::try_from(at).ok()?));
    focus_on(model, part.copied().unwrap_or_default());
}

fn focus_on(model: &mut Model, part: Part) {
    model.focus = part;
    if part != Part::Uplinks {
        model.pane = part;
    }
}

fn step(model: &mut Model, by: isize) {
    match model.focus {
        Part::Uplinks => {
            let names: Vec<String> =
                model.uplinks().iter().map(|uplink| uplink.name.clone()).collect();
            model.cursors.uplinks.step(&names, by);
        }
        Part::Flows => {
            let keys: Vec<_> = model.busy.flows.iter().map(BusyFlow::key).collect();
            model.cursors.flows.step(&keys, by);
        }
        Part::Clients => {
            let clients: Vec<_> = model.clients.iter().map(|client| client.client).collect();
            model.cursors.clients.step(&clients, by);
        }
        Part::Events => {
            let ids: Vec<_> = model.events.iter().map(id).collect();
            model.cursors.events.step(&ids, by);
        }
    }
}

/// Opens what is selected.
fn open(model: &mut Model) -> Option<Action> {
    match model.focus {
        Part::Uplinks => {
            let uplink = model.uplink()?;
            let (title, text) =
                (uplink.name.clone(), status::reasons(uplink, &model.zone).concat());
            model.show(title, text);
        }
        Part::Flows => {
            let flow = model.busy.flows.get(model.flow_at()?)?;
            return match question(&flow.flow) {
                Some(question) => Some(Action::Explain(Box::new(question))),
                None => {
                    model.say("a flow of this kind cannot be explained", true);
                    None
                }
            };
        }
        Part::Clients => {
            let client = model.clients.get(model.client_at()?)?.client;
            choose(model, Filter { client: Some(client), uplink: None });
            focus_on(model, Part::Flows);
        }
        Part::Events => {
            let event = model.events.get(model.event_at()?)?;
            let (title, text) =
                (format!("event #{}", event.sequence), event.line(&model.zone.show(&event.time)));
            model.show(title, text);
        }
    }
    None
}

/// Returns the question what becomes of a flow.
fn question(flow: &FlowRecord<'_>) -> Option<FlowQuestion> {
    let any: IpAddr = match flow.destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from_gateway = flow.client.is_unspecified();
    Some(FlowQuestion {
        source: if from_gateway { any } else { flow.client },
        source_port: flow.client_port,
        destination: flow.destination,
        destination_port: flow.destination_port,
        protocol: protocol::number(&flow.protocol)?,
        interface: None,
        mac: None,
        vlan: None,
        dscp: None,
        from_gateway,
    })
}

/// Shows other flows.
fn choose(model: &mut Model, filter: Filter) {
    if model.filter != filter {
        model.filter = filter;
        model.busy.flows.clear();
        model.cursors.flows = Cursor::default();
    }
}

fn toggle_uplink(model: &mut Model) {
    let uplink = match model.filter.uplink {
        Some(_) => None,
        None => model.uplink().map(|uplink| uplink.name.clone()),
    };
    choose(model, Filter { uplink, client: None });
    if model.focus != Part::Flows {
        model.pane = Part::Flows;
    }
}

fn show_status(model: &mut Model) {
    let Some(status) = &model.status else { return };
    // The table is on the screen.
    let text = status::render(status, false, &model.zone);
    let text = text.split_once("\n\n").map(|(_, below)| below.to_owned()).unwrap_or(text);
    model.show("status", text);
}

/// Asks before a verb for the selected uplink, or orders it if nobody feels it.
fn order(model: &mut Model, verb: char) -> Option<Action> {
    if verb == 't' && model.drill.take().is_some() {
        model.say("the drill has ended; the uplink has to prove itself", false);
        return Some(Action::EndDrill);
    }
    let (status, uplink) = (model.status.as_ref()?, model.uplink()?);
    let is = |state: AdminState| uplink.admin == state;
    let prompt = match verb {
        'd' if is(AdminState::Drained) => return already(model, AdminState::Drained),
        'd' => prompt::admin(status, uplink, AdminState::Drained),
        'x' if is(AdminState::Disabled) => return already(model, AdminState::Disabled),
        'x' => prompt::admin(status, uplink, AdminState::Disabled),
        'e' if is(AdminState::Enabled) => return already(model, AdminState::Enabled),
        'e' => return Some(enable(uplink, false)),
        'n' => return Some(enable(uplink, true)),
        _ => prompt::drill(status, uplink),
    };
    model.dialog = Some(Dialog::Ask(prompt));
    None
}

fn enable(uplink: &Uplink, now: bool) -> Action {
    Action::Order(Order::Admin { uplink: uplink.name.clone(), admin: AdminState::Enabled, now })
}

fn already(model: &mut Model, state: AdminState) -> Option<Action> {
    let name = model.uplink()?.name.clone();
    model.say(format!("{name} is already {state}"), false);
    None
}
