use std::net::IpAddr;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use topology::{
    ClusterChange, ClusterEndpoint, ClusterNode, ClusterService, ClusterSlice, ObjectName,
    ServicePort,
};

use super::objects::{EndpointSlice, Node, Service, Told};

fn told<T: Told + DeserializeOwned>(text: &str) -> Option<ClusterChange> {
    serde_json::from_str::<T>(text).ok()?.told()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// As an API server 1.31 writes it, beside who manages which field.
const SERVICE: &str = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"cart","namespace":"shop","uid":"5f7a1b","resourceVersion":"5021","creationTimestamp":"2026-11-20T08:00:00Z","labels":{"app":"cart"},"annotations":{"a":"b"}},"spec":{"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"web","nodePort":30080},{"name":"dns","protocol":"UDP","port":53,"targetPort":53},{"name":"metrics","protocol":"TCP","port":9090,"targetPort":9090}],"selector":{"app":"cart"},"clusterIP":"10.96.12.7","clusterIPs":["10.96.12.7","fd00:96::7"],"type":"LoadBalancer","sessionAffinity":"None","externalTrafficPolicy":"Cluster","ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"PreferDualStack","allocateLoadBalancerNodePorts":true,"internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.9","ipMode":"VIP"},{"hostname":"lb.example"}]}}}"#;

const SLICE: &str = r#"{"metadata":{"name":"cart-7xkqp","generateName":"cart-","namespace":"shop","uid":"77","resourceVersion":"5022","labels":{"app":"cart","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"cart"},"ownerReferences":[{"apiVersion":"v1","kind":"Service","name":"cart","uid":"5f7a1b","controller":true,"blockOwnerDeletion":true}]},"addressType":"IPv4","endpoints":[{"addresses":["10.244.1.4"],"conditions":{"ready":true,"serving":true,"terminating":false},"targetRef":{"kind":"Pod","namespace":"shop","name":"cart-6b9f-x2x","uid":"a1"},"nodeName":"node-1","zone":"eu-1a"},{"addresses":["10.244.2.9"],"conditions":{"ready":false,"serving":true,"terminating":true},"targetRef":{"kind":"Pod","namespace":"shop","name":"cart-6b9f-9pz","uid":"a2"},"nodeName":"node-2"},{"addresses":["10.244.2.10"],"conditions":{}}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#;

const NODE: &str = r#"{"metadata":{"name":"node-1","uid":"31","resourceVersion":"9","labels":{"kubernetes.io/hostname":"node-1","topology.kubernetes.io/region":"eu-1","topology.kubernetes.io/zone":"eu-1a"}},"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"],"providerID":"x://node-1"},"status":{"capacity":{"cpu":"4"},"addresses":[{"type":"InternalIP","address":"172.18.0.3"},{"type":"ExternalIP","address":"203.0.113.3"},{"type":"Hostname","address":"node-1"}],"nodeInfo":{"kernelVersion":"6.1"},"images":[{"names":["a"],"sizeBytes":1}]}}"#;

#[test]
fn what_matters_of_a_service_is_told() {
    let port = |name: &str, port, node_port| ServicePort { name: name.to_owned(), port, node_port };
    let service = ClusterService {
        addresses: vec![ip("10.96.12.7"), ip("fd00:96::7")],
        fronts: vec![ip("203.0.113.9")],
        ports: vec![port("http", 80, 30080), port("metrics", 9090, 0)],
    };
    let name = ObjectName::new("shop", "cart");
    assert_eq!(told::<Service>(SERVICE), Some(ClusterChange::Service(name, Some(service))));
    // A headless one, and one that is a name elsewhere.
    for spec in [
        r#"{"clusterIP":"None","clusterIPs":["None"],"ports":[{"port":80}]}"#,
        r#"{"type":"ExternalName","externalName":"db.example","ports":null}"#,
    ] {
        let text = format!(r#"{{"metadata":{{"name":"x","namespace":"y"}},"spec":{spec}}}"#);
        let Some(ClusterChange::Service(_, Some(service))) = told::<Service>(&text) else {
            panic!("{text}");
        };
        assert!(service.addresses.is_empty());
    }
}

#[test]
fn what_matters_of_endpoints_is_told() {
    let endpoint = |address: &str, ready, pod: Option<&str>| ClusterEndpoint {
        addresses: vec![ip(address)],
        ready,
        pod: pod.map(str::to_owned),
    };
    let slice = ClusterSlice {
        service: "cart".to_owned(),
        endpoints: vec![
            endpoint("10.244.1.4", true, Some("cart-6b9f-x2x")),
            endpoint("10.244.2.9", false, Some("cart-6b9f-9pz")),
            endpoint("10.244.2.10", true, None),
        ],
        ports: vec![("http".to_owned(), 8080)],
    };
    let name = ObjectName::new("shop", "cart-7xkqp");
    assert_eq!(told::<EndpointSlice>(SLICE), Some(ClusterChange::Slice(name, Some(slice))));
    let empty = r#"{"metadata":{"name":"x","namespace":"y"},"endpoints":null,"ports":null}"#;
    let name = ObjectName::new("y", "x");
    let nothing = ClusterSlice::default();
    assert_eq!(told::<EndpointSlice>(empty), Some(ClusterChange::Slice(name, Some(nothing))));
    // Nothing follows from where they are.
    for without in [SLICE.replace("kubernetes.io/service-name", "x"), SLICE.replace("8080", "0")] {
        let Some(ClusterChange::Slice(_, Some(slice))) = told::<EndpointSlice>(&without) else {
            panic!("{without}");
        };
        assert!(slice.endpoints.is_empty(), "{slice:?}");
    }
}

#[test]
fn what_matters_of_a_host_is_told() {
    let node = ClusterNode { zone: "eu-1a".to_owned(), addresses: vec![ip("172.18.0.3")] };
    let name = ObjectName::new("", "node-1");
    assert_eq!(told::<Node>(NODE), Some(ClusterChange::Node(name, Some(node))));
}

#[test]
fn names_that_no_object_has_are_none() {
    for name in ["", "a b", "a\\u0000", "\\u00e9", &"x".repeat(254)] {
        let text = format!(r#"{{"metadata":{{"name":"{name}","namespace":"y"}}}}"#);
        assert_eq!(told::<Service>(&text), None, "{name}");
        assert_eq!(told::<EndpointSlice>(&text), None, "{name}");
        assert_eq!(told::<Node>(&text), None, "{name}");
    }
}

proptest! {
    #[test]
    fn cut_objects_are_errors(cut in 0_usize..700) {
        for text in [SERVICE, SLICE, NODE] {
            let text = &text[..cut.min(text.len() - 1)];
            prop_assert_eq!(told::<Service>(text), None);
            prop_assert_eq!(told::<EndpointSlice>(text), None);
            prop_assert_eq!(told::<Node>(text), None);
        }
    }
}
