//! Targets as written in the configuration.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;
use toml::de::{DeTable, DeValue};

use super::super::rule;
use crate::config::{
    Host, HttpTarget, Profile, Target,
    diagnostics::problem::Fault,
    keys::target::{BODY, KEYS, STATUS, URL},
    model::target::{DNS_NAME, profile},
    parse::{key::Form as _, value},
};

const ADDRESS_HELP: &str =
    "write addresses that answer ping as a list, like [\"1.1.1.1\", \"2620:fe::fe\"]";
const KIND_HELP: &str =
    "write an address, \"gateway\", or tcp://, dns://, ntp://, http:// or https://";
const TCP_HELP: &str =
    "write an address and a port, like \"tcp://1.1.1.1:443\" or \"tcp://[2001:db8::1]:443\"";
const DNS_HELP: &str = "write a server's address and perhaps a name to ask for, like \
                        \"dns://9.9.9.9\" or \"dns://[2620:fe::fe]/example.com\"";
const NTP_HELP: &str =
    "write a server's address, like \"ntp://192.0.2.1\" or \"ntp://[2001:db8::1]:123\"";
const HTTP_HELP: &str = "write a host and a path, like \"http://example.com/alive\"";
const TABLE_HELP: &str =
    "write it like { url = \"http://example.com/\", status = 204, body = \"what it contains\" }";

/// Parses a target: a text, or the table of an HTTP target.
pub(in crate::config) fn target(value: &DeValue<'_>) -> Result<Target, Fault> {
    if let Some(table) = value.as_table() {
        return http_table(table).map(Target::Http);
    }
    let Some(text) = value.as_str() else {
        return value::address(ADDRESS_HELP)(value).map(Target::Echo);
    };
    of_text(text)
}

fn of_text(text: &str) -> Result<Target, Fault> {
    match text.split_once("://") {
        Some(("tcp", rest)) => tcp(text, rest),
        Some(("dns", rest)) => dns(text, rest),
        Some(("ntp", rest)) => server(text, rest, &profile::NTP, NTP_HELP).map(Target::Ntp),
        Some(("http" | "https", _)) => http(text).map(Target::Http),
        Some(_) => Err(Fault::new(format!("{text:?} is of an unknown kind"), KIND_HELP)),
        None if text == "gateway" => Ok(Target::Gateway),
        None => value::parse_address(text, ADDRESS_HELP).map(Target::Echo),
    }
}

fn tcp(text: &str, rest: &str) -> Result<Target, Fault> {
    let address: SocketAddr = rest
        .parse()
        .map_err(|_| Fault::new(format!("{text:?} is no address and port"), TCP_HELP))?;
    check_port(text, address.port())?;
    value::check_address(address.ip(), TCP_HELP)?;
    Ok(Target::Tcp(address))
}

fn dns(text: &str, rest: &str) -> Result<Target, Fault> {
    let (address, name) = rest.split_once('/').unwrap_or((rest, DNS_NAME));
    let server = server(text, address, &profile::DNS, DNS_HELP)?;
    Ok(Target::Dns { server, name: host_name(text, name)? })
}

/// Parses the address of a server, with or without a port.
fn server(text: &str, rest: &str, kind: &Profile, help: &str) -> Result<SocketAddr, Fault> {
    let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
    let usual = kind.port.and_then(|port| Some(SocketAddr::new(bare.parse().ok()?, port)));
    let server = usual
        .or_else(|| rest.parse().ok())
        .ok_or_else(|| Fault::new(format!("{text:?} has no address of a server"), help))?;
    check_port(text, server.port())?;
    value::check_address(server.ip(), help)?;
    Ok(server)
}

fn http(text: &str) -> Result<HttpTarget, Fault> {
    let fault = |reason: &str| Fault::new(format!("{text:?} {reason}"), HTTP_HELP);
    let uri: Uri = text.parse().map_err(|_| fault("is not the address of a page"))?;
    let authority = uri.authority().ok_or_else(|| fault("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(fault("has the name of a user"));
    }
    let secure = uri.scheme_str() == Some("https");
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str().ends_with(authority.host()) => {
            profile::of_http(secure).port.unwrap_or_default()
        }
        None => return Err(fault("has no number as its port")),
    };
    check_port(text, port)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = host(text, authority.host())?;
    Ok(HttpTarget { secure, host, port, path, status: None, body: None })
}

fn host(text: &str, host: &str) -> Result<Host, Fault> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => {
            value::check_address(address, HTTP_HELP)?;
            Ok(Host::Address(address))
        }
        Err(_) => host_name(text, host).map(Host::Name),
    }
}

/// Parses an HTTP target with the expected answer.
fn http_table(table: &DeTable<'_>) -> Result<HttpTarget, Fault> {
    let known = |key: &str| KEYS.all.iter().any(|known| known.name() == key);
    if let Some((key, _)) = table.iter().find(|(key, _)| !known(key.get_ref())) {
        return Err(Fault::new(format!("unknown key `{}`", key.get_ref()), TABLE_HELP));
    }
    let url = table.get(URL.name).ok_or_else(|| Fault::new("a target without url", TABLE_HELP))?;
    let text = value::text(url.get_ref())?;
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err(Fault::new(format!("{text:?} is not the address of a page"), HTTP_HELP));
    }
    let status = table.get(STATUS.name).map(|status| STATUS.form.read(status.get_ref()));
    let body = table.get(BODY.name).map(|body| value::text(body.get_ref()));
    Ok(HttpTarget {
        status: status.transpose()?.map(|status| status as u16),
        body: body.transpose()?.map(str::to_owned),
        ..http(text)?
    })
}

/// Parses a name that can be resolved, in lower case and without the dot of the root.
fn host_name(text: &str, name: &str) -> Result<String, Fault> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match rule::malformed(&name) {
        None => Ok(name),
        Some((reason, help)) => Err(Fault::new(format!("the name in {text:?} {reason}"), help)),
    }
}

fn check_port(text: &str, port: u16) -> Result<(), Fault> {
    let fault = || Fault::new(format!("{text:?} has port 0"), "write a port from 1 to 65535");
    if port == 0 { Err(fault()) } else { Ok(()) }
}
