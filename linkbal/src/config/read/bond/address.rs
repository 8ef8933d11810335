//! Addresses of a bond, and of its ARP targets.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use crate::config::{
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

const HELP: &str = "write an address with the prefix length of its network, like \
                    \"192.0.2.2/30\" or \"2001:db8::2/64\"";

/// Reads the addresses of a bond.
pub(super) fn read(section: &Section) -> Vec<Spanned<IpNet>> {
    let help = "write the addresses as a list, like addresses = [\"192.0.2.2/30\"]";
    let list = section.list(&keys::bond::ADDRESSES, help, address);
    list.map_or(Vec::new(), |list| list.items)
}

/// Parses an address that a host can have in a network.
fn address(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("an address", value, HELP))?;
    if !text.contains('/') {
        return Err(Fault::new(format!("{text:?} has no prefix length"), HELP));
    }
    let net: IpNet =
        text.parse().map_err(|_| Fault::new(format!("{text:?} is not an address"), HELP))?;
    value::check_address(net.addr(), HELP)?;
    let of_the_network = match net {
        // RFC 3021: a /31 has hosts only.
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.network() => "names",
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.broadcast() => "broadcasts to",
        IpNet::V6(net) if net.prefix_len() < 127 && net.addr() == net.network() => "names",
        _ => return Ok(net),
    };
    let message = format!("{} {of_the_network} the network {}", net.addr(), net.trunc());
    Err(Fault::new(message, "write the address of this machine in that network"))
}

/// Returns a parser of a target for ARP requests.
pub(super) fn target(help: &'static str) -> impl Fn(&DeValue<'_>) -> Result<Ipv4Addr, Fault> {
    move |value| match value::address(help)(value)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => {
            Err(Fault::new(format!("{address} is an IPv6 address: ARP is of IPv4"), help))
        }
    }
}
