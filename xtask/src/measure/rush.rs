//! Short connections that rush from one host to another, and what the graph must show of them.

use std::{
    env, fs::File, net::SocketAddr, os::unix::process::CommandExt, process::Command, time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use testbed::{
    binaries, environment,
    fleet::Fleet,
    lab::{Host, mount_point},
    traffic::{Burst, Dial, Ending, Exchange, Means, Peer},
    truth::{EdgeCount, EdgeName, Truth},
};

use super::build;

/// Interval of the agents, as it is by default.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long the graph may take to show it all.
const SHOW_LIMIT: Duration = Duration::from_secs(30);
/// Payload of a request and of its answer.
const REQUEST: u64 = 128;
const RESPONSE: u64 = 512;
/// So many ports of the server share the connections: one would need more client ports than
/// there are while closed connections hold theirs for a minute.
const PORTS: u32 = 4;
const FIRST_PORT: u16 = 8_001;
/// Threads of the client.
const THREADS: u32 = 4;

/// Builds the programs, and waits until nobody else has a lab; nobody will as long as what is returned lives.
///
/// # Errors
/// When there can be no lab here, or something cannot be built.
pub fn prepare() -> Result<Flock<File>> {
    environment::check().context("a storm cannot be made here")?;
    if env::var_os(binaries::BIN_DIR).is_none() {
        // Asked now: while cargo builds, this program's file may be replaced.
        let own = env::current_exe().context("find this program")?;
        let bins = build(&["-p", "aggregator", "-p", "node-agent", "-p", "testbed", "--bins"])?;
        // Once more, knowing where the optimised programs are.
        let error =
            Command::new(own).args(env::args_os().skip(1)).env(binaries::BIN_DIR, bins).exec();
        return Err(error).context("start again");
    }
    // Alone among those that make labs: the end-to-end tests take the same lock.
    let mount = File::open(mount_point()?).context("open the cgroup file system")?;
    Flock::lock(mount, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock the cgroup file system")
}

/// A client and a server on the first and the last host, and where the server listens.
///
/// # Errors
/// When one cannot be started.
pub fn peers(hosts: &[Host]) -> Result<(Peer, Peer, Vec<SocketAddr>)> {
    let (first, last) = hosts.first().zip(hosts.last()).context("no hosts")?;
    let client = first.peer("client")?;
    // Both on one host get a network each, so that packets cross the same links.
    let (mut server, ip) = if hosts.len() == 1 {
        let network = last.add_network()?;
        (last.peer_at("server", None, &network)?, network.ipv4())
    } else {
        (last.peer("server")?, last.ipv4())
    };
    let ports = (FIRST_PORT..).take(PORTS as usize);
    let targets = ports.map(|port| server.listen(ip, port)).collect::<Result<Vec<_>, _>>()?;
    Ok((client, server, targets))
}

/// Makes so many connections, and tells what the graph must show.
///
/// # Errors
/// When one fails.
pub fn blow(
    connections: u32,
    client: &mut Peer,
    targets: &[SocketAddr],
    server: &str,
) -> Result<Truth> {
    let exchange = Exchange {
        requests: 1,
        request_bytes: REQUEST,
        response_bytes: RESPONSE,
        means: Means::Write,
    };
    let parts = connections / (2 * PORTS);
    let mut truth = Truth::new();
    for target in targets {
        // Half are closed by each side, so that neither keeps all of the closed ones.
        for ending in [Ending::ClientCloses, Ending::ServerCloses] {
            let done = client.burst(Burst {
                target: *target,
                connections: parts,
                threads: THREADS,
                exchange,
                ending,
                dial: Dial::default(),
            })?;
            ensure!(done == (parts, 0), "(established, failed) is {done:?}, not ({parts}, 0)");
        }
        let connections = u64::from(2 * parts);
        let count = EdgeCount {
            connections,
            bytes_to_server: connections * REQUEST,
            bytes_to_client: connections * RESPONSE,
            ..EdgeCount::default()
        };
        let (client, server) = (client.name().to_owned(), server.to_owned());
        truth.insert(EdgeName { client, server, port: target.port() }, count);
    }
    Ok(truth)
}

/// Waits until the graph has exactly these edges with these counts, and no loss.
///
/// # Errors
/// When it has not for long.
pub fn must_show(fleet: &Fleet, truth: &Truth) -> Result<()> {
    fleet.wait("the exact graph", SHOW_LIMIT, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        graph.must_equal(truth)?;
        if graph.coverage["complete"] == true { Ok(()) } else { Err(graph.coverage.to_string()) }
    })?;
    Ok(())
}
