//! The description of the API, made from the requests themselves: OpenAPI 3.1.

use std::sync::OnceLock;

use axum::{
    body::Bytes,
    http::{Method, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use utoipa::{
    ToSchema,
    openapi::{
        Components, Content, Info, License, OpenApi, Ref, RefOr, Response as Answer,
        ResponseBuilder, Schema,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
        tag::Tag,
    },
};

use super::{
    error::{ApiError, PROBLEM},
    extract::{Asked, NoQuery},
    routes, tcp,
};
use crate::{events::journal::Gap, flows::sort::FlowOrder};

/// Name of the scheme by which a client shows its token.
const TOKEN: &str = "token";

/// Errors that each request may have, with their meaning.
const COMMON: [(&str, &str); 6] = [
    ("400", "A part of the request means nothing"),
    ("401", "By TCP: the token is missing, or another one"),
    ("403", "By TCP: another host or origin, or there is no token at all"),
    ("404", "There is no such request"),
    ("405", "The path has no such method"),
    ("503", "Too many requests at a time, or the daemon ends"),
];

const TAGS: [(&str, &str); 4] = [
    ("status", "What there is, and what happened"),
    ("flows", "Which hosts and flows use which uplink, and why"),
    ("administration", "What the administrator wants of uplinks"),
    ("configuration", "The configuration, and the way to another one"),
];

const DESCRIPTION: &str = "The API of linkbal: by its unix socket, where a program that may open it needs no \
    token, and by TCP if `[api] listen` has an address. All errors are problem details (RFC 9457).";

/// Returns the description of the API as JSON.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "status",
    responses((
        status = 200, description = "An OpenAPI document",
        body = serde_json::Value, content_type = "application/json",
    )),
)]
pub(super) async fn openapi(_: Asked<NoQuery>) -> Response {
    // Only who asks for it has it made.
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_json().unwrap_or_default().into()).clone();
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Returns the description of the API.
pub fn document() -> OpenApi {
    let mut document = routes().into_openapi();
    document.info = info();
    let tags = TAGS.map(|(name, description)| {
        let mut tag = Tag::new(name);
        tag.description = Some(description.into());
        tag
    });
    document.tags = Some(tags.into());
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, scheme);
    add::<ApiError>(components);
    // Of parameters, there are but the names; and a stream is a text.
    add::<FlowOrder>(components);
    add::<Gap>(components);
    components.schemas.values_mut().for_each(require_all);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(operation, tcp::is_public(&method, path));
        }
    }
    document
}

/// Adds a schema, and those that it names.
fn add<T: ToSchema>(components: &mut Components) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

/// Says that an answer has all of its fields: those without a value are null.
fn require_all(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => object.required = object.properties.keys().cloned().collect(),
        Schema::AllOf(all) => all.items.iter_mut().for_each(require_all),
        Schema::OneOf(one) => one.items.iter_mut().for_each(require_all),
        _ => {}
    }
}

fn info() -> Info {
    let mut info = Info::new("linkbal", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.into());
    info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
    info
}

/// Returns the operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds what each operation has: errors, and who may ask.
fn complete(operation: &mut Operation, public: bool) {
    let token = SecurityRequirement::new(TOKEN, [""; 0]);
    let without = SecurityRequirement::default();
    operation.security = Some(if public { vec![without, token] } else { vec![token] });
    let responses = &mut operation.responses.responses;
    for (status, meaning) in COMMON {
        let missing = || RefOr::T(ResponseBuilder::new().description(meaning).build());
        responses.entry(status.into()).or_insert_with(missing);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            with_error(response);
        }
    }
}

fn with_error(response: &mut Answer) {
    let schema = Ref::from_schema_name("ApiError");
    response.content.insert(PROBLEM.into(), Content::new(Some(schema)).into());
}

#[cfg(test)]
mod tests;
