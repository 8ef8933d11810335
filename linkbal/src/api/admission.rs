//! Admission to the API: number and duration of connections.
//!
//! A client that may open the socket must not be able to use up the daemon's descriptors, or to
//! keep others out: there are [`MAX_CONNECTIONS`] connections for root and as many for all others
//! together, as many by TCP, and half of each may be streams. A connection carries one request. When all are taken,
//! the oldest one without a request yet is closed. One that sends no request in time, or does not
//! take its answer, is closed, and so is one by TCP whose other end has vanished.

mod timeouts;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{Router, body::Body, response::IntoResponse as _};
use futures::FutureExt as _;
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{sleep, timeout},
};

use self::timeouts::StallTimeout;
use super::{
    client::RELOAD_TIMEOUT,
    error::{ApiError, ErrorCode, PROBLEM},
    events::is_following,
    flows::FlowReaders,
};
use crate::sys::host::{descriptors, file};

/// Access mode of the socket: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Connections that may wait for acceptance.
const BACKLOG: i32 = 128;

/// Connections of root at a time, and of all other users together.
const MAX_CONNECTIONS: usize = 32;

/// Streams among these connections.
const MAX_STREAMS: usize = MAX_CONNECTIONS / 2;

/// Longest time for the head of a request to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest duration of a connection that is not a stream.
const LIMITS: Limits = Limits { usual: Duration::from_secs(60), reload: RELOAD_TIMEOUT };

/// Longest head of a request, in bytes, and most lines of one.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Pause of the listener after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Time after which the other end of a connection by TCP is asked for a sign of life, how often it is
/// asked, and the time without one after which it has vanished.
const QUIET_TIME: Duration = Duration::from_secs(15);
const ASK_INTERVAL: Duration = Duration::from_secs(5);
const VANISH_TIME: Duration = Duration::from_secs(30);

/// Faults that clients are told of which find no free connection.
const TOO_MANY_CONNECTIONS: &str = "linkbal has too many connections at a time";
const TOO_MANY_STREAMS: &str = "linkbal has too many readers at a time";

/// Returns the error for a client that finds no free connection.
fn too_many(what: &str) -> ApiError {
    ApiError::new(ErrorCode::TooMany, what).help("close some, or try again later")
}

/// Opens the socket. It has its mode from the beginning: a bound socket takes that of its descriptor
/// (`unix_bind_bsd` in net/unix/af_unix.c), but for what the umask takes away.
///
/// # Errors
///
/// If it cannot be made.
pub(super) fn open(path: &Path) -> Result<UnixListener> {
    // A leftover of a daemon that was killed: the lock shows that no other daemon runs.
    let _ = file::remove(path);
    let made = || format!("failed to open the API socket {}", path.display());
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).with_context(made)?;
    fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE)).with_context(made)?;
    socket.bind(&SockAddr::unix(path).with_context(made)?).with_context(made)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("failed to set the mode of {}", path.display()))?;
    socket.set_nonblocking(true).with_context(made)?;
    socket.listen(BACKLOG).with_context(made)?;
    UnixListener::from_std(socket.into()).with_context(made)
}

/// Accepts and serves connections, without an end: those of root have a pool of their own, the second.
pub(super) async fn serve(listener: &UnixListener, router: &Router, pools: &mut [Pool; 2]) {
    loop {
        let stream = match accept(listener).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("failed to accept a connection to the API: {error}");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let euid = nix::unistd::geteuid().as_raw();
        let is_root = stream.peer_cred().is_ok_and(|peer| [0, euid].contains(&peer.uid()));
        pools[usize::from(is_root)].admit(stream, router);
    }
}

/// Accepts and serves connections by TCP, without an end: they have a pool of their own, and none of
/// the descriptors that are kept for others.
pub(super) async fn serve_tcp(listener: &TcpListener, router: &Router, pool: &mut Pool) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = expect_life(&stream) {
                    tracing::debug!("failed to watch a connection to the API: {error}");
                }
                pool.admit(stream, router);
            }
            Err(error) => {
                tracing::debug!("failed to accept a connection to the API: {error}");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Lets the kernel end a connection whose other end has vanished, tcp(7): a stream with nothing to say
/// would last for ever, and its places with it.
fn expect_life(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let asks = TcpKeepalive::new().with_time(QUIET_TIME).with_interval(ASK_INTERVAL);
    socket.set_tcp_keepalive(&asks)?;
    // The number of questions goes by this, and so does data that is not acknowledged.
    socket.set_tcp_user_timeout(Some(VANISH_TIME))
}

/// Accepts the next connection. If the table of descriptors is full, the reserve has one: the
/// client may want to know what is wrong.
async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    match listener.accept().await {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            let _lent = descriptors::lend();
            // The connection is waiting already.
            let again = listener.accept().now_or_never();
            again.unwrap_or(Err(error)).map(|(stream, _)| stream)
        }
        accepted => accepted.map(|(stream, _)| stream),
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Writes what fits at once.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Stream for UnixStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}

