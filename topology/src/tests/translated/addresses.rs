//! Where translated addresses lead, and what is whose behind them.

use super::*;
use crate::model::Role;

#[test]
fn a_service_address_leads_to_each_of_its_servers() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.exchange(web, 100, 10);
    world.exchange(web, 30, 3);
    world.pass(1);
    world.tell(web, &[ends(A, B, 8080), ends(A, D, 8081)]);
    let one = world.server(b, "one", global(B), global(A), 8080);
    let two = world.server(d, "two", global(D), global(A), 8081);
    world.exchange(one, 10, 100);
    world.exchange(two, 3, 30);
    world.pass(3);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8081, 1, 30, 3)];
    assert_eq!(published(&world), truth);
    world.exchange(web, 7, 1);
    world.exchange(two, 1, 7);
    world.pass(30);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8081, 2, 37, 4)];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn a_published_port_is_told_by_the_servers_host() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 8080);
    let inner = model::Address { ip: ip("172.17.0.2"), scope: model::Scope::Network(7) };
    let api = world.server(b, "api", inner, global(A), 80);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(1);
    world.tell(api, &[ends(A, B, 8080)]);
    world.pass(3);
    assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
    assert_eq!(world.edge().seen_by, SeenBy::Both);
}

#[test]
fn clients_behind_one_address_are_told_apart() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(B), 5432);
    let job = world.client(a, "job", global(POD2), global(B), 5432);
    let db = world.server(b, "db", global(B), global(A), 5432);
    world.exchange(web, 100, 10);
    world.exchange(job, 30, 3);
    world.exchange(db, 13, 130);
    world.add(db, &[(Counter::Connections, 1)]);
    world.tell(web, &[ends(A, B, 5432)]);
    world.tell(job, &[ends(A, B, 5432)]);
    world.pass(20);
    let truth = [row("job", "db", 5432, 1, 30, 3), row("web", "db", 5432, 1, 100, 10)];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn both_hosts_translate() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(B), 8080);
    let api = world.server(b, "api", global("172.17.0.2"), global(A), 80);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(api, &[ends(A, B, 8080)]);
    world.pass(3);
    assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
}

#[test]
fn nobody_is_joined_with_whom_no_translation_leads_to() {
    // Behind one address `web` talks to `one` alone, `job` to both.
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(POD), global(VIP), 80);
    let job = world.client(a, "job", global(POD2), global(VIP), 80);
    let one = world.server(b, "one", global(B), global(A), 8080);
    let two = world.server(d, "two", global(D), global(A), 8080);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(job, &[ends(A, B, 8080), ends(A, D, 8080)]);
    for (client, server, bytes) in
        [(web, one, 100), (web, one, 50), (job, one, 1000), (job, two, 7), (job, two, 3)]
    {
        world.exchange(client, bytes, bytes * 2);
        world.exchange(server, bytes * 2, bytes);
        world.pass(1);
    }
    world.pass(15);
    let truth = [
        row("job", "one", 8080, 1, 1000, 2000),
        row("job", "two", 8080, 2, 10, 20),
        row("web", "one", 8080, 2, 150, 300),
    ];
    assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
}

#[test]
fn a_server_that_nobody_covers_is_not_another_one() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &[ends(A, B, 8080), ends(A, "192.0.2.7", 8080)]);
    let one = world.server(b, "one", global(B), global(A), 8080);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.exchange(web, 30, 3);
    world.pass(30);
    let truth =
        [row("web", "external 10.96.0.10", 80, 1, 30, 3), row("web", "one", 8080, 1, 100, 10)];
    assert_eq!(world.edges(), truth);
    world.exchange(web, 5, 5);
    world.exchange(one, 5, 5);
    world.pass(30);
    assert_eq!(world.edges()[1], row("web", "one", 8080, 2, 105, 15));
}

#[test]
fn a_translation_in_a_host_without_an_agent_joins_nobody() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global("192.0.2.1"), 80);
    let api = world.server(b, "api", global(B), global("192.0.2.9"), 8080);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(20);
    assert_eq!(
        world.edges(),
        [
            row("external 192.0.2.9", "api", 8080, 1, 100, 10),
            row("web", "external 192.0.2.1", 80, 1, 100, 10),
        ]
    );
}

