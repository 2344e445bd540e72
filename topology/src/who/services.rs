//! Workloads, and the services they make up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    cluster::facts::ObjectName, directory::Directory, names::Names, rules::Rules, zones::Zones,
};
use crate::{
    base::{
        arena::{Arena, Key},
        id::Id,
        shares::Shares,
    },
    model::{Workload, WorkloadKind},
    nodes::{NodeIx, Nodes},
    show::view::ViewNode,
};

/// Name of what stands for the rest.
pub(crate) const OTHER: &str = "other";

/// Name of what stands for the external peers of a service beyond so many.
pub(crate) const EXTERNAL: &str = "external";

/// How many labels a service has at most.
const LABELS: usize = 32;

/// A workload of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadIx(pub(crate) Key<WorkloadEntry>);

/// Which service a workload is part of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkloadEntry {
    pub(crate) node: NodeIx,
    pub(crate) service: ServiceIx,
    key: (NodeIx, Arc<Workload>),
}

impl WorkloadEntry {
    /// What it is called.
    pub(crate) fn called<'a>(&'a self, names: &'a Names) -> &'a Workload {
        names.get(self.node, &self.key.1)
    }
}

pub(crate) type ServiceIx = Key<Service>;

/// All workloads of one kind, namespace and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) kind: WorkloadKind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) id: Id,
    hosts: BTreeSet<NodeIx>,
    labels: BTreeMap<String, String>,
    /// How many workloads make it up.
    workloads: usize,
    /// What is told of it, until that changes.
    #[serde(skip)]
    told: Option<Arc<ViewNode>>,
}

impl Service {
    #[cfg(test)]
    pub(crate) fn nameless() -> Self {
        let kind = WorkloadKind::Process;
        Service {
            kind,
            namespace: "".into(),
            name: "".into(),
            id: Id::of_node(kind, "", ""),
            hosts: BTreeSet::new(),
            labels: BTreeMap::new(),
            workloads: 0,
            told: None,
        }
    }

    /// What is told of it, if it was told since that changed.
    pub(crate) const fn told(&self) -> Option<&Arc<ViewNode>> {
        self.told.as_ref()
    }

    /// What orders services in the same way whenever they were first seen.
    pub(crate) fn rank(&self) -> (WorkloadKind, &str, &str) {
        (self.kind, &self.namespace, &self.name)
    }

    /// Of two values of a label the smaller one stays: the order of arrival tells nothing.
    fn label(&mut self, labels: &BTreeMap<String, String>) {
        for (name, value) in labels {
            if self.labels.get(name) == Some(value) {
                continue;
            }
            self.told = None;
            let room = self.labels.len() < LABELS;
            match self.labels.get_mut(name) {
                Some(old) if value < old => old.clone_from(value),
                None if room => {
                    self.labels.insert(name.clone(), value.clone());
                }
                _ => {}
            }
        }
    }
}

/// Room that a workload is counted in, in bytes.
pub const WORKLOAD_BYTES: usize = 512;

/// How much room a workload takes: once here and once with its service.
fn pieces(workload: &Workload) -> usize {
    let labels = workload.labels.iter().map(|(name, value)| name.len() + value.len() + 64);
    let bytes = workload.name.len() + workload.namespace.len() + labels.sum::<usize>();
    1 + bytes / WORKLOAD_BYTES
}

/// What became of services when names or rules changed.
#[derive(Default)]
pub(crate) struct Regrouped {
    /// Services that have another name now.
    pub(crate) renamed: HashSet<ServiceIx>,
    /// Workloads that make up another service now: the old one and the new one.
    pub(crate) moved: HashMap<WorkloadIx, (ServiceIx, ServiceIx)>,
}

type ServiceKey = (WorkloadKind, Arc<str>, Arc<str>);

/// Every service and workload that something refers to.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Services {
    services: Arena<Service>,
    #[serde(skip)]
    by_key: HashMap<ServiceKey, ServiceIx>,
    workloads: Arena<WorkloadEntry>,
    #[serde(skip)]
    by_workload: HashMap<(NodeIx, Arc<Workload>), WorkloadIx>,
    /// What runtimes call workloads.
    pub(crate) names: Names,
    /// What the user says.
    rules: Rules,
    /// Workloads that were folded.
    pub(crate) folded: u64,
    /// Whose they are, in pieces of [`WORKLOAD_BYTES`].
    #[serde(skip)]
    pub(crate) shares: Shares,
}

