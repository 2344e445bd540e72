//! Is it alive, is it ready?

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::problem::Problem;
use crate::state::Shared;

/// It answers, so it is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    responses((status = 200, description = "alive", body = str, content_type = "text/plain")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// What Grafana's Node Graph API plugin asks for before anything else.
#[utoipa::path(
    get,
    path = "/api/health",
    responses(
        (status = 200, description = "alive", body = str, content_type = "text/plain"),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn api_health() -> &'static str {
    "ok\n"
}

/// Whether agents can connect and what was stored is back.
#[utoipa::path(
    get,
    path = "/readyz",
    security(()),
    responses(
        (status = 200, description = "ready", body = str, content_type = "text/plain"),
        (status = 503, response = Problem),
    ),
)]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "agents cannot connect yet, or no more")
        .into_response()
}
