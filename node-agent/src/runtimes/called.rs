//! What a container is called: from its name, its image and its labels to what the wire has.

use std::collections::BTreeMap;

use proto::{MAX_LABELS, MAX_STRING_BYTES};
use topology::model::{Workload, WorkloadKind};

use super::kubernetes::Owner;
use crate::owners::clean;

/// Bytes of the user's own labels that are told of one container: with those below it stays within what an aggregator
/// keeps.
const OWN_BYTES: usize = 1_024;

/// Labels by which compose tells project and service, and a swarm's stack of compose services.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const STACK: &str = "com.docker.stack.namespace";
const STACK_SERVICE: &str = "com.docker.swarm.service.name";

/// Labels that are told of one container. Room is left for its name and its image, which a pod has in many.
const MOST_TOLD: usize = MAX_LABELS - 2;

/// What labels are called that tell whose a pod is: of a Deployment and the like.
const OWNER: &str = "owner";
const OWNER_KIND: &str = "owner.kind";

/// Labels by which a kubelet tells whose a container is.
pub(super) const POD: &str = "io.kubernetes.pod.name";
pub(super) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const POD_CONTAINER: &str = "io.kubernetes.container.name";

/// Labels of a pod that its authors have made for the like of us. They are told by themselves.
const RECOMMENDED: [&str; 5] = [
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
];

/// Which labels of containers are told, besides image, project and service. None are by themselves: some hold what is
/// nobody's business, the password of a proxy for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Those with these keys; a `*` at the end of one stands for any rest.
    #[must_use]
    pub fn new(keys: Vec<String>) -> Self {
        Self(keys)
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => wanted == key,
        })
    }

    /// What a container is called; `None` when nothing is left of its name.
    pub(super) fn called(
        &self,
        name: &str,
        image: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Workload> {
        let of = |key: &str| labels.get(key).map(String::as_str).filter(|text| !text.is_empty());
        // Docker writes a name with the slash of its root.
        let name = name.strip_prefix('/').unwrap_or(name);
        let mut told = BTreeMap::new();
        let mut tell = |key: &str, value: &str| told.insert(key.to_owned(), clean(value));
        if !image.is_empty() {
            tell("image", image);
        }
        let (kind, name, namespace) = if let Some(pod) = of(POD) {
            if let Some(container) = of(POD_CONTAINER) {
                tell("container", container);
            }
            (WorkloadKind::Pod, pod, of(POD_NAMESPACE))
        } else {
            let (project, service) = composed(of);
            if let Some(project) = project {
                tell("compose.project", project);
            }
            if let Some(service) = service {
                tell("compose.service", service);
            }
            (WorkloadKind::Container, name, project)
        };
        add_own(&mut told, labels, |key| self.has(key));
        let (name, namespace) = (clean(name), clean(namespace.unwrap_or_default()));
        (!name.is_empty()).then_some(Workload { kind, name, namespace, labels: told })
    }

    /// What a pod is called, without what its containers add; `None` when nothing is left of its name.
    pub(super) fn of_pod(
        &self,
        name: &str,
        namespace: &str,
        owner: &Owner,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Option<Workload> {
        let (name, namespace) = (clean(name), clean(namespace));
        let mut told: BTreeMap<_, _> = [(OWNER, &owner.name), (OWNER_KIND, &owner.kind)]
            .map(|(key, value)| (key.to_owned(), clean(value)))
            .into();
        if let Some(labels) = labels {
            let is_told = |key: &str| RECOMMENDED.contains(&key) || self.has(key);
            add_own(&mut told, labels, is_told);
        }
        (!name.is_empty()).then_some(Workload {
            kind: WorkloadKind::Pod,
            name,
            namespace,
            labels: told,
        })
    }
}

/// Adds labels of the user's, as far as there is room.
fn add_own(
    told: &mut BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    is_told: impl Fn(&str) -> bool,
) {
    let mut room = OWN_BYTES;
    for (key, value) in labels.iter().filter(|(key, _)| is_told(key)) {
        let (key, value) = (clean(key), clean(value));
        let takes = key.len() + value.len();
        if takes <= room && told.len() < MOST_TOLD && !key.is_empty() {
            room -= takes;
            // What a user calls a label does not change what ours say.
            told.entry(key).or_insert(value);
        }
    }
}

/// Project and service of a container, if it is one of a compose file.
fn composed<'a>(of: impl Fn(&str) -> Option<&'a str>) -> (Option<&'a str>, Option<&'a str>) {
    let Some(stack) = of(STACK) else { return (of(PROJECT), of(SERVICE)) };
    let service = of(STACK_SERVICE).map(|service| {
        let own = service.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_'));
        own.filter(|own| !own.is_empty()).unwrap_or(service)
    });
    (Some(stack), service)
}

