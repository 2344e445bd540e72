//! The storage that Podman and CRI-O share: `DRIVER-containers/containers.json` lists all containers, and
//! `volatile-containers.json` those that need not outlive a boot.

use std::{collections::BTreeMap, path::Path};

use proto::convert::ContainerName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        called::{POD, POD_CONTAINER, POD_NAMESPACE},
        short,
    },
    Labels, Place, entries, whole,
};

/// What the folder of a driver's containers is called, after the driver.
const CONTAINERS: &str = "-containers";

const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// Bytes of a list that are read: each container takes some 600.
const LIST_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Stored {
    id: String,
    names: Option<Vec<String>>,
    /// JSON within JSON.
    metadata: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: String,
}

/// Finds those that are wanted in the lists of a storage.
pub(super) fn find(
    root: &Path,
    labels: &Labels,
    is_wanted: impl Fn(&str) -> bool,
    found: &mut Vec<(Place, ContainerName)>,
) {
    for folder in entries(root).filter(|folder| folder.ends_with(CONTAINERS)) {
        for list in LISTS {
            let bytes = whole(&root.join(&folder).join(list), LIST_BYTES).unwrap_or_default();
            let names = read(&bytes, labels, &is_wanted);
            found.extend(names.into_iter().map(|name| (Place::List, name)));
        }
    }
}

/// What a list says of those that are wanted.
pub(in super::super) fn read(
    bytes: &[u8],
    labels: &Labels,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<ContainerName> {
    let stored: Vec<&RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
    let stored =
        stored.into_iter().filter_map(|one| serde_json::from_str::<Stored>(one.get()).ok());
    stored.filter(|one| is_wanted(&one.id)).filter_map(|one| name(&one, labels)).collect()
}

fn name(stored: &Stored, labels: &Labels) -> Option<ContainerName> {
    let name = stored.names.as_ref()?.first()?;
    let metadata = stored.metadata.as_deref().unwrap_or_default();
    let metadata: Metadata = serde_json::from_str(metadata).unwrap_or_default();
    let called = labels.called(name, &metadata.image, &pod(name))?;
    Some(ContainerName { container: short(&stored.id)?.to_owned(), called })
}

/// CRI-O writes whose a container is into its name: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`. No part has a `_`.
fn pod(name: &str) -> BTreeMap<String, String> {
    let parts: Vec<&str> = name.split('_').collect();
    let ["k8s", container, pod, namespace, _, _] = parts[..] else { return BTreeMap::new() };
    [(POD_CONTAINER, container), (POD, pod), (POD_NAMESPACE, namespace)]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use topology::model::WorkloadKind;

    use super::*;

    /// As Podman 4.3 wrote it, and what CRI-O adds.
    const LIST: &str = r#"[{"id":"ba04aea866a00b470f0aed60172ded42dfbb9ca3804d0183de6a82e8ea0f49cc","names":["web-1"],"image":"8671a4e8194971ff793a06fbba54416e5adca08f7af68f0afdfa27c6d3073fb4","layer":"77114cc56f453d3a7f74233a1692602c7ce442083b4b34b556fca8eb4521a201","metadata":"{\"image-name\":\"localhost/shop:1\",\"image-id\":\"8671a4e8194971ff793a06fbba54416e5adca08f7af68f0afdfa27c6d3073fb4\",\"name\":\"web-1\",\"created-at\":1795286873}","created":"2026-11-21T18:47:53.547259887Z","flags":{"MountLabel":"","ProcessLabel":""}},7,{"id":"c57c1ee07a9d618e220e5930c85a7c2a491fc00f37048945c82937002a4d682a","names":["k8s_nginx_web-x7_shop_0a1b_0"],"metadata":"x"},{"id":"d57c1ee07a9d618e220e5930c85a7c2a491fc00f37048945c82937002a4d682a"}]"#;

    #[test]
    fn a_list_names_those_that_are_wanted() {
        let all = read(LIST.as_bytes(), &Labels::default(), |_| true);
        let [web, pod] = &all[..] else { panic!("{all:?}") };
        assert_eq!((web.container.as_str(), web.called.name.as_str()), ("ba04aea866a0", "web-1"));
        assert_eq!(web.called.labels["image"], "localhost/shop:1");
        assert_eq!((pod.called.kind, pod.called.name.as_str()), (WorkloadKind::Pod, "web-x7"));
        assert_eq!(pod.called.namespace, "shop");
        let one = read(LIST.as_bytes(), &Labels::default(), |id| id.starts_with("ba04"));
        assert_eq!(one, all[..1]);
        assert!(read(&LIST.as_bytes()[..300], &Labels::default(), |_| true).is_empty());
    }
}
