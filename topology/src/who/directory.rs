//! Who everybody is, as of one moment: what is told of the ends of edges while the graph goes on.

use std::{collections::HashMap, sync::Arc};

use super::{
    names::Names,
    services::{Service, ServiceIx, WorkloadEntry},
    zones::Zones,
};
use crate::{
    base::{arena::Arena, id::Id},
    count::parts::End,
    model::WorkloadKind,
    show::view::ViewNode,
};

/// Who everybody is, as of one moment. It shares its memory with the graph until that writes to it.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) services: Arena<Service>,
    pub(crate) workloads: Arena<WorkloadEntry>,
    pub(crate) names: Names,
    /// Names of hosts, by [`crate::NodeIx::index`].
    pub(crate) hosts: Vec<Arc<str>>,
    pub(crate) zones: Zones,
}

/// What was looked up: most ends are of many edges.
pub(crate) type Looked = HashMap<(ServiceIx, End), Option<Arc<ViewNode>>>;

impl Directory {
    /// What is told of one end: the workload on its host, as far as they are known.
    pub(crate) fn look_up(&self, service: ServiceIx, end: End) -> Option<Arc<ViewNode>> {
        let told = self.services.get(service)?.told()?;
        if matches!(told.kind, WorkloadKind::External | WorkloadKind::Other) {
            return Some(Arc::clone(told));
        }
        let host = end.node.and_then(|node| self.hosts.get(node.index())).map(|name| &**name);
        let host = host.or(match told.hosts.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        });
        let workload = end.workload.and_then(|ix| self.workloads.get(ix.0));
        let (kind, name, labels) = match workload.map(|entry| entry.called(&self.names)) {
            Some(called) => (called.kind, called.name.clone(), called.labels.clone()),
            None => (told.kind, told.name.clone(), told.labels.clone()),
        };
        Some(Arc::new(ViewNode {
            id: ViewNode::id_on_host(kind, &told.namespace, &name, host),
            kind,
            namespace: told.namespace.clone(),
            name,
            hosts: host.map(str::to_owned).into_iter().collect(),
            zone: host.and_then(|host| self.zones.of(host)).unwrap_or_default().to_owned(),
            labels,
        }))
    }

    /// The same, which is looked up once.
    pub(crate) fn end(
        &self,
        service: ServiceIx,
        end: End,
        looked: &mut Looked,
    ) -> Option<Arc<ViewNode>> {
        looked.entry((service, end)).or_insert_with(|| self.look_up(service, end)).clone()
    }
}

impl ViewNode {
    /// Id of a workload on a host, as far as that is known.
    #[must_use]
    pub fn id_on_host(kind: WorkloadKind, namespace: &str, name: &str, host: Option<&str>) -> Id {
        match host {
            // No name has this character.
            Some(host) => Id::of_node(kind, namespace, &format!("{name}\0{host}")),
            None => Id::of_node(kind, namespace, name),
        }
    }

    /// The same that also tells apart in which zone the host was.
    #[must_use]
    pub fn id_in_zone(&self) -> Id {
        match self.hosts.as_slice() {
            [host] if !self.zone.is_empty() => {
                let name = format!("{}\0{host}\0{}", self.name, self.zone);
                Id::of_node(self.kind, &self.namespace, &name)
            }
            _ => self.id,
        }
    }
}
