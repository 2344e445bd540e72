//! A pod as the API server has it, and what becomes of it here.

use std::collections::BTreeMap;

use serde::Deserialize;
use topology::model::Workload;

use super::{
    super::{Labels, short},
    owner,
};

/// Containers of one pod that are known. Few pods have more than ten.
const MOST_CONTAINERS: usize = 64;

/// What is read of a pod. Of the rest there is ten times as much.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Pod {
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) uid: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) annotations: Annotations,
    pub(super) owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations {
    /// Of a pod that a kubelet has from a file, and only shows to the server: what it calls the pod itself.
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub(super) mirror: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct OwnerReference {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) container_statuses: Option<Vec<ContainerStatus>>,
    pub(super) init_container_statuses: Option<Vec<ContainerStatus>>,
    pub(super) ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    last_state: State,
}

#[derive(Debug, Default, Deserialize)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Debug, Deserialize)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl State {
    fn ended(&self) -> Option<&str> {
        self.terminated.as_ref()?.container_id.as_deref().and_then(id)
    }
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    name: String,
    image: String,
    pub(super) has_ended: bool,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What it is called, whatever the container.
    workload: Workload,
    /// By what the kernel's view calls them.
    pub(super) containers: BTreeMap<String, Container>,
}

impl Pod {
    /// By what a cgroup's path knows it.
    pub(super) fn uid(&self) -> &str {
        self.metadata.annotations.mirror.as_deref().unwrap_or(&self.metadata.uid)
    }

    /// What is kept of it; `None` when it has no name.
    pub(super) fn known(&self, labels: &Labels) -> Option<Known> {
        let Metadata { name, namespace, labels: own, .. } = &self.metadata;
        let own = own.as_ref();
        let workload = labels.of_pod(name, namespace, &owner::of(self), own)?;
        let Status { container_statuses, init_container_statuses, ephemeral_container_statuses } =
            &self.status;
        let statuses = [container_statuses, init_container_statuses, ephemeral_container_statuses];
        let mut containers = BTreeMap::new();
        for status in statuses.into_iter().flatten().flatten() {
            for (id, has_ended) in status.ids() {
                if containers.len() < MOST_CONTAINERS {
                    let (name, image) = (status.name.clone(), status.image.clone());
                    let container = Container { name, image, has_ended };
                    containers.entry(id.to_owned()).or_insert(container);
                }
            }
        }
        Some(Known { workload, containers })
    }
}

impl ContainerStatus {
    /// What the kernel's view calls this container, and the one in whose place it was started; whether each has ended.
    fn ids(&self) -> impl Iterator<Item = (&str, bool)> {
        let ended = self.state.ended();
        let now = self.container_id.as_deref().and_then(id);
        let now = now.filter(|now| Some(*now) != ended);
        // While it waits to be started again, this is still the one that has ended.
        let before = self.last_state.ended();
        let now = now.filter(|now| Some(*now) != before);
        let all = [(now, false), (ended, true), (before, true)];
        all.into_iter().filter_map(|(id, has_ended)| Some((id?, has_ended)))
    }
}

/// What the kernel's view calls a container that a kubelet calls `containerd://…`, `cri-o://…` or `docker://…`.
pub(super) fn id(text: &str) -> Option<&str> {
    let (_runtime, id) = text.split_once("://")?;
    short(id)
}

impl Known {
    /// What one of its containers is called; one that it says nothing of is the pod's all the same.
    pub(super) fn called(&self, container: &str) -> Workload {
        let mut called = self.workload.clone();
        if let Some(Container { name, image, .. }) = self.containers.get(container) {
            for (key, value) in [("container", name), ("image", image)] {
                if !value.is_empty() {
                    called.labels.insert(key.to_owned(), crate::owners::clean(value));
                }
            }
        }
        called
    }
}
