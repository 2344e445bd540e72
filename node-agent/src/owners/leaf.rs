//! Names from a cgroup's path.

use topology::model::WorkloadKind;

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// Digits of it that make a name.
const NAME_DIGITS: usize = 12;

/// What the last part of a cgroup's path says of its processes; `None` when it says nothing.
#[must_use]
pub fn workload_of(cgroup: &str) -> Option<(WorkloadKind, String)> {
    let mut parts = cgroup.rsplit('/').filter(|part| !part.is_empty());
    let leaf = parts.next()?;
    let unit_or_process = || match leaf {
        // Podman puts the processes one level below the scope that has the id.
        "container" => parts.next().and_then(scope_container),
        _ if leaf.ends_with(".service") || leaf.ends_with(".scope") => {
            Some((WorkloadKind::Systemd, leaf.to_owned()))
        }
        _ => None,
    };
    container_id(leaf).map(container).or_else(|| scope_container(leaf)).or_else(unit_or_process)
}

fn container(id: &str) -> (WorkloadKind, String) {
    (WorkloadKind::Container, id.chars().take(NAME_DIGITS).collect())
}

/// `docker-<id>.scope` and its like, as runtimes with the systemd driver name them.
fn scope_container(leaf: &str) -> Option<(WorkloadKind, String)> {
    let (runtime, id) = leaf.strip_suffix(".scope")?.rsplit_once('-')?;
    // The monitor beside a container is not in it.
    if runtime.ends_with("conmon") {
        return None;
    }
    container_id(id).map(container)
}

fn container_id(text: &str) -> Option<&str> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == ID_DIGITS && text.bytes().all(hex)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn named(path: &str) -> Option<(WorkloadKind, String)> {
        workload_of(&path.replace("ID", ID))
    }

    #[test]
    fn containers_of_every_driver() {
        for path in [
            "/docker/ID",
            "/ID/",
            "/system.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
            "/machine.slice/libpod-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/kubepods/burstable/pod1/ID",
        ] {
            let expected = (WorkloadKind::Container, "0123456789ab".to_owned());
            assert_eq!(named(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn units_keep_their_whole_name() {
        for unit in ["nginx.service", "session-3.scope", "libpod-conmon-ID.scope", "a@b.service"] {
            let unit = unit.replace("ID", ID);
            let path = format!("/system.slice/{unit}");
            assert_eq!(named(&path), Some((WorkloadKind::Systemd, unit)));
        }
    }

    #[test]
    fn anything_else_says_nothing() {
        for path in [
            "",
            "/",
            "/user.slice",
            "/docker/IDx",
            "/docker/x",
            "/nginx.service/sub",
            "/container",
            "/a/container",
            "0::/",
            "/docker/ID/init",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
        assert_eq!(workload_of(&ID.to_uppercase()), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_names_nothing(path in ".{0,100}") {
            if let Some((_, name)) = workload_of(&path) {
                prop_assert!(!name.is_empty());
            }
        }
    }
}
