//! HTTP from within a network namespace.

use std::time::Duration;

use crate::{Error, Result, lab::Namespace};

/// The longest that a request may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest body that is read: a scrape of a large graph.
const BODY: u64 = 512 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Value of the header `content-type`.
    pub content_type: String,
    /// The body, as text.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    /// When the status is not 200 or the body is no JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let wrong = |reason: String| Error::Answer { who: "http server".into(), reason };
        if self.status != 200 {
            return Err(wrong(format!("status {}: {}", self.status, self.body)));
        }
        serde_json::from_str(&self.body).map_err(|error| wrong(error.to_string()))
    }
}

/// Gets a URL, connecting from within `namespace`.
///
/// # Errors
/// When there is no answer; a status other than 200 is one.
pub fn get(namespace: &Namespace, url: &str) -> Result<Response> {
    namespace.run(|| {
        let wrong =
            |error: ureq::Error| Error::Answer { who: url.into(), reason: error.to_string() };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut response = ureq::Agent::new_with_config(config).get(url).call().map_err(wrong)?;
        let content_type = response.headers().get("content-type");
        Ok(Response {
            status: response.status().as_u16(),
            content_type: content_type.and_then(|v| v.to_str().ok()).unwrap_or_default().into(),
            body: response.body_mut().with_config().limit(BODY).read_to_string().map_err(wrong)?,
        })
    })?
}
