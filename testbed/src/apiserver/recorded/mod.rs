//! What an API server of version 1.33 writes, of a node called `one`.
//!
//! Pods: `kube-apiserver-one`, of a file of the kubelet's; `exporter-4vq2m`, of a DaemonSet and on the host's network;
//! `db-0`, of a StatefulSet, once killed for want of memory; `web-…`, two of a Deployment with two containers each. Then a
//! Job of a CronJob comes, runs in CRI-O and ends, and one `web` takes the place of another, with its address.

/// The list, in two pages.
pub const PODS: [&str; 2] = [include_str!("pods_1.json"), include_str!("pods_2.json")];

/// Services: of the API server itself, of DNS, and `cart` at 10.0.0.2, in two pages.
pub const SERVICES: [&str; 2] = [include_str!("services_1.json"), include_str!("services_2.json")];
/// Where the pods of DNS and of `cart` are.
pub const SLICES: [&str; 1] = [include_str!("endpointslices.json")];
/// Hosts: `a` in the zone `east`, and `two` in `west`.
pub const NODES: [&str; 1] = [include_str!("nodes.json")];
/// `a` is in `west`.
pub const NODE_MOVED: &str = include_str!("node_moved.json");
/// It is in `east` again.
pub const NODE_BACK: &str = include_str!("node_back.json");
/// Nothing has happened to hosts up to version 50200.
pub const NODE_BOOKMARK: &str = include_str!("node_bookmark.json");

/// The Job's pod is there, without a word of its containers.
pub const JOB_ADDED: &str = include_str!("job_added.json");
/// It runs.
pub const JOB_RUNNING: &str = include_str!("job_running.json");
/// Its container has ended.
pub const JOB_ENDED: &str = include_str!("job_ended.json");
/// One pod of `web` is gone.
pub const WEB_DELETED: &str = include_str!("web_deleted.json");
/// Another has its address.
pub const WEB_REPLACED: &str = include_str!("web_replaced.json");
/// Nothing has happened up to version 50200.
pub const BOOKMARK: &str = include_str!("bookmark.json");
/// The event of a watch that is to begin too far back.
pub const EXPIRED: &str = include_str!("expired.json");
/// The answer to who asks for the rest of a list too late.
pub const GONE: &str = include_str!("gone.json");
/// The answer to who may not.
pub const FORBIDDEN: &str = include_str!("forbidden.json");
/// The answer to who has no token that is known.
pub const UNAUTHORIZED: &str = include_str!("unauthorized.json");

/// The whole id of the container that begins so, for each of which two digits stand.
#[must_use]
pub fn container(digits: &str) -> String {
    digits.repeat(32)
}

/// The id of the pod that has this digit.
#[must_use]
pub fn pod(digit: u8) -> String {
    format!("{}-91a2-4b3c-8d4e-5f60718293a4", digit.to_string().repeat(8))
}
