//! Messages on their way to a receiver, by an uplink that works.
//!
//! The uplinks are tried in order of preference, each by its device and table as probes are, and with
//! the addresses that its DNS servers know. A server that this machine reaches without an uplink, on
//! this machine or in the LAN, is reached directly. What fails here counts against no uplink.

mod mail;
mod post;
mod stream;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use linkbal_common::uplink::Family;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    host::{descriptors, file, thread},
    netlink::Netlink,
    probe::{ProbePath, Resolvers, connect, look_up},
    resolve::resolve,
};
use crate::{
    config::{Destination, Host, Server},
    engine::Event,
    notify::text::Message,
    protocol,
};

/// Longest time for one uplink and family, and for all of them.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(20);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);

/// Longest time for a connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most routes that are tried, and most addresses of each.
const MAX_ROUTES: usize = 6;
const MAX_ADDRESSES: usize = 3;

/// Most characters of what a server says.
const MAX_SAID: usize = 200;

/// File with the name of this machine.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// A route to send by an uplink.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name of the uplink.
    pub uplink: String,
    /// The uplink and family.
    pub path: ProbePath,
}

/// The routes out of this machine.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Uplinks and families that are up, the best first.
    pub routes: Vec<Route>,
    /// Indexes of the interfaces of all uplinks.
    pub interfaces: BTreeSet<u32>,
    /// DNS servers.
    pub resolvers: Resolvers,
    /// Set while a text that came by the API is on trial: it may have named DNS servers and gateways that lead
    /// a secret elsewhere.
    pub doubtful: bool,
}

/// Result of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The server has taken it.
    Sent {
        /// Name of the uplink; `None` if it went by none.
        by: Option<String>,
        /// Answer of the server.
        taken: Taken,
    },
    /// The message could not be sent, for this reason.
    Failed(Failure),
    /// No uplink works, and the server is not reached without one.
    NoWay,
}

/// The answer of a server that has taken a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The server's words.
    pub said: String,
    /// Recipients of a mail that the server does not accept, each with its words.
    pub refused: Vec<String>,
}

/// The reason for which a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason for administrators, with what a server said.
    pub text: String,
    /// The reason for everybody: a server may repeat secrets, the address among them, in its own spelling.
    pub public: String,
}

impl<T: Into<String>> From<T> for Failure {
    fn from(reason: T) -> Failure {
        let text = reason.into();
        Failure { public: text.clone(), text }
    }
}

/// A server that has refused a message.
#[derive(Debug, thiserror::Error)]
#[error("{public} {said}")]
struct Refused {
    public: String,
    /// The server's words.
    said: String,
}

/// Returns the name of this machine.
pub fn gateway_name() -> String {
    let name = fs::read_to_string(HOST_NAME).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "gateway".into() } else { name.to_owned() }
}

/// Sends a message by the first route that works; takes less than a minute.
pub async fn deliver(to: Destination, message: Message, routes: Routes) -> Delivery {
    let tried = async {
        if routes.doubtful && is_open(&to) {
            let reason = "while a text is on trial, no secret is sent without TLS: it could lead that \
                          elsewhere";
            return Delivery::Failed(reason.into());
        }
        let secret = match secret(&to).await {
            Ok(secret) => secret,
            Err(error) => return Delivery::Failed(format!("{error:#}").into()),
        };
        let delivery =
            Attempt { to: &to, message: &message, secret: secret.as_deref(), routes: &routes };
        delivery.by_all().await
    };
    let limit = DELIVERY_TIMEOUT.saturating_add(CONNECT_TIMEOUT);
    let seconds = limit.as_secs();
    let late = |_| Delivery::Failed(format!("not done within {seconds} s").into());
    timeout(limit, tried).await.unwrap_or_else(late)
}

/// Returns whether a receiver gets a secret without a proof of who it is. Mail servers without TLS get none.
fn is_open(to: &Destination) -> bool {
    let Destination::Post(post) = to else { return false };
    let here = match &post.server.host {
        Host::Address(address) => address.is_loopback(),
        Host::Name(name) => name == "localhost",
    };
    // A header field of the configuration may be one, too.
    let has_secret = post.token_file.is_some() || !post.headers.is_empty();
    has_secret && !post.secure && !here
}

