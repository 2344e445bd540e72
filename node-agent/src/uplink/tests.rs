use std::sync::Arc;

use proto::{
    tls,
    v1::{AgentMessage, Batch, Hello},
};
use tokio::sync::Notify;

use super::*;
use crate::{
    queue::{Spool, leftover},
    testing::{
        aggregator::{Aggregator, Manner},
        pki::Pki,
        receiver::Receiver,
        world::World,
    },
};

/// What is not acknowledged for so long is put off.
const SILENCE: Duration = Duration::from_millis(400);

/// Aggregators on loopback, and an uplink to them.
struct Setup {
    aggregator: Aggregator,
    others: Vec<Aggregator>,
    events: mpsc::Receiver<Event>,
    metrics: Metrics,
    stop: Arc<Notify>,
    uplink: tokio::task::JoinHandle<()>,
}

impl Setup {
    async fn new(server: &Pki, client: &Pki, manners: Vec<Manner>) -> Self {
        let receiver = Receiver::at(7);
        let aggregator = Aggregator::start(server, manners, receiver).await;
        Self::with(server, client, vec![aggregator], Vec::new())
    }

    fn with(
        server: &Pki,
        client: &Pki,
        aggregators: Vec<Aggregator>,
        leftovers: Vec<Leftover>,
    ) -> Self {
        Self::waiting(server, client, aggregators, leftovers, SILENCE)
    }

