//! `/metrics`.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{answer, problem::Problem};
use crate::{exposition::Scrape, state::Shared};

/// Everything Prometheus is to know. The numbers are taken at once, then written piece by
/// piece as the reader takes them: the state does not wait for it, nor are there more such copies than answers at a
/// time. Nothing is said that a crash could take back: a counter never falls.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "the text format of Prometheus", body = str, content_type = "text/plain"),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let (scrape, turn) = answer::blocking(Arc::clone(&shared), Scrape::take).await?;
    shared.until_durable(scrape.position()).await;
    let body = shared.answers.body(scrape.map(Bytes::from), turn);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, body).into_response())
}
