//! The agent's certificate and key and the aggregator's CA, as they are on disk.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::{
    identity::Identity,
    tls::{self, ExpiryNotice, Outcome, Reloader, TlsError, Urgency},
};
use rustls::ClientConfig;
use tokio::{
    sync::{Mutex, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::metrics::Metrics;

/// How often the files are looked at. What has changed is read one look later.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the files held when they could last be used.
#[derive(Debug)]
pub struct Credentials {
    files: tls::Files,
    node: String,
    current: watch::Sender<(Arc<ClientConfig>, i64)>,
    looking: Mutex<Looking>,
    metrics: Metrics,
}

/// Looking whether the files have changed: one at a time.
#[derive(Debug)]
struct Looking {
    reloader: Reloader,
    notice: ExpiryNotice,
    looks: Option<Interval>,
}

impl Credentials {
    /// Reads the files of a node.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn read(files: tls::Files, node: &str, metrics: Metrics) -> Result<Self, TlsError> {
        let reloader = Reloader::new(files.paths());
        let (config, expires_unix_s) = read(&files, node)?;
        metrics.certificate_expiry.set(expires_unix_s);
        let looking = Looking { reloader, notice: ExpiryNotice::default(), looks: None };
        Ok(Self {
            files,
            node: node.to_owned(),
            current: watch::Sender::new((config, expires_unix_s)),
            looking: Mutex::new(looking),
            metrics,
        })
    }

    /// What to connect with.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.borrow().0)
    }

    /// End of the certificate, in seconds since the epoch; 0 when it does not say.
    pub(super) fn expires_unix_s(&self) -> i64 {
        self.current.borrow().1
    }

    /// Ends when there are new ones to connect with.
    pub(super) async fn renewed(&self) {
        let mut looking = self.looking.lock().await;
        loop {
            let looks = looking.looks.get_or_insert_with(|| {
                let mut looks = interval(LOOK_EVERY);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                looks
            });
            looks.tick().await;
            looking.warn(self.expires_unix_s());
            let outcome = looking.reloader.look(|| read(&self.files, &self.node));
            self.metrics.tls_stale.set(looking.reloader.is_stale().into());
            match outcome {
                Outcome::Unchanged => {}
                Outcome::Changed((config, expires_unix_s)) => {
                    self.current.send_replace((config, expires_unix_s));
                    self.metrics.certificate_expiry.set(expires_unix_s);
                    return;
                }
                Outcome::Unusable(error) => {
                    tracing::error!("the new certificate is not used, the old one holds: {error}");
                }
            }
        }
    }
}

impl Looking {
    /// Says ahead of time that the certificate expires.
    fn warn(&mut self, expires_unix_s: i64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let hours = expires_unix_s.saturating_sub(now) / 3600;
        match self.notice.due(expires_unix_s, now) {
            None => {}
            Some(Urgency::Soon) => tracing::warn!(hours, "the node's certificate expires"),
            Some(Urgency::Urgent) => tracing::error!(hours, "the node's certificate expires"),
        }
    }
}

/// What to connect with, and until when it is good.
fn read(files: &tls::Files, node: &str) -> Result<(Arc<ClientConfig>, i64), TlsError> {
    let chain = tls::read_certificates(&files.cert)?;
    let identity = chain.first().and_then(|first| Identity::of(first).ok());
    if let Some(owner) = identity.as_ref().and_then(|identity| identity.node.as_ref())
        && owner.name != node
    {
        let (path, found, wanted) = (files.cert.clone(), owner.name.clone(), node.to_owned());
        return Err(TlsError::Other { path, found, wanted });
    }
    let config = Arc::new(tls::client_config(files)?);
    Ok((config, identity.map_or(0, |identity| identity.not_after_unix_s)))
}
