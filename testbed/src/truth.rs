//! The graph as it must come out, put together from what both ends of every connection
//! counted themselves.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    traffic::{Connection, End, Peer, Reason, Report, Side},
};

/// How long the two ends of a connection may disagree.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// An edge by the names of its ends and the server's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeName {
    /// Who connects.
    pub client: String,
    /// Who is connected to.
    pub server: String,
    /// The server's port.
    pub port: u16,
}

/// The exact counts of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeCount {
    /// Connections established.
    pub connections: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// Payload bytes that the server's kernel accepted.
    pub bytes_to_server: u64,
    /// Payload bytes that the client's kernel accepted.
    pub bytes_to_client: u64,
    /// Connections that the client reset.
    pub resets_by_client: u64,
    /// Connections that the server reset.
    pub resets_by_server: u64,
    /// Attempts that failed, by reason; reasons without any are absent.
    pub failed: BTreeMap<Reason, u64>,
}

impl EdgeCount {
    /// What was added since an earlier count. `connections_open` is as it is now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let failed = self.failed.iter().map(|(reason, now)| {
            (*reason, now.saturating_sub(earlier.failed.get(reason).copied().unwrap_or_default()))
        });
        Self {
            connections: self.connections.saturating_sub(earlier.connections),
            connections_open: self.connections_open,
            bytes_to_server: self.bytes_to_server.saturating_sub(earlier.bytes_to_server),
            bytes_to_client: self.bytes_to_client.saturating_sub(earlier.bytes_to_client),
            resets_by_client: self.resets_by_client.saturating_sub(earlier.resets_by_client),
            resets_by_server: self.resets_by_server.saturating_sub(earlier.resets_by_server),
            failed: failed.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Every edge that must be there.
pub type Truth = BTreeMap<EdgeName, EdgeCount>;

/// Puts reports together. `reports` are those of all peers, each under the name that the graph
/// must give its process; `name_of` names who is at an address that nobody answered from.
///
/// # Errors
/// When the reports do not fit together: an end without the other, or ends of a cleanly
/// closed connection that disagree. The generator itself is wrong then.
pub fn truth(
    reports: &[(String, Report)],
    name_of: impl Fn(SocketAddr) -> String,
) -> Result<Truth> {
    let told: Vec<_> = reports.iter().map(|(name, report)| (Some(name.as_str()), report)).collect();
    truth_of(&told, name_of)
}

/// As [`truth`], of peers some of which have no name in the graph, because no agent is where they are: they are called by
/// the address that the other end sees, and what they say among themselves is not seen.
///
/// # Errors
/// As [`truth`].
pub fn truth_of(
    reports: &[(Option<&str>, &Report)],
    name_of: impl Fn(SocketAddr) -> String,
) -> Result<Truth> {
    let mut edges = Truth::new();
    let mut servers = Servers::of(reports)?;
    for (client, report) in reports {
        let called = client.unwrap_or("outside");
        for end in report.connections.iter().filter(|end| end.side == Side::Client) {
            let (server, other) = servers
                .take(end, report.namespace)
                .ok_or_else(|| wrong(called, &format!("nobody accepted {end:?}")))?;
            let name = match (client, server) {
                (None, None) => continue,
                // The server's own port: the client may have asked for another, which was translated.
                (Some(client), Some(server)) => edge_name(client, server, other.local.port()),
                (Some(client), None) => edge_name(client, &address(end), end.peer.port()),
                (None, Some(server)) => edge_name(&address(other), server, other.local.port()),
            };
            let edge = edges.entry(name).or_default();
            add(edge, end, other).map_err(|reason| wrong(called, &reason))?;
        }
        for failure in client.map(|_| &report.failures).into_iter().flatten() {
            let name = edge_name(called, &name_of(failure.target), failure.target.port());
            *edges.entry(name).or_default().failed.entry(failure.reason).or_default() += 1;
        }
    }
    match servers.left() {
        Some((server, end)) => {
            Err(wrong(server.unwrap_or("outside"), &format!("accepted from nobody: {end:?}")))
        }
        None => Ok(edges),
    }
}

/// Asks every peer for its report and puts them together, again and again until they fit:
/// one end of a connection may learn of its close a moment after the other.
///
/// # Errors
/// When they do not fit together within a few seconds, or a peer does not answer.
pub fn collect(peers: &mut [&mut Peer], name_of: impl Fn(SocketAddr) -> String) -> Result<Truth> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        let reports = peers
            .iter_mut()
            .map(|peer| Ok((peer.name().to_owned(), peer.report()?)))
            .collect::<Result<Vec<_>>>()?;
        match truth(&reports, &name_of) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

/// What `now` has more than `earlier`; edges without any gain and without an open connection
/// are left out.
#[must_use]
pub fn since(now: &Truth, earlier: &Truth) -> Truth {
    let none = EdgeCount::default();
    now.iter()
        .map(|(name, count)| (name.clone(), count.since(earlier.get(name).unwrap_or(&none))))
        .filter(|(_, count)| !count.is_zero())
        .collect()
}

/// Addresses of a connection, client first; a loopback one within its namespace only.
#[derive(PartialEq, Eq, Hash)]
struct Tuple(SocketAddr, SocketAddr, u64);

impl Tuple {
    fn of(end: &Connection, namespace: u64) -> Self {
        let scope = if end.local.ip().is_loopback() { namespace } else { 0 };
        match end.side {
            Side::Client => Self(end.local, end.peer, scope),
            Side::Server => Self(end.peer, end.local, scope),
        }
    }
}

/// A server's end of a connection, with the name of the server.
type Accepted<'a> = (Option<&'a str>, &'a Connection);

/// What servers accepted.
#[derive(Default)]
struct Servers<'a> {
    /// By what the client calls it.
    by_token: HashMap<u64, Accepted<'a>>,
    /// Those of which the client has said nothing yet, by addresses. A port that was used again gives several, told apart
    /// by nothing but their order, which is the same on both sides: the first is popped first.
    by_tuple: HashMap<Tuple, Vec<Accepted<'a>>>,
}

