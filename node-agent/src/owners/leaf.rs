//! Names from a cgroup's path.

use topology::model::WorkloadKind;

use crate::runtimes::ID_DIGITS as NAME_DIGITS;

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// What the directory of an LXC container begins with; its name follows.
const LXC: &str = "lxc.payload.";

/// What a cgroup's path says of its processes; `None` when it says nothing. Whatever is below a container's directory,
/// units of a system that runs in it say, or containers of an engine in it, is the container's; below a unit's, the unit's.
///
/// Of containers within one another the outermost is the one that a runtime of this host has made and can name. What is
/// below it is called as whoever is inside likes, where a container may write to its cgroups: as another container, say. No
/// path tells that from an engine in a container; an agent beside that engine, whose root is the container, tells its
/// containers apart.
#[must_use]
pub fn workload_of(cgroup: &str) -> Option<(WorkloadKind, String)> {
    let parts = || cgroup.rsplit('/').filter(|part| !part.is_empty());
    let unit = |(depth, part): (usize, &str)| {
        let is_unit = part.ends_with(".service") || part.ends_with(".scope");
        // A user's own units are below the one that manages them.
        let is_one = is_unit && (depth == 0 || !part.starts_with("user@"));
        is_one.then(|| (WorkloadKind::Systemd, part.to_owned()))
    };
    parts().rev().find_map(container).or_else(|| parts().enumerate().find_map(unit))
}

/// What a part of a path says of a container.
fn container(part: &str) -> Option<(WorkloadKind, String)> {
    let id = container_id(part).map(|id| id.chars().take(NAME_DIGITS).collect());
    let name = id.or_else(|| part.strip_prefix(LXC).map(str::to_owned))?;
    (!name.is_empty()).then_some((WorkloadKind::Container, name))
}

