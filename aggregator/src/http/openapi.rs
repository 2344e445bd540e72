//! `/api/v1/openapi.json`: the description of the API, made of the routes themselves.

use std::sync::Arc;

use axum::{Json, extract::Extension};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::problem::Problem;

/// What holds for all of it; paths and shapes come from the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weft",
        description = "Who talks to whom, how much, how slowly, and what fails. Errors are RFC 9457 problem documents.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(responses(Problem)),
    security((), ("token" = [])),
    modifiers(&Token),
)]
pub(super) struct Description;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// This description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn openapi(
    Extension(described): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> Json<Arc<utoipa::openapi::OpenApi>> {
    Json(described)
}
