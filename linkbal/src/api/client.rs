//! Requests to a running daemon.

mod sse;

use std::{
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::UnixStream, time::timeout};

pub use self::sse::Message;
use self::sse::Messages;
use super::{
    error::{ApiError, ErrorCode, PROBLEM},
    events::EVENT_STREAM,
};
use crate::config::DEFAULT_PATH;
use crate::sys::host::{instance::Instance, privilege::only_root};

/// Longest time for an answer of the daemon.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for an answer if the daemon must read and compile a configuration first; the daemon gives
/// itself as much.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Error for a daemon that has another API.
const OTHER_VERSION: &str =
    "the running linkbal is another version: restart it: systemctl restart linkbal";

/// Longest line of an answer, in bytes.
const LINE_LENGTH: usize = 1 << 20;

/// Sends a request to the daemon behind a socket, and returns the text of its answer.
///
/// # Errors
///
/// If no daemon runs there, or it answers with an error.
pub async fn request(socket: &Path, method: Method, path: &str, limit: Duration) -> Result<String> {
    let answer = async { text(open(socket, method, path, None).await?).await };
    timeout(limit, answer).await.unwrap_or_else(|_| Err(timed_out(limit)))
}

/// Returns the error for a socket that is open, but does not answer.
fn timed_out(limit: Duration) -> Error {
    anyhow!(
        "linkbal does not answer within {} s: is it stopped, or the machine overloaded? \
         `systemctl status linkbal` may tell",
        limit.as_secs()
    )
}

