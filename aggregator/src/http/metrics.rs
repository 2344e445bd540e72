//! `/metrics`.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{answer, problem::Problem};
use crate::{exposition::Scrape, state::Shared};

/// Everything Prometheus is to know. The numbers are taken at once, then written piece by
/// piece as the reader takes them: neither the state nor memory waits for it. Nothing is said that a crash could
/// take back: a counter never falls.
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
    let scrape = answer::blocking(Arc::clone(&shared), Scrape::take).await?;
    shared.until_durable(scrape.position()).await;
    let pieces = scrape.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, Body::from_stream(tokio_stream::iter(pieces))).into_response())
}
