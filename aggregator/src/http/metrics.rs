//! `/metrics`.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{answer, problem::Problem};
use crate::{
    exposition::{Format, NATIVE, Scrape},
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
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = wanted(accepted);
    let take = move |shared: &Shared| Scrape::take(shared, format);
    let (scrape, turn) = answer::blocking(Arc::clone(&shared), take).await?;
    shared.until_durable(scrape.position()).await;
    let body = shared.answers.body(scrape.map(Bytes::from), turn);
    let kind = match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::Native => NATIVE,
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::VARY, "accept")];
    Ok((headers, body).into_response())
}

/// The format that a reader likes better: text, unless it says otherwise.
fn wanted<'a>(accepted: impl Iterator<Item = &'a str>) -> Format {
    let (mut text, mut native) = (None, None);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let mut quality = 1.0_f64;
        let (mut proto, mut encoding) = ("", "");
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "q" => quality = value.parse().unwrap_or(0.0),
                "proto" => proto = value,
                "encoding" => encoding = value,
                _ => {}
            }
        }
        let best = |known: Option<f64>| Some(known.map_or(quality, |known| known.max(quality)));
        match kind {
            "text/plain" => text = best(text),
            "application/vnd.google.protobuf"
                if proto == "io.prometheus.client.MetricFamily" && encoding == "delimited" =>
            {
                native = best(native);
            }
            _ => {}
        }
    }
    match native {
        Some(native) if native > 0.0 && text.is_none_or(|text| native > text) => Format::Native,
        _ => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTO: &str = "application/vnd.google.protobuf;\
                         proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn what_a_reader_likes_better_is_what_it_gets() {
        let of = |accepted: &[&str]| wanted(accepted.iter().copied());
        assert_eq!(of(&[]), Format::Text);
        assert_eq!(of(&["*/*"]), Format::Text);
        assert_eq!(of(&[PROTO]), Format::Native);
        // As Prometheus asks with native histograms, and as it does without.
        let with = format!("{PROTO};q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
        let without = format!("text/plain;version=1.0.0;q=0.5,{PROTO};q=0.4,*/*;q=0.2");
        assert_eq!(of(&[&with]), Format::Native);
        assert_eq!(of(&["text/plain;q=0.3", &format!("{PROTO};q=0.6")]), Format::Native);
        assert_eq!(of(&[&without]), Format::Text);
        assert_eq!(of(&[&format!("{PROTO};q=0")]), Format::Text);
        assert_eq!(of(&[&PROTO.replace("delimited", "text")]), Format::Text);
        assert_eq!(of(&[&PROTO.replace("MetricFamily", "Other")]), Format::Text);
    }
}
