//! What containers are called, beside what they count.

use std::{collections::BTreeMap, time::Instant};

use topology::model::{Workload, WorkloadKind};

use super::Report;
use crate::runtimes::{Names, Told};

impl Report {
    /// What a runtime has said of its containers.
    pub fn hear_names(&mut self, news: Told, now: Instant) {
        self.names.take(news, now);
        self.urgent |= !self.names.is_clean();
    }

    /// What is known of them.
    #[must_use]
    pub fn container_names(&self) -> &Names {
        &self.names
    }

    /// Names of containers that have ended go when no batch speaks of them any more.
    pub(super) fn forget_names(&mut self, now: Instant) {
        let workloads = &self.workloads;
        let mut workload = Workload {
            kind: WorkloadKind::Container,
            name: String::new(),
            namespace: String::new(),
            labels: BTreeMap::new(),
        };
        self.names.forget(now, |container| {
            container.clone_into(&mut workload.name);
            workloads.knows(&workload)
        });
    }
}