impl Services {
    pub(crate) fn new(most: usize) -> Self {
        Services { shares: Shares::new(most), ..Services::default() }
    }

    /// What has to be stored; the rest follows from it.
    pub(crate) fn stored(&self) -> Self {
        Services {
            services: self.services.clone(),
            by_key: HashMap::new(),
            workloads: self.workloads.clone(),
            by_workload: HashMap::new(),
            names: self.names.clone(),
            rules: self.rules.clone(),
            folded: self.folded,
            shares: Shares::default(),
        }
    }

    /// Finishes what was read back.
    pub(crate) fn resume(&mut self, most: usize) {
        self.shares = Shares::new(most);
        for (_, entry) in self.workloads.iter() {
            self.shares.take(entry.node, pieces(&entry.key.1));
        }
        let key =
            |service: &Service| (service.kind, service.namespace.clone(), service.name.clone());
        self.by_key = self.services.iter().map(|(ix, service)| (key(service), ix)).collect();
        let workloads = self.workloads.iter();
        self.by_workload =
            workloads.map(|(ix, entry)| (entry.key.clone(), WorkloadIx(ix))).collect();
    }

    pub(crate) fn get(&self, ix: ServiceIx) -> Option<&Service> {
        self.services.get(ix)
    }

    /// What is told of a service.
    pub(crate) fn view_node(&mut self, ix: ServiceIx, nodes: &Nodes) -> Option<Arc<ViewNode>> {
        let told = &self.services.get(ix)?.told;
        if told.is_some() {
            return told.clone();
        }
        let service = self.services.get_mut(ix)?;
        let hosts = service.hosts.iter().filter_map(|ix| nodes.get(*ix));
        let mut hosts: Vec<_> = hosts.map(|node| node.name().to_owned()).collect();
        hosts.sort_unstable();
        service.told = Some(Arc::new(ViewNode {
            id: service.id,
            kind: service.kind,
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
            hosts,
            zone: String::new(),
            labels: service.labels.clone(),
        }));
        service.told.clone()
    }

    /// Every service as it is now, with what is told of it; the memory is shared.
    pub(crate) fn freeze(&mut self, nodes: &Nodes) -> Arena<Service> {
        self.tell_all(nodes);
        self.services.clone()
    }

    /// From now on what is told of every service is at hand, as long as that does not change.
    pub(crate) fn tell_all(&mut self, nodes: &Nodes) {
        let untold = self.services.iter().filter(|(_, service)| service.told.is_none());
        let untold: Vec<_> = untold.map(|(ix, _)| ix).collect();
        for ix in untold {
            self.view_node(ix, nodes);
        }
    }

    pub(crate) fn workload(&self, ix: WorkloadIx) -> Option<&WorkloadEntry> {
        self.workloads.get(ix.0)
    }