impl Stream for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}

/// The connections of one kind of clients: root, all others, or those by TCP. They end with it.
pub(super) struct Pool {
    connections: VecDeque<Connection>,
    streams: Arc<Semaphore>,
    flow_readers: FlowReaders,
    limits: Limits,
}

/// Longest durations of connections.
#[derive(Clone, Copy, Debug)]
struct Limits {
    usual: Duration,
    /// Duration of one that waits for another configuration.
    reload: Duration,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            connections: VecDeque::new(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            flow_readers: FlowReaders::new(),
            limits: LIMITS,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.connections.iter().for_each(|connection| connection.task.abort());
    }
}

struct Connection {
    has_request: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Pool {
    fn admit(&mut self, stream: impl Stream, router: &Router) {
        self.connections.retain(|connection| !connection.task.is_finished());
        if self.connections.len() >= MAX_CONNECTIONS {
            let silent = |connection: &Connection| !connection.has_request.load(Ordering::Relaxed);
            let Some(oldest) = self.connections.iter().position(silent) else {
                reject(&stream);
                return;
            };
            if let Some(connection) = self.connections.remove(oldest) {
                connection.task.abort();
            }
        }
        let has_request = Arc::new(AtomicBool::new(false));
        let streams = Arc::clone(&self.streams);
        let session = Session {
            has_request: Arc::clone(&has_request),
            streams,
            stream_permit: Mutex::new(None),
            is_slow: AtomicBool::new(false),
            flow_readers: self.flow_readers.clone(),
            limits: self.limits,
        };
        let router = router.clone();
        let task = tokio::spawn(async move {
            session.serve(stream, router).await;
            // Its descriptor may have been one of the reserve.
            descriptors::refill();
        });
        let task = task.abort_handle();
        self.connections.push_back(Connection { has_request, task });
    }
}

/// Refuses a connection with an error.
fn reject(stream: &impl Stream) {
    let error = too_many(TOO_MANY_CONNECTIONS).json();
    let length = error.len();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: {PROBLEM}\r\n\
         content-length: {length}\r\n\r\n{error}"
    );
    // A new socket has room for it, unless the other end is gone.
    let _ = stream.write_now(text.as_bytes());
}

/// The service of one connection.
struct Session {
    has_request: Arc<AtomicBool>,
    streams: Arc<Semaphore>,
    /// The permit of a stream, while this is one.
    stream_permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Set if it waits for another configuration.
    is_slow: AtomicBool,
    flow_readers: FlowReaders,
    limits: Limits,
}

impl Session {
    async fn serve(self, stream: impl Stream, router: Router) {
        let answer = |request: Request<Incoming>| self.answer(request, router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(StallTimeout::new(stream)), service_fn(answer));
        let mut connection = std::pin::pin!(connection);
        let ended = timeout(self.limits.usual, connection.as_mut()).await;
        let is_stream = self.stream_permit.lock().is_ok_and(|permit| permit.is_some());
        let ended = match ended {
            // A stream may last as long as the client likes.
            Err(_) if is_stream => connection.await,
            Err(_) if self.is_slow.load(Ordering::Relaxed) => {
                let more = self.limits.reload.saturating_sub(self.limits.usual);
                let Ok(ended) = timeout(more, connection).await else { return };
                ended
            }
            Err(_) => return,
            Ok(ended) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!("a connection to the API broke off: {error}");
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        router: Router,
    ) -> Result<Response<Body>, Infallible> {
        request.extensions_mut().insert(self.flow_readers.clone());
        self.has_request.store(true, Ordering::Relaxed);
        self.is_slow.store(changes_configuration(&request), Ordering::Relaxed);
        if is_stream(&request) {
            let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
                return Ok(too_many(TOO_MANY_STREAMS).into_response());
            };
            if let Ok(mut held) = self.stream_permit.lock() {
                *held = Some(permit);
            }
        }
        hyper::service::Service::call(&TowerToHyperService::new(router), request).await
    }
}

/// Returns whether the answer to a request is a stream.
fn is_stream<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    // A table may be long, and its reader slow.
    let is_table = path == "/v1/flows" || path == "/v1/clients";
    let follows = path == "/v1/events" && is_following(request.headers());
    is_table || follows || path.ends_with("/drill")
}

/// Returns whether a request has to wait until another configuration is in force.
fn changes_configuration<B>(request: &Request<B>) -> bool {
    let paths = ["/v1/reload", "/v1/configuration/try", "/v1/confirm", "/v1/undo"];
    request.method() == Method::POST && paths.contains(&request.uri().path())
}

#[cfg(test)]
mod tests;
