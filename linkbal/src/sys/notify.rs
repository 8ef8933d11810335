//! Messages on their way to a receiver, by an uplink that works.
//!
//! The uplinks are tried in order of preference, each by its device and table as probes are, and with
//! the addresses that its DNS servers know. A server that this machine reaches without an uplink, on
//! this machine or in the LAN, is reached directly. What fails here counts against no uplink.

mod attempt;
mod mail;
mod post;
mod secrets;
mod stream;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use tokio::time::timeout;

use self::attempt::{Attempt, CONNECT_TIMEOUT, DELIVERY_TIMEOUT};
use super::{
    host::{file, thread},
    probe::{ProbePath, Resolvers},
};
use crate::{
    config::{Destination, Host},
    notify::text::Message,
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Post, Server},
        notify::template::Template,
    };

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
}
