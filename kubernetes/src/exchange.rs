//! One request to a connection, over whatever that is.

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{HOST, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What is held of an answer that is not read yet.
const BUFFER_BYTES: usize = 64 << 10;

/// Why an answer is not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke off.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// There is more than is wanted.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
}

/// Asks for a path, and for no more over this connection, which ends when the answer has been read, or nobody wants it any more.
///
/// # Errors
/// What is there does not speak HTTP, or has stopped to.
pub async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut requests, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().insert(HOST, host);
    }
    requests.send_request(request).await
}

/// All of an answer, unless it is longer than that.
///
/// # Errors
/// It is, or it breaks off.
pub async fn whole(body: Incoming, most: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(most)),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err((*error).into()),
            // There is nothing else that it could be.
            Err(_) => Err(BodyError::TooLong(most)),
        },
    }
}
