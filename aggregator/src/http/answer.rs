//! Answers that are made of the whole graph: they take their time and their memory, so they are
//! made on threads of their own, and only a few at once.

use std::sync::Arc;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use topology::{View, Window};

use super::problem::Problem;
use crate::state::Shared;

/// Runs `make` where it may block, when it is its turn.
pub(super) async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<T, Problem> {
    // It is never closed.
    let turn = Arc::clone(&shared.answers).acquire_owned().await;
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        make(&shared)
    });
    made.await.map_err(|_| Problem::internal("the graph could not be read"))
}

/// A document made of the graph over a window.
pub(super) async fn document<T: Serialize>(
    shared: Arc<Shared>,
    window: Window,
    make: impl FnOnce(View) -> T + Send + 'static,
) -> Result<Response, Problem> {
    let made = blocking(shared, move |shared| {
        let view = shared.view(window, shared.now());
        serde_json::to_vec(&make(view))
    });
    let body = made.await?.map_err(|_| Problem::internal("the answer could not be written"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
