//! A message as a request over HTTP.

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use lettre::transport::smtp::client::AsyncTokioStream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Refused, Taken, stream::Limited};
use crate::{
    config::{Host, Post, Server},
    notify::{
        template::{self, TOKEN},
        text::Message,
    },
    sys::{host::thread, tls},
};

/// Maximum size of the head of an answer, and of the part of a body that says why, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 1 << 10;

/// Characters of a secret that are escaped in an address: some consist of several segments.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// Sends a message over a connection.
///
/// # Errors
///
/// If the server refuses it, or there is no answer by HTTP.
pub(super) async fn send(
    stream: TcpStream,
    post: &Post,
    message: &Message,
    token: Option<&str>,
) -> Result<Taken> {
    let peer = stream.peer_addr()?;
    let stream: Box<dyn AsyncTokioStream> = match post.secure {
        false => Box::new(Limited::new(stream, peer)),
        true => {
            let config = thread::run("tls", tls::client).await??;
            let connecting = TlsConnector::from(config).connect(server_name(&post.server)?, stream);
            let stream = connecting.await.context("failed to agree on TLS")?;
            Box::new(Limited::new(stream, peer))
        }
    };
    let request = request(post, message, token)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Dropped with the attempt, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.context("no answer by HTTP")?;
    let status = response.status();
    if status.is_success() {
        return Ok(Taken { said: status.to_string(), refused: Vec::new() });
    }
    let said = beginning(response).await;
    Err(Refused { public: format!("the server answers {status}"), said }.into())
}

/// Returns a secret as it stands in an address.
pub(super) fn in_address(secret: &str) -> String {
    utf8_percent_encode(secret, ESCAPED).to_string()
}

/// Returns the name that the certificate of a server must have.
fn server_name(server: &Server) -> Result<ServerName<'static>> {
    Ok(match &server.host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone())?,
    })
}

fn request(post: &Post, message: &Message, token: Option<&str>) -> Result<Request<Full<Bytes>>> {
    let escaped = token.map(in_address);
    let in_path = |name: &str| escaped.as_deref().filter(|_| name == TOKEN);
    let value = |name: &str| message.value(name, token);
    let body = post.template.fill(&value);
    let mut request = Request::post(template::fill(&post.path, &in_path))
        .body(Full::new(Bytes::from(body)))
        // It would show the address, and with it the secret.
        .map_err(|_| anyhow::anyhow!("the secret is not possible in an address"))?;
    let fields = request.headers_mut();
    fields.insert(header::HOST, HeaderValue::try_from(post.authority())?);
    let agent = HeaderValue::from_static(concat!("linkbal/", env!("CARGO_PKG_VERSION")));
    fields.insert(header::USER_AGENT, agent);
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let media = HeaderValue::from_static(post.template.media_type());
    fields.insert(header::CONTENT_TYPE, media);
    insert_own(fields, post, &value)?;
    if let Some(token) = token.filter(|_| !names_token(post)) {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .context("the secret is not possible in a header field")?;
        value.set_sensitive(true);
        fields.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

/// Inserts the header fields of the configuration.
fn insert_own<'a>(
    fields: &mut HeaderMap,
    post: &Post,
    value: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<()> {
    for (name, text) in &post.headers {
        let text = template::fill(text, value).replace(char::is_control, " ");
        let value = HeaderValue::from_bytes(text.as_bytes());
        fields.insert(HeaderName::try_from(name)?, value.with_context(|| name.clone())?);
    }
    Ok(())
}

/// Returns whether the configuration says where the secret stands.
fn names_token(post: &Post) -> bool {
    let has = |text: &str| template::placeholders(text).any(|name| name == TOKEN);
    has(&post.path) || post.headers.iter().any(|(_, text)| has(text)) || post.template.has_token()
}

/// Returns the beginning of a body, as far as it comes.
async fn beginning(mut response: Response<Incoming>) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_BODY
        && let Some(Ok(frame)) = response.frame().await
    {
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    body.truncate(MAX_BODY);
    String::from_utf8_lossy(&body).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{events::severity::EventSeverity, notify::template::Template};

    fn post(path: &str) -> Post {
        Post {
            server: Server { host: Host::Name("chat.example".into()), port: 443 },
            secure: true,
            path: path.into(),
            headers: vec![("Title".into(), "{gateway}: {title}".into())],
            token_file: None,
            template: Template::default(),
        }
    }

    fn message() -> Message {
        let (title, text) = ("ü\r\nEvil: 1".into(), "text".into());
        Message {
            title,
            text,
            severity: EventSeverity::Info,
            gateway: "gw".into(),
            time: "now".into(),
        }
    }

    #[test]
    fn a_secret_stands_where_the_configuration_says() {
        let request =
            request(&post("/bot{token}/send"), &message(), Some("12:a/b?c#")).expect("one");
        assert_eq!(request.uri(), "/bot12:a/b%3Fc%23/send");
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        let request = super::request(&post("/"), &message(), Some("abc")).expect("a request");
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer abc");
        assert!(!format!("{request:?}").contains("abc"));
    }

    #[test]
    fn a_title_adds_no_header_field() {
        let request = request(&post("/"), &message(), None).expect("a request");
        assert_eq!(request.headers()["title"].as_bytes(), "gw: ü  Evil: 1".as_bytes());
        assert!(!request.headers().contains_key("evil"));
    }

    proptest! {
        #[test]
        fn any_message_and_secret_make_a_request_or_an_error(title: String, token: String) {
            let message = Message { title, ..message() };
            let _ = request(&post("/{token}"), &message, Some(&token));
            let _ = request(&post("/"), &message, Some(&token));
        }
    }
}
