//! Keeps certificates, keys, CAs and revocation lists up to date with their files.

use std::{path::PathBuf, sync::Arc, time::Duration};

use proto::tls::{ExpiryNotice, Outcome, Reloader, Server, TlsError, Urgency};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{clock, config::Config, http, ingest::Admitted, metrics::TlsMetrics, state::Shared};

/// How often files and ends are looked at. What has changed is read one look later.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One side's files, and what they held when they could last be used.
pub struct Kept<T> {
    side: &'static str,
    read: Box<dyn Fn() -> Result<T, TlsError> + Send>,
    reloader: Reloader,
    current: watch::Sender<Arc<T>>,
}

impl<T> Kept<T> {
    /// Reads the files for the first time.
    pub fn new(
        side: &'static str,
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, TlsError> + Send + 'static,
    ) -> Result<Self, TlsError> {
        let reloader = Reloader::new(paths);
        let current = watch::Sender::new(Arc::new(read()?));
        Ok(Self { side, read: Box::new(read), reloader, current })
    }

    /// What the files hold, as it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    /// Reads what has changed; whether something has.
    fn look(&mut self, metrics: &TlsMetrics) -> bool {
        let side = self.side;
        let outcome = self.reloader.look(&self.read);
        metrics.stale.with_label_values(&[side]).set(self.reloader.is_stale().into());
        match outcome {
            Outcome::Unchanged => false,
            Outcome::Changed(value) => {
                metrics.reloads.with_label_values(&[side, "ok"]).inc();
                tracing::info!("new certificates for {side} are in use");
                self.current.send_replace(Arc::new(value));
                true
            }
            Outcome::Unusable(error) => {
                metrics.reloads.with_label_values(&[side, "failed"]).inc();
                tracing::error!(
                    "new certificates for {side} are not used, the old ones hold: {error}"
                );
                false
            }
        }
    }
}

/// Everything that is kept.
pub struct Keeper {
    agents: Kept<Server>,
    readers: Option<Kept<http::Tls>>,
    admitted: Arc<Admitted>,
    notices: Notices,
}

impl Keeper {
    /// Reads the files.
    pub fn new(config: &Config) -> Result<Self, TlsError> {
        let (files, revocations) = (config.tls.clone(), config.tls_crl.clone());
        let paths = files.paths().into_iter().chain(revocations.clone()).collect();
        let read = move || Server::read(&files, revocations.as_deref());
        let agents = Kept::new("agents", paths, read)?;
        let readers = config.http.tls.clone().map(|files| {
            let paths = [files.cert.clone(), files.key.clone()];
            let optional = [files.client_ca.clone(), files.client_crl.clone()];
            let paths = paths.into_iter().chain(optional.into_iter().flatten()).collect();
            Kept::new("readers", paths, move || http::Tls::read(&files))
        });
        let readers = readers.transpose()?;
        Ok(Self { agents, readers, admitted: Arc::default(), notices: Notices::default() })
    }

    /// What agents are accepted with.
    pub fn agents(&self) -> watch::Receiver<Arc<Server>> {
        self.agents.subscribe()
    }

    /// What readers are accepted with, if it is TLS.
    pub fn readers(&self) -> Option<watch::Receiver<Arc<http::Tls>>> {
        self.readers.as_ref().map(Kept::subscribe)
    }

    /// The agents' connections.
    pub fn admitted(&self) -> Arc<Admitted> {
        Arc::clone(&self.admitted)
    }

    /// Looks until `shutdown` says so.
    pub async fn run(self, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keeper = self;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let shared = Arc::clone(&shared);
            // Files may be slow, and so is a fleet's worth of signatures.
            let looked = tokio::task::spawn_blocking(move || {
                keeper.look(&shared.metrics.tls, clock::unix_s());
                keeper
            });
            keeper = match looked.await {
                Ok(keeper) => keeper,
                Err(error) => return tracing::error!("certificates are no longer kept: {error}"),
            };
        }
    }

    fn look(&mut self, metrics: &TlsMetrics, now_unix_s: i64) {
        let changed = self.agents.look(metrics);
        let server = Arc::clone(&self.agents.current.borrow());
        let ended = |reason| metrics.connections_ended.with_label_values(&[reason]);
        let verify = |chain: &[_]| server.clients.verify(chain);
        if changed {
            ended("refused").inc_by(self.admitted.end_refused(verify));
        }
        ended("expired").inc_by(self.admitted.end_expired(now_unix_s));
        ended("idle").inc_by(self.admitted.end_idle());
        metrics.certificate_expiry.set(server.expires_unix_s);
        self.notices.say("tls-cert", server.expires_unix_s, now_unix_s);
        let mut others = vec![
            ("tls-client-ca", Some(server.clients.ca_expires_unix_s)),
            ("tls-crl", server.clients.revocations_due_unix_s),
        ];
        if let Some(readers) = &mut self.readers {
            readers.look(metrics);
            let tls = readers.current.borrow();
            others.push(("http-tls-cert", Some(tls.expires_unix_s)));
            let clients = tls.clients.as_ref();
            others.push(("http-client-ca", clients.map(|clients| clients.ca_expires_unix_s)));
            let due = clients.and_then(|clients| clients.revocations_due_unix_s);
            others.push(("http-client-crl", due));
        }
        for (setting, end) in others {
            let Some(end) = end else { continue };
            metrics.file_expiry.with_label_values(&[setting]).set(end);
            self.notices.say(setting, end, now_unix_s);
        }
    }
}

/// What was said of each setting.
#[derive(Default)]
struct Notices(Vec<(&'static str, ExpiryNotice)>);

impl Notices {
    fn say(&mut self, setting: &'static str, expires_unix_s: i64, now_unix_s: i64) {
        let at = self.0.iter().position(|(known, _)| *known == setting);
        let at = at.unwrap_or_else(|| {
            self.0.push((setting, ExpiryNotice::default()));
            self.0.len() - 1
        });
        let hours = (expires_unix_s - now_unix_s) / 3600;
        match self.0[at].1.due(expires_unix_s, now_unix_s) {
            None => {}
            Some(Urgency::Soon) => tracing::warn!(hours, "what is in --{setting} expires"),
            Some(Urgency::Urgent) => tracing::error!(hours, "what is in --{setting} expires"),
        }
    }
}
