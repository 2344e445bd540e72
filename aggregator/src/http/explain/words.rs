//! Why an edge is there, in words.

use std::collections::BTreeMap;

use topology::{
    Basis, Explanation, Meeting, SeenBy, SeenOn, Spot, ViewEdge, ViewNode,
    model::{Role, WorkloadKind},
};

use super::{side, what};
use crate::http::time::rfc3339;

/// Hosts of each side that are told of by name.
const HOSTS: usize = 5;

/// Meeting points of which other addresses are told.
const TRANSLATED: usize = 3;

/// Sentences that tell why an edge is there.
pub(super) fn of(edge: &ViewEdge, ends: [&ViewNode; 2], explanation: &Explanation) -> Vec<String> {
    let [client, server] = ends.map(called);
    let port = match edge.server_port {
        0 => "several ports".to_owned(),
        port => format!("port {port}"),
    };
    let mut words = vec![format!("{client} talks to {server} at {port} ({}).", edge.protocol)];
    words.extend(evidence(edge, ends));
    if ends.into_iter().any(is_rest) {
        words.push(
            "external stands for all peers of the service that no agent covers beyond \
             --max-external-peers; their numbers are added up."
                .to_owned(),
        );
    }
    if edge.pending {
        words.push(
            "Nothing of it has settled yet: its other half may still change what it is.".to_owned(),
        );
    }
    let of = |role| explanation.hosts.iter().filter(move |seen| seen.role == role);
    let hosts = of(Role::Client).take(HOSTS).chain(of(Role::Server).take(HOSTS)).map(host);
    let before = words.len();
    words.extend(hosts);
    let left_out: usize = explanation.hosts_left_out.iter().sum();
    let more = left_out + explanation.hosts.len() - (words.len() - before);
    if more > 0 {
        words.push(format!("{more} more hosts saw it."));
    }
    if explanation.links.is_empty() && explanation.links_left_out == 0 {
        words.push(
            "No half of it is in memory any more; its numbers are from the history.".to_owned(),
        );
    }
    let is_translated = |meeting: &&Meeting| !meeting.also.is_empty();
    words.extend(explanation.links.iter().filter(is_translated).take(TRANSLATED).map(translated));
    words.extend(counts(explanation));
    let moved = explanation.links.iter().filter(|meeting| meeting.told.is_none()).count();
    if moved > 0 {
        words.push(format!(
            "At {moved} of its meeting points better evidence came later: what is counted there now is another \
             edge's, and what was counted before stays here."
        ));
    }
    words
}

fn called(node: &ViewNode) -> String {
    let name = match node.namespace.as_str() {
        "" => node.name.clone(),
        namespace => format!("{namespace}/{}", node.name),
    };
    match node.kind {
        WorkloadKind::Host => format!("{name} (a host whose workload is not known)"),
        WorkloadKind::External => format!("{name} (which no agent covers)"),
        WorkloadKind::Other => format!("{name} (many that there was no room for)"),
        kind => format!("{name} (a {})", kind.name()),
    }
}

fn is_rest(node: &ViewNode) -> bool {
    node.kind == WorkloadKind::External && node.name == "external" && node.namespace.is_empty()
}

