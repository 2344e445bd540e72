//! Several owners behind one address on both sides: connections tell them apart.

use std::time::Duration;

use super::world::*;
use crate::{model::Role, *};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

struct Shared {
    world: World,
    a: NodeIx,
    web: HalfIx,
    job: HalfIx,
    one: HalfIx,
    two: HalfIx,
}

/// `web` and `job` on `a`, `api1` and `api2` on `b`; `web` talks to `api1`, `job` to `api2`.
fn shared() -> Shared {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 80);
    let job = world.client(a, "job", global(A), global(B), 80);
    let one = world.half(b, "api1", Role::Server, global(B), global(A), 80, 40001);
    let two = world.half(b, "api2", Role::Server, global(B), global(A), 80, 40002);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.exchange(job, 300, 30);
    world.exchange(two, 30, 300);
    Shared { world, a, web, job, one, two }
}

fn answer(shared: &mut Shared) {
    let Shared { world, a, .. } = shared;
    for question in world.graph.take_questions(*a) {
        assert_eq!((question.client, question.server), (global(A), global(B)));
        let owner = if question.client_port == 40001 { "web" } else { "job" };
        let owner = world.process(*a, owner);
        world.graph.tuple_owner(*a, question, Some(owner));
    }
}

#[test]
fn answers_tell_whose_each_connection_was() {
    let mut shared = shared();
    shared.world.pass(1);
    answer(&mut shared);
    shared.world.pass(3);
    let truth = [row("job", "api2", 80, 1, 300, 30), row("web", "api1", 80, 1, 100, 10)];
    assert_eq!(shared.world.edges(), truth);
    shared.world.pass(30);
    assert_eq!(shared.world.edges(), truth);
    assert!(shared.world.graph.take_questions(shared.a).is_empty());
}

#[test]
fn a_port_may_have_been_of_one_client_after_the_other() {
    for settled in [0, 20] {
        let mut shared = shared();
        shared.world.pass(1);
        answer(&mut shared);
        shared.world.pass(settled);
        let Shared { world, job, one, two, .. } = &mut shared;
        world.exchange(*job, 7, 5);
        world.exchange(*one, 5, 7);
        world.pass(20);
        let truth = [
            row("job", "api1", 80, 1, 7, 5),
            row("job", "api2", 80, 1, 300, 30),
            row("web", "api1", 80, 1, 100, 10),
        ];
        assert_eq!(world.edges(), truth);
        world.graph.retire_half(*one, world.now);
        world.pass(80);
        world.exchange(*job, 1, 1);
        world.exchange(*two, 1, 1);
        world.pass(20);
        assert_eq!(published(world)[0], truth[0]);
        assert_eq!(published(world)[2], truth[2]);
    }
}

#[test]
fn nothing_is_published_before_the_answer() {
    let mut shared = shared();
    shared.world.pass(5);
    assert!(shared.world.series().is_empty());
}

#[test]
fn failures_of_a_client_go_to_its_first_pairing() {
    let mut shared = shared();
    shared.world.add(shared.job, &[(Counter::FailedTimeout, 2), (Counter::Retransmits, 4)]);
    shared.world.graph.add_bucket(shared.job, HistogramKind::Connect, 80, 1);
    shared.world.pass(1);
    answer(&mut shared);
    shared.world.pass(3);
    let series = shared.world.series();
    let job = &series[&("job".to_owned(), "api2".to_owned(), 80)];
    assert_eq!(job.get(Measure::FailedTimeout), 2);
    assert_eq!(job.get(Measure::Retransmits), 4);
    assert_eq!(job.histogram(HistogramKind::Connect).count(), 1);
    assert_eq!(series.len(), 2);
}

#[test]
fn without_an_answer_the_clients_numbers_tell() {
    let mut shared = shared();
    shared.world.pass(11);
    assert_eq!(
        shared.world.edges(),
        [row("job", "api2", 80, 1, 300, 30), row("web", "api1", 80, 1, 100, 10)]
    );
}

#[test]
fn an_answer_that_comes_late_counts_nothing_twice() {
    let mut shared = shared();
    shared.world.pass(1);
    let questions = shared.world.graph.take_questions(shared.a);
    shared.world.pass(15);
    let truth = [row("job", "api2", 80, 1, 300, 30), row("web", "api1", 80, 1, 100, 10)];
    assert_eq!(shared.world.edges(), truth);
    for question in questions {
        let owner = if question.client_port == 40001 { "web" } else { "job" };
        let owner = shared.world.process(shared.a, owner);
        shared.world.graph.tuple_owner(shared.a, question, Some(owner));
    }
    shared.world.pass(3);
    assert_eq!(shared.world.edges(), truth);
    shared.world.exchange(shared.one, 1, 1);
    shared.world.exchange(shared.web, 1, 1);
    shared.world.pass(3);
    assert_eq!(
        shared.world.edges(),
        [row("job", "api2", 80, 1, 300, 30), row("web", "api1", 80, 2, 101, 11)]
    );
}

