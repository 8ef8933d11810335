//! A provider whose own hosts answer even without the internet, and LAN clients that talk to them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::dns::{Dnsmasq, QueryLoop};
use super::{Connector, FlowSpec, PORTS, Protocol, Servers};
use crate::topology::plan::{self, Family};
use crate::topology::{Lab, UpstreamOutage};

/// Time between two queries to a resolver.
const QUERY_INTERVAL: Duration = Duration::from_millis(25);
/// Number of connections after which the same ends come up again.
const PAIRS: usize = 1000;

/// The hosts of a provider: a resolver in each family, and the portal of [`UpstreamOutage::Portal`].
#[derive(Debug)]
pub struct ProviderHosts {
    _resolvers: Vec<Dnsmasq>,
    _portal: Servers,
}

impl ProviderHosts {
    /// Starts the hosts.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(lab: &Lab, uplink: usize) -> Result<Self> {
        let provider = &lab.uplinks[uplink].provider;
        let resolver = |family| Dnsmasq::start(provider, Some(plan::resolver(family, uplink)), "");
        let portal = Family::ALL.map(|family| plan::nexthop(family, uplink));
        let portal = portal.map(|address| SocketAddr::new(address, UpstreamOutage::PORTAL));
        Ok(Self {
            _resolvers: Family::ALL.into_iter().map(resolver).collect::<Result<_>>()?,
            _portal: Servers::start_at(provider, &portal)?,
        })
    }

    /// Returns a configuration in which an uplink has its resolvers: traffic to them uses that
    /// uplink.
    #[must_use]
    pub fn config(config: &str, lab: &Lab, uplink: usize) -> String {
        let head = format!("[uplink.{}]\n", lab.uplinks[uplink].spec.name);
        let own = Family::ALL.map(|family| format!("\"{}\"", plan::resolver(family, uplink)));
        config.replace(&head, &format!("{head}resolvers = [{}]\n", own.join(", ")))
    }
}

/// Clients of the LAN that ask the resolvers, and try to connect to servers of the internet.
#[derive(Debug)]
pub struct Clients {
    connectors: Vec<Connector>,
    queries: [QueryLoop; 2],
}

impl Clients {
    /// Starts the clients; in each family they try a connection each `pause`, or none.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(lab: &Lab, uplink: usize, pause: Option<Duration>) -> Result<Self> {
        let queries = Family::ALL.map(|family| {
            let (client, server) = (plan::client(family, 0), plan::resolver(family, uplink));
            QueryLoop::start(&lab.lan, client, server, QUERY_INTERVAL)
        });
        let families = Family::ALL.into_iter().filter_map(|family| Some((family, pause?)));
        let connectors = families.map(|(family, pause)| {
            let flows = FlowSpec::spread(family, Protocol::Tcp, PORTS[0], PAIRS);
            Connector::start(&lab.lan, flows, pause)
        });
        Ok(Self { connectors: connectors.collect::<Result<_>>()?, queries })
    }

    /// Returns whether the clients of each kind were answered.
    #[must_use]
    pub fn are_answered(&self) -> bool {
        let queries = self.queries.iter().all(|query| query.answered() > 1);
        queries && self.connectors.iter().all(|connector| connector.answered() > 1)
    }
}