/// By what its ends are known.
fn evidence(edge: &ViewEdge, [client, server]: [&ViewNode; 2]) -> Vec<String> {
    let (told, other, role) = match edge.seen_by {
        SeenBy::Both => ("Hosts on both sides", None, ""),
        SeenBy::Client => ("The client's side alone", Some(server), "server"),
        SeenBy::Server => ("The server's side alone", Some(client), "client"),
    };
    let mut words = vec![format!("{told} told of it in the window.")];
    // Different parts of it may have been seen from different sides.
    let name = other.map_or("the other end", |other| other.name.as_str());
    let role = if role.is_empty() { String::new() } else { format!(" as the {role}") };
    words.push(match edge.resolved_by {
        Basis::BothHalves => "Their halves met: the same two addresses and the same port, after any translation of \
                              addresses."
            .to_owned(),
        Basis::Listener => format!(
            "{name} is known{role} because it was announced as listening at that address and port at that time."
        ),
        Basis::Served => format!(
            "{name} is known{role} because it alone was seen to serve that port at that address."
        ),
        Basis::Nat => format!(
            "{name} is known{role} because a host told what the address stands for behind its NAT."
        ),
        Basis::WorkloadAddress => {
            format!("{name} is known{role} because it alone was seen to use that address.")
        }
        Basis::Kubernetes => format!(
            "{name} is known{role} because Kubernetes told that the address, or the port of a host, was its at that time."
        ),
        Basis::HostAddress => format!(
            "{name} is known{role} because that host announced the address as its own; which of its workloads it \
             was, nothing tells."
        ),
        Basis::Cidr => {
            format!("{name} is the name that the rules give to the network of that address.")
        }
        Basis::Address => {
            "Of the other end only the address is known: no agent covers it.".to_owned()
        }
        Basis::Folded => {
            "The other end is many: there was no room to keep them apart.".to_owned()
        }
        Basis::Unknown => "By what its ends were known was not kept.".to_owned(),
    });
    words
}

fn host(seen: &SeenOn) -> String {
    let now = if seen.watching { ", and still watches" } else { "" };
    format!(
        "Host {} saw the {}'s side, first at {} and last at {}{now}.",
        seen.host,
        side(seen.role),
        rfc3339(seen.first),
        rfc3339(seen.last)
    )
}

/// By what other addresses the ends of a meeting point are known.
fn translated(meeting: &Meeting) -> String {
    let at = |spot: &Spot, port: Option<u16>| {
        let address = match port {
            None => spot.address.clone(),
            Some(port) if spot.address.contains(':') => format!("[{}]:{port}", spot.address),
            Some(port) => format!("{}:{port}", spot.address),
        };
        match &spot.within {
            Some(host) => format!("{address} (within {host})"),
            None => address,
        }
    };
    let known = |spot: &Option<Spot>, port| {
        spot.as_ref().map_or_else(|| "an unknown address".to_owned(), |spot| at(spot, port))
    };
    let also: Vec<_> = meeting
        .also
        .iter()
        .map(|(role, spot, port)| format!("the {} is also {}", side(*role), at(spot, *port)))
        .collect();
    format!(
        "Addresses are translated between {} and {}: {}.",
        known(&meeting.client, None),
        known(&meeting.server, Some(meeting.server_port)),
        also.join(", ")
    )
}

/// What both sides counted, added up over the meeting points that are told.
fn counts(explanation: &Explanation) -> Vec<String> {
    let both = explanation.links.iter().filter(|meeting| meeting.both).count();
    if both == 0 {
        return Vec::new();
    }
    let mut sums: BTreeMap<&str, (u64, u64, usize)> = BTreeMap::new();
    for difference in explanation.links.iter().flat_map(|meeting| &meeting.differences) {
        let (client, server, places) = sums.entry(what(difference.measure)).or_default();
        *client = client.saturating_add(difference.client);
        *server = server.saturating_add(difference.server);
        *places += 1;
    }
    if sums.is_empty() {
        return vec!["Both sides counted the same, wherever both did.".to_owned()];
    }
    let mut words: Vec<_> = sums
        .into_iter()
        .map(|(what, (client, server, places))| {
            format!(
                "Of {what}, the client's side counted {client} and the server's {server}, at {places} of {both} \
                 meeting points."
            )
        })
        .collect();
    words.push(
        "The larger number counts once it has lasted for 5 s: hosts do not report at the same moment.".to_owned(),
    );
    if explanation.links.iter().any(|meeting| meeting.shared && !meeting.differences.is_empty()) {
        words.push(
            "Several services share some of these addresses; what is compared there are sums over all of them."
                .to_owned(),
        );
    }
    words
}
