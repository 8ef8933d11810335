//! Targets of probes.

pub(in crate::config) mod profile;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

pub use self::profile::Profile;

/// A target of probes, with the kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Target {
    /// ICMP or ICMPv6 echo to an address.
    Echo(IpAddr),
    /// A TCP connection; a refusal is an answer, too.
    Tcp(SocketAddr),
    /// A DNS query.
    Dns {
        /// Address and port of the DNS server.
        server: SocketAddr,
        /// The name to query.
        name: String,
    },
    /// An NTP request.
    Ntp(SocketAddr),
    /// A request by HTTP or HTTPS.
    Http(HttpTarget),
    /// ARP or neighbour solicitation to the uplink's gateway.
    Gateway,
}

/// A request by HTTP or HTTPS, with the expected answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct HttpTarget {
    /// Set if the request uses HTTPS.
    pub secure: bool,
    /// The host that it is sent to.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// Path and query, from the slash on.
    pub path: String,
    /// Expected status; `None`: any from 200 to 299.
    pub status: Option<u16>,
    /// Text that the body must contain.
    pub body: Option<String>,
}

/// The host of an [`HttpTarget`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, in lower case; it is resolved over the uplink itself.
    Name(String),
}

/// Name that a DNS target without a name queries: it exists for as long as the DNS does.
pub(in crate::config) const DNS_NAME: &str = "a.root-servers.net";

impl Target {
    /// Returns whether the target is used to judge `family`: a name and the gateway are in both.
    pub fn judges(&self, family: Family) -> bool {
        self.address().is_none_or(|address| address.is_ipv4() == (family == Family::Ipv4))
    }

    /// Returns the address of the target, if the configuration has one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Target::Echo(address) => Some(*address),
            Target::Tcp(address) | Target::Ntp(address) | Target::Dns { server: address, .. } => {
                Some(address.ip())
            }
            Target::Http(target) => match target.host {
                Host::Address(address) => Some(address),
                Host::Name(_) => None,
            },
            Target::Gateway => None,
        }
    }
}

impl HttpTarget {
    /// Returns host and port as in the `Host` field of a request (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        if profile::of_http(self.secure).port == Some(self.port) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    /// Writes the target as in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Echo(address) => address.fmt(f),
            Target::Tcp(address) => write!(f, "tcp://{address}"),
            Target::Dns { server, name } => {
                write_server(f, &profile::DNS, *server)?;
                if name == DNS_NAME { Ok(()) } else { write!(f, "/{name}") }
            }
            Target::Ntp(server) => write_server(f, &profile::NTP, *server),
            Target::Http(target) => {
                let scheme = if target.secure { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", target.authority(), target.path)
            }
            Target::Gateway => f.write_str("gateway"),
        }
    }
}

/// Writes the scheme and a server, with its port unless that is the usual one.
fn write_server(f: &mut fmt::Formatter<'_>, kind: &Profile, server: SocketAddr) -> fmt::Result {
    write!(f, "{}://{}", kind.scheme.unwrap_or_default(), Host::Address(server.ip()))?;
    if kind.port == Some(server.port()) { Ok(()) } else { write!(f, ":{}", server.port()) }
}

impl fmt::Display for Host {
    /// Writes the host as in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}
