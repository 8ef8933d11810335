//! `[notify.NAME]`: receivers of messages, each by mail or by a request over HTTP.

mod mail;
mod post;
mod secret;

use std::time::Duration;

use hyper::Uri;
use toml::{
    Spanned,
    de::{DeString, DeValue},
};

use super::{rule, uplink::check_name};
use crate::config::{
    Destination, Host, Receiver, Server,
    diagnostics::problem::Fault,
    keys,
    parse::{
        key::Declared,
        reader::{Section, names_help},
        value,
    },
    words::EVENT_WORDS,
};

/// Most receivers.
const MAX_RECEIVERS: usize = 16;

const HELP: &str = "write a section [notify.admin] (the name is yours) and in it url = \
                    \"https://..\", or server = \"smtps://mail.example.com\"";

/// Reads all receivers, sorted by name.
pub(in crate::config) fn read(root: &Section) -> Vec<Receiver> {
    let mut sections = root.meant_sections(&keys::root::NOTIFY);
    if root.has(&keys::root::NOTIFY) {
        sections.extend(root.section(&keys::root::NOTIFY, HELP));
    }
    let mut receivers: Vec<Receiver> = sections.iter().flat_map(read_all).collect();
    receivers.sort_by(|a, b| a.name.cmp(&b.name));
    receivers
}

fn read_all(all: &Section) -> Vec<Receiver> {
    let entries = all.entries();
    if let Some((name, _)) = entries.get(MAX_RECEIVERS) {
        let message = format!("{} receivers, at most {MAX_RECEIVERS} are possible", entries.len());
        let help = format!("remove receivers until {MAX_RECEIVERS} are left");
        all.problems().report(name.span(), Fault::new(message, help));
    }
    let each = entries.into_iter().filter_map(|(name, value)| {
        let table = all.read(name.get_ref(), value, value::table(HELP))?;
        check_name(all, name, "a receiver");
        let section = all.child(name.get_ref(), &table).knowing(&keys::notify::KEYS);
        read_one(name, &section)
    });
    each.collect()
}

fn read_one(name: &Spanned<DeString<'_>>, section: &Section) -> Option<Receiver> {
    let name = name.get_ref().to_string();
    let is_mail = section.has(&keys::notify::SERVER);
    let is_post = section.has(&keys::notify::URL);
    if !is_mail && !is_post {
        let message = format!("receiver {} has neither url nor server", name.escape_debug());
        section.require(&keys::notify::URL, Fault::new(message, HELP));
        return None;
    }
    if is_mail && is_post {
        let message = "a receiver has either a url or a server";
        let help = "write a section of its own for each, like [notify.mail] and [notify.chat]";
        report_at(section, &keys::notify::SERVER, message, help);
    }
    let to = if is_mail {
        refuse(
            section,
            "a webhook, with `url`",
            &[&keys::notify::HEADERS, &keys::notify::TOKEN_FILE, &keys::notify::TEMPLATE],
        );
        mail::read(section).map(Destination::Mail)
    } else {
        refuse(
            section,
            "mail, with `server`",
            &[
                &keys::notify::TLS,
                &keys::notify::USER,
                &keys::notify::PASSWORD_FILE,
                &keys::notify::FROM,
                &keys::notify::TO,
            ],
        );
        post::read(section).map(Destination::Post)
    };
    let gather = section.value(&keys::notify::GATHER).map(Spanned::into_inner);
    let limit = section.value(&keys::notify::LIMIT).map(Spanned::into_inner);
    Some(Receiver {
        events: events(section),
        gather: gather.unwrap_or(Duration::from_secs(10)),
        limit: limit.unwrap_or(20),
        to: to?,
        name,
    })
}

/// Reports keys that only a receiver of another kind has.
fn refuse(section: &Section, of: &str, keys: &[&dyn Declared]) {
    for key in keys {
        let name = key.name();
        report_at(section, *key, &format!("`{name}` is of {of}"), "remove it");
    }
}

/// Reports a fault at a key, if it is there.
fn report_at(section: &Section, key: &dyn Declared, message: &str, help: &str) {
    let found = section.entries().into_iter().find(|(name, _)| *name.get_ref() == key.name());
    if let Some((name, _)) = found {
        section.report(key.name(), name.span(), Fault::new(message, help));
    }
}

fn events(section: &Section) -> Vec<String> {
    let help = "write a list of kinds of events, like events = [\"uplink\", \"configuration\"]";
    let list = section.list(&keys::notify::EVENTS, help, event);
    let Some(list) = list else { return vec!["uplink".into()] };
    if list.items.is_empty() && list.complete {
        let fault = Fault::new("the list is empty: it is told of nothing", help);
        section.report(&keys::notify::EVENTS, list.span, fault);
    }
    section.report_repeated(&keys::notify::EVENTS, &list.items);
    list.items.into_iter().map(Spanned::into_inner).collect()
}

fn event(value: &DeValue<'_>) -> Result<String, Fault> {
    let help = || names_help(value.as_str().unwrap_or_default(), "they", &EVENT_WORDS);
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, help()))?;
    if EVENT_WORDS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("{text:?} is no kind of event"), help()))
}

/// An address of a server as it is written.
struct Address {
    scheme: String,
    server: Server,
    /// Everything behind the host and the port.
    rest: String,
}

/// Reads `SCHEME://HOST[:PORT]..`; `schemes` has each scheme with its port.
fn address(text: &str, schemes: &[(&str, u16)], help: &str) -> Result<Address, Fault> {
    let fault = |reason: &str| Fault::new(format!("{text:?} {reason}"), help);
    let (scheme, rest) = text.split_once("://").ok_or_else(|| fault("has no scheme"))?;
    let known = schemes.iter().find(|(known, _)| *known == scheme);
    let (scheme, usual) = *known.ok_or_else(|| fault("is of an unknown kind"))?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // Without what other programs read as a name and a password.
    let uri: Option<Uri> = authority.parse().ok().filter(|_| !authority.contains('@'));
    let uri = uri.ok_or_else(|| fault("has no host"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| fault("has no host"))?;
    let port = match uri.port() {
        Some(port) if port.as_u16() != 0 => port.as_u16(),
        None if authority.ends_with(host) => usual,
        _ => return Err(fault("has no number from 1 to 65535 as its port")),
    };
    let server = Server { host: read_host(text, host)?, port };
    Ok(Address { scheme: scheme.to_owned(), server, rest: rest.to_owned() })
}

fn read_host(text: &str, host: &str) -> Result<Host, Fault> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Ok(Host::Address(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match rule::malformed(&name) {
        None => Ok(Host::Name(name)),
        Some((reason, help)) => Err(Fault::new(format!("the name in {text:?} {reason}"), help)),
    }
}
