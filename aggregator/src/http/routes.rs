//! What is where, and what holds for every answer.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::{
    limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer, timeout::TimeoutLayer,
};

use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::{Door, Guard, guard},
    diff, explain, grafana, health,
    live::{self, Live},
    metrics, nodes, openapi,
    problem::{self, Problem},
    topology,
};
use crate::{
    config::{HttpAccess, Role},
    state::Shared,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// No route takes a body.
const BODY_LIMIT: usize = 4096;

/// Headers of every answer: it is data, of this moment, and nothing to run or to frame.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
];

pub(crate) fn router(shared: Arc<Shared>, access: &HttpAccess, live: Live) -> Router {
    let door = Arc::new(Door::new(access));
    let guarded = |router: OpenApiRouter<_>, unrestricted| {
        let door = Arc::clone(&door);
        let asked = Guard { door, role: Role::Read, unrestricted };
        router.route_layer(middleware::from_fn_with_state(asked, guard))
    };
    let whole =
        OpenApiRouter::new().routes(routes!(metrics::metrics)).routes(routes!(nodes::nodes));
    let parts = OpenApiRouter::new()
        .routes(routes!(topology::topology))
        .routes(routes!(diff::topology_diff))
        .routes(routes!(explain::explain))
        .routes(routes!(live::stream))
        .routes(routes!(grafana::fields))
        .routes(routes!(grafana::data))
        .routes(routes!(health::api_health))
        .routes(routes!(openapi::openapi));
    let (router, described) = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .merge(guarded(whole, true))
        .merge(guarded(parts, false))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .split_for_parts();
    let router = router
        .layer(Extension(Arc::new(described)))
        .layer(Extension(Arc::new(live)))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this can only be read: GET or HEAD")
        })
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), finish));
    HEADERS
        .into_iter()
        .fold(router, |router, (name, value)| {
            let value = HeaderValue::from_static(value);
            router.layer(SetResponseHeaderLayer::if_not_present(name, value))
        })
        .with_state(shared)
}

/// Counts answers by route and status, and sees to it that every error is a problem document.
async fn finish(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let code = response.status();
    shared.metrics.http_requests.with_label_values(&[route, code.as_str()]).inc();
    let is_error = code.is_client_error() || code.is_server_error();
    if is_error && !problem::is_problem(&response) {
        // From a layer: too slow, too large, not readable.
        let detail = code.canonical_reason().unwrap_or("the request failed").to_lowercase();
        return Problem::new(code, detail).into_response();
    }
    response
}
