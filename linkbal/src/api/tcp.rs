//! The API by TCP, if the configuration has an address for it.
//!
//! Every program of the machine can connect, every page in a browser can send requests, and a name
//! that leads here can be anybody's (DNS rebinding): `guard` says which requests are answered.

mod guard;

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use tokio::{
    net::TcpListener,
    task::{self, AbortHandle},
    time::sleep,
};

pub(super) use self::guard::is_public;
use self::guard::{Guard, Refusal, Token};
use super::{RETRY_DELAY, admission};
use crate::{config::Api, sys::host::file};

/// Server of the API by TCP, while the configuration says so.
#[derive(Debug)]
pub struct Server {
    router: Router,
    config: Api,
    task: Option<AbortHandle>,
}

impl Server {
    pub(super) fn new(router: Router) -> Server {
        Server { router, config: Api::default(), task: None }
    }

    /// Serves as the configuration says, from now on. Connections that are open go on. The file with
    /// the token is read again.
    pub fn listen(&mut self, config: &Api) {
        let has_token = config.token_file.is_some();
        if self.config == *config && !has_token {
            return;
        }
        self.stop();
        self.config = config.clone();
        let Some(address) = config.listen else { return };
        let serving = serve(address, config.clone(), self.router.clone());
        self.task = Some(tokio::spawn(serving).abort_handle());
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(address: SocketAddr, config: Api, router: Router) {
    let token = match config.token_file {
        None => None,
        Some(path) => Some(read_token(&path).await),
    };
    let guard = Guard { local: address.ip().is_loopback(), token, hosts: config.hosts };
    let router = router.layer(from_fn_with_state(Arc::new(guard), answer));
    let listener = bind(address).await;
    admission::serve_tcp(listener, router).await;
}

/// Opens the listener. The address may come later, and a former listener end in a moment.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("the API answers at {address}");
                return listener;
            }
            Err(error) if told => tracing::debug!("failed to listen at {address}: {error}"),
            Err(error) => {
                tracing::warn!("failed to listen at {address}: {error}; tried again");
                told = true;
            }
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Reads the token, off the main loop. Without one that can be used, nobody has it.
async fn read_token(path: &Path) -> Token {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let text = task::spawn_blocking(move || file::read_text(&path, file::SMALL)).await;
    let text = text.map_err(std::io::Error::other).and_then(|text| text);
    let token = match text {
        Ok(text) => Token::new(&text),
        Err(error) => {
            tracing::warn!("failed to read the token in {shown}: {error}; nobody has it");
            return Token::nobodys();
        }
    };
    token.unwrap_or_else(|| {
        tracing::warn!(
            "{shown} has no token of 16 to 256 letters and digits: write one with \
             `openssl rand -hex 32`; nobody has it until a reload"
        );
        Token::nobodys()
    })
}

/// Passes a request on, or refuses it.
async fn answer(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal @ Refusal::Token) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer realm=\"linkbal\"")];
            (ask, refusal.error()).into_response()
        }
        Err(refusal) => refusal.error().into_response(),
    }
}
