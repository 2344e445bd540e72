//! `/metrics`.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{answer, liked, problem::Problem};
use crate::{
    exposition::{Format, Gzip, NATIVE, Scrape},
    state::Shared,
};

/// Everything Prometheus is to know. The numbers are taken at once, then written piece by
/// piece as the reader takes them: the state does not wait for it, nor are there more such copies than answers at a
/// time. Nothing is said that a crash could take back: a counter never falls.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (
            status = 200,
            description = "the text format of Prometheus, or protobuf with native histograms for whom asks for that",
            body = str,
            content_type = "text/plain",
        ),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let said = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let format = liked::format(said(header::ACCEPT));
    let gzip = liked::gzip(said(header::ACCEPT_ENCODING));
    let take = move |shared: &Shared| Scrape::take(shared, format);
    let (scrape, turn) = answer::blocking(Arc::clone(&shared), take).await?;
    shared.until_durable(scrape.position()).await;
    let body = match gzip {
        true => shared.answers.body(Gzip::new(scrape).map(Bytes::from), turn),
        false => shared.answers.body(scrape.map(Bytes::from), turn),
    };
    let kind = match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::Native => NATIVE,
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::VARY, "accept, accept-encoding")];
    let packed = gzip.then_some([(header::CONTENT_ENCODING, "gzip")]);
    Ok((headers, packed, body).into_response())
}