/// The id in a part of a path: alone, or as runtimes write it. With the driver for systemd that is `docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `nerdctl-ID.scope`; without it `ID`, `crio-ID`,
/// `libpod-ID`, `libpod-payload-ID` within a unit, and `SLICE:cri-containerd:ID` where the two sides disagree.
#[must_use]
pub fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (runtime, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_id = id.len() == ID_DIGITS && id.bytes().all(hex);
    // The monitor beside a container is not in it.
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

/// The id of the pod that a cgroup is in. With the driver for systemd it is in `kubepods-burstable-podID.slice`, with `_` for
/// `-`; without it in `kubepods/burstable/podID`; and in `kubepods-podID.slice:cri-containerd:…` where the two sides disagree.
/// A slice begins with the names of all above it, where a kubelet is told of one: `kubelet-kubepods-podID.slice`.
///
/// It is above the container, the outermost as in [`workload_of`]: what is below is called as whoever is inside likes.
#[must_use]
pub fn pod_of(cgroup: &str) -> Option<String> {
    for part in cgroup.split('/') {
        let pod = pod_in(part);
        if pod.is_some() || container(part).is_some() {
            return pod;
        }
    }
    None
}

/// The id of a pod in a part of a path.
fn pod_in(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or(part);
    let id = match part.strip_suffix(".slice") {
        Some(slice) => {
            let (above, id) = slice.rsplit_once("-pod")?;
            above.split('-').any(|name| name == "kubepods").then_some(id)?
        }
        None => part.strip_prefix("pod")?,
    };
    let id = id.replace('_', "-");
    // What a kubelet has from a file has no dashes.
    let is_id = [32, 36].contains(&id.len());
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
    (is_id && id.bytes().all(hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POD: &str = "5e6f7a80-91a2-4b3c-8d4e-5f60718293a4";

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn named(path: &str) -> Option<(WorkloadKind, String)> {
        workload_of(&path.replace("ID", ID).replace("OTHER", &"f".repeat(ID_DIGITS)))
    }

    #[test]
    fn containers_of_every_driver() {
        for path in [
            "/docker/ID",
            "/ID/",
            "/system.slice/docker-ID.scope",
            "/docker.slice/docker-ID.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope/container",
            "/kubepods.slice/kubepods-pod1.slice/docker-ID.scope",
            "/kubepods/burstable/pod1/ID",
            "/kubepods/besteffort/pod1-2/crio-ID",
            "/system.slice/containerd.service/kubepods-besteffort-pod1_2.slice:cri-containerd:ID",
            "/machine.slice/libpod-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/libpod_parent/libpod-ID",
            "/libpod_parent/libpod-ID/container",
            "/system.slice/web.service/libpod-payload-ID",
            "/system.slice/nerdctl-ID.scope",
            "/default/ID",
            // What runs in one may have a system of its own.
            "/docker/ID/init",
            "/docker/ID/system.slice/nginx.service",
            "/system.slice/docker-ID.scope/init.scope",
            // Or containers, real ones or not.
            "/docker/ID/docker/OTHER",
            "/docker/ID/kubelet.slice/kubelet-kubepods.slice/cri-containerd-OTHER.scope",
            "/kubepods/burstable/pod1/ID/kubepods/pod2/OTHER",
            "/system.slice/docker-ID.scope/docker-OTHER.scope",
            "/docker/ID/OTHER",
            "/docker/ID/lxc.payload.other",
        ] {
            let expected = (WorkloadKind::Container, "0123456789ab".to_owned());
            assert_eq!(named(path), Some(expected), "{path}");
        }
        let lxc = (WorkloadKind::Container, "web".to_owned());
        assert_eq!(named("/lxc.payload.web/system.slice/nginx.service"), Some(lxc.clone()));
        assert_eq!(named("/lxc.payload.web/docker/ID"), Some(lxc));
    }

    #[test]
    fn pods_of_both_drivers() {
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-podUID.slice/crio-ID.scope/container",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID.slice/cri-containerd-ID.scope",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podUID.slice/docker-ID.scope",
            "/system.slice/containerd.service/kubepods-besteffort-podUID.slice:cri-containerd:ID",
            // Whatever is below the container.
            "/kubepods.slice/kubepods-podUID.slice/crio-ID.scope/kubepods/podOTHER/ID",
            "/kubepods.slice/kubepods-podUID.slice:cri-containerd:ID/kubepods-podOTHER.slice",
        ] {
            let path = path.replace("OTHER", &POD.replace('5', "6"));
            let path = path.replace("UID", &POD.replace('-', "_")).replace("ID", ID);
            assert_eq!(pod_of(&path).as_deref(), Some(POD), "{path}");
        }
        let path = format!("/kubepods/burstable/pod{POD}/{ID}");
        assert_eq!(pod_of(&path).as_deref(), Some(POD));
        let of_a_file = "0123456789abcdef0123456789abcdef";
        let path =
            format!("/kubepods.slice/kubepods-pod{of_a_file}.slice/cri-containerd-{ID}.scope");
        assert_eq!(pod_of(&path).as_deref(), Some(of_a_file));
        for path in [
            "",
            "/docker/x",
            "/kubepods/podx/y",
            "/podman",
            "/kubepods-pod.slice",
            "/notkubepods-podUID.slice",
            "/docker/ID/kubepods/podUID/ID",
            "/system.slice/docker-ID.scope/kubelet.slice/kubelet-kubepods-podUID.slice",
            "/lxc.payload.web/kubepods/podUID/ID",
        ] {
            let path = path.replace("UID", POD).replace("ID", ID);
            assert_eq!(pod_of(&path), None, "{path}");
        }
    }

    #[test]
    fn units_keep_their_whole_name() {
        for unit in ["nginx.service", "session-3.scope", "libpod-conmon-ID.scope", "a@b.service"] {
            let unit = unit.replace("ID", ID);
            for below in ["", "/", "/payload", "/a.slice/b"] {
                let path = format!("/system.slice/{unit}{below}");
                assert_eq!(named(&path), Some((WorkloadKind::Systemd, unit.clone())), "{path}");
            }
        }
        let own =
            named("/user.slice/user-1.slice/user@1.service/app.slice/sync.service/x").unwrap();
        assert_eq!(own.1, "sync.service");
    }

    #[test]
    fn anything_else_says_nothing() {
        for path in [
            "",
            "/",
            "/user.slice",
            "/docker/IDx",
            "/docker/x",
            "/container",
            "/a/container",
            "0::/",
            "/lxc.payload.",
            "/libpod_parent/conmon",
            "/libpod_parent/libpod-conmon-ID",
            "/user.slice/user-1.slice/user@1.service/app.slice",
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
            let _ = pod_of(&path);
        }
    }
}
