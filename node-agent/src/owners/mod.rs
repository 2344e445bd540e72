//! Who owns a socket: from the owner that the kernel saw to a workload with a name.
//!
//! The name is read when the kernel says that the owner is new, while the process most likely
//! lives; what was read is kept, because later there may be nothing left to read.

mod cgroups;
pub(crate) mod fuzzing;
mod interpreter;
mod leaf;
mod procfs;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use common::kernel::{OWNERS, Owner};
use topology::model::{Workload, WorkloadKind};

use crate::cgroup_fs::CgroupFs;
use cgroups::Cgroups;
pub use procfs::ProcFs;

/// Owners remembered. The kernel knows fewer at a time, so this fills only when owners come
/// and go faster than [`FORGET_AFTER`].
const REMEMBERED: usize = 2 * OWNERS as usize;

/// An owner not asked for in this time may be forgotten when room is needed.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Bytes of a name that are kept: the limit of the protocol.
const NAME_BYTES: usize = 256;

/// Network namespaces noted between two calls of [`Owners::take_members`].
const MEMBERS_NOTED: usize = 1_024;

/// Containers noted between two calls of [`Owners::take_containers`].
const CONTAINERS_NOTED: usize = 2_048;

/// A process that was seen in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceMember {
    /// Cookie of the network namespace.
    pub network_namespace: u64,
    /// Id of the process.
    pub tgid: u32,
}

/// A container that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContainer {
    /// Its name: digits of its id.
    pub name: String,
    /// Id of the pod that it is in, if its cgroup's path has one.
    pub pod: Option<String>,
}

struct Remembered {
    workload: Arc<Workload>,
    asked: Instant,
    /// What the kernel remembers, too.
    in_kernel: Option<Owner>,
}

/// Names owners, and remembers the names.
pub struct Owners {
    procfs: ProcFs,
    cgroups: Cgroups,
    host: Arc<Workload>,
    remembered: HashMap<u64, Remembered>,
    /// How many of them the kernel remembers, too.
    in_kernel: usize,
    /// One instance of each workload, however many owners have it.
    instances: HashSet<Arc<Workload>>,
    members: Vec<NamespaceMember>,
    containers: Vec<NewContainer>,
}

impl Owners {
    /// For the node of this name, whose processes below `cgroup` are watched.
    #[must_use]
    pub fn new(node: &str, cgroup: CgroupFs, procfs: ProcFs) -> Self {
        Self {
            procfs,
            cgroups: Cgroups::new(cgroup),
            host: Arc::new(workload(WorkloadKind::Host, node)),
            remembered: HashMap::new(),
            in_kernel: 0,
            instances: HashSet::new(),
            members: Vec::new(),
            containers: Vec::new(),
        }
    }

    /// The workload behind an owner's id; the host itself when that cannot be told. `lookup` asks
    /// the kernel what the id was made of.
    pub fn workload(
        &mut self,
        id: u64,
        now: Instant,
        lookup: impl FnOnce(u64) -> Option<Owner>,
    ) -> Arc<Workload> {
        if id == 0 {
            return Arc::clone(&self.host);
        }
        if let Some(remembered) = self.remembered.get_mut(&id) {
            remembered.asked = now;
            if remembered.in_kernel.is_none() {
                remembered.in_kernel = lookup(id);
                self.in_kernel += usize::from(remembered.in_kernel.is_some());
            }
            return Arc::clone(&remembered.workload);
        }
        // Not remembered: the kernel may know it the next time.
        let Some(owner) = lookup(id) else { return Arc::clone(&self.host) };
        self.note_member(&owner);
        let (named, pod) = self.name(&owner, now).unzip();
        let workload = self.instance(named, pod.flatten());
        let remembered =
            Remembered { workload: Arc::clone(&workload), asked: now, in_kernel: Some(owner) };
        self.remember(id, remembered, now);
        workload
    }

    /// An earlier process of the agent took this owner for this workload; `known` is what the kernel says of it.
    pub fn recall(
        &mut self,
        id: u64,
        workload: &Arc<Workload>,
        known: Option<Owner>,
        now: Instant,
    ) {
        if id == 0 || *workload == self.host || self.remembered.contains_key(&id) {
            return;
        }
        known.iter().for_each(|owner| self.note_member(owner));
        let workload = self.instance(Some(Workload::clone(workload)), None);
        self.remember(id, Remembered { workload, asked: now, in_kernel: known }, now);
    }

