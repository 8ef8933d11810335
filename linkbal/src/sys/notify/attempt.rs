//! Attempts at sending one message, by one route after the other.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use linkbal_common::uplink::Family;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Delivery, Failure, Refused, Route, Routes, Taken, mail, post, secrets::without_secret,
};
use crate::{
    config::{Destination, Host, Server},
    engine::Event,
    notify::text::Message,
    protocol,
    sys::{
        host::descriptors,
        netlink::Netlink,
        probe::{ProbePath, connect, look_up},
        resolve::resolve,
    },
};

/// Longest time for one uplink and family, and for all of them.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);

/// Longest time for a connection to one address.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most routes that are tried, and most addresses of each.
const MAX_ROUTES: usize = 6;
const MAX_ADDRESSES: usize = 3;

/// A message to be sent.
pub(super) struct Attempt<'a> {
    pub(super) to: &'a Destination,
    pub(super) message: &'a Message,
    pub(super) secret: Option<&'a str>,
    pub(super) routes: &'a Routes,
}

impl Attempt<'_> {
    /// Sends it by the first route that works.
    pub(super) async fn by_all(&self) -> Delivery {
        let deadline = Instant::now().checked_add(DELIVERY_TIMEOUT).unwrap_or_else(Instant::now);
        let mut failures: Vec<Failure> = Vec::new();
        let known = self.known_addresses();
        if let Some(address) = self.direct(&known).await {
            return match timeout(ROUTE_TIMEOUT, self.send(None, address)).await {
                Ok(Ok(taken)) => Delivery::Sent { by: None, taken },
                Ok(Err(error)) => Delivery::Failed(self.words(&error)),
                Err(_) => Delivery::Failed(no_answer(ROUTE_TIMEOUT).into()),
            };
        }
        let mut refused_by: Option<&str> = None;
        for route in self.routes.routes.iter().take(MAX_ROUTES) {
            if refused_by == Some(&route.uplink) {
                // The other family will hear the same.
                continue;
            }
            let limit = deadline.min(Instant::now().checked_add(ROUTE_TIMEOUT).unwrap_or(deadline));
            let error = match timeout_at(limit, self.by(route, &known)).await {
                Ok(Ok(Some((taken, direct)))) => {
                    return Delivery::Sent { by: (!direct).then(|| route.uplink.clone()), taken };
                }
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => error,
                Err(_) => anyhow!(no_answer(ROUTE_TIMEOUT)),
            };
            if error.is::<Refused>() {
                refused_by = Some(&route.uplink);
            }
            let family = route.path.family.name();
            let by = |reason| format!("by {} ({family}): {reason}", route.uplink);
            let Failure { text, public } = self.words(&error);
            failures.push(Failure { text: by(text), public: by(public) });
        }
        match (failures.is_empty(), self.routes.routes.is_empty()) {
            (true, true) => self.without_uplinks().await,
            (true, false) => {
                Delivery::Failed("the server has no address of a family that works".into())
            }
            (false, _) => Delivery::Failed(Failure {
                text: failures.iter().map(|one| &*one.text).collect::<Vec<_>>().join("; "),
                public: failures.iter().map(|one| &*one.public).collect::<Vec<_>>().join("; "),
            }),
        }
    }

    /// Sends it although no uplink works, to a name in the LAN.
    async fn without_uplinks(&self) -> Delivery {
        let Host::Name(name) = &self.to.server().host else { return Delivery::NoWay };
        let found = timeout(CONNECT_TIMEOUT, system_addresses(name)).await;
        let found = found.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default();
        let Some(address) = self.direct(&found).await else { return Delivery::NoWay };
        match timeout(ROUTE_TIMEOUT, self.send(None, address)).await {
            Ok(Ok(taken)) => Delivery::Sent { by: None, taken },
            Ok(Err(error)) => Delivery::Failed(self.words(&error)),
            Err(_) => Delivery::Failed(no_answer(ROUTE_TIMEOUT).into()),
        }
    }

    /// Sends it by an uplink; returns the server's answer, and whether it went past all uplinks, or
    /// `None` if the server has no address of that family.
    async fn by(&self, route: &Route, known: &[IpAddr]) -> Result<Option<(Taken, bool)>> {
        let path = route.path;
        let found = match &self.to.server().host {
            Host::Name(name) if known.is_empty() => self.look_up(path, name).await?,
            Host::Name(_) | Host::Address(_) => known.to_vec(),
        };
        if let Some(address) = self.direct(&found).await {
            return self.send(None, address).await.map(|taken| Some((taken, true)));
        }
        let of_family = |address: &&IpAddr| address.is_ipv4() == (path.family == Family::Ipv4);
        let mut failure = None;
        for address in found.iter().filter(of_family).take(MAX_ADDRESSES) {
            match self.send(Some(path), *address).await {
                Ok(taken) => return Ok(Some((taken, false))),
                Err(error) if error.is::<Refused>() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    async fn look_up(&self, path: ProbePath, name: &str) -> Result<Vec<IpAddr>> {
        let failed = || format!("failed to resolve {name}");
        match look_up(&self.routes.resolvers, path, name, CONNECT_TIMEOUT).await {
            Ok(Some(addresses)) => Ok(addresses),
            // This machine has a server of its own.
            Ok(None) => system_addresses(name).await.with_context(failed),
            Err(error) => Err(error.context(failed())),
        }
    }

    /// Sends it to an address.
    async fn send(&self, by: Option<ProbePath>, address: IpAddr) -> Result<Taken> {
        let server = self.to.server();
        let address = SocketAddr::new(address, server.port);
        let connecting = async {
            match by {
                Some(path) => connect(path, address).await,
                None => {
                    descriptors::check()?;
                    Ok(TcpStream::connect(address).await.context("failed to connect")?)
                }
            }
        };
        let stream = timeout(CONNECT_TIMEOUT, connecting).await;
        let stream = stream.map_err(|_| anyhow!("{address}: {}", no_answer(CONNECT_TIMEOUT)))?;
        let stream = stream.with_context(|| address.to_string())?;
        let Taken { said, refused } = match self.to {
            Destination::Mail(mail) => mail::send(stream, mail, self.message, self.secret).await?,
            Destination::Post(post) => post::send(stream, post, self.message, self.secret).await?,
        };
        let shown = |said: &String| without_secret(self.secret, said);
        Ok(Taken { said: shown(&said), refused: refused.iter().map(shown).collect() })
    }

    /// Returns the addresses that need no DNS.
    fn known_addresses(&self) -> Vec<IpAddr> {
        match &self.to.server().host {
            Host::Address(address) => vec![*address],
            Host::Name(name) if name == "localhost" => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Name(_) => Vec::new(),
        }
    }

    /// Returns the first address that this machine reaches without an uplink.
    async fn direct(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        for address in addresses {
            if address.is_loopback() || self.is_direct(*address).await.unwrap_or(false) {
                return Some(*address);
            }
        }
        None
    }

    async fn is_direct(&self, destination: IpAddr) -> Result<bool> {
        let Server { port, .. } = self.to.server();
        let (tcp, uplinks) = (protocol::TCP, &self.routes.interfaces);
        Ok(Netlink::connect()?.is_beside(destination, tcp, *port, uplinks).await?)
    }

    /// Returns an error in words.
    fn words(&self, error: &Error) -> Failure {
        let text = without_secret(self.secret, &format!("{error:#}"));
        let public = match error.downcast_ref::<Refused>() {
            Some(Refused { public, .. }) => public.clone(),
            None => text.clone(),
        };
        Failure { text, public }
    }
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

async fn system_addresses(name: &str) -> Result<Vec<IpAddr>> {
    match resolve(name.to_owned(), Vec::new()).await {
        Event::Resolved { addresses, .. } => {
            Ok(addresses.into_iter().map(|(address, _)| address).collect())
        }
        Event::NotResolved { reason, .. } => Err(Error::msg(reason)),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sys::probe::Resolvers;

    #[test]
    fn what_a_server_says_is_not_for_everybody() {
        let refused =
            || Refused { public: "the server answers 404".into(), said: "/s3cret".into() };
        let (to, message) = (Destination::Mail(mail::tests::mail()), Message::default());
        let (routes, interfaces) = (Vec::new(), BTreeSet::new());
        let routes =
            Routes { routes, interfaces, resolvers: Resolvers::default(), doubtful: false };
        let attempt = Attempt { to: &to, message: &message, secret: None, routes: &routes };
        for error in [Error::new(refused()), Error::new(refused()).context("failed to log in")] {
            let Failure { text, public } = attempt.words(&error);
            assert!(text.contains("/s3cret"), "{text}");
            assert_eq!(public, "the server answers 404");
        }
    }
}
