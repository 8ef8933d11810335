//! Requests by HTTP and HTTPS, each by a connection of its own.
//!
//! Redirects are not followed: their destination reveals a captive portal.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Error, Result};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, CertificateError, ClientConfig, pki_types::ServerName},
};

use super::{
    ProbePath, ProbeResult,
    failure::{NotSent, WrongAnswer, first_of},
    resolver::{HostCache, Resolvers},
    socket,
};
use crate::{
    config::{Host, HttpTarget},
    engine::health::FailureKind,
    sys::{
        host::{clock, thread},
        tls,
    },
};

/// Maximum size of a head or a body that is read, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// Maximum length of a host name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// A client for HTTP and HTTPS.
pub(super) struct Http {
    hosts: HostCache,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Http {
    pub(super) fn new(resolvers: Resolvers) -> Http {
        Http { hosts: HostCache::new(resolvers), tls: OnceLock::new() }
    }

    /// Asks a target; a name is looked up within half of `limit`.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved, there is no way to the host, or what comes back is not what
    /// the configuration wants.
    pub(super) async fn ask(
        self: Arc<Self>,
        path: ProbePath,
        target: HttpTarget,
        limit: Duration,
    ) -> Result<ProbeResult> {
        let target = &target;
        let name = match &target.host {
            Host::Address(address) => {
                self.exchange(path, target, &[*address]).await?;
                return Ok(ProbeResult::Answered);
            }
            Host::Name(name) => name,
        };
        let known =
            self.hosts.take(path, target, name, limit.checked_div(2).unwrap_or(limit)).await?;
        if !known.addresses.is_empty() {
            self.exchange(path, target, &known.addresses).await?;
        }
        let absent = known.addresses.is_empty();
        self.hosts.keep(path, target, known);
        Ok(if absent { ProbeResult::NoAddress } else { ProbeResult::Answered })
    }

    async fn exchange(
        &self,
        path: ProbePath,
        target: &HttpTarget,
        addresses: &[IpAddr],
    ) -> Result<()> {
        let stream = connect(path, addresses, target.port).await?;
        if !target.secure {
            return request(stream, target).await;
        }
        let name = match &target.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())?,
        };
        let connector = TlsConnector::from(self.tls().await?);
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| tls_failure(error, clock::is_unsynchronised()))?;
        request(stream, target).await
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        // The file may be on a disk that hangs; the uplink has no part in that.
        let config = thread::run("tls", tls::client).await.flatten();
        let config = config.map_err(|error| NotSent(format!("{error:#}")))?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

/// Returns a failure to agree on TLS. A certificate of the future shows that the clock of this machine is
/// wrong, and nothing about the uplink: one without a battery begins years ago. So may one of the past, if
/// nobody keeps the clock right.
fn tls_failure(error: io::Error, unsynchronised: bool) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let early = matches!(
        cause,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
        ))
    );
    let expired = matches!(
        cause,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ))
    );
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    if expired && unsynchronised {
        return NotSent(format!(
            "the clock of this machine says {now}, nothing keeps it right, and the certificate of the server \
             has expired: set the clock, or add a target that needs none (an address, tcp://)"
        ))
        .into();
    }
    if !early {
        return Error::new(error).context("failed to agree on TLS");
    }
    NotSent(format!(
        "the clock of this machine says {now}, and the certificate of the server is not valid yet: set the \
         clock, or add a target that needs none (an address, tcp://)"
    ))
    .into()
}

/// Connects to the first address that answers.
async fn connect(path: ProbePath, addresses: &[IpAddr], port: u16) -> Result<TcpStream> {
    let connect =
        |address: &IpAddr| Box::pin(socket::connect(path, SocketAddr::new(*address, port)));
    first_of(addresses.iter().map(connect)).await
}

/// Sends the request and checks the response.
async fn request<S>(stream: S, target: &HttpTarget) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_RESPONSE);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Dropped with the probe, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(&target.path)
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("linkbal/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("no answer by HTTP")?;
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    check_head(target, response.status(), location)?;
    match &target.body {
        Some(wanted) => check_body(&read_body(response).await?, wanted),
        None => Ok(()),
    }
}

