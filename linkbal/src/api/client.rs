//! Requests to a running daemon.

use std::{
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// Longest time for an answer of the daemon.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for an answer if the daemon must read and compile a configuration first.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest line of an answer, in bytes.
const LINE_LENGTH: usize = 1 << 20;

/// Sends a request to the daemon behind a socket, and returns the text of its answer.
///
/// # Errors
///
/// If no daemon runs there, or it answers with an error.
pub async fn request(socket: &Path, method: Method, path: &str, limit: Duration) -> Result<String> {
    let answer = async { text(open(socket, method, path).await?).await };
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
    mut each: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let opened = timeout(TIMEOUT, open(socket, method, path)).await;
    let mut body = opened.unwrap_or_else(|_| Err(timed_out(TIMEOUT)))?;
    let mut partial = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context(
            "failed to read on: linkbal ended, or broke off since nothing was taken for 10 s",
        )?;
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
    let place = socket.display();
    let start = "start it with `linkbal run` or `systemctl start linkbal`, or ask in the network \
                 namespace where it runs (`ip netns exec NAME linkbal ..`)";
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("no linkbal runs in this network namespace (there is no {place}): {start}")
        }
        ErrorKind::ConnectionRefused => anyhow!(
            "no linkbal runs in this network namespace ({place} is left of one that has ended): \
             {start}"
        ),
        ErrorKind::PermissionDenied => {
            anyhow!("not allowed to ask linkbal at {place}: only root and its group may; use sudo")
        }
        _ => Error::new(error).context(format!("failed to reach linkbal at {place}")),
    }
}

/// Sends a request, and returns the body of a successful answer.
async fn open(socket: &Path, method: Method, path: &str) -> Result<Incoming> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.context("failed to talk to linkbal")?;
    // The connection ends with the answer, or with the runtime.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "linkbal");
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("failed to ask linkbal")?;
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    match text(body).await? {
        said if said.is_empty() => bail!("linkbal answered {status}"),
        said => bail!("{said}"),
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
    fn an_error_of_a_client_says_what_to_do() {
        let told = |kind: ErrorKind| {
            let error = unreachable(Path::new("/run/linkbal/linkbal.sock"), kind.into());
            format!("{error:#}")
        };
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
            let text = told(kind);
            for part in ["no linkbal runs", "namespace", "linkbal run", "systemctl start linkbal"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert!(told(ErrorKind::ConnectionRefused).contains("has ended"));
        assert!(told(ErrorKind::PermissionDenied).contains("only root"));
    }
}