#[test]
fn what_was_published_before_the_translation_was_known_is_not_owed_twice() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    let api = world.server(b, "api", global(B), global(A), 8080);
    world.exchange(web, 100, 10);
    world.exchange(api, 10, 100);
    world.pass(20);
    let before = world.series();
    assert_eq!(before.len(), 2, "each side told alone");
    world.tell(web, &[ends(A, B, 8080)]);
    world.pass(5);
    let after = world.series();
    assert!(before.iter().all(|(key, totals)| after[key] == *totals));
    assert!(after.iter().all(|(key, totals)| before.contains_key(key) || totals.is_zero()));
    world.exchange(web, 7, 1);
    world.exchange(api, 1, 7);
    world.pass(5);
    let published = published(&world);
    assert!(published.contains(&row("web", "api", 8080, 1, 7, 1)), "{published:?}");
    assert!(published.contains(&row("web", VIP, 80, 1, 100, 10)), "{published:?}");
}

#[test]
fn a_server_that_is_gone_keeps_what_it_counted() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    let web = world.client(a, "web", global(A), global(VIP), 80);
    let one = world.server(b, "one", global(B), global(A), 8080);
    world.tell(web, &[ends(A, B, 8080)]);
    world.exchange(web, 100, 10);
    world.exchange(one, 10, 100);
    world.pass(5);
    world.graph.retire_half(one, world.now);
    world.pass(90);
    world.tell(web, &[ends(A, D, 8080)]);
    let two = world.server(d, "two", global(D), global(A), 8080);
    world.exchange(web, 30, 3);
    world.exchange(two, 3, 30);
    world.pass(30);
    let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 30, 3)];
    assert_eq!(published(&world), truth);
}

#[test]
fn whose_a_connection_was_is_asked_by_the_addresses_that_both_sides_know() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(POD), global(VIP), 80);
    let job = world.client(a, "job", global(POD2), global(VIP), 80);
    let one = world.half(b, "one", Role::Server, global(B), global(A), 8080, 40001);
    let two = world.half(b, "two", Role::Server, global(B), global(A), 8080, 40002);
    world.tell(web, &[ends(A, B, 8080)]);
    world.tell(job, &[ends(A, B, 8080)]);
    world.exchange(web, 100, 10);
    world.exchange(two, 10, 100);
    world.exchange(job, 100, 10);
    world.exchange(one, 10, 100);
    world.pass(3);
    for question in world.graph.take_questions(a) {
        assert_eq!(
            (question.client, question.server, question.server_port),
            (global(A), global(B), 8080)
        );
        let owner = world.process(a, if question.client_port == 40001 { "job" } else { "web" });
        world.graph.tuple_owner(a, question, Some(owner));
    }
    world.pass(15);
    let truth = [row("job", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 100, 10)];
    assert_eq!(published(&world), truth);
}

#[test]
fn a_service_without_halves_is_found_behind_each_of_its_addresses() {
    let mut world = World::new();
    let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
    world.listen(b, "api", B, 8080);
    world.listen(d, "api", D, 8080);
    let web = world.client(a, "web", global(A), global(VIP), 80);
    world.tell(web, &[ends(A, B, 8080), ends(A, D, 8080)]);
    world.exchange(web, 100, 10);
    world.pass(30);
    assert_eq!(world.edges(), [row("web", "api", 8080, 1, 100, 10)]);
}

#[test]
fn two_service_addresses_may_have_a_server_in_common() {
    for order in 0..4 {
        let mut world = World::new();
        let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
        world.pass(30);
        let first = world.client(a, "web", global(POD), global(VIP), 80);
        let other = world.client(a, "web", global(POD), global("10.96.0.11"), 81);
        let tell = |world: &mut World| {
            world.tell(first, &[ends(POD, B, 8080)]);
            world.tell(other, &[ends(POD, B, 8080), ends(POD, D, 8081)]);
        };
        for _ in 0..3 {
            world.exchange(first, 100, 10);
        }
        world.exchange(other, 100, 10);
        world.exchange(other, 30, 3);
        world.exchange(other, 30, 3);
        if order & 1 == 0 {
            tell(&mut world);
        }
        world.pass(1);
        let one = world.server(b, "one", global(B), global(POD), 8080);
        for _ in 0..4 {
            world.exchange(one, 10, 100);
        }
        if order & 1 == 1 {
            tell(&mut world);
        }
        if order & 2 == 0 {
            world.pass(1);
        }
        let two = world.server(d, "two", global(D), global(POD), 8081);
        world.exchange(two, 3, 30);
        world.exchange(two, 3, 30);
        world.pass(30);
        let truth = [row("web", "one", 8080, 4, 400, 40), row("web", "two", 8081, 2, 60, 6)];
        assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()), "{order}");
    }
}
