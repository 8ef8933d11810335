//! Traffic with an independent witness: servers answer with the address they see.
//!
//! That address is the uplink's, so every answer says which uplink the flow used, whatever
//! linkbal believes.

mod bulk;
mod capture;
mod connection;
mod connector;
mod constant_rate;
pub mod dns;
pub mod forged;
pub mod local;
mod long;
mod new_flows;
pub mod ntp;
mod provider_hosts;
mod server;
mod wire;
mod worker;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use self::bulk::BulkServers;
pub use self::capture::Capture;
pub use self::connector::Connector;
pub use self::constant_rate::{ConstantRate, LossReport};
pub use self::long::{FlowReport, LongFlows};
pub use self::new_flows::{FlowResult, flows_per_uplink, open_flows};
pub use self::provider_hosts::{Clients, ProviderHosts};
pub use self::server::{HTTP, HTTPS, PORTS, Servers};
use crate::topology::plan::{self, Family};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both protocols.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

/// A flow to open. The kernel chooses the source port, so each is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpec {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client's address.
    pub source: IpAddr,
    /// The server's address and port.
    pub server: SocketAddr,
}

impl FlowSpec {
    /// Creates a flow from client `client` to server `server`, numbers as in the address plan.
    #[must_use]
    pub fn new(
        family: Family,
        protocol: Protocol,
        client: usize,
        server: usize,
        port: u16,
    ) -> Self {
        Self {
            protocol,
            source: plan::client(family, client),
            server: SocketAddr::new(plan::server(family, server), port),
        }
    }

    /// Returns `count` flows of one family and protocol, over all clients and servers.
    #[must_use]
    pub fn spread(family: Family, protocol: Protocol, port: u16, count: usize) -> Vec<Self> {
        // Each round over the clients shifts the servers by one: no pair of the two repeats soon.
        (0..count).map(|n| Self::new(family, protocol, n, 7 * n + n / 100, port)).collect()
    }

    /// Returns `count` flows of each kind: TCP and UDP, IPv4 and IPv6.
    #[must_use]
    pub fn mixed(port: u16, count: usize) -> Vec<Self> {
        let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
        kinds.flat_map(|(family, protocol)| Self::spread(family, protocol, port, count)).collect()
    }
}

/// Raises this process's limit of open sockets as far as possible: the usual soft limit is too low
/// for the lab.
fn raise_socket_limit() -> Result<()> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("failed to read limits")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("failed to raise the socket limit")
}
