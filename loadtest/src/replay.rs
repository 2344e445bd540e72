//! Sends a recording of an agent again, for debugging and benchmarks.

use std::{
    fs::File,
    io::BufReader,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use proto::{
    recording::Reader,
    v1::{AgentMessage, AggregatorMessage, Hello, agent_message::Body, aggregator_message},
};
use tokio::time::{sleep_until, timeout};

use crate::{
    agent::{Ends, Stream, WireBytes, open},
    report::figures::Figures,
    run::{Place, Ready},
};

/// How long the last acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a recording.
#[derive(Debug, Default)]
pub struct Replayed {
    streams: u64,
    batches: u64,
    acked: u64,
    seconds: f64,
    cpu_seconds: Option<f64>,
}

impl Replayed {
    pub fn table(&self) -> String {
        let mut all = Figures::default();
        all.add("streams", self.streams as f64, "");
        all.add("batches", self.batches as f64, "");
        all.add("streams acknowledged to their end", self.acked as f64, "");
        all.add("time", self.seconds, "s");
        if let Some(cpu) = self.cpu_seconds {
            all.add("aggregator CPU", cpu, "s");
        }
        all.table()
    }

    /// Whether the end of every stream was acknowledged.
    pub const fn is_whole(&self) -> bool {
        self.streams > 0 && self.acked == self.streams
    }
}

/// A stream that is being sent.
struct Open {
    stream: Stream,
    /// The last number that was sent, and that was acknowledged.
    last: u64,
    acked: u64,
}

impl Open {
    /// Sends a message, and takes in what comes back until there is room for it.
    async fn send(&mut self, message: AgentMessage) -> Result<()> {
        let permit = loop {
            let room = self.stream.to.clone().reserve_owned();
            tokio::select! {
                permit = room => break permit.context("the stream has ended")?,
                answer = self.stream.from.message() => self.answered(answer?)?,
            }
        };
        drop(permit.send(message));
        Ok(())
    }

    fn answered(&mut self, answer: Option<AggregatorMessage>) -> Result<()> {
        let answer = answer.context("the aggregator has ended the stream")?;
        if let Some(aggregator_message::Body::Ack(ack)) = answer.body {
            self.acked = self.acked.max(ack.seq);
        }
        Ok(())
    }

    /// Waits until the last batch is acknowledged.
    async fn end(mut self) -> Result<()> {
        while self.acked < self.last {
            let answer = timeout(PATIENCE, self.stream.from.message()).await;
            self.answered(answer.context("an acknowledgement is due")??)?;
        }
        Ok(())
    }
}

/// Sends a recording to an aggregator, at its own pace or as fast as it goes.
pub async fn replay(file: &Path, fast: bool, place: Place) -> Result<Replayed> {
    let name = || file.display().to_string();
    let recording = Reader::new(BufReader::new(File::open(file).with_context(name)?));
    let Ready { authority, server, dir: _dir } = Ready::make(place, &[])?;
    let mut replayed = Replayed::default();
    let cpu = server.usage();
    let begin = Instant::now();
    let mut now: Option<Open> = None;
    for frame in recording.with_context(name)? {
        let (at, message) = frame.with_context(name)?;
        if !fast {
            sleep_until((begin + at).into()).await;
        }
        match &message.body {
            Some(Body::Hello(hello)) => {
                if let Some(before) = now.take() {
                    before.end().await?;
                    replayed.acked += 1;
                }
                let tls = authority.node(&hello.node)?;
                let stream = connect(server.addresses.agents, tls, hello).await?;
                replayed.streams += 1;
                let acked = stream.welcome.acked_seq;
                now = Some(Open { stream, last: 0, acked });
            }
            Some(Body::Batch(batch)) => {
                let Some(open) = &mut now else { bail!("a batch before any hello") };
                open.last = open.last.max(batch.seq);
                replayed.batches += 1;
                open.send(message).await?;
            }
            None => {}
        }
    }
    if let Some(last) = now {
        last.end().await?;
        replayed.acked += 1;
    }
    replayed.seconds = begin.elapsed().as_secs_f64();
    replayed.cpu_seconds =
        cpu.zip(server.usage()).map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
    server.stop()?;
    Ok(replayed)
}

async fn connect(
    address: std::net::SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    hello: &Hello,
) -> Result<Stream> {
    // The stream before may be ending still, in the aggregator's eyes.
    let begin = Instant::now();
    loop {
        let bytes = Arc::new(WireBytes::default());
        match open(Ends::to(address), Arc::clone(&tls), bytes, hello.clone(), PATIENCE).await {
            Ok(stream) => return Ok(stream),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
