//! What a probe asks.

mod operator;
mod read;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

pub(super) use self::{operator::only_operator, read::target};

/// Whom a probe asks, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Target {
    /// ICMP or ICMPv6 echo.
    Echo(IpAddr),
    /// A TCP connection; that it is refused is an answer, too.
    Tcp(SocketAddr),
    /// A DNS query.
    Dns {
        /// Whom to ask.
        server: SocketAddr,
        /// The name to ask for.
        name: String,
    },
    /// A request by HTTP or HTTPS.
    Http(HttpTarget),
    /// ARP or neighbour solicitation to the uplink's gateway.
    Gateway,
}

/// A request by HTTP or HTTPS, and what must come back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct HttpTarget {
    /// Whether it is HTTPS.
    pub secure: bool,
    /// Where it goes.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// Path and query, from the slash on.
    pub path: String,
    /// The status that must come back; `None`: any from 200 to 299.
    pub status: Option<u16>,
    /// What the body must contain.
    pub body: Option<String>,
}

/// The host of an [`HttpTarget`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, in lower case; it is looked up by the uplink itself.
    Name(String),
}

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// What a DNS target without a name asks for: it exists for as long as the DNS does.
const DNS_NAME: &str = "a.root-servers.net";

impl Target {
    /// Whether it is asked to judge `family`: a name and the gateway are in both.
    pub fn judges(&self, family: Family) -> bool {
        self.address().is_none_or(|address| address.is_ipv4() == (family == Family::Ipv4))
    }

    /// The address that is asked, if the configuration has one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Target::Echo(address) => Some(*address),
            Target::Tcp(address) | Target::Dns { server: address, .. } => Some(address.ip()),
            Target::Http(target) => match target.host {
                Host::Address(address) => Some(address),
                Host::Name(_) => None,
            },
            Target::Gateway => None,
        }
    }
}

impl HttpTarget {
    /// The port that its scheme stands for.
    const fn default_port(secure: bool) -> u16 {
        if secure { 443 } else { 80 }
    }

    /// Host and port as the `Host` field of a request has them (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        if self.port == HttpTarget::default_port(self.secure) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Echo(address) => address.fmt(f),
            Target::Tcp(address) => write!(f, "tcp://{address}"),
            Target::Dns { server, name } => {
                let host = Host::Address(server.ip());
                write!(f, "dns://{host}")?;
                if server.port() != DNS_PORT {
                    write!(f, ":{}", server.port())?;
                }
                if name == DNS_NAME { Ok(()) } else { write!(f, "/{name}") }
            }
            Target::Http(target) => {
                let scheme = if target.secure { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", target.authority(), target.path)
            }
            Target::Gateway => f.write_str("gateway"),
        }
    }
}

impl fmt::Display for Host {
    /// As in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}
