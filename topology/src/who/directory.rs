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
    model::{Workload, WorkloadKind},
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

/// One end, as far as it is known who and where it is.
struct Placed<'a> {
    /// Of its service.
    told: &'a Arc<ViewNode>,
    host: Option<&'a str>,
    /// What the workload is called.
    workload: Option<&'a Workload>,
    /// Empty when there is none.
    zone: &'a str,
}

impl Directory {
    /// What is told of one end: the workload on its host, as far as they are known.
    pub(crate) fn look_up(&self, service: ServiceIx, end: End) -> Option<Arc<ViewNode>> {
        let Placed { told, host, workload, zone } = match self.place(service, end)? {
            Ok(placed) => placed,
            Err(told) => return Some(Arc::clone(told)),
        };
        let (kind, name, labels) = match workload {
            Some(called) => (called.kind, called.name.clone(), called.labels.clone()),
            None => (told.kind, told.name.clone(), told.labels.clone()),
        };
        Some(Arc::new(ViewNode {
            id: ViewNode::id_on_host(kind, &told.namespace, &name, host),
            kind,
            namespace: told.namespace.clone(),
            name,
            hosts: host.map(str::to_owned).into_iter().collect(),
            zone: zone.to_owned(),
            labels,
        }))
    }

    /// The [id in its zone](ViewNode::id_in_zone) of what is told of one end.
    pub(crate) fn id_in_zone(&self, service: ServiceIx, end: End) -> Option<Id> {
        let Placed { told, host, workload, zone } = match self.place(service, end)? {
            Ok(placed) => placed,
            Err(told) => return Some(told.id_in_zone()),
        };
        let (kind, name) = workload
            .map_or((told.kind, &told.name), |called: &Workload| (called.kind, &called.name));
        Some(match host {
            Some(host) if zone.is_empty() => Id::of_placed(kind, &told.namespace, &[name, host]),
            Some(host) => Id::of_placed(kind, &told.namespace, &[name, host, zone]),
            None => Id::of_node(kind, &told.namespace, name),
        })
    }

    /// Who and where one end is; or what is told of it where it is nowhere.
    fn place(&self, service: ServiceIx, end: End) -> Option<Result<Placed<'_>, &Arc<ViewNode>>> {
        let told = self.services.get(service)?.told()?;
        if matches!(told.kind, WorkloadKind::External | WorkloadKind::Other) {
            return Some(Err(told));
        }
        let host = end.node.and_then(|node| self.hosts.get(node.index())).map(|name| &**name);
        let host = host.or(match told.hosts.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        });
        let workload = end.workload.and_then(|ix| self.workloads.get(ix.0));
        let workload = workload.map(|entry| entry.called(&self.names));
        let zone = host.and_then(|host| self.zones.of(host)).unwrap_or_default();
        Some(Ok(Placed { told, host, workload, zone }))
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
            Some(host) => Id::of_placed(kind, namespace, &[name, host]),
            None => Id::of_node(kind, namespace, name),
        }
    }

    /// The same that also tells apart in which zone the host was.
    #[must_use]
    pub fn id_in_zone(&self) -> Id {
        match self.hosts.as_slice() {
            [host] if !self.zone.is_empty() => {
                Id::of_placed(self.kind, &self.namespace, &[&self.name, host, &self.zone])
            }
            _ => self.id,
        }
    }
}
