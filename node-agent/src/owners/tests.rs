use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

/// A pretended `/proc` with one process, in the real top cgroup.
struct Setup {
    dir: tempfile::TempDir,
    cgroup: CgroupFs,
}

const TGID: u32 = 77;

impl Setup {
    fn new() -> Option<Self> {
        let Ok(cgroup) = CgroupFs::default_root() else {
            crate::testing::skipped("no cgroup v2 here");
            return None;
        };
        let setup = Self { dir: tempfile::tempdir().unwrap(), cgroup };
        let process = setup.dir.path().join(TGID.to_string());
        std::fs::create_dir(&process).unwrap();
        std::fs::write(process.join("cgroup"), "1:cpu:/x\n0::/\n").unwrap();
        let fields: Vec<_> = (4..=52).map(|field| field.to_string()).collect();
        std::fs::write(process.join("stat"), format!("77 (x) S {}", fields.join(" "))).unwrap();
        std::fs::write(process.join("cmdline"), "python3\0/srv/shop.py\0").unwrap();
        symlink("/usr/bin/python3.11", process.join("exe")).unwrap();
        Some(setup)
    }

    fn owner(&self) -> Owner {
        let cgroup_id = std::fs::metadata(self.cgroup.dir()).unwrap().ino();
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(b"worker");
        Owner { cgroup_id, netns_cookie: 5, start_ns: 0, tgid: TGID, reserved: 0, comm }
    }

    fn owners(&self) -> Owners {
        Owners::new("n1", self.cgroup.clone(), ProcFs::new(self.dir.path()))
    }
}

#[test]
fn a_process_has_the_name_of_its_script_and_is_remembered() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, now) = (setup.owners(), Instant::now());
    let first = owners.workload(9, now, |_| Some(setup.owner()));
    assert_eq!((first.kind, first.name.as_str()), (WorkloadKind::Process, "shop.py"));
    assert_eq!(owners.take_members(), [NamespaceMember { network_namespace: 5, tgid: TGID }]);
    std::fs::remove_dir_all(setup.dir.path().join("77")).unwrap();
    let again = owners.workload(9, now, |_| unreachable!("it is remembered"));
    assert!(Arc::ptr_eq(&first, &again));
    assert!(owners.take_members().is_empty());
}

#[test]
fn a_name_that_an_earlier_agent_gave_stays() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, now) = (setup.owners(), Instant::now());
    let named = Arc::new(workload(WorkloadKind::Process, "former.py"));
    owners.recall(9, &named, Some(setup.owner()), now);
    assert_eq!(owners.take_members(), [NamespaceMember { network_namespace: 5, tgid: TGID }]);
    assert_eq!(owners.in_kernel(), 1);
    assert_eq!(owners.workload(9, now, |_| unreachable!("it is remembered")), named);
    // What could not be named may be by now.
    owners.recall(10, &Arc::clone(&owners.host), None, now);
    assert_eq!(owners.workload(10, now, |_| Some(setup.owner())).name, "shop.py");
}

#[test]
fn each_container_is_noted_once() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, now) = (setup.owners(), Instant::now());
    let container = Arc::new(workload(WorkloadKind::Container, "0123456789ab"));
    owners.recall(9, &container, None, now);
    owners.recall(10, &container, None, now);
    owners.recall(11, &Arc::new(workload(WorkloadKind::Process, "app")), None, now);
    let noted = NewContainer { name: "0123456789ab".to_owned(), pod: None };
    assert_eq!(owners.take_containers(), [noted]);
    owners.recall(12, &container, None, now);
    assert!(owners.take_containers().is_empty());
}

#[test]
fn the_kernel_forgets_who_is_gone_and_unused() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, now) = (setup.owners(), Instant::now());
    let gone = Owner { tgid: 78, ..setup.owner() };
    owners.workload(1, now, |_| Some(setup.owner()));
    owners.workload(2, now, |_| Some(gone));
    owners.workload(3, now, |_| Some(gone));
    assert_eq!(owners.take_gone(&HashSet::from([3])), [2], "1 lives and 3 is in use");
    assert_eq!(owners.in_kernel(), 2);
    assert_eq!(owners.workload(2, now, |_| None).name, "worker", "the name is still known");
}

#[test]
fn a_process_that_is_gone_has_the_name_of_its_thread() {
    let Some(setup) = Setup::new() else { return };
    let gone = Owner { tgid: 78, ..setup.owner() };
    let reused = Owner { start_ns: 1 << 60, ..setup.owner() };
    for owner in [gone, reused] {
        let named = setup.owners().workload(9, Instant::now(), |_| Some(owner));
        assert_eq!((named.kind, named.name.as_str()), (WorkloadKind::Process, "worker"));
    }
}

#[test]
fn an_unknown_owner_is_the_host() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, now) = (setup.owners(), Instant::now());
    let nameless = Owner { tgid: 78, comm: [0; 16], ..setup.owner() };
    let host = owners.workload(0, now, |_| unreachable!("0 is nobody"));
    assert_eq!((host.kind, host.name.as_str()), (WorkloadKind::Host, "n1"));
    assert_eq!(owners.workload(1, now, |_| None), host);
    assert_eq!(owners.workload(2, now, |_| Some(nameless)), host);
    let later = owners.workload(1, now, |_| Some(setup.owner()));
    assert_eq!(later.name, "shop.py", "ignorance is not remembered");
}

#[test]
fn memory_is_bounded() {
    let Some(setup) = Setup::new() else { return };
    let (mut owners, start) = (setup.owners(), Instant::now());
    let gone = Owner { tgid: 78, ..setup.owner() };
    for id in 1..=(REMEMBERED as u64 + 10) {
        owners.workload(id, start, |_| Some(gone));
    }
    assert_eq!(owners.remembered.len(), REMEMBERED);
    assert_eq!(owners.instances.len(), 1);
    owners.take_gone(&HashSet::from([1]));
    owners.workload(u64::MAX, start + FORGET_AFTER, |_| Some(gone));
    assert_eq!(owners.remembered.len(), 2, "what the kernel knows is kept");
}

#[test]
fn names_are_fit_for_the_wire() {
    assert_eq!(clean("a\nb\u{1b}"), "a?b?");
    let long = clean(&"é".repeat(200));
    assert_eq!(long.len(), NAME_BYTES);
}