/// Sends a request to the daemon behind a socket and passes on its answer line by line, without
/// line ends, until `each` breaks off or the answer ends.
///
/// # Errors
///
/// If no daemon runs there, or it answers with an error or ends within its answer, or `each` fails.
pub async fn stream(
    socket: &Path,
    method: Method,
    path: &str,
    mut each: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let each = |lines: &str| {
        for line in lines.lines() {
            if each(line)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    stream_parts(socket, method, path, each).await
}

/// Sends a request as [`stream`] does, and passes on whole lines as they come, many at a time and with
/// their line ends.
///
/// # Errors
///
/// As [`stream`].
pub async fn stream_parts(
    socket: &Path,
    method: Method,
    path: &str,
    each: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let opened = timeout(TIMEOUT, open(socket, method, path, None)).await;
    read_lines(opened.unwrap_or_else(|_| Err(timed_out(TIMEOUT)))?, each).await
}

/// Follows the events of the daemon behind a socket, until `each` breaks off or the daemon ends.
///
/// # Errors
///
/// As [`stream`].
pub async fn follow(
    socket: &Path,
    path: &str,
    mut each: impl FnMut(Message) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let opened = timeout(TIMEOUT, open(socket, Method::GET, path, Some(EVENT_STREAM))).await;
    let mut messages = Messages::default();
    let mut done = false;
    let each = |lines: &str| {
        for message in lines.lines().filter_map(|line| messages.add(line)) {
            if each(message)?.is_break() {
                done = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    read_lines(opened.unwrap_or_else(|_| Err(timed_out(TIMEOUT)))?, each).await?;
    // Events have no end of their own.
    if done { Ok(()) } else { Err(broken_off(&Surroundings::look())) }
}

/// Reads a value of an answer.
///
/// # Errors
///
/// If it has another form than this version has.
pub fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    let read = serde_json::from_str(text);
    read.with_context(|| format!("failed to read linkbal's answer; perhaps {OTHER_VERSION}"))
}

/// Passes on whole lines of a body as they come.
async fn read_lines(
    mut body: Incoming,
    mut each: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut partial = Vec::new();
    while let Some(frame) = body.frame().await {
        // The cause is a matter of the protocol, and says no more.
        let frame = frame.map_err(|_| broken_off(&Surroundings::look()))?;
        partial.extend_from_slice(&frame.into_data().unwrap_or_default());
        if let Some(last) = partial.iter().rposition(|byte| *byte == b'\n') {
            let rest = partial.split_off(last.saturating_add(1));
            let lines = str::from_utf8(&partial).context("failed to read linkbal's answer")?;
            if each(lines)?.is_break() {
                return Ok(());
            }
            partial = rest;
        }
        if partial.len() > LINE_LENGTH {
            bail!("failed to read linkbal's answer: a line is too long");
        }
    }
    Ok(())
}

/// Returns the error for a socket that cannot be reached, with what to do. Clear causes need no
/// error number.
fn unreachable(socket: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            NotRunning(not_running(&Surroundings::look())).into()
        }
        ErrorKind::PermissionDenied => {
            Denied(format!("{} (or be in the group of its socket)", only_root())).into()
        }
        _ => Error::new(error).context(format!("failed to reach linkbal at {}", socket.display())),
    }
}

/// No daemon answers at a socket; its text says what that means, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRunning(String);

/// The user may not ask the daemon, which a later try does not change; its text says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Denied(String);

/// Returns the error of an answer that breaks off.
fn broken_off(around: &Surroundings) -> Error {
    Error::msg(match around.holder {
        Some(pid) => format!(
            "linkbal (pid {pid}) broke off: it is about to stop, or nothing was taken for 10 s"
        ),
        None => format!("linkbal has stopped; {}", how_to_start(around)),
    })
}

/// The surroundings of a socket that nobody answers at.
#[derive(Debug, Default)]
struct Surroundings {
    /// Process that holds the lock.
    holder: Option<u32>,
    /// Set if a datapath is pinned; `None` if this user may not know.
    datapath: Option<bool>,
    /// Set in a network namespace other than the first.
    elsewhere: bool,
    /// Set if there is a configuration at the usual place.
    has_config: bool,
}

impl Surroundings {
    fn look() -> Surroundings {
        let Ok(instance) = Instance::unprepared() else { return Surroundings::default() };
        Surroundings {
            holder: instance.holder(),
            datapath: instance.known_datapath(),
            elsewhere: !instance.is_first(),
            has_config: Path::new(DEFAULT_PATH).exists(),
        }
    }
}

/// Returns what it means that nobody answers, and what to do.
fn not_running(around: &Surroundings) -> String {
    if let Some(pid) = around.holder {
        return format!(
            "linkbal (pid {pid}) does not answer yet: it starts, or could not make its socket; try \
             again, or see `journalctl -u linkbal`"
        );
    }
    let packets = match around.datapath {
        Some(true) => "; packets go on with the last state, without failover",
        Some(false) => ", and nothing of it is installed: the main routing table decides alone",
        None => "",
    };
    let place = if around.elsewhere { " in this network namespace" } else { "" };
    format!("linkbal is not running{place}{packets}; {}", how_to_start(around))
}

/// Returns the command that starts a daemon: another one in a network namespace of its own, where no
/// service runs.
fn how_to_start(around: &Surroundings) -> String {
    let start = "start it: systemctl start linkbal";
    if !around.elsewhere {
        return start.into();
    }
    let config = if around.has_config { "" } else { " --config FILE" };
    format!(
        "{start} (here: linkbal run{config}), or ask where it runs: ip netns exec NAME linkbal .."
    )
}

/// Sends a request, and returns the body of a successful answer.
async fn open(socket: &Path, method: Method, path: &str, accept: Option<&str>) -> Result<Incoming> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.context("failed to talk to linkbal")?;
    // The connection ends with the answer, or with the runtime.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "linkbal");
    let request = accept.into_iter().fold(request, |request, kind| request.header(ACCEPT, kind));
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("failed to ask linkbal")?;
    match response.status().is_success() {
        true => Ok(response.into_body()),
        false => Err(refusal(response).await?),
    }
}

/// Returns the error that an answer has.
async fn refusal(response: Response<Incoming>) -> Result<Error> {
    let status = response.status();
    let has_shape = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    let said = text(response.into_body()).await?;
    Ok(refused(status, has_shape, &said))
}

/// Returns the meaning of an answer that is no success. `has_shape` is set if it calls itself an error of
/// the API.
fn refused(status: StatusCode, has_shape: bool, said: &str) -> Error {
    let unknown = matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    match ApiError::read(said.as_bytes()) {
        Some(ApiError { code: ErrorCode::UnknownPath | ErrorCode::UnknownMethod, .. }) => {
            Error::msg(OTHER_VERSION)
        }
        Some(error) => Error::new(error),
        None if has_shape || unknown => Error::msg(OTHER_VERSION),
        None if said.is_empty() => anyhow!("linkbal answered {status}"),
        None => Error::msg(said.to_owned()),
    }
}

async fn text(body: Incoming) -> Result<String> {
    let body = body.collect().await.context("failed to read linkbal's answer")?;
    String::from_utf8(body.to_bytes().into()).context("failed to read linkbal's answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_called_so() {
        let not_found = StatusCode::NOT_FOUND;
        let refused = |status, shape, said: &str| refused(status, shape, said).to_string();
        // As one without versions answers, and a later one.
        assert_eq!(refused(not_found, false, ""), OTHER_VERSION);
        assert_eq!(refused(not_found, true, &ApiError::unknown_path().json()), OTHER_VERSION);
        assert_eq!(refused(StatusCode::CONFLICT, true, "{\"another\":1}"), OTHER_VERSION);
        let uplink = ApiError::new(ErrorCode::UnknownUplink, "there is no uplink \"x\"").json();
        assert_eq!(refused(not_found, true, &uplink), "there is no uplink \"x\"");
        let error = read::<ApiError>("{}").expect_err("no error").to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[test]
    fn an_error_of_a_client_says_what_to_do() {
        let running = Surroundings { datapath: Some(true), ..Surroundings::default() };
        assert_eq!(
            not_running(&running),
            "linkbal is not running; packets go on with the last state, without failover; start \
             it: systemctl start linkbal"
        );
        let nothing = not_running(&Surroundings { datapath: Some(false), ..running });
        assert!(nothing.contains("nothing of it is installed"), "{nothing}");
        let unknown = not_running(&Surroundings::default());
        assert_eq!(unknown, "linkbal is not running; start it: systemctl start linkbal");
        let elsewhere = not_running(&Surroundings { elsewhere: true, ..Surroundings::default() });
        assert!(elsewhere.contains("ip netns exec NAME"), "{elsewhere}");
        assert!(elsewhere.contains("(here: linkbal run --config FILE)"), "{elsewhere}");
        let stopped = broken_off(&Surroundings::default()).to_string();
        assert_eq!(stopped, "linkbal has stopped; start it: systemctl start linkbal");
        let stopping = broken_off(&Surroundings { holder: Some(7), ..Surroundings::default() });
        assert!(stopping.to_string().contains("about to stop"), "{stopping}");
        let starting = not_running(&Surroundings { holder: Some(7), ..Surroundings::default() });
        assert!(starting.contains("(pid 7) does not answer yet"), "{starting}");
        let denied = unreachable(Path::new("x"), ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.starts_with("only root may do this: run `sudo "), "{denied}");
    }
}
