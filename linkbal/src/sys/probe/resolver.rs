//! The addresses of hosts, looked up by the uplink that is to reach them.
//!
//! DNS servers on this machine, in the LAN or behind a tunnel are asked without an uplink, which leads
//! to none of them: that they do not know says nothing of it.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow};
use linkbal_common::uplink::Family;
use nix::net::if_::if_nametoindex;
use tokio::time::timeout;

use super::{
    super::{host::thread, netlink::Netlink, resolve::system_resolvers},
    ProbePath, dns,
    failure::{NotSent, WrongAnswer, first_of},
};
use crate::{
    config::{Config, HttpTarget},
    engine::{health::FailureKind, indexed::Indexed},
    protocol::{self, port},
};

/// Minimum time for which addresses are believed, whatever the server says.
const MIN_TTL: Duration = Duration::from_secs(60);

/// Maximum time for which addresses are believed, whatever the server says.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

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
    /// Names of the interfaces of all uplinks.
    interfaces: BTreeSet<String>,
}

impl Resolvers {
    /// Returns the resolvers of a configuration.
    pub fn of(config: &Config, uplinks: &[Indexed]) -> Resolvers {
        let each = uplinks.iter();
        let own = each.map(|indexed| (indexed.index, indexed.config.resolvers.clone()));
        let interfaces = uplinks.iter().map(|indexed| indexed.config.interface.clone());
        Resolvers {
            any: config.dns.resolvers.clone(),
            own: own.collect(),
            interfaces: interfaces.collect(),
        }
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

    /// Returns those of the servers of an uplink that no uplink leads to. Link-local addresses do not tell,
    /// and the uplink's own servers are its.
    pub(super) async fn beside(&self, uplink: u32, servers: &[IpAddr]) -> BTreeSet<IpAddr> {
        if self.own.get(&uplink).is_some_and(|own| !own.is_empty()) {
            return BTreeSet::new();
        }
        let indexes = self.interfaces.iter().filter_map(|name| if_nametoindex(name.as_str()).ok());
        let uplinks: BTreeSet<u32> = indexes.collect();
        let netlink = Netlink::connect().ok();
        let mut beside = BTreeSet::new();
        for server in servers {
            let is_beside = match (server, &netlink) {
                (server, _) if server.is_loopback() => true,
                (IpAddr::V6(server), _) if server.is_unicast_link_local() => false,
                (_, None) => false,
                (_, Some(netlink)) => {
                    let udp = protocol::UDP;
                    netlink.is_beside(*server, udp, port::DNS, &uplinks).await.unwrap_or(false)
                }
            };
            beside.extend(Some(*server).filter(|_| is_beside));
        }
        beside
    }

    /// Asks all servers at the same time, for as long as `limit`; the first one that knows decides.
    /// Returns addresses and their TTL.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved by this uplink.
    pub(super) async fn look_up(
        &self,
        path: ProbePath,
        name: &str,
        limit: Duration,
    ) -> Result<(Vec<IpAddr>, Duration)> {
        let servers = timeout(limit, self.servers(path.uplink, path.family)).await;
        let late = |_| NotSent("the DNS servers of this machine cannot be read in time".into());
        let servers = servers.map_err(late)?;
        if servers.is_empty() {
            let lack = "no DNS server is known: write addresses as `resolvers` of [dns]";
            return Err(NotSent(lack.into()).into());
        }
        let beside = self.beside(path.uplink, &servers).await;
        let ask = |server| {
            let path = if beside.contains(&server) { path.without_uplink() } else { path };
            Box::pin(dns::addresses(path, SocketAddr::new(server, port::DNS), name))
        };
        let asked = timeout(limit, first_of(servers.into_iter().map(ask))).await;
        let found = asked.unwrap_or_else(|_| Err(anyhow!("no DNS server answers")));
        match beside.first() {
            Some(server) => found.map_err(|error| without_answer(*server, &error)),
            None => found,
        }
    }
}

/// Returns the error of a look-up at a server that no uplink leads to, which says nothing of one.
fn without_answer(server: IpAddr, error: &Error) -> Error {
    NotSent(format!("{error:#}; asked {server}, which no uplink leads to")).into()
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
    /// Time until which they are believed; `None` once they were taken.
    until: Option<Instant>,
}

impl HostCache {
    pub(super) fn new(resolvers: Resolvers) -> HostCache {
        HostCache { resolvers, known: Mutex::default() }
    }

