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
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::sleep};

pub(super) use self::guard::is_public;
use self::guard::{AccessDenied, Guard, Token};
use super::{RETRY_DELAY, admission};
use crate::{
    config::Api,
    sys::host::{file, thread},
};

/// Server of the API by TCP, while the configuration says so.
#[derive(Debug)]
pub struct Server {
    router: Router,
    config: Api,
    task: Option<AbortHandle>,
    /// Says that the file with the token may have changed.
    reread: watch::Sender<()>,
}

impl Server {
    pub(super) fn new(router: Router) -> Server {
        Server { router, config: Api::default(), task: None, reread: watch::Sender::default() }
    }

    /// Serves as the configuration says, from now on. The file with the token is read again. Connections
    /// that are open go on, unless the address, the names or the token are others.
    pub fn listen(&mut self, config: &Api) {
        if self.config == *config {
            self.reread.send_replace(());
            return;
        }
        self.stop();
        self.config = config.clone();
        let Some(address) = config.listen else { return };
        let reread = self.reread.subscribe();
        let serving = serve(address, config.clone(), self.router.clone(), reread);
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

async fn serve(address: SocketAddr, config: Api, router: Router, mut reread: watch::Receiver<()>) {
    let token = async || match &config.token_file {
        None => None,
        Some(path) => Some(read_token(path).await),
    };
    let mut known = token().await;
    let listener = bind(address).await;
    loop {
        let (local, hosts) = (address.ip().is_loopback(), config.hosts.clone());
        let guard = Guard { local, token: known.clone(), hosts };
        let guarded = router.clone().layer(from_fn_with_state(Arc::new(guard), answer));
        let mut pool = admission::Pool::default();
        // Who had another token is not to go on with what that allowed: the pool ends with it.
        known = loop {
            tokio::select! {
                () = admission::serve_tcp(&listener, &guarded, &mut pool) => {}
                _ = reread.changed() => {
                    let fresh = token().await;
                    if fresh != known {
                        break fresh;
                    }
                }
            }
        };
    }
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

/// Reads the token, off the main loop. Without one that can be used, no client has it.
async fn read_token(path: &Path) -> Token {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let text = thread::run("token", move || file::read_text(&path, file::SMALL)).await;
    let text = text.map_err(std::io::Error::other).and_then(|text| text);
    let token = match text {
        Ok(text) => Token::new(&text),
        Err(error) => {
            tracing::warn!("failed to read the token in {shown}: {error}; no client has it");
            return Token::nobodys();
        }
    };
    token.unwrap_or_else(|| {
        tracing::warn!(
            "{shown} has no token of 16 to 256 letters and digits: write one with \
             `openssl rand -hex 32`; no client has it until a reload"
        );
        Token::nobodys()
    })
}

/// A mark of requests without the token.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithoutToken;

/// Passes a request on, or refuses it.
async fn answer(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if !guard.has_token(request.headers()) {
        request.extensions_mut().insert(WithoutToken);
    }
    match guard.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal @ AccessDenied::Token) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer realm=\"linkbal\"")];
            (ask, refusal.error()).into_response()
        }
        Err(refusal) => refusal.error().into_response(),
    }
}
