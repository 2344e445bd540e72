//! Agents that are there no more, and have not said so.

use std::{sync::mpsc, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    agent::{Agent, hello},
    fleet::Fleet,
};

/// Somebody who is not there is noticed within this: a question after 10 s, and 10 s for the answer.
const NOTICED: Duration = Duration::from_secs(25);

/// An agent that has reported and then stops, with its connection open: it neither reads nor answers. It goes when what is
/// returned is dropped.
fn hangs(fleet: &Fleet, node: &str) -> mpsc::Sender<()> {
    let (files, address) = (fleet.node(node), fleet.aggregator.grpc_address);
    let node = node.to_owned();
    let (ready, is_ready) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let agent = runtime.block_on(async {
            let mut agent = Agent::connect_to(address, &files, hello(&node, 1)).await.unwrap().0;
            agent.report(vec![]).await;
            agent
        });
        ready.send(()).unwrap();
        // Nothing runs meanwhile: the kernel alone answers.
        let _ = goes.recv();
        drop((agent, runtime));
    });
    is_ready.recv().unwrap();
    go
}

async fn is_connected(fleet: &Fleet, name: &str) -> bool {
    let nodes = fleet.get("/api/v1/nodes").await.json();
    let mut nodes = nodes["nodes"].as_array().unwrap().iter();
    nodes.find(|node| node["name"] == name).unwrap()["connected"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_keeps_nobody_waiting_and_is_noticed() {
    let fleet = Fleet::start().await;
    let _hang = (hangs(&fleet, "a"), hangs(&fleet, "b"));
    let begin = Instant::now();
    // The same session on another connection takes over at once.
    let again = timeout(Duration::from_secs(2), Agent::connect(&fleet, "a", 1));
    let (mut a, welcome) = again.await.unwrap();
    assert_eq!(welcome.acked_seq, 1);
    a.report(vec![]).await;
    // Another one does not, as long as the first may live.
    assert!(Agent::try_connect(&fleet, "b", hello("b", 2)).await.is_err());
    assert!(is_connected(&fleet, "b").await);
    while is_connected(&fleet, "b").await {
        assert!(begin.elapsed() < NOTICED, "it is not noticed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut b, _) = Agent::connect(&fleet, "b", 2).await;
    b.report(vec![]).await;
    a.report(vec![]).await;
    assert_eq!(fleet.series("weft_aggregator_streams").await, Some(2.0));
}
