//! `[api]`: the API by TCP.

use std::net::SocketAddr;

use toml::{Spanned, de::DeValue};

use crate::config::{
    Api,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

const LISTEN_HELP: &str = "write an address of this machine with a port, like \"127.0.0.1:9480\"";

/// Reads `[api]`.
pub(in crate::config) fn read(root: &Section) -> Api {
    let Some(section) = root.section(&keys::root::API, "write it as the section [api]") else {
        return Api::default();
    };
    let section = section.knowing(&keys::api::KEYS);
    let token_file = section.get(&keys::api::TOKEN_FILE, value::path("/etc/linkbal/token"));
    let listen = section.get(&keys::api::LISTEN, socket_address);
    let open = listen.as_ref().filter(|at| !at.get_ref().ip().is_loopback());
    if let (Some(at), None) = (open, &token_file) {
        let message = format!("{} can be reached by other machines", at.get_ref());
        let help = "add token_file = \"/etc/linkbal/token\", or listen at 127.0.0.1";
        section.report(&keys::api::LISTEN, at.span(), Fault::new(message, help));
    }
    Api {
        listen: listen.map(Spanned::into_inner),
        token_file: token_file.map(Spanned::into_inner),
        hosts: hosts(&section),
    }
}

fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, LISTEN_HELP))?;
    let address: Option<SocketAddr> = text.parse().ok();
    address
        .filter(|address| address.port() != 0)
        .ok_or_else(|| Fault::new(format!("{text:?} is no address with a port"), LISTEN_HELP))
}

fn hosts(section: &Section) -> Vec<String> {
    let help = "write a list of host names, like hosts = [\"gateway.example\"]";
    let Some(list) = section.list(&keys::api::HOSTS, help, host) else { return Vec::new() };
    section.report_repeated(&keys::api::HOSTS, &list.items);
    list.items.into_iter().map(Spanned::into_inner).collect()
}

fn host(value: &DeValue<'_>) -> Result<String, Fault> {
    let help = "write a name without a scheme, a port or a path";
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, help))?;
    let is_part =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
    if !text.is_empty() && text.len() <= 253 && text.chars().all(is_part) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::new(format!("{text:?} is no host name"), help))
}
