//! The addresses of hosts, looked up by the uplink that is to reach them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use linkbal_common::uplink::Family;
use tokio::time::timeout;

use super::{
    super::{host::thread, resolve::system_resolvers},
    Path, dns,
    failure::{NotSent, WrongAnswer, first_of},
};
use crate::{
    config::{Config, HttpTarget},
    engine::{health::FailureKind, indexed::Indexed},
};

/// Minimum time for which addresses are believed, whatever the server says.
const MIN_TTL: Duration = Duration::from_secs(60);

/// Maximum time for which addresses are believed, whatever the server says.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

const DNS_PORT: u16 = 53;

/// The key of an entry: the uplink, the family and the target.
type CacheKey = (u32, Family, HttpTarget);

/// The DNS servers to ask for addresses.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    /// Servers for every uplink; `None` for those of the system, which DHCP clients may change at
    /// any time.
    any: Option<Vec<IpAddr>>,
    /// Servers that answer only by one uplink, by its index.
    own: HashMap<u32, Vec<IpAddr>>,
}

impl Resolvers {
    /// Returns the resolvers of a configuration.
    pub fn of(config: &Config, uplinks: &[Indexed]) -> Resolvers {
        let each = uplinks.iter();
        let own = each.map(|indexed| (indexed.index, indexed.config.resolvers.clone()));
        Resolvers { any: config.dns.resolvers.clone(), own: own.collect() }
    }

    /// Returns the DNS servers of an uplink: its own, or else those that are no other uplink's; of
    /// the family, or of the other one if there are none: what an uplink cannot reach in one
    /// family, it may in the other. None if those of the system cannot be read.
    pub(super) async fn servers(&self, uplink: u32, family: Family) -> Vec<IpAddr> {
        let own = self.own.get(&uplink).filter(|own| !own.is_empty());
        let all: Vec<IpAddr> = match (own, &self.any) {
            (Some(own), _) => own.clone(),
            (None, Some(any)) => any.clone(),
            // The file may be on a disk that hangs.
            (None, None) => {
                let known = thread::run("resolvers", system_resolvers).await;
                known.unwrap_or_default().into_iter().collect()
            }
        };
        let of_others = |server: &IpAddr| self.own.values().any(|own| own.contains(server));
        let all = all.into_iter().filter(|server| own.is_some() || !of_others(server));
        let (own, other): (Vec<_>, Vec<_>) =
            all.partition(|server| server.is_ipv4() == (family == Family::Ipv4));
        if own.is_empty() { other } else { own }
    }

    /// Asks all servers at the same time; the first one that knows decides. Returns addresses and their TTL.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved by this uplink.
    pub(super) async fn look_up(&self, path: Path, name: &str) -> Result<(Vec<IpAddr>, Duration)> {
        let servers = self.servers(path.uplink, path.family).await;
        if servers.is_empty() {
            let help = "write addresses as `resolvers` of [dns]";
            let lack = format!("an uplink can ask no DNS server of this machine: {help}");
            return Err(NotSent(lack).into());
        }
        let ask = |server| Box::pin(dns::addresses(path, SocketAddr::new(server, DNS_PORT), name));
        first_of(servers.into_iter().map(ask)).await
    }
}

/// The addresses of hosts that have answered.
pub(super) struct HostCache {
    resolvers: Resolvers,
    known: Mutex<HashMap<CacheKey, HostAddresses>>,
}

/// The addresses of a name; none if it has none in the family.
#[derive(Clone, Debug)]
pub(super) struct HostAddresses {
    pub(super) addresses: Vec<IpAddr>,
    until: Instant,
}

impl HostCache {
    pub(super) fn new(resolvers: Resolvers) -> HostCache {
        HostCache { resolvers, known: Mutex::default() }
    }

    /// Returns the addresses of a target's host, from an earlier lookup or a new one that may take
    /// as long as `limit`. They are forgotten until [`Self::keep`] says that they are good.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved by this uplink.
    pub(super) async fn take(
        &self,
        path: Path,
        target: &HttpTarget,
        name: &str,
        limit: Duration,
    ) -> Result<HostAddresses> {
        let key = (path.uplink, path.family, target.clone());
        let known = self.lock().remove(&key);
        if let Some(known) = known.filter(|known| Instant::now() < known.until) {
            return Ok(known);
        }
        let lookup = timeout(limit, self.resolvers.look_up(path, name)).await;
        let found = lookup.unwrap_or_else(|_| Err(anyhow!("no DNS server answers")));
        let failed = |error| {
            let text = format!("failed to resolve {name}");
            WrongAnswer::of(FailureKind::Unresolved, error, text)
        };
        let (addresses, ttl) = found.map_err(failed)?;
        let ttl = ttl.clamp(MIN_TTL, MAX_TTL);
        let until = Instant::now().checked_add(ttl).context("the clock has no such time")?;
        Ok(HostAddresses { addresses, until })
    }

    /// Remembers addresses that work for as long as they are valid.
    pub(super) fn keep(&self, path: Path, target: &HttpTarget, known: HostAddresses) {
        self.lock().insert((path.uplink, path.family, target.clone()), known);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CacheKey, HostAddresses>> {
        // Each change is one call of the map: a panic elsewhere leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_of_the_family_come_first() {
        let [ipv4, ipv6] =
            ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let any = |any: &[IpAddr]| Resolvers { any: Some(any.to_vec()), own: HashMap::new() };
        assert_eq!(any(&[ipv6, ipv4]).servers(0, Family::Ipv4).await, [ipv4]);
        assert_eq!(any(&[ipv6, ipv4]).servers(0, Family::Ipv6).await, [ipv6]);
        assert_eq!(any(&[ipv6]).servers(0, Family::Ipv4).await, [ipv6]);
        assert!(any(&[]).servers(0, Family::Ipv4).await.is_empty());
    }

    #[tokio::test]
    async fn an_uplink_asks_its_own_servers_and_none_of_another_one() {
        let [a, b, any] =
            ["192.0.2.1", "192.0.2.2", "9.9.9.9"].map(|text| text.parse().expect("an address"));
        let own = HashMap::from([(0, vec![a]), (1, vec![b]), (2, vec![])]);
        let resolvers = Resolvers { any: Some(vec![a, any]), own };
        for (uplink, server) in [(0, a), (1, b), (2, any)] {
            assert_eq!(resolvers.servers(uplink, Family::Ipv4).await, [server]);
        }
    }
}