    /// Who everybody is as it is now; of services, what was told since they changed. The memory is shared.
    pub(crate) fn directory(&self, nodes: &Nodes, zones: Zones) -> Directory {
        Directory {
            services: self.services.clone(),
            workloads: self.workloads.clone(),
            names: self.names.clone(),
            hosts: nodes.iter().map(|(_, node)| Arc::clone(&node.name)).collect(),
            zones,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    /// The service that stands for a host.
    pub(crate) fn host(&mut self, node: NodeIx, name: &str) -> ServiceIx {
        self.service(WorkloadKind::Host, "", name, Some(node))
    }

    /// The service that stands for an uncovered peer: by the name of its network, else by its address.
    pub(crate) fn external(&mut self, ip: IpAddr) -> ServiceIx {
        let name = self.rules.network(ip).map_or_else(|| ip.to_string(), str::to_owned);
        self.service(WorkloadKind::External, "", &name, None)
    }

    /// The service that stands for one of Kubernetes, as far as no agent tells who is behind it.
    pub(crate) fn in_cluster(&mut self, name: &ObjectName) -> ServiceIx {
        self.service(WorkloadKind::External, &name.namespace, &name.name, None)
    }

    /// The service that stands for a peer without a name, if there is one.
    pub(crate) fn known_external(&self, ip: IpAddr) -> Option<ServiceIx> {
        self.by_key.get(&(WorkloadKind::External, "".into(), ip.to_string().into())).copied()
    }

    /// The service that stands for the external peers beyond so many.
    pub(crate) fn external_rest(&mut self) -> ServiceIx {
        self.service(WorkloadKind::External, "", EXTERNAL, None)
    }

    /// Whether a service is that.
    pub(crate) fn is_external_rest(&self, ix: ServiceIx) -> bool {
        let service = self.services.get(ix);
        service.is_some_and(|service| service.rank() == (WorkloadKind::External, "", EXTERNAL))
    }

    /// The service that stands for all that there was no room for.
    pub(crate) fn other(&mut self) -> ServiceIx {
        self.service(WorkloadKind::Other, "", OTHER, None)
    }

    fn service(
        &mut self,
        kind: WorkloadKind,
        namespace: &str,
        name: &str,
        node: Option<NodeIx>,
    ) -> ServiceIx {
        let key: ServiceKey = (kind, namespace.into(), name.into());
        let ix = match self.by_key.get(&key) {
            Some(ix) => *ix,
            None => {
                let ix = self.services.insert(Service {
                    kind,
                    namespace: key.1.clone(),
                    name: key.2.clone(),
                    id: Id::of_node(kind, namespace, name),
                    hosts: BTreeSet::new(),
                    labels: BTreeMap::new(),
                    workloads: 0,
                    told: None,
                });
                self.by_key.insert(key, ix);
                ix
            }
        };
        if let (Some(node), Some(service)) = (node, self.services.get_mut(ix))
            && service.hosts.insert(node)
        {
            service.told = None;
        }
        ix
    }

    /// Interns a workload, or what stands for those without room. `host` is the node's name, which names what has
    /// no owner.
    pub(crate) fn intern(&mut self, node: NodeIx, host: &str, workload: Workload) -> WorkloadIx {
        let mut key = (node, Arc::new(workload));
        if !self.by_workload.contains_key(&key) && !self.shares.has_room(node) {
            self.folded += 1;
            key.1 = Arc::new(Workload {
                kind: WorkloadKind::Other,
                name: OTHER.to_owned(),
                namespace: String::new(),
                labels: BTreeMap::new(),
            });
        }
        if let Some(ix) = self.by_workload.get(&key) {
            return *ix;
        }
        let service = match key.1.kind {
            WorkloadKind::Host | WorkloadKind::External => self.host(node, host),
            WorkloadKind::Other => self.other(),
            _ => {
                let (kind, namespace, name) = self.called(node, &key.1);
                self.service(kind, &namespace, &name, Some(node))
            }
        };
        self.join(service, node, &key.1);
        self.shares.take(node, pieces(&key.1));
        let entry = WorkloadEntry { node, service, key: key.clone() };
        let ix = WorkloadIx(self.workloads.insert(entry));
        self.by_workload.insert(key, ix);
        ix
    }

    /// What the service of a workload is called.
    fn called(&self, node: NodeIx, workload: &Workload) -> (WorkloadKind, String, String) {
        let named = self.names.get(node, workload);
        let (namespace, name) = self.rules.service(named);
        (named.kind, namespace.into_owned(), name.into_owned())
    }

    /// A workload is one of those that make up a service.
    fn join(&mut self, service: ServiceIx, node: NodeIx, workload: &Workload) {
        let labels = &self.names.get(node, workload).labels;
        if let Some(service) = self.services.get_mut(service) {
            service.workloads += 1;
            service.label(labels);
        }
    }

    fn leave(&mut self, service: ServiceIx) {
        if let Some(service) = self.services.get_mut(service) {
            service.workloads = service.workloads.saturating_sub(1);
        }
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Looks again which services workloads make up: of a node, or all. Where all workloads of a service make up another
    /// one that is new, that is the same one with another name.
    pub(crate) fn regroup(&mut self, of: Option<NodeIx>) -> Regrouped {
        let mut regrouped = Regrouped::default();
        // In the order of their first workloads: which number a service has may differ when the journal is replayed.
        let mut moving: Vec<(ServiceIx, Vec<(WorkloadIx, ServiceKey)>)> = Vec::new();
        let mut at: HashMap<ServiceIx, usize> = HashMap::new();
        for (ix, entry) in self.workloads.iter() {
            let workload = &entry.key.1;
            let own = [WorkloadKind::Host, WorkloadKind::External, WorkloadKind::Other];
            if of.is_some_and(|node| node != entry.node) || own.contains(&workload.kind) {
                continue;
            }
            let (kind, namespace, name) = self.called(entry.node, workload);
            let stays = self
                .services
                .get(entry.service)
                .is_some_and(|service| service.rank() == (kind, namespace.as_str(), name.as_str()));
            if !stays {
                let key = (kind, namespace.into(), name.into());
                let at = *at.entry(entry.service).or_insert_with(|| {
                    moving.push((entry.service, Vec::new()));
                    moving.len() - 1
                });
                moving[at].1.push((WorkloadIx(ix), key));
            }
        }
        for (old, workloads) in moving {
            let all = self.services.get(old).is_some_and(|old| old.workloads == workloads.len());
            let key = workloads.first().map(|(_, key)| key.clone());
            let key = key.filter(|key| workloads.iter().all(|(_, other)| other == key));
            match key.filter(|key| all && !self.by_key.contains_key(key)) {
                Some(key) => {
                    self.rename(old, key);
                    regrouped.renamed.insert(old);
                    for (ix, _) in workloads {
                        self.relabel(ix, old);
                    }
                }
                None => {
                    for (ix, (kind, namespace, name)) in workloads {
                        let Some(entry) = self.workloads.get(ix.0) else { continue };
                        let (node, workload) = entry.key.clone();
                        let new = self.service(kind, &namespace, &name, Some(node));
                        self.leave(old);
                        self.join(new, node, &workload);
                        if let Some(entry) = self.workloads.get_mut(ix.0) {
                            entry.service = new;
                        }
                        regrouped.moved.insert(ix, (old, new));
                    }
                }
            }
        }
        regrouped
    }

    fn rename(&mut self, ix: ServiceIx, key: ServiceKey) {
        let Some(service) = self.services.get_mut(ix) else { return };
        let old = (service.kind, service.namespace.clone(), service.name.clone());
        service.id = Id::of_node(key.0, &key.1, &key.2);
        (service.kind, service.namespace, service.name) = key.clone();
        service.labels.clear();
        service.told = None;
        self.by_key.remove(&old);
        self.by_key.insert(key, ix);
    }

    fn relabel(&mut self, workload: WorkloadIx, service: ServiceIx) {
        let Some(entry) = self.workloads.get(workload.0) else { return };
        let labels = self.names.get(entry.node, &entry.key.1).labels.clone();
        if let Some(service) = self.services.get_mut(service) {
            service.label(&labels);
        }
    }

    /// Forgets workloads that nothing refers to.
    pub(crate) fn forget_workloads(&mut self, used: &HashSet<WorkloadIx>) {
        let all = self.workloads.iter().map(|(ix, _)| WorkloadIx(ix));
        let unused: Vec<_> = all.filter(|ix| !used.contains(ix)).collect();
        for ix in unused {
            if let Some(entry) = self.workloads.remove(ix.0) {
                self.shares.give(entry.node, pieces(&entry.key.1));
                self.by_workload.remove(&entry.key);
                self.leave(entry.service);
            }
        }
    }

    /// Forgets services that neither something else nor a workload refers to.
    pub(crate) fn sweep(&mut self, mut used: HashSet<ServiceIx>) {
        used.extend(self.workloads.iter().map(|(_, entry)| entry.service));
        let unused: Vec<_> =
            self.services.iter().map(|(ix, _)| ix).filter(|ix| !used.contains(ix)).collect();
        for ix in unused {
            if let Some(service) = self.services.remove(ix) {
                self.by_key.remove(&(service.kind, service.namespace, service.name));
            }
        }
    }
}
