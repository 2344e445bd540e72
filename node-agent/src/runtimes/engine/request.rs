//! Asking an engine: one request to a connection, over its socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::{
    StatusCode,
    body::{Bytes, Incoming},
    header::HeaderMap,
};
use kubernetes::exchange::{self, BodyError};
use tokio::{net::UnixStream, time::timeout};

use super::answers::{LIST_BYTES, asked_for};

/// Without a version, the one that the engine is of: what is read of its answers is in all of them.
pub(super) const LIST: &str = "/containers/json";

/// For an answer that has an end.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The socket cannot be connected to.
    #[error("{}: {}", .0.display(), .1)]
    Connect(PathBuf, io::Error),
    /// What is there does not speak HTTP, or has stopped to.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// It says that it will not.
    #[error("it answers with {0}")]
    Status(StatusCode),
    /// It says nothing.
    #[error("no answer within {} s", ANSWER_TIME.as_secs())]
    Silent,
    /// It says too much.
    #[error("its list of containers is longer than {LIST_BYTES} bytes")]
    TooLong,
    /// It says something else.
    #[error("what it answers is not a list of containers")]
    NotJson,
}

impl From<BodyError> for RequestError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Http(error) => Self::Http(error),
            BodyError::TooLong(_) => Self::TooLong,
        }
    }
}

impl RequestError {
    /// Whether there is nobody to ask.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Connect(_, error) if super::is_absent(error))
    }
}

/// The request for what happens to containers, and has happened since then.
pub(super) fn events(since: Duration) -> String {
    let mut actions = String::new();
    for action in asked_for() {
        // `,"…"`, as a query has it.
        actions.push_str(if actions.is_empty() { "%22" } else { "%2C%22" });
        actions.push_str(action);
        actions.push_str("%22");
    }
    // {"type":["container"],"event":[…]}
    format!(
        "/events?since={}&filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B{actions}%5D%7D",
        since.as_secs()
    )
}

/// All of the body of an answer.
pub(super) async fn get_all(socket: &Path, path: &str) -> Result<Bytes, RequestError> {
    let body = async {
        let body = get(socket, path).await?;
        Ok(exchange::whole(body, LIST_BYTES).await?)
    };
    timeout(ANSWER_TIME, body).await.map_err(|_| RequestError::Silent)?
}

/// The body of an answer, as it comes.
pub(super) async fn get(socket: &Path, path: &str) -> Result<Incoming, RequestError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| RequestError::Connect(socket.to_owned(), error))?;
    let answer = exchange::ask(stream, "localhost", path, HeaderMap::new()).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        other => Err(RequestError::Status(other)),
    }
}
