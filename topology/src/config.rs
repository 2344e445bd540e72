//! What can be set.

use std::time::Duration;

/// How the graph settles, remembers and forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a link waits for its other half.
    pub settle_after: Duration,
    /// How long the two sides of a link must disagree about a number before the larger one holds; it does so
    /// within twice this time. Longer than the intervals at which hosts report.
    pub agree_for: Duration,
    /// How long a link waits, once both sides have a half, for further halves of the same
    /// addresses and port: hosts report at different moments.
    pub gather_for: Duration,
    /// Length of a step of the history. Steps begin at its multiples since the epoch.
    pub step: Duration,
    /// How many steps are kept.
    pub steps_kept: usize,
    /// Whether steps that are over are given out by [`crate::Graph::take_steps`].
    pub hand_over_steps: bool,
    /// How long a published edge without gains and open connections is shown. What it
    /// counted is remembered.
    pub edge_idle_expiry: Duration,
    /// How long an ended half is kept apart from the others of its link.
    pub half_linger: Duration,
    /// How long the other sides of a node's links are not believed alone once it is gone, where several parties
    /// share a link: it may be about to say what is whose. Longer than agents wait between two attempts.
    pub node_return: Duration,
    /// How long a link waits at most for its other half while the host of that comes and goes, or tells what has been.
    pub catch_up: Duration,
    /// How long a node that is not connected is expected back.
    pub node_memory: Duration,
    /// Nodes that are expected whether they were ever seen or not.
    pub expected_nodes: Vec<String>,
    /// Whether somebody watches a cluster of Kubernetes for it: then answers say what is not heard of that.
    pub watches_cluster: bool,
    /// How many external peers of a service are told apart; those that the user has named always are. Beyond it, they
    /// are one.
    pub max_external_peers: usize,
    /// How many halves there may be. One more is counted together with others of its workload; none is refused.
    /// A node never gets more than about half of them, so that others have room, too.
    pub max_halves: usize,
    /// How many series and edges there may be, remembered ones included, and how much room for workloads there
    /// is, in pieces of [`WORKLOAD_BYTES`](crate::WORKLOAD_BYTES). What is beyond counts for `other`.
    pub max_series: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            settle_after: Duration::from_secs(10),
            agree_for: Duration::from_secs(5),
            gather_for: Duration::from_secs(2),
            step: Duration::from_secs(10),
            steps_kept: 360,
            hand_over_steps: false,
            edge_idle_expiry: Duration::from_secs(3600),
            half_linger: Duration::from_secs(60),
            node_return: Duration::from_secs(60),
            catch_up: Duration::from_secs(600),
            node_memory: Duration::from_secs(24 * 3600),
            expected_nodes: Vec::new(),
            watches_cluster: false,
            max_external_peers: 100,
            max_halves: 1_000_000,
            max_series: 100_000,
        }
    }
}
