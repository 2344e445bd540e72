//! Names made of any bytes.

use std::path::Path;

use common::kernel::Owner;
use topology::model::{Workload, WorkloadKind};

use super::{ProcFs, comm, interpreter, leaf, workload};

/// Programs whose command lines are read.
const PROGRAMS: [&str; 6] =
    ["/usr/bin/python3", "/bin/sh", "/usr/bin/java", "/usr/bin/busybox", "/usr/bin/deno", "/a"];

/// What a process with these files is called: by its cgroup, its command line and its thread.
pub(crate) fn workloads(dir: &Path, cgroup: &str, stat: &[u8], command: &[u8]) -> Vec<Workload> {
    let mut named: Vec<_> = leaf::workload_of(cgroup).into_iter().collect();
    let pod = leaf::pod_of(cgroup);
    assert!(pod.is_none_or(|pod| pod.len() <= 36), "no id of a pod");
    let process = dir.join("1");
    let files = [("stat", stat), ("cgroup", cgroup.as_bytes()), ("cmdline", command)];
    let written = std::fs::create_dir_all(&process).and_then(|()| {
        files.iter().try_for_each(|(name, bytes)| std::fs::write(process.join(name), bytes))
    });
    assert!(written.is_ok(), "no room in {}: {:?}", dir.display(), written.err());
    let proc = ProcFs::new(dir);
    let mut thread = [0; 16];
    thread.iter_mut().zip(command).for_each(|(to, from)| *to = *from);
    let owner =
        Owner { cgroup_id: 1, netns_cookie: 1, start_ns: 1, tgid: 1, reserved: 0, comm: thread };
    let _ = (proc.lives(&owner), proc.cgroup(1), proc.common_name(&process));
    let command = String::from_utf8_lossy(command);
    let arguments: Vec<_> = command.split('\0').collect();
    let names = PROGRAMS.iter().map(|program| interpreter::process_name(program, &arguments));
    let names = names.chain(comm(&owner.comm)).filter(|name| !name.is_empty());
    named.extend(names.map(|name| (WorkloadKind::Process, name)));
    named.into_iter().map(|(kind, name)| workload(kind, &name)).collect()
}
