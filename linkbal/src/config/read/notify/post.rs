//! A receiver by HTTP.

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use toml::{
    Spanned,
    de::{DeString, DeValue},
};

use super::{Address, address, secret};
use crate::{
    config::{
        Host, Post, Server,
        diagnostics::problem::Fault,
        keys::notify::{HEADERS, TEMPLATE, TOKEN_FILE, URL},
        parse::{reader::Section, value},
    },
    notify::template::{self, PLACEHOLDERS, TOKEN, Template, TemplateError},
    protocol::port,
};

const URL_HELP: &str = "write the address to send to, like \"https://chat.example.com/hooks/42\"";

const HEADERS_HELP: &str = "write it like headers = { Title = \"{title}\" }";

/// Most header fields.
const MAX_HEADERS: usize = 16;

/// Header fields that follow from the request.
const OWN_HEADERS: [&str; 5] =
    ["connection", "content-length", "host", "transfer-encoding", "upgrade"];

/// Reads a receiver by HTTP, whose URL is given.
pub(super) fn read(section: &Section) -> Option<Post> {
    let url = section.get(&URL, url);
    let headers = headers(section);
    let token_file = secret::file(section, &TOKEN_FILE, "/etc/linkbal/token-of-chat");
    let template = section.get(&TEMPLATE, template);
    let at = url.as_ref()?.span();
    let (server, secure, path) = url?.into_inner();
    let has_token = |text: &str| template::placeholders(text).any(|name| name == TOKEN);
    let named = has_token(&path)
        || headers.iter().any(|(_, value)| has_token(value))
        || template.as_ref().is_some_and(|template| template.get_ref().has_token());
    if named && !section.has(&TOKEN_FILE) {
        let help = "add token_file = \"/etc/linkbal/token-of-chat\", the file that has it";
        section.report(&URL, at.clone(), Fault::new("{token} stands for no secret", help));
    }
    if token_file.is_some() && !secure && !is_here(&server) {
        let fault = Fault::new("the token is sent without encryption", "write https:// if you can");
        section.warn(&URL, at, fault);
    }
    Some(Post {
        server,
        secure,
        path,
        headers,
        token_file: token_file.map(Spanned::into_inner),
        template: template.map(Spanned::into_inner).unwrap_or_default(),
    })
}

fn is_here(server: &Server) -> bool {
    matches!(&server.host, Host::Address(address) if address.is_loopback())
}

/// Returns the server, whether HTTPS is used, and the path.
fn url(value: &DeValue<'_>) -> Result<(Server, bool, String), Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, URL_HELP))?;
    let Address { scheme, server, rest } =
        address(text, &[("http", port::HTTP), ("https", port::HTTPS)], URL_HELP)?;
    let rest = rest.split('#').next().unwrap_or_default();
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    if let Some(other) = template::placeholders(&path).find(|name| *name != TOKEN) {
        let message = format!("{{{other}}} is not possible in an address");
        return Err(Fault::new(message, "only {token}, the secret of token_file, is"));
    }
    let sample = template::fill(&path, &|_| Some("x"));
    if sample.parse::<Uri>().is_err() || sample.contains(['{', '}', '"', ' ']) {
        return Err(Fault::new(format!("{text:?} has characters that are not possible"), URL_HELP));
    }
    Ok((server, scheme == "https", path))
}

fn template(value: &DeValue<'_>) -> Result<Template, Fault> {
    let help = "write a text, like template = '{\"chat_id\": 42, \"text\": \"{text}\"}'";
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, help))?;
    Template::parse(text).map_err(|error| {
        let help = match error {
            TemplateError::NoJson(_) => format!("placeholders stand in strings: {help}"),
            TemplateError::Unknown(_) => known_placeholders(),
        };
        Fault::new(error.to_string(), help)
    })
}

fn known_placeholders() -> String {
    let known = PLACEHOLDERS.into_iter().chain([TOKEN]).map(|name| format!("{{{name}}}"));
    format!("the placeholders are: {}", known.collect::<Vec<_>>().join(", "))
}

fn headers(section: &Section) -> Vec<(String, String)> {
    let Some(table) = section.get(&HEADERS, value::table(HEADERS_HELP)) else { return Vec::new() };
    let fields = section.child(HEADERS.name, &table);
    let entries = fields.entries();
    if let Some((name, _)) = entries.get(MAX_HEADERS) {
        let message = format!("{} header fields, at most {MAX_HEADERS}", entries.len());
        section.report(&HEADERS, name.span(), Fault::new(message, "remove some"));
    }
    let firsts = entries.clone();
    let each = entries.into_iter().enumerate().filter_map(|(at, (name, value))| {
        if let Err(fault) = check_header(name.get_ref()) {
            section.report(&HEADERS, name.span(), fault);
        }
        // For HTTP, `Title` and `title` are one field: the last one would replace the other.
        let same = |first: &&(&Spanned<DeString<'_>>, _)| {
            first.0.get_ref().eq_ignore_ascii_case(name.get_ref())
        };
        if let Some((first, _)) = firsts.iter().take(at).find(same) {
            let message = format!("header field {} is there twice", name.get_ref().escape_debug());
            let fault = Fault::new(message, "remove one of the two");
            section.report_related(&HEADERS, name.span(), fault, first.span(), "first here");
        }
        let value = fields.read(name.get_ref(), value, header_value)?;
        Some((name.get_ref().to_string(), value.into_inner()))
    });
    each.collect()
}

fn check_header(name: &str) -> Result<(), Fault> {
    match name.parse::<HeaderName>() {
        Err(_) => Err(Fault::new(format!("{name:?} is no name of a header field"), HEADERS_HELP)),
        Ok(known) if OWN_HEADERS.contains(&known.as_str()) => {
            Err(Fault::new(format!("{name} follows from the request"), "remove it"))
        }
        Ok(_) => Ok(()),
    }
}

fn header_value(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, HEADERS_HELP))?;
    let one_line = |name: &&str| *name != "text" && (PLACEHOLDERS.contains(name) || *name == TOKEN);
    if let Some(other) = template::placeholders(text).find(|name| !one_line(name)) {
        let message = format!("{{{other}}} is not possible in a header field");
        return Err(Fault::new(message, known_placeholders() + "; {text} has several lines"));
    }
    if HeaderValue::from_str(&template::fill(text, &|_| Some("x"))).is_err() {
        return Err(Fault::new(format!("{text:?} is no value of a header field"), HEADERS_HELP));
    }
    Ok(text.to_owned())
}