async fn read_body(mut response: Response<Incoming>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MAX_RESPONSE
        && let Some(frame) = response.frame().await
    {
        let frame = frame.context("failed to read the body")?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    body.truncate(MAX_RESPONSE);
    Ok(body)
}

/// Checks that the head of a response is what the target wants.
fn check_head(target: &HttpTarget, status: StatusCode, location: Option<&str>) -> Result<()> {
    let elsewhere = location.and_then(|location| other_host(target, location));
    if let Some(host) = elsewhere.filter(|_| status.is_redirection()) {
        return Err(portal(&format!("redirected to {host}")));
    }
    if status == StatusCode::NETWORK_AUTHENTICATION_REQUIRED {
        // RFC 6585 section 6.
        return Err(portal("status 511"));
    }
    match target.status {
        Some(wanted) if wanted != status.as_u16() => Err(wrong_status(status, &wanted.to_string())),
        None if !status.is_success() => Err(wrong_status(status, "200 to 299")),
        _ => Ok(()),
    }
}

/// Returns the host that a redirect leads to, if it is not the target's.
fn other_host(target: &HttpTarget, location: &str) -> Option<String> {
    let location: Uri = location.parse().ok()?;
    let host = location.host()?.to_ascii_lowercase();
    // The server chooses it, and people are to read it.
    (host != target.host.to_string()).then(|| host.chars().take(MAX_NAME).collect())
}

fn portal(what: &str) -> Error {
    WrongAnswer::error(FailureKind::CaptivePortal, format!("captive portal: {what}"))
}

fn wrong_status(status: StatusCode, wanted: &str) -> Error {
    let text = format!("status {} instead of {wanted}", status.as_u16());
    WrongAnswer::error(FailureKind::WrongAnswer, text)
}

fn check_body(body: &[u8], wanted: &str) -> Result<()> {
    let wanted_bytes = wanted.as_bytes();
    if wanted_bytes.is_empty() || body.windows(wanted_bytes.len()).any(|part| part == wanted_bytes)
    {
        return Ok(());
    }
    Err(portal(&format!("the page does not contain {wanted:?}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_rustls::rustls::pki_types::UnixTime;

    use super::*;

    fn target(status: Option<u16>) -> HttpTarget {
        HttpTarget {
            secure: false,
            host: Host::Name("portal.example".into()),
            port: 80,
            path: "/".into(),
            status,
            body: None,
        }
    }

    fn head(wanted: Option<u16>, status: u16, location: Option<&str>) -> Result<(), String> {
        let status = StatusCode::from_u16(status).expect("a status");
        check_head(&target(wanted), status, location).map_err(|error| error.to_string())
    }

    #[test]
    fn heads() {
        assert_eq!(head(None, 200, None), Ok(()));
        assert_eq!(head(None, 299, Some("http://login.hotel.example/")), Ok(()));
        assert_eq!(head(Some(204), 204, None), Ok(()));
        assert_eq!(head(Some(302), 302, Some("/login")), Ok(()));
        let failed = |text: &str| Err(text.to_owned());
        assert_eq!(head(Some(204), 200, None), failed("status 200 instead of 204"));
        assert_eq!(head(None, 404, None), failed("status 404 instead of 200 to 299"));
        assert_eq!(head(None, 302, Some("/login")), failed("status 302 instead of 200 to 299"));
        assert_eq!(head(None, 511, None), failed("captive portal: status 511"));
        let portal = failed("captive portal: redirected to login.hotel.example");
        for wanted in [None, Some(302), Some(204)] {
            let location = Some("https://Login.Hotel.example:8443/?to=portal.example");
            assert_eq!(head(wanted, 302, location), portal);
        }
        let same = Some("https://PORTAL.example/");
        assert_eq!(head(None, 301, same), failed("status 301 instead of 200 to 299"));
    }

    #[test]
    fn a_certificate_of_the_future_is_the_fault_of_the_clock() {
        let failure =
            |error| tls_failure(io::Error::other(rustls::Error::InvalidCertificate(error)), false);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1));
        let early = CertificateError::NotValidYetContext { time, not_before: time };
        for error in [early, CertificateError::NotValidYet] {
            let error = failure(error);
            assert!(NotSent::is(&error) && error.to_string().contains("clock"), "{error:#}");
        }
        for error in [CertificateError::Expired, CertificateError::UnknownIssuer] {
            assert!(!NotSent::is(&failure(error)));
        }
        assert!(!NotSent::is(&tls_failure(io::ErrorKind::ConnectionReset.into(), true)));
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let error = tls_failure(io::Error::other(expired), true);
        assert!(NotSent::is(&error) && error.to_string().contains("nothing keeps it right"));
    }

    #[test]
    fn bodies() {
        assert!(check_body(b"it is alive", "alive").is_ok());
        assert!(check_body(b"", "").is_ok());
        let error = check_body(b"log in", "alive").expect_err("another page");
        assert_eq!(error.to_string(), "captive portal: the page does not contain \"alive\"");
    }

    proptest! {
        #[test]
        fn hostile_heads_are_harmless(status in 100u16..1000, location: String) {
            let _ = head(None, status, Some(&location));
        }
    }
}
