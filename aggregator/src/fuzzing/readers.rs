//! Requests of readers.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Request, Uri, header},
};
use prost::Message;
use proto::v1;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};
use tower::ServiceExt;

use super::{connect, parts, text};
use crate::{
    clock,
    config::{Config, Grant, HttpAccess, Layers, Role, Token},
    core::Prepared,
    http,
    metrics::Metrics,
    state::Shared,
    store::{Settings, Store},
    token,
};

/// Most bytes of an answer out of a graph that small.
const ANSWER: usize = 1 << 20;

struct Readers {
    runtime: Runtime,
    open: Router,
    guarded: Router,
}

/// A request: a line with the target, and one for each header; `sample` are the batches that the graph is made of.
/// Whatever is asked, it is answered, without an error of the server's own, and by what its type says.
pub fn query(dir: &Path, sample: &[u8], data: &[u8]) {
    static READERS: OnceLock<Option<Readers>> = OnceLock::new();
    let readers = READERS.get_or_init(|| Readers::new(dir, sample));
    assert!(readers.is_some(), "no aggregator can be made in {}", dir.display());
    let Some(Readers { runtime, open, guarded }) = readers else { return };
    let Some(request) = request(data) else { return };
    let router = if data.len().is_multiple_of(2) { open } else { guarded };
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        assert!(!status.is_server_error(), "the answer is {status}");
        let head = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let kind = head(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let plain = response.headers().get(header::CONTENT_ENCODING).is_none();
        let body = to_bytes(response.into_body(), ANSWER).await;
        assert!(body.is_ok(), "the answer has no end, or is too long: {:?}", body.err());
        let body = body.unwrap_or_default();
        if plain && kind.contains("json") && !body.is_empty() {
            let read = serde_json::from_slice::<serde_json::Value>(&body);
            assert!(read.is_ok(), "no JSON: {read:?}");
        }
        if plain && kind.starts_with("text/plain; version") {
            text::check(&String::from_utf8_lossy(&body));
        }
    });
}

/// `None` for what no client could send.
fn request(data: &[u8]) -> Option<Request<Body>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = Uri::try_from(lines.next()?).ok()?;
    let mut request = Request::builder().uri(target);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let name = HeaderName::from_bytes(name).ok()?;
        request = request.header(name, HeaderValue::from_bytes(value.get(1..)?).ok()?);
    }
    request.body(Body::empty()).ok()
}

/// The host's clocks, set back by so many nanoseconds.
struct Late(Arc<AtomicU64>);

impl clock::Source for Late {
    fn boot_ns(&self) -> u64 {
        clock::Source::boot_ns(&clock::Host).saturating_sub(self.0.load(Ordering::Relaxed))
    }

    fn wall_ns(&self) -> u64 {
        clock::Source::wall_ns(&clock::Host).saturating_sub(self.0.load(Ordering::Relaxed))
    }
}

impl Readers {
    fn new(dir: &Path, sample: &[u8]) -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let dir = dir.join("readers");
        std::fs::create_dir_all(&dir).ok()?;
        let metrics = Metrics::new().ok()?;
        let graph = topology::Config { hand_over_steps: true, ..topology::Config::default() };
        let settings = Settings {
            dir: &dir,
            graph,
            zones: topology::Zones::default(),
            history_max_bytes: 1 << 24,
        };
        let late = Arc::new(AtomicU64::new(60_000_000_000));
        let source = Late(Arc::clone(&late));
        let opened = Store::open(&settings, source, metrics.store.clone(), metrics.history.clone());
        let (mut core, store, clock) = opened.ok()?;
        let begin = clock.now();
        let streams = ["a", "b"].map(|node| connect(&mut core, node, begin));
        for part in parts(sample) {
            let (node, bytes) = part.split_first()?;
            let prepared = Prepared::read(v1::Batch::decode(bytes).ok()?).ok()?;
            let stream = streams[usize::from(node % 2)]?;
            core.batch(stream, prepared, bytes, i64::MAX, begin).ok()?;
        }
        for second in 1..60 {
            core.tick(begin.plus(Duration::from_secs(second)));
        }
        late.store(0, Ordering::Relaxed);
        let text = "tls-client-ca = \"x\"\ntls-cert = \"x\"\ntls-key = \"x\"\n";
        let config = Config::resolve(&Layers::of_text(text).ok()?).ok()?;
        let shared = Arc::new(Shared::new(core, store, clock, metrics, &config));
        shared.set_ready(true);
        let token = |text: &str, namespaces: Option<BTreeSet<String>>| Token {
            sha256: token::sha256(text),
            grant: Arc::new(Grant { name: text.to_owned(), role: Role::Read, namespaces }),
        };
        let some = BTreeSet::from(["shop".to_owned()]);
        let tokens = vec![token("all", None), token("some", Some(some))];
        // It has been told to stop: a stream of changes ends at once.
        let live = || http::Live::new(watch::channel(true).1);
        let open = http::router(Arc::clone(&shared), &HttpAccess::default(), live());
        let guarded = http::router(shared, &HttpAccess { tls: None, tokens }, live());
        Some(Self { runtime, open, guarded })
    }
}
