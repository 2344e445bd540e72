//! containerd's bundles: `io.containerd.runtime.v2.task/NAMESPACE/ID/config.json` below its state directory is what it has
//! a container run by. Who asked containerd for the container has written notes into it: a kubelet by the CRI plugin,
//! CRI-O, or nerdctl.

use std::{collections::BTreeMap, path::Path};

use proto::convert::ContainerName;
use serde::Deserialize;

use super::{
    super::{
        called::{POD, POD_CONTAINER, POD_NAMESPACE},
        short,
    },
    Labels, Place, entries, whole,
};

const TASKS: &str = "io.containerd.runtime.v2.task";

/// Bytes of a file that are read: some tens of thousands are usual.
const FILE_BYTES: u64 = 1 << 20;

/// What the CRI plugin notes.
const SANDBOX: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const CONTAINER: &str = "io.kubernetes.cri.container-name";
const IMAGE: &str = "io.kubernetes.cri.image-name";

/// What nerdctl notes.
const NERDCTL_NAME: &str = "nerdctl/name";

#[derive(Deserialize)]
struct Config {
    annotations: Option<BTreeMap<String, String>>,
}

/// Finds the bundles of those that are wanted below a state directory.
pub(super) fn find(
    root: &Path,
    labels: &Labels,
    is_wanted: impl Fn(&str) -> bool,
    found: &mut Vec<(Place, ContainerName)>,
) {
    let tasks = root.join(TASKS);
    for namespace in entries(&tasks) {
        let namespace = tasks.join(namespace);
        for id in entries(&namespace).filter(|id| is_wanted(id)) {
            let path = namespace.join(&id).join("config.json");
            let name = whole(&path, FILE_BYTES).and_then(|bytes| read(&id, &bytes, labels));
            found.extend(name.map(|name| (Place::File(path), name)));
        }
    }
}

/// What the file of a container says; `None` when it has no name.
pub(in super::super) fn read(id: &str, bytes: &[u8], labels: &Labels) -> Option<ContainerName> {
    let config: Config = serde_json::from_slice(bytes).ok()?;
    let mut notes = config.annotations?;
    let image = notes.get(IMAGE).cloned().unwrap_or_default();
    for (note, label) in
        [(SANDBOX, POD), (SANDBOX_NAMESPACE, POD_NAMESPACE), (CONTAINER, POD_CONTAINER)]
    {
        if let Some(value) = notes.get(note).cloned() {
            notes.entry(label.to_owned()).or_insert(value);
        }
    }
    let name = notes.get(NERDCTL_NAME).cloned().unwrap_or_default();
    let called = labels.called(&name, &image, &notes)?;
    Some(ContainerName { container: short(id)?.to_owned(), called })
}

#[cfg(test)]
mod tests {
    use topology::model::WorkloadKind;

    use super::*;

    const ID: &str = "69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137";

    fn named(annotations: &str) -> Option<ContainerName> {
        let text = format!(
            r#"{{"ociVersion":"1.0.2-dev","process":{{"user":{{"uid":0}},"args":["/app"]}},"root":{{"path":"rootfs"}},"hostname":"a","annotations":{annotations},"linux":{{"cgroupsPath":"/k8s.io/x"}}}}"#
        );
        read(ID, text.as_bytes(), &Labels::default())
    }

    #[test]
    fn a_container_of_a_pod_is_the_pod() {
        let named = named(
            r#"{"io.kubernetes.cri.container-name":"nginx","io.kubernetes.cri.container-type":"container","io.kubernetes.cri.image-name":"docker.io/library/nginx:1","io.kubernetes.cri.sandbox-id":"aa","io.kubernetes.cri.sandbox-name":"web-x7","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"1"}"#,
        );
        let named = named.unwrap();
        assert_eq!(named.container, "69e2ffc0a263");
        let called = named.called;
        assert_eq!((called.kind, called.name.as_str()), (WorkloadKind::Pod, "web-x7"));
        assert_eq!(
            (called.namespace.as_str(), called.labels["container"].as_str()),
            ("shop", "nginx")
        );
        assert_eq!(called.labels["image"], "docker.io/library/nginx:1");
    }

    #[test]
    fn nerdctl_has_names_and_others_have_not() {
        assert_eq!(named(r#"{"nerdctl/name":"web"}"#).unwrap().called.name, "web");
        for nameless in ["{}", "null", "[]", r#"{"nerdctl/name":7}"#] {
            assert_eq!(named(nameless), None, "{nameless}");
        }
        assert_eq!(
            read("x", br#"{"annotations":{"nerdctl/name":"web"}}"#, &Labels::default()),
            None
        );
    }
}
