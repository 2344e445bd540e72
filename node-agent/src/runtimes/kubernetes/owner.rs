//! Whose a pod is: what somebody has written down, and not what was made of it on the way.

use super::pod::{OwnerReference, Pod};

/// The first minute since 1970 by which a CronJob may have called a Job: of 2015. A date in digits, as people write it
/// behind a name, is less.
const FIRST_MINUTE: u64 = 24_000_000;

/// Kind and name of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Owner {
    pub(in super::super) kind: String,
    pub(in super::super) name: String,
}

/// The owner of a pod. One that stands for itself is its own.
pub(super) fn of(pod: &Pod) -> Owner {
    let metadata = &pod.metadata;
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    let controls = |reference: &&OwnerReference| reference.controller == Some(true);
    let reference = references.iter().find(controls).or(references.first());
    let named = |kind: &str, name: &str| Owner { kind: kind.to_owned(), name: name.to_owned() };
    let Some(OwnerReference { kind, name, .. }) = reference.filter(|owner| !owner.name.is_empty())
    else {
        return named("Pod", &metadata.name);
    };
    let label = |key| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    match kind.as_str() {
        "ReplicaSet" => {
            let makers = [
                ("Deployment", "pod-template-hash"),
                // Of Argo, which takes the place of a Deployment.
                ("Rollout", "rollouts-pod-template-hash"),
            ];
            let mut made = makers
                .into_iter()
                .filter_map(|(maker, hash)| Some((maker, without(name, label(hash)?)?)));
            made.next().map_or_else(|| named(kind, name), |(maker, name)| named(maker, name))
        }
        "Job" => match name.rsplit_once('-') {
            Some((cron, minute)) if !cron.is_empty() && is_minute(minute) => named("CronJob", cron),
            _ => named(kind, name),
        },
        // A kubelet has it from a file of its own, and says so of every node.
        "Node" => {
            let node = &pod.spec.node_name;
            named("Pod", without(&metadata.name, node).unwrap_or(&metadata.name))
        }
        _ => named(kind, name),
    }
}

/// What is before `-LAST`.
fn without<'a>(name: &'a str, last: &str) -> Option<&'a str> {
    let before = name.strip_suffix(last)?.strip_suffix('-')?;
    (!before.is_empty() && !last.is_empty()).then_some(before)
}

fn is_minute(text: &str) -> bool {
    let is_number = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.parse().is_ok_and(|minute: u64| minute >= FIRST_MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, name: &str, labels: &[(&str, &str)]) -> (String, String) {
        let mut pod = Pod::default();
        pod.metadata.name = "pod-a".to_owned();
        pod.spec.node_name = "a".to_owned();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pod.metadata.labels = Some(labels.collect());
        let (kind, name) = (kind.to_owned(), name.to_owned());
        let other = OwnerReference { name: "other".to_owned(), ..OwnerReference::default() };
        let owner = OwnerReference { kind, name, controller: Some(true) };
        pod.metadata.owner_references = Some(vec![other, owner]);
        let owner = of(&pod);
        (owner.kind, owner.name)
    }

    #[test]
    fn what_was_made_on_the_way_is_left_out() {
        let hash = [("pod-template-hash", "7d4b9c")];
        for (kind, name, labels, expected) in [
            ("ReplicaSet", "web-7d4b9c", &hash[..], ("Deployment", "web")),
            ("ReplicaSet", "web-7d4b9c", &[], ("ReplicaSet", "web-7d4b9c")),
            ("ReplicaSet", "web-other", &hash, ("ReplicaSet", "web-other")),
            ("ReplicaSet", "-7d4b9c", &hash, ("ReplicaSet", "-7d4b9c")),
            ("ReplicaSet", "web-1", &[("rollouts-pod-template-hash", "1")], ("Rollout", "web")),
            ("ReplicaSet", "web-", &[("pod-template-hash", "")], ("ReplicaSet", "web-")),
            ("StatefulSet", "db", &hash, ("StatefulSet", "db")),
            ("DaemonSet", "agent", &[], ("DaemonSet", "agent")),
            ("Job", "report-29421990", &[], ("CronJob", "report")),
            ("Job", "migrate-20260101", &[], ("Job", "migrate-20260101")),
            ("Job", "-29421990", &[], ("Job", "-29421990")),
            ("Job", "once", &[], ("Job", "once")),
            ("Node", "a", &[], ("Pod", "pod")),
            ("Node", "", &[], ("Pod", "pod-a")),
            ("Cluster", "pg", &[], ("Cluster", "pg")),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert_eq!(owner(kind, name, labels), expected, "{kind} {name}");
        }
        let mut alone = Pod::default();
        alone.metadata.name = "shell".to_owned();
        assert_eq!(of(&alone), Owner { kind: "Pod".to_owned(), name: "shell".to_owned() });
    }
}
