//! What an API server of Kubernetes says of services and hosts: watched once for all hosts, here. Pods are their own
//! hosts' agents' business.
//!
//! - `objects` reads what matters of a Service, an EndpointSlice and a Node,
//! - `keep` watches one kind of them, and tells the state whatever changes.

mod keep;
pub(crate) mod objects;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kubernetes::Access;
use tokio::sync::watch;

use crate::state::Shared;
use objects::{EndpointSlice, Node, Service};

/// Watches until it is stopping.
pub(crate) async fn run(
    access: Option<Access>,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
) {
    let Some(access) = access else { return };
    tracing::info!(server = %access, "services and hosts of Kubernetes are watched");
    tokio::join!(
        keep::run::<Service>(access.clone(), &shared, stopping.clone()),
        keep::run::<EndpointSlice>(access.clone(), &shared, stopping.clone()),
        keep::run::<Node>(access, &shared, stopping),
    );
}