    fn note_member(&mut self, owner: &Owner) {
        if owner.tgid != 0 && self.members.len() < MEMBERS_NOTED {
            let network_namespace = owner.netns_cookie;
            self.members.push(NamespaceMember { network_namespace, tgid: owner.tgid });
        }
    }

    /// How many owners the kernel remembers, as far as is known here.
    #[must_use]
    pub fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Owners that the kernel can forget: their process is gone, and nothing in `used` is theirs.
    /// Their names are still remembered here, while there is room.
    pub fn take_gone(&mut self, used: &HashSet<u64>) -> Vec<u64> {
        let procfs = &self.procfs;
        let mut gone = Vec::new();
        for (id, known) in &mut self.remembered {
            let Some(owner) = &known.in_kernel else { continue };
            if !used.contains(id) && (owner.tgid == 0 || !procfs.lives(owner)) {
                known.in_kernel = None;
                gone.push(*id);
            }
        }
        self.in_kernel -= gone.len();
        gone
    }

    /// Processes of owners that were new since the last call, with their network namespaces.
    pub fn take_members(&mut self) -> Vec<NamespaceMember> {
        std::mem::take(&mut self.members)
    }

    /// Containers that were new since the last call.
    pub fn take_containers(&mut self) -> Vec<NewContainer> {
        std::mem::take(&mut self.containers)
    }

    /// What an owner is called, and the id of the pod that it is in.
    fn name(&mut self, owner: &Owner, now: Instant) -> Option<(Workload, Option<String>)> {
        let lives = owner.tgid != 0 && self.procfs.lives(owner);
        let hint = if lives { self.procfs.cgroup(owner.tgid) } else { None };
        let directory = self.cgroups.directory(owner.cgroup_id, hint.as_deref(), now);
        let path = directory.as_deref().and_then(Path::to_str);
        if let Some((kind, name)) = path.and_then(leaf::workload_of) {
            return Some((workload(kind, &name), path.and_then(leaf::pod_of)));
        }
        let process = if lives {
            self.procfs.name(owner.tgid)
        } else if owner.tgid == 0 {
            directory.and_then(|directory| self.procfs.common_name(&directory))
        } else {
            None
        };
        let name = process.or_else(|| comm(&owner.comm))?;
        Some((workload(WorkloadKind::Process, &name), None))
    }

    fn instance(&mut self, named: Option<Workload>, pod: Option<String>) -> Arc<Workload> {
        let Some(named) = named else { return Arc::clone(&self.host) };
        if let Some(known) = self.instances.get(&named) {
            return Arc::clone(known);
        }
        if named.kind == WorkloadKind::Container && self.containers.len() < CONTAINERS_NOTED {
            self.containers.push(NewContainer { name: named.name.clone(), pod });
        }
        let instance = Arc::new(named);
        self.instances.insert(Arc::clone(&instance));
        instance
    }

    fn remember(&mut self, id: u64, owner: Remembered, now: Instant) {
        if self.remembered.len() >= REMEMBERED {
            let recent = |known: &Remembered| now.duration_since(known.asked) < FORGET_AFTER;
            self.remembered.retain(|_, known| known.in_kernel.is_some() || recent(known));
            if self.remembered.len() >= REMEMBERED {
                // The kernel has room for half of them: those must be known here as well, or it
                // would never be told to forget them.
                self.remembered.retain(|_, known| known.in_kernel.is_some());
            }
            self.instances.retain(|instance| Arc::strong_count(instance) > 1);
        }
        if self.remembered.len() < REMEMBERED {
            self.in_kernel += usize::from(owner.in_kernel.is_some());
            self.remembered.insert(id, owner);
        }
    }
}

fn workload(kind: WorkloadKind, name: &str) -> Workload {
    let name = clean(name);
    Workload { kind, name, namespace: String::new(), labels: BTreeMap::new() }
}

/// A name fit for the wire: no control characters, and not too long.
pub(crate) fn clean(name: &str) -> String {
    let mut clean = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if c.is_control() { '?' } else { c };
        if clean.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        clean.push(c);
    }
    clean
}

fn comm(bytes: &[u8; 16]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(bytes.get(..end)?);
    (!name.is_empty()).then(|| name.into_owned())
}

#[cfg(test)]
mod tests;
