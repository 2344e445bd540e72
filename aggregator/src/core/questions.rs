//! What the graph wants of an agent.

use proto::{
    MAX_ENDPOINTS, MAX_TUPLES,
    v1::{Resolve, Split, aggregator_message::Body},
};
use topology::{
    Graph, NodeIx,
    model::{Endpoint, Tuple},
};

/// Everything that a node is to be asked.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Connections: whose were they?
    tuples: Vec<Tuple>,
    /// Servers whose connections are to be told apart.
    endpoints: Vec<Endpoint>,
}

impl Questions {
    /// All there are for a node, which are then no longer there.
    pub(super) fn take(graph: &mut Graph, node: NodeIx) -> Self {
        Self { tuples: graph.take_questions(node), endpoints: graph.take_endpoints(node) }
    }

    /// The same as messages.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Body> {
        let splits = self.endpoints.chunks(MAX_ENDPOINTS).map(|endpoints| {
            let endpoints = endpoints.iter().map(|endpoint| (*endpoint).into()).collect();
            Body::Split(Split { endpoints })
        });
        let resolves = self.tuples.chunks(MAX_TUPLES).map(|tuples| {
            Body::Resolve(Resolve { tuples: tuples.iter().map(|tuple| (*tuple).into()).collect() })
        });
        splits.chain(resolves)
    }
}
