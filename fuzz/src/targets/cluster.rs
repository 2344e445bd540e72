//! What an API server of Kubernetes says of services, endpoints and nodes.

use crate::Target;

/// Read or not, in a list or in a watch; what is read is taken in.
pub const TARGET: Target = Target {
    name: "cluster",
    about: "services, endpoints and nodes, as an API server of Kubernetes lists them and tells of changes",
    run: aggregator::fuzzing::objects,
    seeds: || {
        let objects = [
            r#"{"metadata":{"name":"cart","namespace":"shop"},"spec":{"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"web","nodePort":30080},{"name":"dns","protocol":"UDP","port":53}],"clusterIP":"10.96.12.7","clusterIPs":["10.96.12.7","fd00:96::7"],"externalIPs":["198.51.100.1"]},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9"},{"hostname":"lb.example"}]}}}"#,
            r#"{"metadata":{"name":"cart-7xkqp","namespace":"shop","labels":{"kubernetes.io/service-name":"cart"}},"endpoints":[{"addresses":["10.244.1.4"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"cart-6b9f-x2x"}},{"addresses":["10.244.2.10"],"conditions":{}}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#,
            r#"{"metadata":{"name":"node-1","labels":{"topology.kubernetes.io/zone":"eu-1a"}},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.3"},{"type":"Hostname","address":"node-1"}]}}"#,
        ];
        let list =
            format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{}]}}"#, objects.join(","));
        let line = |object: &&str| format!("{{\"type\":\"MODIFIED\",\"object\":{object}}}\n");
        let watch: String = objects.iter().map(line).collect();
        [list, watch].map(|text| [b"\x07", text.as_bytes()].concat()).into()
    },
    longest: 4096,
};