impl<'a> Servers<'a> {
    fn of(reports: &[(Option<&'a str>, &'a Report)]) -> Result<Self> {
        let mut servers = Self::default();
        for (name, report) in reports {
            if report.unrecorded > 0 {
                return Err(wrong(name.unwrap_or("outside"), "counted more than it could record"));
            }
            for end in report.connections.iter().rev().filter(|end| end.side == Side::Server) {
                if end.token == 0 {
                    let tuple = Tuple::of(end, report.namespace);
                    servers.by_tuple.entry(tuple).or_default().push((*name, end));
                } else if servers.by_token.insert(end.token, (*name, end)).is_some() {
                    return Err(wrong(name.unwrap_or("outside"), "two connections of one name"));
                }
            }
        }
        Ok(servers)
    }

    /// The other end of a client's connection.
    fn take(&mut self, end: &Connection, namespace: u64) -> Option<Accepted<'a>> {
        let by_tuple = || self.by_tuple.get_mut(&Tuple::of(end, namespace)).and_then(Vec::pop);
        self.by_token.remove(&end.token).or_else(by_tuple)
    }

    /// One that no client has opened.
    fn left(self) -> Option<Accepted<'a>> {
        self.by_tuple.into_values().flatten().chain(self.by_token.into_values()).next()
    }
}

fn edge_name(client: &str, server: &str, port: u16) -> EdgeName {
    EdgeName { client: client.into(), server: server.into(), port }
}

/// The other end, as this one sees it.
fn address(end: &Connection) -> String {
    end.peer.ip().to_string()
}

fn add(
    edge: &mut EdgeCount,
    client: &Connection,
    server: &Connection,
) -> std::result::Result<(), String> {
    edge.connections += 1;
    edge.bytes_to_server += accepted(server);
    edge.bytes_to_client += accepted(client);
    match (client.end, server.end) {
        (End::Open, End::Open) => edge.connections_open += 1,
        (End::Closed, End::Closed) => {}
        (End::ResetSent, End::ResetReceived) => edge.resets_by_client += 1,
        (End::ResetReceived, End::ResetSent) => edge.resets_by_server += 1,
        _ => return Err(format!("the ends disagree: {client:?} and {server:?}")),
    }
    let clean = client.end == End::Closed;
    if clean && (client.sent != server.received || server.sent != client.received) {
        return Err(format!("bytes are missing: {client:?} and {server:?}"));
    }
    Ok(())
}

/// Bytes that the kernel of this end accepted, read or not.
fn accepted(end: &Connection) -> u64 {
    end.kernel.map_or(end.received, |count| count.received)
}

fn wrong(who: &str, reason: &str) -> Error {
    Error::Answer { who: who.into(), reason: reason.into() }
}
