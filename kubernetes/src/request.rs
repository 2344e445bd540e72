//! Asking the server: one request to a connection.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use proto::{
    reconnect::CONNECT_TIME,
    tls::{self, TlsError},
};
use rustls::{ClientConfig, pki_types::ServerName, version::TLS13};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    access::Access,
    answers::{self, PAGE_BYTES},
    exchange::{BodyError, ask, whole},
};

/// For the head of an answer, and again for all that follows in one that has an end. A watch of what does not change for
/// long has no head before something happens only where a proxy keeps it back.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What is read of a refusal.
const REFUSAL_BYTES: usize = 64 << 10;

/// What is told of its reason.
const MESSAGE_CHARS: usize = 300;

/// The longest that a server may have one wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody is there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The server is not who it should be, or its CA cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token cannot be read.
    #[error("cannot read the token: {0}")]
    Token(io::Error),
    /// What is there does not speak HTTP, or has stopped to.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// The token is not, or not any more, one that it knows.
    #[error("it does not know the token (401)")]
    Unauthorized,
    /// Who asks may not.
    #[error("it may not be asked (403): {0}")]
    Forbidden(String),
    /// It says that it will not.
    #[error("it answers with {status}: {message}")]
    Refused {
        /// The code of HTTP.
        status: u16,
        /// In its words.
        message: String,
        /// How long it wants to be left in peace.
        wait: Option<Duration>,
    },
    /// It says nothing.
    #[error("no answer within {} s", ANSWER_TIME.as_secs())]
    Silent,
    /// It says too much, or is too long about it.
    #[error("a page of its list is longer than {PAGE_BYTES} bytes, or than {} s", ANSWER_TIME.as_secs())]
    TooLong,
}

impl From<BodyError> for RequestError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Http(error) => Self::Http(error),
            BodyError::TooLong(_) => Self::TooLong,
        }
    }
}

/// All of the body of an answer.
pub(crate) async fn get_all(access: &Access, path: &str) -> Result<Bytes, RequestError> {
    let body = whole(get(access, path).await?, PAGE_BYTES);
    Ok(timeout(ANSWER_TIME, body).await.map_err(|_| RequestError::TooLong)??)
}

/// The body of an answer, as it comes.
pub(crate) async fn get(access: &Access, path: &str) -> Result<Incoming, RequestError> {
    let answer = timeout(ANSWER_TIME, send(access, path)).await;
    let answer = answer.map_err(|_| RequestError::Silent)??;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer.into_body());
    }
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok());
    let wait = wait.and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
    let body = timeout(ANSWER_TIME, whole(answer.into_body(), REFUSAL_BYTES)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let message = answers::status(&body).message;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let message = message.chars().take(MESSAGE_CHARS).map(clean).collect();
    Err(match status {
        StatusCode::UNAUTHORIZED => RequestError::Unauthorized,
        StatusCode::FORBIDDEN => RequestError::Forbidden(message),
        other => RequestError::Refused {
            status: other.as_u16(),
            message,
            wait: wait.map(|wait| wait.min(LONGEST_WAIT)),
        },
    })
}

async fn send(access: &Access, path: &str) -> Result<Response<Incoming>, RequestError> {
    // Small files on a file system in memory; both change while programs run.
    let token = access.read_token().map_err(RequestError::Token)?;
    let connecting = TcpStream::connect((access.host.as_str(), access.port));
    let stream = timeout(CONNECT_TIME, connecting).await;
    let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(RequestError::Connect)?;
    let host = access.authority();
    if access.ca.is_none() {
        return Ok(ask(stream, &host, path, headers(None)).await?);
    }
    let name = ServerName::try_from(access.host.clone()).map_err(io::Error::other);
    let name = name.map_err(RequestError::Connect)?;
    let connector = TlsConnector::from(Arc::new(config(access)?));
    let stream = connector.connect(name, stream).await.map_err(RequestError::Connect)?;
    Ok(ask(stream, &host, path, headers(token)).await?)
}

fn config(access: &Access) -> Result<ClientConfig, TlsError> {
    let roots = match &access.ca {
        Some(ca) => tls::read_roots(ca)?,
        None => rustls::RootCertStore::empty(),
    };
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn headers(token: Option<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let agent = HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    if let Some(token) = token
        && let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers
}

/// Any number, different each time: for waits that are not to be in step with others'.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
}
