//! Times: a known delay lands in its bucket.

use std::time::Duration;

use serde_json::Value;
use testbed::traffic::Ending;

use crate::{
    support::{exchange, open},
    world::world_with,
};

/// One way; twice that is the round trip.
const DELAY: Duration = Duration::from_millis(20);
/// Width of a bucket.
const BUCKET: f64 = 1.090_507_732_665_257_7;

#[test]
fn a_known_delay_lands_in_its_bucket() {
    let Some(world) = world_with(DELAY) else { return };
    let [one, two, three] = &world.hosts;
    let (mut web, mut near, mut far) =
        (one.peer("web").unwrap(), two.peer("near").unwrap(), three.peer("far").unwrap());
    for (peer, host) in [(&mut near, two), (&mut far, three)] {
        let target = peer.listen(host.ipv4(), 80).unwrap();
        web.open(open(host.name(), target, 4)).unwrap();
        web.exchange(host.name(), exchange(15, 100, 100), Ending::ClientCloses).unwrap();
    }
    let graph = world.must_show(&mut [&mut web, &mut near, &mut far]);
    let edge = graph.edge("web", "far", 80);
    let round_trip = 2.0 * DELAY.as_secs_f64();
    for key in ["rtt_seconds", "connect_seconds"] {
        let p50 = edge[key]["p50"].as_f64().unwrap();
        // The served value is right to within a bucket; forwarding itself takes a moment.
        let range = round_trip / BUCKET..round_trip * 1.1 * BUCKET;
        assert!(range.contains(&p50), "{key} {}", edge[key]);
    }
    assert!(edge["rtt_seconds"]["count"].as_u64().unwrap() >= 60, "{edge}");
    assert_eq!(edge["connect_seconds"]["count"], 4);
    let lifetime = edge["lifetime_seconds"]["p50"].as_f64().unwrap();
    assert!((15.0 * round_trip / BUCKET..).contains(&lifetime), "{edge}");
    let rtt: &Value = &graph.edge("web", "near", 80)["rtt_seconds"];
    assert!(rtt["p50"].as_f64().unwrap() < 0.005, "{rtt}");
    world.stop();
}