#[test]
fn what_never_fits_is_split_in_proportion_after_a_while() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 80);
    let job = world.client(a, "job", global(A), global(B), 80);
    let old = world.server(b, "old", global(B), global(A), 80);
    let new = world.half(b, "new", Role::Server, global(B), global(A), 80, 40001);
    world.exchange(web, 300, 10);
    world.exchange(job, 100, 10);
    world.exchange(old, 20, 360);
    world.exchange(new, 5, 50);
    world.exchange(web, 50, 5);
    world.pass(1);
    let owner = world.process(a, "web");
    for question in world.graph.take_questions(a) {
        world.graph.tuple_owner(a, question, Some(owner));
    }
    // One server half and two clients' connections.
    world.pass(8);
    assert_eq!(published(&world), [row("web", "new", 80, 1, 50, 5)]);
    world.pass(30);
    let sum = published(&world).iter().map(|row| row.4).sum::<u64>();
    assert_eq!(sum, 450, "the larger number holds");
    let edges: Vec<_> = published(&world).into_iter().map(|row| (row.0, row.1)).collect();
    let named = |client: &str, server: &str| (client.to_owned(), server.to_owned());
    assert_eq!(edges, [named("job", "old"), named("web", "new"), named("web", "old")]);
    let job = &world.series()[&("job".to_owned(), "old".to_owned(), 80)];
    assert_eq!(job.get(Measure::BytesToClient), 10);
}

#[test]
fn a_client_that_only_failed_is_paired_with_the_first_in_order() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let mut servers = [("api1", 40001), ("api2", 40002)];
        if reversed {
            servers.reverse();
        }
        for (name, port) in servers {
            let half = world.half(b, name, Role::Server, global(B), global(A), 80, port);
            world.exchange(half, 1, 1);
        }
        let web = world.client(a, "web", global(A), global(B), 80);
        world.add(web, &[(Counter::Connections, 2), (Counter::BytesSent, 2)]);
        let job = world.client(a, "job", global(A), global(B), 80);
        world.add(job, &[(Counter::FailedTimeout, 3)]);
        world.pass(1);
        let owner = world.process(a, "web");
        for question in world.graph.take_questions(a) {
            world.graph.tuple_owner(a, question, Some(owner));
        }
        world.pass(3);
        let edges = world.edges();
        assert_eq!(edges.len(), 3);
        assert_eq!(edges[0], row("job", "api1", 80, 0, 0, 0));
    }
}

#[test]
fn a_connection_in_question_waits_while_the_others_count() {
    let mut shared = shared();
    shared.world.pass(1);
    answer(&mut shared);
    shared.world.pass(3);
    let b = shared.world.node("b", B);
    let three = shared.world.half(b, "api1", Role::Server, global(B), global(A), 80, 40003);
    shared.world.exchange(three, 5, 50);
    shared.world.exchange(shared.job, 50, 5);
    for half in [shared.one, shared.web] {
        shared.world.add(half, &[(Counter::BytesSent, 1), (Counter::BytesReceived, 1)]);
    }
    shared.world.pass(1);
    let before = [row("job", "api2", 80, 1, 300, 30), row("web", "api1", 80, 1, 101, 11)];
    assert_eq!(shared.world.edges(), before);
    answer(&mut shared);
    shared.world.pass(1);
    assert_eq!(
        shared.world.edges(),
        [
            row("job", "api1", 80, 1, 50, 5),
            row("job", "api2", 80, 1, 300, 30),
            row("web", "api1", 80, 1, 101, 11)
        ]
    );
}

#[test]
fn a_late_second_server_takes_nothing_that_was_given_away() {
    // The client's host reports before the second server's does.
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let one = world.half(b, "api1", Role::Server, global(B), global(A), 80, 40001);
    world.exchange(client, 10, 1);
    world.exchange(one, 1, 10);
    world.pass(5);
    world.exchange(client, 20, 2);
    world.pass(1);
    let two = world.half(b, "api2", Role::Server, global(B), global(A), 80, 40002);
    world.exchange(two, 2, 20);
    world.pass(4);
    assert_eq!(world.edges(), [row("web", "api1", 80, 1, 10, 1), row("web", "api2", 80, 1, 20, 2)]);
}

#[test]
fn forgotten_connections_stay_counted_for_their_client() {
    let mut shared = shared();
    shared.world.pass(1);
    answer(&mut shared);
    shared.world.pass(3);
    let before = shared.world.edges();
    shared.world.graph.retire_half(shared.two, shared.world.now);
    shared.world.pass(90);
    assert_eq!(shared.world.graph.stats().halves, 3);
    shared.world.exchange(shared.one, 0, 7);
    shared.world.exchange(shared.web, 7, 0);
    shared.world.pass(3);
    let after = shared.world.edges();
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1], row("web", "api1", 80, 2, 107, 10));
}

#[test]
fn what_one_host_is_ahead_of_another_is_of_nobody_else_however_seldom_ticks_are() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 80);
    let worker = world.client(a, "worker", global(A), global(B), 80);
    let api = world.server(b, "api", global(B), global(A), 80);
    for (client, bytes) in [(web, 1_000), (worker, 100)] {
        world.exchange(client, bytes, 0);
        world.exchange(api, 0, bytes);
    }
    world.pass(20);
    for _ in 0..3 {
        // The server's host reports before a tick, the client's after it.
        world.exchange(api, 0, 50);
        world.pass(1);
        world.exchange(worker, 50, 0);
        for _ in 0..9 {
            world.now = world.now.plus(Duration::from_secs(1));
            world.graph.glance(world.now);
        }
    }
    world.pass(20);
    let truth = [row("web", "api", 80, 1, 1_000, 0), row("worker", "api", 80, 4, 250, 0)];
    assert_eq!(published(&world), truth);
}