/// Reads the secret of a receiver, if it has one.
async fn secret(to: &Destination) -> Result<Option<String>> {
    let path = match to {
        Destination::Mail(mail) => mail.login.as_ref().map(|(_, file)| file.clone()),
        Destination::Post(post) => post.token_file.clone(),
    };
    let Some(path) = path else { return Ok(None) };
    let shown = path.display().to_string();
    let read = move || file::read_text(Path::new(&path), file::SMALL);
    let text = thread::run("secret", read).await?;
    let text = text.with_context(|| format!("failed to read the secret in {shown}"))?;
    let secret = text.trim();
    anyhow::ensure!(!secret.is_empty(), "{shown} is empty: write the secret there");
    Ok(Some(secret.to_owned()))
}

/// A message to be sent.
struct Attempt<'a> {
    to: &'a Destination,
    message: &'a Message,
    secret: Option<&'a str>,
    routes: &'a Routes,
}

impl Attempt<'_> {
    async fn by_all(&self) -> Delivery {
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

/// Returns what a server said in one line, without the secret that it may have repeated.
fn without_secret(secret: Option<&str>, said: &str) -> String {
    // Before it is cut: a part of a secret is one, too.
    match secret {
        Some(secret) => shown(
            &spellings(secret)
                .iter()
                .fold(said.to_owned(), |said, spelling| said.replace(spelling, "{token}")),
        ),
        None => shown(said),
    }
}

/// Returns a secret as a server may repeat it: as it is, and escaped for an address, JSON or HTML.
fn spellings(secret: &str) -> Vec<String> {
    let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let some = post::in_address(secret);
    let json = serde_json::to_string(secret).unwrap_or_default();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = html.replace('"', "&quot;").replace('\'', "&#39;");
    let lower = [&all, &some].map(|text| lower_escapes(text));
    let mut found =
        vec![secret.to_owned(), json.trim_matches('"').to_owned(), html, quoted, all, some];
    found.extend(lower);
    // The longest first: one may be a part of another.
    found.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    found.retain(|spelling| !spelling.is_empty());
    found
}

/// Returns a text with the hexadecimal digits of its escapes (`%2F`) in lower case.
fn lower_escapes(text: &str) -> String {
    let mut parts = text.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
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

/// Returns what a server said in one line of bounded length.
fn shown(said: &str) -> String {
    let line = said.replace(char::is_control, " ");
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ").chars().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Post, notify::template::Template};

    #[tokio::test]
    async fn a_text_on_trial_leads_no_secret_elsewhere() {
        let post = |host: &str, secure, token: Option<&str>| {
            let host = match host.parse() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(host.into()),
            };
            Destination::Post(Post {
                server: Server { host, port: 80 },
                secure,
                path: "/".into(),
                headers: Vec::new(),
                token_file: token.map(Into::into),
                template: Template::default(),
            })
        };
        assert!(is_open(&post("chat.example", false, Some("/token"))));
        for safe in [
            post("chat.example", true, Some("/token")),
            post("chat.example", false, None),
            post("127.0.0.1", false, Some("/token")),
            post("localhost", false, Some("/token")),
        ] {
            assert!(!is_open(&safe), "{safe:?}");
        }
        let (routes, interfaces) = (Vec::new(), BTreeSet::new());
        let routes = Routes { routes, interfaces, resolvers: Resolvers::default(), doubtful: true };
        let to = post("chat.example", false, Some("/no/such/token"));
        let delivery = deliver(to, Message::default(), routes).await;
        assert!(matches!(delivery, Delivery::Failed(why) if why.public.contains("on trial")));
    }

    #[test]
    fn no_part_of_a_secret_that_a_server_repeats_is_shown() {
        let long = format!("{}s3cret", "x".repeat(MAX_SAID - 3));
        assert!(!without_secret(Some("s3cret"), &long).contains("s3c"));
        assert_eq!(without_secret(Some("s3cret"), "no s3cret\r\n here"), "no {token} here");
        assert_eq!(without_secret(None, "no"), "no");
        let secret = "a+b/c:d\"<e>";
        for said in [
            "a+b/c:d\\\"<e>",
            "a%2Bb%2Fc%3Ad%22%3Ce%3E",
            "a%2bb%2fc%3ad%22%3ce%3e",
            "a%2Bb/c:d%22%3Ce%3E",
            "a+b/c:d\"&lt;e&gt;",
            "a+b/c:d&quot;&lt;e&gt;",
        ] {
            assert_eq!(without_secret(Some(secret), &format!("no {said}!")), "no {token}!");
        }
    }

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
