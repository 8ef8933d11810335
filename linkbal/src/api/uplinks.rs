//! Uplinks, as the status has them.

use axum::{Json, extract::State};
use tokio::sync::mpsc;

use super::{
    Request,
    admin::RequestError,
    call,
    error::ApiError,
    extract::{Asked, Named, NoQuery},
    status::Uplink,
};
use crate::config::names_help;

/// Lists the uplinks, as the status has them.
#[utoipa::path(
    get, path = "/v1/uplinks", tag = "status",
    responses((status = 200, description = "The uplinks, in the order of their names", body = [Uplink])),
)]
pub(super) async fn uplinks(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Vec<Uplink>>, ApiError> {
    Ok(Json(call(&daemon, Request::Status).await?.uplinks))
}

/// Returns one uplink, as the status has it.
#[utoipa::path(
    get, path = "/v1/uplinks/{name}", tag = "status",
    params(("name" = String, Path, description = "Name of the uplink")),
    responses(
        (status = 200, description = "The uplink", body = Uplink),
        (status = 404, description = "There is no such uplink"),
    ),
)]
pub(super) async fn uplink(
    Named(name): Named,
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Uplink>, ApiError> {
    let uplinks = call(&daemon, Request::Status).await?.uplinks;
    let names: Vec<&str> = uplinks.iter().map(|uplink| &*uplink.name).collect();
    let help = names_help(&name, "the uplinks", &names);
    let found = uplinks.into_iter().find(|uplink| uplink.name == name);
    found.map(Json).ok_or_else(|| RequestError::UnknownUplink { name, help }.into())
}
