//! A list, and what becomes of it.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    time::{Duration, Instant},
};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use proto::reconnect::Backoff;
use serde::de::DeserializeOwned;
use tokio::time::{sleep_until, timeout};

use crate::{
    access::Access,
    answers::{self, GONE, LINE_BYTES, Page, Said},
    lines::Lines,
    request::{self, ANSWER_TIME, RequestError, random},
};

/// A server ends a watch after this time, give or take a fifth, so that those of a fleet are not in step.
const WATCH_TIME: Duration = Duration::from_secs(300);

/// A server says at least every minute that it lives. After this time it does not.
const SILENT: Duration = Duration::from_secs(180);

/// What a server answers, too, when it has not got to where it is to be watched from: it was put back.
const GATEWAY_TIMEOUT: u16 = 504;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Path of the collection: `/api/v1/pods`.
    pub path: String,
    /// Only objects whose fields are so: `spec.nodeName=a`.
    pub field_selector: Option<String>,
    /// Objects to a page. A page is in memory as a whole, with all that is not read of it: some ten thousand bytes of a pod.
    /// What a server has in memory itself it tells at once, whatever this is.
    pub page: u32,
    /// Objects that are read of a list at most.
    pub most: usize,
}

impl Collection {
    /// All objects of a collection.
    #[must_use]
    pub fn all(path: &str) -> Self {
        Self { path: path.to_owned(), field_selector: None, page: 500, most: 100_000 }
    }
}

/// What has become of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// All there are: what was there before and is not among them is gone.
    Restarted(Vec<T>),
    /// One is there, or has changed.
    Applied(T),
    /// One is gone; this is what it was at last.
    Deleted(T),
    /// From here on it is listened to again, where it broke off.
    Watching,
    /// Everything was told that had happened up to now.
    Bookmark,
}

/// Why nothing is known for the moment. It is tried again all the same, after a wait.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What was watched from is not kept any more (410): everything is listed again.
    #[error("it does not remember so far back (410)")]
    Expired,
    /// The server has ended the watch with a reason.
    #[error("it ended the watch with {code}: {message}")]
    Failed {
        /// As if it were HTTP's.
        code: u16,
        /// In its words.
        message: String,
    },
    /// The stream ended in the middle of a line.
    #[error("it broke off in the middle of an event")]
    Cut,
    /// No sign of life.
    #[error("it has said nothing for {} s", SILENT.as_secs())]
    Silent,
    /// Events or objects that are not what a server writes, so many; the rest counts.
    #[error("{0} of the objects cannot be read, or are too many")]
    Unreadable(u64),
    /// What should be a list is none.
    #[error("what it answers is not a list")]
    NoList,
}

impl WatchError {
    /// For how long nothing may have been heard already when this is told.
    #[must_use]
    pub fn unheard(&self) -> Duration {
        match self {
            WatchError::Silent => SILENT,
            // Before it was asked, a watch had come to its end.
            WatchError::Request(RequestError::Silent) => ANSWER_TIME,
            _ => Duration::ZERO,
        }
    }
}

/// A watch under way.
#[derive(Debug)]
struct Stream {
    body: Incoming,
    lines: Lines,
    began: Instant,
    /// Whether a line has begun and not ended.
    within: bool,
}

/// Watches a collection for as long as it is asked what is next.
#[derive(Debug)]
pub struct Watch<T> {
    access: Access,
    collection: Collection,
    stream: Option<Stream>,
    /// From where on to watch; `None` before everything is listed.
    version: Option<String>,
    /// Whether the next list is to be of now, and not of whenever the server last looked: what was watched from is
    /// forgotten, and may not come back as if it were new.
    of_now: bool,
    /// Whether lists come in pages, and so are of now: at once they are too long.
    in_pages: bool,
    ready: VecDeque<Result<Event<T>, WatchError>>,
    backoff: Backoff,
    /// When to try again.
    wait: Option<Instant>,
    objects: PhantomData<T>,
}

impl<T: DeserializeOwned> Watch<T> {
    /// Nothing is asked before [`Watch::next`] is.
    #[must_use]
    pub fn new(access: Access, collection: Collection) -> Self {
        Self {
            access,
            collection,
            stream: None,
            version: None,
            of_now: false,
            in_pages: false,
            ready: VecDeque::new(),
            backoff: Backoff::default(),
            wait: None,
            objects: PhantomData,
        }
    }

