//! `/metrics` in each of its formats, once everything shows: what each costs the aggregator, and how large it is.

use std::{io::Read as _, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};

use crate::{check::fetch_as, process::Usage, report::figures::Figures, server::Server};

/// What a Prometheus says that wants native histograms.
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// Formats: their names in figures, and what asks for them.
const FORMATS: [(&str, &str, &str); 4] = [
    ("text", "text/plain;version=0.0.4", "identity"),
    ("text, gzip", "text/plain;version=0.0.4", "gzip"),
    ("protobuf", PROTOBUF, "identity"),
    ("protobuf, gzip", PROTOBUF, "gzip"),
];

/// Bytes that are read between two looks at the aggregator's memory.
const PIECE: u64 = 4 << 20;

/// One answer.
struct Scrape {
    format: &'static str,
    bytes: u64,
    seconds: f64,
    /// CPU of the aggregator meanwhile, whatever for.
    cpu_seconds: f64,
    /// How much more was resident than before, at most.
    more_mb: f64,
}

/// The answers that were read.
#[derive(Default)]
pub struct Scrapes(Vec<Scrape>);

impl Scrapes {
    /// Reads each format once.
    pub async fn read(server: &Arc<Server>) -> Result<Self> {
        let mut all = Vec::new();
        for format in FORMATS {
            let server = Arc::clone(server);
            let scrape = move || Scrape::read(&server, server.addresses.readers, format);
            all.push(tokio::task::spawn_blocking(scrape).await??);
        }
        Ok(Self(all))
    }

    pub fn figures(&self, all: &mut Figures) {
        for scrape in &self.0 {
            let name = |what: &str| format!("scrape as {}, {what}", scrape.format);
            all.add(&name("size"), scrape.bytes as f64 / 1e6, "MB");
            all.add(&name("time"), scrape.seconds, "s");
            all.add(&name("aggregator CPU"), scrape.cpu_seconds, "s");
            all.add(&name("more memory"), scrape.more_mb, "MB");
        }
    }
}

impl Scrape {
    fn read(
        server: &Server,
        readers: SocketAddr,
        (format, accept, encoding): (&'static str, &str, &str),
    ) -> Result<Self> {
        let usage = || server.usage().unwrap_or_default();
        let before = usage();
        let mut most = before.resident_mb;
        let headers = [("accept", accept), ("accept-encoding", encoding)];
        let fetched = fetch_as(readers, "/metrics", &headers, |mut answer| {
            let mut piece = Vec::new();
            while answer.body.by_ref().take(PIECE).read_to_end(&mut piece)? > 0 {
                piece.clear();
                most = most.max(usage().resident_mb);
            }
            Ok(())
        });
        let fetched = fetched?.with_context(|| format!("there is no /metrics as {format}"))?;
        let Usage { cpu_seconds, .. } = usage();
        Ok(Self {
            format,
            bytes: fetched.bytes,
            seconds: fetched.seconds,
            cpu_seconds: cpu_seconds - before.cpu_seconds,
            more_mb: most - before.resident_mb,
        })
    }
}