    /// Returns the addresses of a target's host, from an earlier look-up or a new one that may take
    /// as long as `limit`. They are not believed again until [`Self::keep`] says that they are good.
    /// Those that once were serve if this machine has nobody to ask: its own DNS server knows nothing
    /// while all uplinks are down.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved by this uplink.
    pub(super) async fn take(
        &self,
        path: ProbePath,
        target: &HttpTarget,
        name: &str,
        limit: Duration,
    ) -> Result<HostAddresses> {
        let key = (path.uplink, path.family, target.clone());
        let known = self.lock().get_mut(&key).map(|known| {
            let until = known.until.take();
            HostAddresses { until, ..known.clone() }
        });
        let is_fresh = |known: &&HostAddresses| known.until.is_some_and(|it| Instant::now() < it);
        if let Some(fresh) = known.as_ref().filter(is_fresh) {
            return Ok(fresh.clone());
        }
        let failed = |error| {
            let text = format!("failed to resolve {name}");
            WrongAnswer::of(FailureKind::Unresolved, error, text)
        };
        match (self.resolvers.look_up(path, name, limit).await, known) {
            (Ok((addresses, ttl)), _) => {
                let until = Instant::now().checked_add(ttl.clamp(MIN_TTL, MAX_TTL));
                Ok(HostAddresses { addresses, until })
            }
            (Err(error), Some(former)) if NotSent::is(&error) => Ok(former),
            (Err(error), _) => Err(failed(error)),
        }
    }

    /// Remembers addresses that work for as long as they are valid.
    pub(super) fn keep(&self, path: ProbePath, target: &HttpTarget, known: HostAddresses) {
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
        let any = |any: &[IpAddr]| Resolvers { any: Some(any.to_vec()), ..Resolvers::default() };
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
        let resolvers = Resolvers { any: Some(vec![a, any]), own, ..Resolvers::default() };
        for (uplink, server) in [(0, a), (1, b), (2, any)] {
            assert_eq!(resolvers.servers(uplink, Family::Ipv4).await, [server]);
        }
    }

    fn path() -> ProbePath {
        let (ifindex, fwmark, gateway, own) = (7, 1, None, None);
        ProbePath { uplink: 0, family: Family::Ipv4, ifindex, fwmark, gateway, own }
    }

    #[tokio::test]
    async fn servers_here_are_beside_the_uplinks_and_an_uplinks_own_are_not() {
        let [here, far] = ["127.0.0.53", "fe80::1"].map(|text| text.parse().expect("an address"));
        let any = Resolvers { any: Some(vec![here, far]), ..Resolvers::default() };
        assert_eq!(any.beside(0, &[here, far]).await, BTreeSet::from([here]));
        let own = Resolvers { own: HashMap::from([(0, vec![here])]), ..any };
        assert_eq!(own.beside(0, &[here]).await, BTreeSet::new());
    }

    #[tokio::test]
    async fn a_server_beside_the_uplinks_that_does_not_know_says_nothing_of_them() {
        // Nobody answers at the last loopback address.
        let here = "127.255.255.254".parse().expect("an address");
        let resolvers = Resolvers { any: Some(vec![here]), ..Resolvers::default() };
        let asked = resolvers.look_up(path(), "www.example", Duration::from_secs(5)).await;
        let error = asked.expect_err("nobody answers");
        assert!(NotSent::is(&error) && error.to_string().contains("127.255.255.254"), "{error:#}");
    }

    #[tokio::test]
    async fn addresses_that_worked_serve_while_nobody_can_be_asked() {
        let nobody = Resolvers { any: Some(Vec::new()), ..Resolvers::default() };
        let cache = HostCache::new(nobody);
        let target = HttpTarget {
            secure: false,
            host: crate::config::Host::Name("www.example".into()),
            port: 80,
            path: "/".into(),
            status: None,
            body: None,
        };
        let take = || cache.take(path(), &target, "www.example", Duration::from_secs(5));
        assert!(take().await.is_err_and(|error| NotSent::is(&error)));
        let addresses = vec!["192.0.2.1".parse().expect("an address")];
        let until = Instant::now().checked_add(MIN_TTL);
        cache.keep(path(), &target, HostAddresses { addresses: addresses.clone(), until });
        assert!(take().await.is_ok_and(|fresh| fresh.until.is_some()));
        for _ in 0..2 {
            let former = take().await.expect("the former ones");
            assert_eq!((former.addresses, former.until), (addresses.clone(), None));
        }
    }
}
