use axum::{
    body::{Body, to_bytes},
    http::{Method, header::CONTENT_TYPE},
};
use tower_service::Service as _;

use super::{
    configuration::{Checked, MAX_TEXT},
    error::{ErrorCode, PROBLEM},
    *,
};
use crate::config::{FileOnly, Sources};

/// Answers requests in place of a daemon.
async fn daemon(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Configuration(answer) => {
                let sources = Sources { name: "linkbal.toml".into(), ..Sources::default() };
                let status = status::ConfigurationStatus::default();
                let _ = answer.send(InForce {
                    status,
                    sources: sources.into(),
                    file_only: FileOnly::default(),
                });
            }
            Request::SetAdmin { uplink: name, answer, .. } => {
                let help = "the uplinks are: a".into();
                let _ = answer.send(Err(RequestError::UnknownUplink { name, help }));
            }
            // No answer.
            _ => {}
        }
    }
}

/// Sends a request; returns the media type and the body of the answer.
async fn ask(method: Method, path: &str, body: impl Into<Body>) -> (String, Vec<u8>) {
    let (sender, requests) = mpsc::channel(1);
    tokio::spawn(daemon(requests));
    let request = axum::http::Request::builder().method(method).uri(path).body(body.into());
    let mut router = router(sender, Journal::default());
    let response = router.call(request.expect("a request")).await.expect("an answer");
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().expect("text"));
    let kind = kind.unwrap_or_default().to_owned();
    (kind, to_bytes(response.into_body(), usize::MAX).await.expect("a body").into())
}

async fn refused(method: Method, path: &str, body: impl Into<Body>) -> (ErrorCode, String) {
    let (kind, body) = ask(method, path, body).await;
    assert_eq!(kind, PROBLEM, "{path}");
    let error = ApiError::read(&body).expect("an error");
    assert_eq!(error.status, error.code.status().as_u16());
    (error.code, error.at.unwrap_or_default())
}

#[tokio::test]
async fn whatever_is_refused_has_one_shape() {
    let refused = |method, path| refused(method, path, Body::empty());
    let at = |code, at: &str| (code, at.to_owned());
    let check = "/v1/configuration/check";
    for path in ["/page", "/status", "/v1", "/v1/", "/v1/nothing", "/v2/status"] {
        assert_eq!(refused(Method::GET, path).await, at(ErrorCode::UnknownPath, "path"), "{path}");
    }
    assert_eq!(refused(Method::PUT, "/v1/status").await, at(ErrorCode::UnknownMethod, "method"));
    for path in ["/v1/status?x", "/v1/explain", "/v1/flows?port=65536", "/v1/events?follow"] {
        assert_eq!(refused(Method::GET, path).await, at(ErrorCode::Invalid, "query"), "{path}");
    }
    let since = refused(Method::GET, "/v1/events?since=now").await;
    assert_eq!(since, at(ErrorCode::Invalid, "query since"));
    let after = refused(Method::GET, "/v1/events?after=x").await;
    assert_eq!(after, at(ErrorCode::Invalid, "query after"));
    let trial = refused(Method::POST, "/v1/reload?confirm=0").await;
    assert_eq!(trial, at(ErrorCode::Invalid, "query confirm"));
    let name = refused(Method::POST, "/v1/uplinks/%ff/drain").await;
    assert_eq!(name, at(ErrorCode::Invalid, "path"));
    let unknown = refused(Method::POST, "/v1/uplinks/x/drain").await;
    assert_eq!(unknown, at(ErrorCode::UnknownUplink, "path"));
    assert_eq!(refused(Method::POST, check).await, at(ErrorCode::Invalid, "body"));
    assert_eq!(refused(Method::GET, "/v1/rules").await, at(ErrorCode::NoAnswer, ""));
}

#[tokio::test]
async fn a_text_to_check_has_a_limit() {
    let check = "/v1/configuration/check";
    let (_, body) = ask(Method::POST, check, "# x\n".repeat(MAX_TEXT / 4)).await;
    let checked: Checked = serde_json::from_slice(&body).expect("a check");
    assert!(!checked.usable && checked.left_out == 0, "{checked:?}");
    let too_large = refused(Method::POST, check, "x".repeat(MAX_TEXT + 1)).await;
    assert_eq!(too_large, (ErrorCode::TooLarge, "body".into()));
    let no_text = refused(Method::POST, check, &b"[lan]\n\xff"[..]).await;
    assert_eq!(no_text, (ErrorCode::Invalid, "body".into()));
}
