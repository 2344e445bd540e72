//! Addresses behind bridges, which mean something on one host or are routed from others.

use super::*;

#[test]
fn routed_addresses_behind_bridges_meet() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        for client in [!reversed, reversed] {
            if client {
                let web = world.client(a, "web", local(POD), global("10.244.1.9"), 80);
                world.exchange(web, 100, 10);
            } else {
                let api = world.server(b, "api", local("10.244.1.9"), global(POD), 80);
                world.exchange(api, 10, 100);
            }
        }
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 10)]);
    }
}

#[test]
fn a_translation_leads_to_an_address_behind_a_bridge() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let web = world.client(a, "web", global(A), global(VIP), 80);
        world.exchange(web, 100, 10);
        if reversed {
            world.tell(web, &[ends(A, "10.244.1.9", 8080)]);
        }
        let api = world.server(b, "api", local("10.244.1.9"), global(A), 8080);
        world.exchange(api, 10, 100);
        world.tell(web, &[ends(A, "10.244.1.9", 8080)]);
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 8080, 1, 100, 10)]);
    }
}

#[test]
fn a_client_behind_a_bridge_is_known_by_its_address_elsewhere() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let mut opened = None;
        for server in [reversed, !reversed] {
            if server {
                let api = world.server(b, "api", global(B), global(POD), 8080);
                world.exchange(api, 10, 100);
            } else {
                let web = world.client(a, "web", local(POD), global(VIP), 80);
                world.exchange(web, 100, 10);
                opened = Some(web);
            }
        }
        let seen = Ends { client: local(POD), ..ends(POD, B, 8080) };
        world.tell(opened.unwrap(), &[seen]);
        world.pass(5);
        assert_eq!(published(&world), [row("web", "api", 8080, 1, 100, 10)]);
    }
}

#[test]
fn what_a_client_counts_more_is_of_the_servers_behind_bridges() {
    for reversed in [false, true] {
        let mut world = World::new();
        let (a, b, d) = (world.node("a", A), world.node("b", B), world.node("d", D));
        let servers = [(b, "one", "10.244.1.9"), (d, "two", "10.244.2.9")];
        let mut open = None;
        if reversed {
            let web = world.client(a, "web", global(A), global(VIP), 80);
            world.tell(web, &servers.map(|(_, _, address)| ends(A, address, 8080)));
            open = Some(web);
        }
        for (node, name, address) in servers {
            let half = world.server(node, name, local(address), global(A), 8080);
            world.exchange(half, 10, 100);
        }
        world.pass(1);
        let web = open.unwrap_or_else(|| world.client(a, "web", global(A), global(VIP), 80));
        world.tell(web, &servers.map(|(_, _, address)| ends(A, address, 8080)));
        world.exchange(web, 100, 10);
        world.exchange(web, 100, 10);
        world.add(web, &[(Counter::SegmentsSent, 10)]);
        world.pass(30);
        let truth = [row("web", "one", 8080, 1, 100, 10), row("web", "two", 8080, 1, 100, 10)];
        assert_eq!((published(&world), world.edges()), (truth.to_vec(), truth.to_vec()));
    }
}

#[test]
fn the_same_addresses_on_two_hosts_are_two_places() {
    let mut world = World::new();
    let d = world.node("d", D);
    for (name, address) in [("a", A), ("b", B)] {
        let node = world.node(name, address);
        let (web, api) = (format!("web-{name}"), format!("api-{name}"));
        let client = world.client(node, &web, local("172.17.0.3"), local("172.17.0.2"), 80);
        let server = world.server(node, &api, local("172.17.0.2"), local("172.17.0.3"), 80);
        world.exchange(client, 100, 10);
        world.exchange(server, 10, 100);
        // To the outside, from the same address.
        let out = world.client(node, &web, local("172.17.0.3"), global(D), 443);
        world.exchange(out, 5, 6);
        world.tell(out, &[ends(address, D, 443)]);
        let bank = world.server(d, "bank", global(D), global(address), 443);
        world.exchange(bank, 6, 5);
    }
    // Nobody can say which of the two this was.
    let lost = world.client(d, "lost", global(D), global("172.17.0.2"), 80);
    world.exchange(lost, 1, 1);
    world.pass(15);
    let truth = [
        row("lost", "external 172.17.0.2", 80, 1, 1, 1),
        row("web-a", "api-a", 80, 1, 100, 10),
        row("web-a", "bank", 443, 1, 5, 6),
        row("web-b", "api-b", 80, 1, 100, 10),
        row("web-b", "bank", 443, 1, 5, 6),
    ];
    assert_eq!(world.edges(), truth);
}

#[test]
fn a_refusal_behind_a_bridge_is_its_workloads() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    world.graph.set_host_namespace(b, Some(ROOT));
    let inner = model::NodeAddress { address: local("10.244.1.9"), network_namespace: 77 };
    let own = model::NodeAddress { address: global(B), network_namespace: ROOT };
    world.graph.set_addresses(b, vec![own, inner]);
    let api = world.client(b, "api", local("10.244.1.9"), global("192.0.2.1"), 443);
    world.exchange(api, 1, 1);
    let web = world.client(a, "web", global(A), global("10.244.1.9"), 81);
    world.exchange(web, 1, 1);
    world.add(web, &[(Counter::FailedRefused, 2)]);
    world.pass(12);
    assert_eq!(world.edges()[1], row("web", "api", 81, 1, 1, 1));
}
