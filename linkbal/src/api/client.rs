//! Asks a running daemon.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Gets `path` from the daemon behind a socket, as text.
///
/// # Errors
///
/// If no daemon runs there, or it answers with an error.
pub async fn get(socket: &Path, path: &str) -> Result<String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "linkbal does not run in this network namespace"
            }
            ErrorKind::PermissionDenied => "only root and its group may ask linkbal",
            _ => "linkbal does not answer",
        };
        anyhow::Error::new(error).context(format!("{hint} ({})", socket.display()))
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "linkbal").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("failed to ask linkbal")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("failed to read linkbal's answer")?;
    connection.abort();
    ensure!(status.is_success(), "linkbal answered {status}");
    String::from_utf8(body.to_bytes().into()).context("failed to read linkbal's answer")
}
