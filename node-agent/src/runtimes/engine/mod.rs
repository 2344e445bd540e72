//! A container engine that answers as Docker does: Docker itself, or Podman's service.
//!
//! Two requests over its socket: the stream of what happens to containers, and the list of those that run. The stream
//! is subscribed to first, and what happened shortly before is asked for with it, so that no container is missed, however
//! short it lived: every event carries name, image and labels.

pub(crate) mod answers;
mod request;

use std::{
    convert::Infallible,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use kubernetes::Lines;
use prometheus::IntGauge;
use proto::reconnect::Backoff;
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};

use super::{Labels, News, Source, Told};
use crate::{metrics::Metrics, uplink::random};
use answers::{Answers, LINE_BYTES};
pub use request::RequestError;

/// What happened so long ago is asked for at first: containers that have ended, and that the kernel's counts still tell
/// of, when programs are pinned. An engine remembers a few hundred events.
const BEFORE: Duration = Duration::from_secs(300);

/// Docker says at once that it listens; Podman says nothing before there is something to say.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(1);

/// Clocks are compared in whole seconds.
const OVERLAP: Duration = Duration::from_secs(2);

/// The list is asked for again after this time: an engine drops events for who is slow to read them.
const LIST_EVERY: Duration = Duration::from_secs(600);

/// What is listened to, and what of it is told.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Its socket.
    pub socket: PathBuf,
    /// Whether the user has named it: then it is expected to be there.
    pub expected: bool,
    /// Labels that are told besides ours.
    pub labels: Labels,
}

/// Why an engine is not listened to.
#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("it ended the stream of events")]
    Ended,
    #[error("the collector is gone")]
    NoCollector,
}

/// What was last said of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// There is none, and nobody has said that there was.
    Absent,
    Up,
    Down,
}

impl Engine {
    /// Tells what it learns, for as long as the collector listens.
    pub(super) async fn listen(self, source: Source, told: mpsc::Sender<Told>, metrics: Metrics) {
        let name = self.socket.display().to_string();
        let connected = metrics.engine_connected.with_label_values(&[&name]);
        let (mut backoff, mut said) = (Backoff::default(), Said::Nothing);
        let mut listening = Listening {
            answers: Answers::new(self.labels.clone()),
            engine: self,
            source,
            told,
            metrics: metrics.clone(),
            since: None,
        };
        loop {
            let began = Instant::now();
            let Err(error) = listening.listen(&connected, &mut said).await;
            connected.set(0);
            if matches!(error, EngineError::NoCollector) {
                return;
            }
            listening.engine.say(&error, &mut said);
            if said != Said::Absent {
                metrics.engine_failures.with_label_values(&[&name]).inc();
            }
            backoff.ended(began.elapsed());
            sleep(backoff.next(random())).await;
        }
    }

    /// One line for each change; that there is none where nobody said that there was is no matter of concern.
    fn say(&self, error: &EngineError, said: &mut Said) {
        let is_absent = matches!(error, EngineError::Request(error) if error.is_absent());
        let now = match said {
            Said::Nothing | Said::Absent if is_absent && !self.expected => Said::Absent,
            _ => Said::Down,
        };
        if std::mem::replace(said, now) == now {
            return;
        }
        let socket = self.socket.display();
        if now == Said::Absent {
            tracing::info!(%socket, "no container engine");
        } else {
            tracing::warn!(%socket, %error, "the container engine does not answer: it names no new containers");
        }
    }

    /// Whether the engine can be reached by who has no privileges but its user's.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn reach(socket: &Path) -> std::io::Result<()> {
        std::os::unix::net::UnixStream::connect(socket).map(drop)
    }
}

/// Whether there is no engine, and not one that is in trouble.
pub(crate) fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory
    )
}

struct Listening {
    engine: Engine,
    source: Source,
    told: mpsc::Sender<Told>,
    metrics: Metrics,
    answers: Answers,
    /// When the last event happened, by the engine's clock.
    since: Option<Duration>,
}

impl Listening {
    async fn listen(
        &mut self,
        connected: &IntGauge,
        said: &mut Said,
    ) -> Result<Infallible, EngineError> {
        let (socket, path) = (self.engine.socket.clone(), request::events(self.since()));
        let answer = request::get(&socket, &path);
        tokio::pin!(answer);
        let mut events = timeout(SUBSCRIBE_TIME, &mut answer).await.ok().transpose()?;
        self.list().await?;
        connected.set(1);
        let socket = socket.display();
        match std::mem::replace(said, Said::Up) {
            Said::Up => {}
            Said::Nothing | Said::Absent => {
                tracing::info!(%socket, "containers are named by their engine");
            }
            Said::Down => tracing::info!(%socket, "the container engine answers again"),
        }
        let mut lists = interval(LIST_EVERY);
        // The first is over at once.
        lists.tick().await;
        let mut lines = Lines::new(LINE_BYTES);
        loop {
            tokio::select! {
                _ = lists.tick() => self.list().await?,
                answer = &mut answer, if events.is_none() => events = Some(answer?),
                some = next(events.as_mut()) => self.hear(&mut lines, &some?).await?,
            }
        }
    }

    /// From when on events are asked for.
    fn since(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last =
            self.since.map_or(now.saturating_sub(BEFORE), |last| last.saturating_sub(OVERLAP));
        last.min(now)
    }

    /// Asks for all that run.
    async fn list(&mut self) -> Result<(), EngineError> {
        let body = request::get_all(&self.engine.socket, request::LIST).await?;
        let (running, unreadable) = self.answers.list(&body).ok_or(RequestError::NotJson)?;
        self.metrics.engine_unreadable.inc_by(unreadable);
        self.tell(News::Running(running)).await
    }

    async fn hear(&mut self, lines: &mut Lines, bytes: &[u8]) -> Result<(), EngineError> {
        let mut heard = Vec::new();
        let mut unreadable = lines.take(bytes, |line| heard.push(self.answers.event(line)));
        for event in heard {
            match event {
                Ok(Some(event)) => {
                    self.since = self.since.max(event.time);
                    self.tell(event.news).await?;
                }
                Ok(None) => {}
                Err(_) => unreadable += 1,
            }
        }
        self.metrics.engine_unreadable.inc_by(unreadable);
        Ok(())
    }

    async fn tell(&self, news: News) -> Result<(), EngineError> {
        let told = Told { source: self.source, news };
        self.told.send(told).await.map_err(|_| EngineError::NoCollector)
    }
}

/// The next piece of the stream, once there is one.
async fn next(events: Option<&mut Incoming>) -> Result<Bytes, EngineError> {
    let Some(events) = events else { return std::future::pending().await };
    loop {
        match events.frame().await {
            None => return Err(EngineError::Ended),
            // Trailers say nothing.
            Some(frame) => match frame.map_err(RequestError::from)?.into_data() {
                Ok(data) => return Ok(data),
                Err(_) => continue,
            },
        }
    }
}
