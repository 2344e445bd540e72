//! Pods, as an API server of Kubernetes tells of them.

use crate::Target;

/// Wherever a watch is cut, it says the same; what it and a list say of pods is to the aggregator's liking.
pub const TARGET: Target = Target {
    name: "kubernetes",
    about: "pods in a page of a list, and in the lines of a watch",
    run: node_agent::fuzzing::kubernetes,
    seeds: || {
        let pod = r#"{"metadata":{"name":"web-6d8f-x7","namespace":"shop","uid":"11111111-91a2-4b3c-8d4e-5f60718293a4","resourceVersion":"7","labels":{"app.kubernetes.io/name":"web","pod-template-hash":"6d8f"},"annotations":{"kubernetes.io/config.mirror":"0f1e2d3c"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-6d8f","uid":"1","controller":true}]},"spec":{"nodeName":"one"},"status":{"initContainerStatuses":[{"name":"migrate","state":{"terminated":{"exitCode":0,"containerID":"containerd://ID"}},"lastState":{},"image":"m:1","containerID":"containerd://ID"}],"containerStatuses":[{"name":"nginx","state":{"running":{}},"lastState":{"terminated":{"containerID":"cri-o://ID"}},"image":"i:1","containerID":"docker://ID"}],"ephemeralContainerStatuses":[{"name":"debug","state":{"waiting":{}},"lastState":{}}]}}"#;
        let job = pod.replace("ReplicaSet", "Job").replace("web-6d8f\"", "report-29754240\"");
        let id = "69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137";
        [
            format!(
                r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"x","remainingItemCount":1}},"items":[{pod},7,{job}]}}"#
            ),
            format!(
                "{{\"type\":\"ADDED\",\"object\":{pod}}}\n{{\"type\":\"MODIFIED\",\"object\":{job}}}\n{{\"type\":\"DELETED\",\"object\":{job}}}\n"
            ),
            "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"12\"}}}\r\n{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}}\n".to_owned(),
        ]
        .map(|text| [b"\x07", text.replace("ID", id).as_bytes()].concat())
        .into()
    },
    longest: 8192,
};
