//! The API: HTTP over a unix socket that root and its group may open.
//!
//! `GET /status` answers with [`status::Status`] as JSON.

pub mod client;
pub mod status;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
};

use self::status::Status;

/// Access to the socket: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Asks the daemon for its status.
pub type StatusRequest = oneshot::Sender<Status>;

/// Opens the socket and answers requests in the background, as long as the daemon takes them.
///
/// # Errors
///
/// If the socket cannot be made.
pub fn serve(path: &Path) -> Result<mpsc::Receiver<StatusRequest>> {
    // Left over from a daemon that was killed: the lock tells that no other one runs.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)
        .with_context(|| format!("failed to open the API socket {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("failed to set the mode of {}", path.display()))?;
    let (sender, receiver) = mpsc::channel(16);
    let router = Router::new().route("/status", get(status)).with_state(sender);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!("the API ended: {error}");
        }
    });
    Ok(receiver)
}

async fn status(
    State(daemon): State<mpsc::Sender<StatusRequest>>,
) -> Result<Json<Status>, StatusCode> {
    let (sender, receiver) = oneshot::channel();
    daemon.send(sender).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    receiver.await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}
