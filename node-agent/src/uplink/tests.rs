use std::sync::Arc;

use proto::v1::{AgentMessage, Batch, Hello};
use tokio::sync::Notify;

use super::*;
use crate::testing::{
    aggregator::{Aggregator, Manner},
    pki::Pki,
    receiver::Receiver,
};

/// An aggregator on loopback, and an uplink to it.
struct Setup {
    aggregator: Aggregator,
    events: mpsc::Receiver<Event>,
    metrics: Metrics,
    stop: Arc<Notify>,
    uplink: tokio::task::JoinHandle<()>,
}

impl Setup {
    async fn new(server: &Pki, client: &Pki, manners: Vec<Manner>) -> Self {
        let mut receiver = Receiver::default();
        receiver.seq = 7;
        let aggregator = Aggregator::start(server, manners, receiver).await;
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let metrics = Metrics::new().unwrap();
        let stop = Arc::new(Notify::new());
        let uplink = Uplink {
            address: AggregatorAddress {
                host: "localhost".to_owned(),
                port: aggregator.address.port(),
            },
            tls: tls::Files {
                ca: server.path().join("ca.crt"),
                cert: client.path().join("node.crt"),
                key: client.path().join("node.key"),
            },
            hello: Hello { node: "n1".to_owned(), ..Hello::default() },
            recorder: Some(Recorder::new(&server.path().join("recording")).unwrap()),
            events: sender,
            metrics: metrics.clone(),
        };
        let stopped = Arc::clone(&stop);
        let uplink = tokio::spawn(uplink.run(async move { stopped.notified().await }));
        Self { aggregator, events, metrics, stop, uplink }
    }

    async fn next(&mut self) -> Event {
        let event = timeout(Duration::from_secs(20), self.events.recv()).await;
        event.expect("an event in time").expect("an uplink that runs")
    }

    async fn stop(self) {
        self.stop.notify_one();
        timeout(Duration::from_secs(5), self.uplink).await.unwrap().unwrap();
        assert_eq!(self.metrics.connected.get(), 0);
    }
}

#[tokio::test]
async fn batches_go_out_and_acknowledgements_come_back() {
    let pki = Pki::new();
    let mut setup = Setup::new(&pki, &pki, vec![Manner::Good]).await;
    assert_eq!(setup.aggregator.hellos.recv().await.unwrap().node, "n1");
    let Event::Up(stream) = setup.next().await else { panic!("not up") };
    assert_eq!(stream.acked, 7);
    assert!(stream.certificate_expires_unix_s > 1_700_000_000);
    let Event::Asked(tuples) = setup.next().await else { panic!("not asked") };
    assert_eq!(tuples.len(), 1, "a question that makes no sense is left out");
    let batch = agent_message::Body::Batch(Batch { seq: 8, ..Batch::default() });
    stream.batches.send(AgentMessage { body: Some(batch) }).await.unwrap();
    assert!(matches!(setup.next().await, Event::Acked(8)));
    assert_eq!(setup.metrics.connected.get(), 1);
    setup.stop().await;
    let file = std::fs::File::open(pki.path().join("recording")).unwrap();
    let recorded: Vec<_> =
        proto::recording::Reader::new(file).unwrap().map(Result::unwrap).collect();
    assert!(matches!(recorded[0].1.body, Some(agent_message::Body::Hello(_))));
    let Some(agent_message::Body::Batch(batch)) = &recorded[1].1.body else { panic!("no batch") };
    assert_eq!((batch.seq, recorded.len()), (8, 2));
}

#[tokio::test]
async fn a_stream_that_breaks_is_made_anew() {
    let pki = Pki::new();
    let manners = vec![Manner::Refuses, Manner::Closes, Manner::Rude, Manner::Good];
    let mut setup = Setup::new(&pki, &pki, manners).await;
    let Event::Up(first) = setup.next().await else { panic!("not up") };
    assert!(matches!(setup.next().await, Event::Down));
    assert!(first.batches.is_closed());
    let Event::Up(second) = setup.next().await else { panic!("not up again") };
    assert!(matches!(setup.next().await, Event::Asked(_)));
    drop(second.hang_up);
    assert!(matches!(setup.next().await, Event::Down), "the collector broke it");
    assert!(matches!(setup.next().await, Event::Up(_)));
    assert_eq!(setup.metrics.disconnects.get(), 4);
    setup.stop().await;
}

#[tokio::test]
async fn another_ca_is_not_believed_by_either_side() {
    let (pki, other) = (Pki::new(), Pki::new());
    for (server, client) in [(&pki, &other), (&other, &pki)] {
        let mut setup = Setup::new(server, client, vec![Manner::Good]).await;
        let metrics = setup.metrics.clone();
        crate::testing::eventually("two attempts", || metrics.disconnects.get() >= 2).await;
        assert!(setup.events.try_recv().is_err());
        setup.stop().await;
    }
}

#[tokio::test]
async fn an_uplink_without_a_collector_ends() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, &pki, vec![Manner::Good]).await;
    drop(setup.events);
    timeout(Duration::from_secs(20), setup.uplink).await.unwrap().unwrap();
}
