//! Receivers of messages.

use std::{path::PathBuf, time::Duration};

use super::target::Host;
use crate::{notify::template::Template, protocol::port};

/// A receiver of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Name: letters, digits, `-`, `_`; 1 to 32 of them.
    pub name: String,
    /// The way to it.
    pub to: Destination,
    /// Kinds of events that it is told of: some of [`EVENT_WORDS`](crate::config::EVENT_WORDS).
    pub events: Vec<String>,
    /// Time for which news are gathered for one message.
    pub gather: Duration,
    /// Most messages within an hour.
    pub limit: u32,
}

/// The way to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By mail.
    Mail(Mail),
    /// By a request over HTTP.
    Post(Post),
}

impl Destination {
    /// Returns the kind, as in the status.
    pub const fn kind(&self) -> &'static str {
        match self {
            Destination::Mail(_) => "mail",
            Destination::Post(_) => "webhook",
        }
    }

    /// Returns the server that a message is handed to.
    pub const fn server(&self) -> &Server {
        match self {
            Destination::Mail(mail) => &mail.server,
            Destination::Post(post) => &post.server,
        }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The host.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// A receiver by mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The server that takes the mail.
    pub server: Server,
    /// The encryption of the connection.
    pub encryption: Encryption,
    /// Name of the user and file with the password, if the server wants them.
    pub login: Option<(String, PathBuf)>,
    /// The sender: an address, perhaps with a name.
    pub from: String,
    /// The recipients: at least one.
    pub to: Vec<String>,
}

/// The encryption of a connection to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the start (RFC 8314).
    Tls,
    /// TLS after STARTTLS, without which nothing is sent (RFC 3207).
    StartTls,
    /// None.
    Off,
}

/// A receiver by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The server.
    pub server: Server,
    /// Set if the request uses HTTPS.
    pub secure: bool,
    /// Path and query, from the slash on, perhaps with `{token}`.
    pub path: String,
    /// Names and values of header fields; values may have placeholders.
    pub headers: Vec<(String, String)>,
    /// File with the secret.
    pub token_file: Option<PathBuf>,
    /// The body.
    pub template: Template,
}

impl Post {
    /// Returns host and port as in the `Host` field of a request (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        let Server { host, port } = &self.server;
        let usual = if self.secure { port::HTTPS } else { port::HTTP };
        if *port == usual { host.to_string() } else { format!("{host}:{port}") }
    }
}