const _: () = assert!(MAX_STRING_BYTES == 256, "as much as `clean` leaves of a text");

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn told(named: &Workload) -> Vec<(&str, &str)> {
        named.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_compose_service_is_one_within_its_project() {
        let labels = labels(&[
            (PROJECT, "shop"),
            (SERVICE, "web"),
            ("com.docker.compose.config-hash", "b02e"),
            ("traefik.basicauth.users", "me:secret"),
        ]);
        let named = Labels::default().called("/shop-web-1", "shop:1", &labels).unwrap();
        assert_eq!((named.kind, named.name.as_str()), (WorkloadKind::Container, "shop-web-1"));
        assert_eq!(named.namespace, "shop");
        let expected =
            [("compose.project", "shop"), ("compose.service", "web"), ("image", "shop:1")];
        assert_eq!(told(&named), expected);
    }

    #[test]
    fn so_is_a_service_of_a_stack() {
        for (service, expected) in [("shop_web", "web"), ("other", "other"), ("shop_", "shop_")] {
            let labels = labels(&[(STACK, "shop"), (STACK_SERVICE, service)]);
            let named = Labels::default().called("shop_web.1.x7", "", &labels).unwrap();
            assert_eq!(told(&named), [("compose.project", "shop"), ("compose.service", expected)]);
        }
    }

    #[test]
    fn a_container_of_a_pod_is_the_pod() {
        let labels = labels(&[(POD, "web-x7"), (POD_NAMESPACE, "shop"), (POD_CONTAINER, "nginx")]);
        let named = Labels::default().called("/k8s_nginx_web-x7_shop_1_0", "i", &labels).unwrap();
        assert_eq!((named.kind, named.name.as_str()), (WorkloadKind::Pod, "web-x7"));
        assert_eq!(named.namespace, "shop");
        assert_eq!(told(&named), [("container", "nginx"), ("image", "i")]);
    }

    #[test]
    fn own_labels_are_told_where_they_are_asked_for_and_fit() {
        let wanted = Labels::new(vec!["team".to_owned(), "org.example.*".to_owned()]);
        let long = "x".repeat(2_000);
        let mut own = labels(&[
            ("team", "blue\n"),
            ("teams", "no"),
            ("org.example.tier", "1"),
            ("org.example", "no"),
        ]);
        let named = wanted.called("a", "", &own).unwrap();
        assert_eq!(told(&named), [("org.example.tier", "1"), ("team", "blue?")]);
        own.extend((0..100).map(|number| (format!("org.example.{number:03}"), long.clone())));
        let named = wanted.called("a", "", &own).unwrap();
        let bytes = named.labels.iter().map(|(key, value)| key.len() + value.len());
        assert!(bytes.sum::<usize>() <= OWN_BYTES);
        own.insert("org.example.image".to_owned(), "x".to_owned());
        let all = Labels::new(vec!["*".to_owned()]);
        let named = all.called("a", "i", &labels(&[("image", "mine")])).unwrap();
        assert_eq!(told(&named), [("image", "i")]);
        assert!(all.called("/", "i", &own).is_none());
    }
}
