//! Fetching an answer without keeping it: that of a large fleet has some hundred MB.

use std::{
    io::{BufReader, Read},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// How long an answer may take, all of it.
const TIME: Duration = Duration::from_secs(120);

/// The body of an answer, as it comes.
pub struct Answer<'a> {
    pub body: BufReader<Box<dyn Read + 'a>>,
}

/// What an answer was like, and what was read of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fetched<T> {
    pub value: T,
    pub bytes: u64,
    pub seconds: f64,
}

struct Counting<'a, R> {
    reader: R,
    bytes: &'a mut u64,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        *self.bytes += count as u64;
        Ok(count)
    }
}

/// Fetches an answer and has it read; `None` when the aggregator has none just now.
pub fn fetch<T>(
    readers: SocketAddr,
    path: &str,
    read: impl FnOnce(Answer<'_>) -> Result<T>,
) -> Result<Option<Fetched<T>>> {
    let accept = ("accept", "text/plain;version=0.0.4, application/json");
    fetch_as(readers, path, &[accept], read)
}

/// The same with headers that say in which format; nothing is decompressed.
pub fn fetch_as<T>(
    readers: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    read: impl FnOnce(Answer<'_>) -> Result<T>,
) -> Result<Option<Fetched<T>>> {
    let begin = Instant::now();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIME))
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let url = format!("http://{readers}{path}");
    let request = agent.get(&url);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let Ok(mut response) = request.call() else { return Ok(None) };
    if response.status() == 503 {
        return Ok(None);
    }
    ensure!(response.status() == 200, "{url}: {}", response.status());
    let mut bytes = 0;
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let reader: Box<dyn Read> = Box::new(Counting { reader, bytes: &mut bytes });
    let body = BufReader::with_capacity(1 << 16, reader);
    let value = read(Answer { body }).with_context(|| url.clone())?;
    Ok(Some(Fetched { value, bytes, seconds: begin.elapsed().as_secs_f64() }))
}
