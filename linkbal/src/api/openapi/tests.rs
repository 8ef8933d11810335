use std::collections::BTreeSet;

use axum::{body::Body, http::Request, http::StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tower_service::Service as _;

use super::*;
use crate::{
    api::{page, router},
    events::journal::Journal,
};

fn json() -> Value {
    serde_json::from_str(&document().to_json().expect("JSON")).expect("JSON")
}

/// Returns the operations of the description: method, path, and the operation.
fn described(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().expect("operations").iter();
        let method = |name: &str| name.to_uppercase().parse().expect("a method");
        operations.map(move |(name, operation)| (method(name), path.clone(), operation.clone()))
    });
    all.collect()
}

/// Returns the methods that the router itself has, by path: it lists its paths for developers, and says in
/// the header `Allow` which methods each has.
async fn routed() -> BTreeSet<(Method, String)> {
    let (daemon, receiver) = mpsc::channel(1);
    // Nobody answers.
    drop(receiver);
    let mut router = router(daemon, Journal::default());
    let shown = format!("{router:?}");
    let quoted = shown.split('"').skip(1).step_by(2);
    let paths: BTreeSet<&str> = quoted.filter(|text| text.starts_with('/')).collect();
    let mut all = BTreeSet::new();
    for path in paths {
        // Another method than any request has.
        let uri = path.replace(['{', '}'], "");
        let request = Request::builder().method(Method::TRACE).uri(uri).body(Body::empty());
        let response = router.call(request.expect("a request")).await.expect("an answer");
        if response.status() != StatusCode::METHOD_NOT_ALLOWED || page::has(path) {
            continue;
        }
        let allow = response.headers()["allow"].to_str().expect("text").to_owned();
        let methods = allow.split(',').map(|name| name.trim().parse().expect("a method"));
        // Whatever can be got has a head.
        let methods = methods.filter(|method| *method != Method::HEAD);
        all.extend(methods.map(|method| (method, path.to_owned())));
    }
    all
}

#[tokio::test]
async fn each_route_is_described_and_each_description_is_of_a_route() {
    let described = described(&json()).into_iter();
    let described: BTreeSet<_> = described.map(|(method, path, _)| (method, path)).collect();
    assert_eq!(described, routed().await);
    assert!(described.len() >= 18, "{described:?}");
    assert!(described.contains(&(Method::POST, "/v1/uplinks/{name}/drain".into())));
    let versioned = |path: &str| path.starts_with("/v1/") || path == "/metrics";
    assert!(described.iter().all(|(_, path)| versioned(path)), "{described:?}");
}

#[test]
fn all_but_what_is_public_needs_the_token() {
    for (method, path, operation) in described(&json()) {
        let needs = Value::from_iter([(TOKEN, Value::Array(vec![]))]);
        let without = Value::Object(serde_json::Map::new());
        let public =
            ["/v1/status", "/metrics", "/v1/events", "/v1/rules", "/v1/history"].contains(&&*path);
        let expected = if public { vec![without, needs] } else { vec![needs] };
        assert_eq!(operation["security"], Value::Array(expected), "{method} {path}");
    }
}

#[test]
fn each_operation_says_what_it_is_and_has_errors_of_one_shape() {
    let document = json();
    assert_eq!(document["openapi"], "3.1.0");
    let error = "#/components/schemas/ApiError";
    for (method, path, operation) in described(&document) {
        let at = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{at}");
        assert!(operation["operationId"].is_string(), "{at}");
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses {
            let schema = &response["content"][PROBLEM]["schema"]["$ref"];
            assert_eq!(schema == error, !status.starts_with('2'), "{at} {status}");
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters {
            assert!(parameter["description"].is_string(), "{at} {parameter}");
        }
    }
}

#[test]
fn each_schema_that_is_named_is_there() {
    let document = json();
    let text = document.to_string();
    let named = text.split("\"#/components/schemas/").skip(1);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in named.filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(schemas.len() > 30, "{}", schemas.len());
}
