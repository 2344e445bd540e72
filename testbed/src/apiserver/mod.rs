//! An API server of Kubernetes that plays what a real one has written: over TLS, to who shows the right token and asks as
//! one must. It notes every request, and is as bad as it is told to be.
//!
//! What happens is remembered with its version, so that a watch that comes back gets what it has missed, or is told that
//! this is not known any more.

mod answer;
mod pki;
pub mod recorded;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Error, Result, error::Context, lab::Namespace};

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its path, without what is asked for.
    pub path: String,
    /// What is asked for, in order.
    pub query: Vec<(String, String)>,
    /// The token that was shown.
    pub token: String,
    /// What was answered.
    pub status: u16,
}

impl Asked {
    /// What a parameter says; nothing when it is not there.
    #[must_use]
    pub fn of(&self, key: &str) -> &str {
        let found = self.query.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Whether it is a watch.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.of("watch") == "true"
    }
}

/// How a server says that it does not remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// With an event, as it does when the watch is to begin too far back.
    #[default]
    Event,
    /// With the status of the answer.
    Status,
}

/// Objects of one kind.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// What they call themselves.
    pub name: &'static str,
    /// Where they are.
    pub path: &'static str,
    /// What every request must ask for.
    pub field_selector: String,
    /// The list, page by page. Who asks for version 0 gets all of it at once.
    pub pages: Vec<String>,
}

impl Kind {
    /// All objects of a kind.
    #[must_use]
    pub fn all(name: &'static str, path: &'static str, pages: &[&str]) -> Self {
        let pages = pages.iter().map(|page| (*page).to_owned()).collect();
        Self { name, path, field_selector: String::new(), pages }
    }
}

/// What the server is.
#[derive(Debug, Default)]
pub struct State {
    /// What it has.
    pub kinds: Vec<Kind>,
    /// The one token that it knows.
    pub token: String,
    /// It answers everything so.
    pub refuses: Option<(u16, String)>,
    /// Versions before this one are not remembered.
    pub oldest: u64,
    /// How it says so.
    pub gone: Gone,
    /// All requests.
    pub asked: Vec<Asked>,
    /// What has happened. Without a version, only who watches right now hears it.
    log: Vec<Happened>,
    /// How often watches were cut, and whether with an end.
    cuts: (u64, bool),
    watching: usize,
}

/// An event, or whatever bytes.
#[derive(Debug)]
struct Happened {
    version: Option<u64>,
    /// Of which kind the object is; nothing is for every watch.
    kind: String,
    line: Vec<u8>,
}

impl Happened {
    fn is_of(&self, kind: &str) -> bool {
        self.kind.is_empty() || self.kind == kind
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts one on loopback, of a namespace or of this one, that knows the pods of a node. Files for who asks it go into
    /// the folder.
    ///
    /// # Errors
    /// When it cannot listen, or the files cannot be written.
    pub fn start(namespace: Option<&Namespace>, folder: &Path, node: &str) -> Result<Self> {
        let field_selector = format!("spec.nodeName={node}");
        let pods = Kind::all("Pod", "/api/v1/pods", &recorded::PODS);
        Self::start_with(namespace, folder, vec![Kind { field_selector, ..pods }])
    }

    /// The same, with these objects.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_with(
        namespace: Option<&Namespace>,
        folder: &Path,
        kinds: Vec<Kind>,
    ) -> Result<Self> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = match namespace {
            Some(namespace) => namespace.run(bind)?,
            None => bind(),
        };
        let listener = listener.context(|| "listen as an API server".into())?;
        let address = listener.local_addr().context(|| "ask for an address".into())?;
        let tls = pki::make(folder)?;
        let state = State { kinds, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let served = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if served.over.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, served) = (Arc::clone(&tls), Arc::clone(&served));
                // Ends with its connection, and that with the server.
                thread::spawn(move || answer::serve(stream, tls, &served));
            }
        });
        let server =
            Self { folder: folder.to_owned(), address, shared, accepting: Some(accepting) };
        server.rotate_token("first")?;
        Ok(server)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of its CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join(pki::CA)
    }

    /// The token to show.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// Has another token written, and knows only that from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rotate_token(&self, token: &str) -> Result<()> {
        std::fs::write(self.token(), token).context(|| "write a token".into())?;
        token.clone_into(&mut self.state().token);
        Ok(())
    }

    /// What it is, to be changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Something has happened: an event, as one line.
    pub fn happen(&self, event: &str) {
        let line = [event.trim_end().as_bytes(), b"\n"].concat();
        let event = serde_json::from_str::<serde_json::Value>(event).unwrap_or_default();
        let object = &event["object"];
        let version = object["metadata"]["resourceVersion"].as_str();
        let version = version.and_then(|version| version.parse().ok());
        // Whatever goes wrong is for every watch.
        let kind = object["kind"].as_str().filter(|_| event["type"] != "ERROR");
        let kind = kind.unwrap_or_default().to_owned();
        self.state().log.push(Happened { version, kind, line });
        self.shared.changed.notify_all();
    }

    /// Sends these bytes to who watches right now.
    pub fn send(&self, bytes: &[u8]) {
        let (kind, line) = (String::new(), bytes.to_vec());
        self.state().log.push(Happened { version: None, kind, line });
        self.shared.changed.notify_all();
    }

    /// Ends all watches, as they do when their time is over.
    pub fn end_watches(&self) {
        self.cut_with(true);
    }

    /// Breaks all connections of watches.
    pub fn cut(&self) {
        self.cut_with(false);
    }

    fn cut_with(&self, end: bool) {
        let mut state = self.state();
        state.cuts = (state.cuts.0 + 1, end);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Who watches right now.
    #[must_use]
    pub fn watching(&self) -> usize {
        self.state().watching
    }

    /// Waits until somebody watches.
    ///
    /// # Errors
    /// As [`ApiServer::wait`].
    pub fn wait_for_watch(&self, limit: Duration) -> Result<()> {
        self.wait("a watch", limit, |state| state.watching > 0)
    }

    /// Waits until something holds of it.
    ///
    /// # Errors
    /// When it does not within this time.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&State) -> bool,
    ) -> Result<()> {
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), limit, |state| !holds(state))
            .unwrap_or_else(PoisonError::into_inner);
        if !waited.timed_out() {
            return Ok(());
        }
        let reason = format!("asked {:?}", state.asked);
        Err(Error::Answer { who: format!("after {limit:?} of waiting for {what}"), reason })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes it where no namespace has to be entered; elsewhere it ends with the process.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
    }
}