    /// What is next, once there is something. May be given up and asked again at any time: of a list that is under way
    /// the beginning is asked for again, nothing is missed.
    ///
    /// # Errors
    /// When it does not go on; the next call tries again, after a wait that grows.
    pub async fn next(&mut self) -> Result<Event<T>, WatchError> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            if let Some(until) = self.wait {
                sleep_until(until.into()).await;
                self.wait = None;
            }
            if let Err(error) = self.go_on().await {
                if let Some(stream) = self.stream.take() {
                    self.backoff.ended(stream.began.elapsed());
                }
                self.wait = Some(Instant::now() + self.pause(&error));
                // Behind what was heard before it.
                self.ready.push_back(Err(error));
            }
        }
    }

    /// One step: a list, a connection, or what comes over it.
    async fn go_on(&mut self) -> Result<(), WatchError> {
        let Some(version) = &self.version else { return self.list().await };
        let Some(stream) = &mut self.stream else {
            let path = self.collection.watch(version, random());
            let body = request::get(&self.access, &path).await;
            let body = body.map_err(|error| self.doubt(error))?;
            let lines = Lines::new(LINE_BYTES);
            self.stream = Some(Stream { body, lines, began: Instant::now(), within: false });
            self.ready.push_back(Ok(Event::Watching));
            return Ok(());
        };
        let frame = timeout(SILENT, stream.body.frame()).await.map_err(|_| WatchError::Silent)?;
        let Some(frame) = frame else {
            let (lived, within) = (stream.began.elapsed(), stream.within);
            self.stream = None;
            if within {
                return Err(WatchError::Cut);
            }
            // Its time was over, which is no failure; but one that ends at once, again and again, is not asked without end.
            self.backoff.ended(lived);
            self.wait = Some(Instant::now() + self.backoff.next(random()));
            return Ok(());
        };
        let Ok(bytes) = frame.map_err(RequestError::from)?.into_data() else { return Ok(()) };
        self.hear(&bytes)
    }

    /// Everything, page by page.
    async fn list(&mut self) -> Result<(), WatchError> {
        let (mut items, mut unreadable, mut next) = (Vec::new(), 0, None);
        loop {
            let path = self.collection.list(next.as_deref(), self.of_now || self.in_pages);
            let body = request::get_all(&self.access, &path).await;
            let body = body.map_err(|error| self.doubt(error))?;
            let room = self.collection.most.saturating_sub(items.len());
            let page: Page<T> = answers::page(&body, room).map_err(|_| WatchError::NoList)?;
            items.extend(page.items);
            unreadable += page.unreadable;
            if let Some(token) = page.next.filter(|_| items.len() < self.collection.most) {
                next = Some(token);
                continue;
            }
            self.version = Some(page.version);
            self.of_now = false;
            break;
        }
        self.ready.push_back(Ok(Event::Restarted(items)));
        if unreadable > 0 {
            self.ready.push_back(Err(WatchError::Unreadable(unreadable)));
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), WatchError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let (ready, version, backoff) = (&mut self.ready, &mut self.version, &mut self.backoff);
        let (mut unreadable, mut failed) = (0, None);
        stream.within = bytes.last().is_some_and(|last| *last != b'\n');
        unreadable += stream.lines.take(bytes, |line| match answers::line(line) {
            _ if failed.is_some() => {}
            Ok((Said::Failed(status), _)) => failed = Some(status),
            Ok((said, reached)) => {
                // What comes over it says that the server is well.
                backoff.ended(stream.began.elapsed());
                *version = reached.or(version.take());
                match said {
                    Said::Applied(object) => ready.push_back(Ok(Event::Applied(object))),
                    Said::Deleted(object) => ready.push_back(Ok(Event::Deleted(object))),
                    Said::Bookmark => ready.push_back(Ok(Event::Bookmark)),
                    Said::Failed(_) => {}
                }
            }
            Err(_) => unreadable += 1,
        });
        if unreadable > 0 {
            ready.push_back(Err(WatchError::Unreadable(unreadable)));
        }
        let Some(status) = failed else { return Ok(()) };
        // Whatever it is, the server does not go on from here.
        self.version = None;
        self.of_now = true;
        Err(match status.code {
            GONE => WatchError::Expired,
            code => WatchError::Failed { code, message: status.message },
        })
    }

    /// What a request was refused for may be what it was to go on from: then everything is listed anew. A list that was too
    /// long comes in pages the next time.
    fn doubt(&mut self, error: RequestError) -> WatchError {
        match error {
            RequestError::Refused { status, .. } => {
                if matches!(status, 400..500) && status != 429 || status == GATEWAY_TIMEOUT {
                    // Before anything is known of it, nothing can be older than that.
                    self.of_now |= self.version.take().is_some() || status == GONE;
                }
                if status == GONE {
                    return WatchError::Expired;
                }
            }
            RequestError::TooLong => self.in_pages = true,
            // It may be at it still. Not so with a part, which is short: every host asks for one, and a server that is slow
            // to answer them is not to look through its database for each.
            RequestError::Silent if self.version.is_none() => {
                self.in_pages |= self.collection.field_selector.is_none();
            }
            _ => {}
        }
        error.into()
    }

    fn pause(&mut self, error: &WatchError) -> Duration {
        let own = self.backoff.next(random());
        match error {
            WatchError::Request(RequestError::Refused { wait: Some(wait), .. }) => own.max(*wait),
            _ => own,
        }
    }
}

impl Collection {
    fn list(&self, next: Option<&str>, of_now: bool) -> String {
        let from = match next {
            Some(next) => format!("continue={}", escape(next)),
            None if of_now => String::new(),
            // What the server has in memory, as far as that may be behind: a fleet that comes back at once does not reach its
            // database. It comes at once, servers pass over the limit.
            None => "resourceVersion=0".to_owned(),
        };
        self.ask(&[format!("limit={}", self.page), from])
    }

    fn watch(&self, version: &str, random: u64) -> String {
        let seconds = WATCH_TIME.as_secs();
        let spread = seconds * 2 / 5;
        let seconds = seconds - spread / 2 + random % (spread + 1);
        self.ask(&[
            "watch=true&allowWatchBookmarks=true".to_owned(),
            format!("resourceVersion={}&timeoutSeconds={seconds}", escape(version)),
        ])
    }

    fn ask(&self, wanted: &[String]) -> String {
        let selector = self.field_selector.as_deref();
        let selector = selector.map(|selector| format!("fieldSelector={}", escape(selector)));
        let parts = selector.iter().chain(wanted).filter(|part| !part.is_empty());
        let query: Vec<_> = parts.map(String::as_str).collect();
        format!("{}?{}", self.path, query.join("&"))
    }
}

/// As a query has it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
