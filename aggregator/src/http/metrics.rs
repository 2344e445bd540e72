//! `/metrics`.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::problem::Problem;
use crate::{exposition::Scrape, state::Shared};

/// Everything Prometheus is to know. The numbers are taken at once, then written piece by
/// piece as the reader takes them: neither the graph nor memory waits for it.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let taken = tokio::task::spawn_blocking(move || Scrape::take(&shared)).await;
    let scrape = taken.map_err(|_| Problem::internal("the metrics could not be read"))?;
    let pieces = scrape.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, Body::from_stream(tokio_stream::iter(pieces))).into_response())
}