    fn waiting(
        server: &Pki,
        client: &Pki,
        aggregators: Vec<Aggregator>,
        leftovers: Vec<Leftover>,
        silence: Duration,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let metrics = Metrics::new().unwrap();
        let stop = Arc::new(Notify::new());
        let files = tls::Files {
            ca: server.path().join("ca.crt"),
            cert: client.path().join("node.crt"),
            key: client.path().join("node.key"),
        };
        let uplink = Uplink {
            aggregators: aggregators.iter().map(Aggregator::address).collect(),
            credentials: Credentials::read(files, "n1", metrics.clone()).unwrap(),
            hello: hello(2),
            leftovers: leftovers.into(),
            patience: Patience { silence, again: 2 * silence },
            recorder: Some(Recorder::new(&server.path().join("recording")).unwrap()),
            events: sender,
            metrics: metrics.clone(),
        };
        let stopped = Arc::clone(&stop);
        let uplink = tokio::spawn(uplink.run(async move { stopped.notified().await }));
        let mut others = aggregators;
        let aggregator = others.remove(0);
        Self { aggregator, others, events, metrics, stop, uplink }
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

fn hello(session: u64) -> Hello {
    Hello { protocol_version: 1, node: "n1".to_owned(), session, ..Hello::default() }
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
async fn a_new_certificate_is_connected_with_at_once() {
    let pki = Pki::new();
    let mut setup = Setup::new(&pki, &pki, Vec::new()).await;
    let Event::Up(first) = setup.next().await else { panic!("not up") };
    assert!(matches!(setup.next().await, Event::Asked(_)));
    // One that is somebody else's, or not whole, changes nothing.
    std::fs::copy(pki.path().join("aggregator.crt"), pki.path().join("node.crt")).unwrap();
    let metrics = setup.metrics.clone();
    crate::testing::eventually("a complaint", || metrics.tls_stale.get() == 1).await;
    assert!(setup.events.try_recv().is_err());
    pki.renew_node();
    assert!(matches!(setup.next().await, Event::Down));
    drop(first);
    let Event::Up(second) = setup.next().await else { panic!("not up again") };
    assert!(!second.batches.is_closed());
    assert_eq!((metrics.disconnects.get(), metrics.tls_stale.get()), (0, 0), "it is no failure");
    assert!(metrics.certificate_expiry.get() > 1_700_000_000);
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

#[tokio::test]
async fn another_aggregator_takes_over_until_the_preferred_one_is_back() {
    let pki = Pki::new();
    // Away twice: at first, and when it is first asked again.
    let manners = vec![Manner::Refuses, Manner::Refuses];
    let first = Aggregator::start(&pki, manners, Receiver::default()).await;
    let receiver = Receiver::at(3);
    let second = Aggregator::start(&pki, vec![Manner::Good], receiver).await;
    let mut setup = Setup::with(&pki, &pki, vec![first, second], Vec::new());
    let began = Instant::now();
    let Event::Up(stream) = setup.next().await else { panic!("not up") };
    assert_eq!(stream.acked, 3, "the second");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(matches!(setup.next().await, Event::Asked(_)));
    let Event::Down = setup.next().await else { panic!("still there") };
    let Event::Up(stream) = setup.next().await else { panic!("not up") };
    assert_eq!(stream.acked, 0, "the first");
    assert_eq!(setup.metrics.disconnects.get(), 1, "no stream broke");
    assert_eq!(setup.others[0].hellos.recv().await.unwrap().session, 2);
    setup.stop().await;
}

/// An aggregator in a thread of its own, which stops when it is told to and goes on when what it was told with is gone.
fn in_a_thread(pki: &Pki, receiver: Receiver) -> (Aggregator, std::sync::mpsc::Sender<()>) {
    let (made, is_made) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let pki = pki.path().to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(Aggregator::start_at(&pki, Vec::new(), receiver));
        made.send(started).unwrap();
        runtime.block_on(async {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Nothing of it runs: the kernel alone answers.
            let _ = stopped.recv();
            std::future::pending::<()>().await;
        });
    });
    (is_made.recv().unwrap(), stop)
}

#[tokio::test]
async fn an_aggregator_that_hangs_is_left_until_it_goes_on() {
    let pki = Pki::new();
    let (first, stop) = in_a_thread(&pki, Receiver::default());
    let second = Aggregator::start(&pki, vec![Manner::Good], Receiver::at(3)).await;
    let mut setup = Setup::with(&pki, &pki, vec![first, second], Vec::new());
    let mut streams = Vec::new();
    let mut up = async |setup: &mut Setup| loop {
        if let Event::Up(stream) = setup.next().await {
            let acked = stream.acked;
            streams.push(stream);
            return acked;
        }
    };
    assert_eq!(up(&mut setup).await, 0, "the first");
    stop.send(()).unwrap();
    let begin = Instant::now();
    assert_eq!(up(&mut setup).await, 3, "the second");
    assert!(begin.elapsed() < Duration::from_secs(12), "within seconds");
    drop(stop);
    assert_eq!(up(&mut setup).await, 0, "the first again");
    setup.stop().await;
}

#[tokio::test]
async fn a_version_that_does_not_fit_is_said_as_the_aggregator_says_it() {
    let pki = Pki::new();
    let newer = Aggregator::start(&pki, vec![Manner::Newer], Receiver::default()).await;
    let other = Aggregator::start(&pki, vec![], Receiver::default()).await;
    let error = StreamError::from(tonic::Status::failed_precondition("upgrade the agent\nso"));
    assert_eq!(error.to_string(), "upgrade the agent");
    let mut setup = Setup::with(&pki, &pki, vec![newer, other], Vec::new());
    assert!(matches!(setup.next().await, Event::Up(_)), "the other one is tried at once");
    setup.stop().await;
}

#[tokio::test]
async fn an_aggregator_of_another_minor_version_is_as_good() {
    let pki = Pki::new();
    for manner in [Manner::Good, Manner::Later] {
        let aggregator = Aggregator::start(&pki, vec![manner], Receiver::default()).await;
        let mut setup = Setup::with(&pki, &pki, vec![aggregator], Vec::new());
        let Event::Up(stream) = setup.next().await else { panic!("no stream") };
        let batch = Batch { seq: 1, ..Batch::default() };
        let body = Some(v1::agent_message::Body::Batch(batch));
        stream.batches.send(AgentMessage { body }).await.unwrap();
        assert!(matches!(setup.next().await, Event::Asked(_)), "{manner:?}");
        if manner == Manner::Later {
            let Event::Split(endpoints) = setup.next().await else { panic!("nothing to split") };
            assert_eq!(endpoints.len(), 1, "one that makes no sense is left out");
        }
        assert!(matches!(setup.next().await, Event::Acked(1)), "{manner:?}");
        setup.stop().await;
    }
}

#[tokio::test]
async fn an_aggregator_of_the_next_version_is_not_reported_to() {
    let pki = Pki::new();
    let next = Aggregator::start(&pki, vec![Manner::Next], Receiver::default()).await;
    let other = Aggregator::start(&pki, vec![], Receiver::default()).await;
    let mut setup = Setup::with(&pki, &pki, vec![next, other], Vec::new());
    assert!(matches!(setup.next().await, Event::Up(_)), "the other one is tried at once");
    assert_eq!(setup.aggregator.receiver().seq, 0);
    setup.stop().await;
    let said = proto::misunderstanding(1, 2).unwrap();
    assert!(said.ends_with("upgrade the agent"), "{said}");
    let said = proto::misunderstanding(2, 1).unwrap();
    assert!(said.ends_with("upgrade the aggregator"), "{said}");
    assert_eq!(proto::misunderstanding(1, 1), None);
}

/// Files of session 1, with five batches.
fn leave(dir: &std::path::Path) -> Vec<Leftover> {
    let spool = Spool::new(dir.to_owned(), 1 << 20, hello(1), Arc::default());
    let mut world = World::with(0, Some(spool));
    for _ in 0..5 {
        world.gain(0, 0, 80, 100);
        world.build();
    }
    leftover::find(dir, &hello(2), &Arc::default())
}

#[tokio::test]
async fn what_an_earlier_session_left_goes_first_and_in_its_name() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let leftovers = leave(dir.path());
    // The first attempt breaks.
    let manners = vec![Manner::Closes];
    let aggregator = Aggregator::start(&pki, manners, Receiver::default()).await;
    let mut setup = Setup::with(&pki, &pki, vec![aggregator], leftovers);
    assert!(matches!(setup.next().await, Event::Up(_)));
    for session in [1, 1, 2] {
        assert_eq!(setup.aggregator.hellos.recv().await.unwrap().session, session);
    }
    {
        let receiver = setup.aggregator.receiver();
        let counted: u64 = receiver.counted.values().flat_map(|values| values.values()).sum();
        assert_eq!((receiver.seq, counted), (5, 505));
    }
    assert_eq!(setup.metrics.spool_delivered.get(), 5);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    setup.stop().await;
}

#[tokio::test]
async fn a_leftover_that_is_not_acknowledged_does_not_keep_the_session_waiting() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let leftovers = leave(dir.path());
    // Twice nothing is acknowledged: the session goes on in between.
    let manners = vec![Manner::Withholds, Manner::Good, Manner::Withholds];
    let aggregator = Aggregator::start(&pki, manners, Receiver::default()).await;
    let mut setup = Setup::with(&pki, &pki, vec![aggregator], leftovers);
    let (mut sessions, mut streams) = (Vec::new(), Vec::new());
    while streams.len() < 3 {
        let Event::Up(stream) = setup.next().await else { continue };
        streams.push(stream);
        while let Ok(hello) = setup.aggregator.hellos.try_recv() {
            sessions.push(hello.session);
        }
    }
    assert_eq!(sessions, [1, 2, 1, 2, 1, 2]);
    assert_eq!(setup.metrics.spool_postponed.get(), 2);
    assert_eq!(setup.metrics.disconnects.get(), 0, "no stream broke");
    assert_eq!(setup.metrics.spool_delivered.get(), 5);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    setup.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_used_while_a_leftover_waits() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let leftovers = leave(dir.path());
    let aggregator = Aggregator::start(&pki, vec![Manner::Withholds], Receiver::default()).await;
    let mut setup = Setup::waiting(&pki, &pki, vec![aggregator], leftovers, 100 * SILENCE);
    assert_eq!(setup.aggregator.hellos.recv().await.unwrap().session, 1);
    pki.renew_node();
    // Again, with the new one.
    assert_eq!(setup.aggregator.hellos.recv().await.unwrap().session, 1);
    assert!(matches!(setup.next().await, Event::Up(_)));
    assert_eq!(setup.metrics.spool_postponed.get(), 0);
    setup.stop().await;
}

#[tokio::test]
async fn what_the_aggregator_cannot_read_is_put_aside() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let leftovers = leave(dir.path());
    let manners = vec![Manner::Finicky];
    let aggregator = Aggregator::start(&pki, manners, Receiver::default()).await;
    let mut setup = Setup::with(&pki, &pki, vec![aggregator], leftovers);
    assert!(matches!(setup.next().await, Event::Up(_)));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].extension().unwrap(), "bad");
    setup.stop().await;
}
