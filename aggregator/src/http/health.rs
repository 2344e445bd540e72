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
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether agents can connect and what was stored is back.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "agents cannot connect yet, or no more")
        .into_response()
}
