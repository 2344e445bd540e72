//! What an API server of Kubernetes says.

use topology::{ClusterNews, Graph, Timestamp};

use crate::kubernetes::objects::{EndpointSlice, Node, Service, Told};

/// Lists and watches of each kind, whatever their bytes. What is read is taken in once, and is known then.
pub fn objects(data: &[u8]) {
    let mut graph = Graph::new(topology::Config::default());
    kubernetes::fuzzing::answers::<Service>(data, |object| take(&mut graph, object));
    kubernetes::fuzzing::answers::<EndpointSlice>(data, |object| take(&mut graph, object));
    kubernetes::fuzzing::answers::<Node>(data, |object| take(&mut graph, object));
}

fn take<T: Told>(graph: &mut Graph, object: T) {
    let Some(change) = object.told() else { return };
    let at = Timestamp::from_unix_ns(1_800_000_000_000_000_000);
    graph.take_cluster_news(ClusterNews::Changed(vec![change.clone()]), at);
    if graph.cluster_refused() == 0 {
        assert!(graph.new_of_cluster(vec![change]).is_empty(), "it is still new");
    }
}
