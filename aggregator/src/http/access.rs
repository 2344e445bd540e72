//! Who comes in: nobody is asked, or everybody has a token or a certificate.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::{
    config::{Grant, HttpAccess, Role, Token},
    token,
};

/// Requests at a time; those beyond are sent away at once rather than kept waiting.
const REQUESTS: usize = 128;

/// Decides who comes in.
pub(super) struct Door {
    tokens: Vec<Token>,
    guarded: bool,
    requests: Semaphore,
}

/// The reader's certificate, verified in the handshake.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) name: String,
    pub(super) not_after_unix_s: i64,
}

/// What a group of routes asks for.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) door: Arc<Door>,
    pub(super) role: Role,
    /// What it shows has no namespaces to go by.
    pub(super) unrestricted: bool,
}

impl Door {
    pub(super) fn new(access: &HttpAccess) -> Self {
        let requests = Semaphore::new(REQUESTS);
        Self { tokens: access.tokens.clone(), guarded: access.is_guarded(), requests }
    }

    /// What somebody with these may do; `None` when nobody knows them.
    fn grant(&self, token: Option<&str>, certificate: Option<&Certificate>) -> Option<Arc<Grant>> {
        let everything =
            |name: &str| Grant { name: name.to_owned(), role: Role::Read, namespaces: None };
        if !self.guarded {
            return Some(Arc::new(everything("")));
        }
        if let Some(certificate) = certificate
            && certificate.not_after_unix_s >= crate::clock::unix_s()
        {
            return Some(Arc::new(everything(&certificate.name)));
        }
        let sha256 = token::sha256(token?);
        // All of them are looked at, however soon one fits.
        let mut found = u32::MAX;
        for (index, token) in (0_u32..).zip(&self.tokens) {
            let fits: Choice = token.sha256.ct_eq(&sha256);
            found.conditional_assign(&index, fits);
        }
        let found = self.tokens.get(usize::try_from(found).ok()?)?;
        Some(Arc::clone(&found.grant))
    }
}

/// Lets in who may come in, and tells the route what they may see.
pub(super) async fn guard(
    State(guard): State<Guard>,
    certificate: Option<Extension<Certificate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = request.headers().get(header::AUTHORIZATION);
    let was_given = token.is_some();
    let token = token.and_then(bearer);
    let certificate = certificate.as_ref().map(|Extension(certificate)| certificate);
    let Some(grant) = guard.door.grant(token, certificate) else {
        return unauthorized(was_given);
    };
    if grant.role < guard.role {
        return forbidden("this asks for the role admin");
    }
    if guard.unrestricted && grant.namespaces.is_some() {
        return forbidden("this shows all namespaces, and not all are yours to see");
    }
    let Ok(_turn) = guard.door.requests.try_acquire() else {
        let detail = "too many requests at a time; try again";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    request.extensions_mut().insert(grant);
    next.run(request).await
}

/// The token of `Bearer TOKEN`; the scheme may be written in any case.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(was_given: bool) -> Response {
    let (detail, challenge) = if was_given {
        ("nobody has this token", "Bearer realm=\"weft\", error=\"invalid_token\"")
    } else {
        ("a token is needed: Authorization: Bearer TOKEN", "Bearer realm=\"weft\"")
    };
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn forbidden(detail: &'static str) -> Response {
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

#[cfg(test)]
mod tests;
