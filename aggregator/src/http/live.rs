//! `/api/v1/topology/stream`: what changes, as it changes.
//!
//! Nobody is pushed: a reader's next event is made when there is room for it, out of the graph as it is then. Who is
//! slow so gets fewer events, not old ones. All readers share the views that they are made of.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Extension, Query, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use serde::Serialize;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use topology::{Grouping, Id, View, ViewEdge, Window};
use utoipa::ToSchema;

use super::{
    answer,
    part::{Part, PartQuery},
    problem::Problem,
    shapes::{EdgeJson, NodeJson, WindowJson},
};
use crate::{config::Grant, state::Shared};

/// The time that is looked at, up to now.
const SPAN: Duration = Duration::from_secs(60);

/// Shortest time between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Looking takes at most one part of so many of the time.
const REST: u32 = 20;

/// Readers at a time.
const READERS: usize = 64;

/// Services told of unless asked otherwise.
const DEFAULT_LIMIT: usize = 1000;

/// Groupings whose views are made of different ones: those of services, of workloads on their hosts, and of these with their
/// zones.
const KINDS: [Grouping; 3] = [Grouping::Service, Grouping::Workload, Grouping::Zone];

/// Which of [`KINDS`] a grouping is made of.
const fn kind_of(by: Grouping) -> usize {
    match by {
        Grouping::Service | Grouping::Namespace => 0,
        Grouping::Node | Grouping::Workload => 1,
        Grouping::Zone => 2,
    }
}

/// What readers of the stream share.
pub(crate) struct Live {
    /// The last look for each of [`KINDS`].
    last: [Mutex<Option<Look>>; KINDS.len()],
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// The graph at some moment.
#[derive(Clone)]
struct Look {
    view: Arc<View>,
    number: u64,
    /// When it is worth looking again.
    due: Instant,
}

/// What changed since the event before. The first event, `snapshot`, has everything.
#[derive(Serialize, ToSchema)]
pub(super) struct Changes {
    /// The last minute.
    window: WindowJson,
    /// Whether nothing is missing; see the coverage of `/api/v1/topology`.
    complete: bool,
    /// Services that are new or known better.
    nodes: Vec<NodeJson>,
    /// Edges that are new or have other numbers.
    edges: Vec<EdgeJson>,
    /// Ids of services that are no end of an edge any more.
    nodes_gone: Vec<String>,
    /// Ids of edges that moved nothing in the window and have no connection open.
    edges_gone: Vec<String>,
}

/// Server-sent events: `snapshot`, then `changes` whenever the graph over the last minute changed. A client that
/// connects again begins with a snapshot again.
#[utoipa::path(
    get,
    path = "/api/v1/topology/stream",
    params(PartQuery),
    responses(
        (status = 200, description = "events", body = Changes, content_type = "text/event-stream"),
        (status = "4XX", response = Problem),
        (status = "5XX", response = Problem),
    ),
)]
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Extension(live): Extension<Arc<Live>>,
    Query(part): Query<PartQuery>,
) -> Result<Response, Problem> {
    let part = Part::of(&part, grant, Some(DEFAULT_LIMIT))?;
    let place = Arc::clone(&live.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::busy("too many readers of the stream; try again"))?;
    let (events, taken) = mpsc::channel(1);
    let teller = Teller { shared, live, part: Arc::new(part), _place: place };
    tokio::spawn(teller.run(events));
    Ok(Sse::new(ReceiverStream::new(taken)).keep_alive(KeepAlive::default()).into_response())
}

impl Live {
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Self {
        Self {
            last: KINDS.map(|_| Mutex::new(None)),
            places: Arc::new(Semaphore::new(READERS)),
            stopping,
        }
    }

    /// The graph of a kind after the look with this number, as soon as it is worth it.
    async fn after(&self, kind: usize, seen: u64, shared: &Arc<Shared>) -> Result<Look, Problem> {
        loop {
            let due = {
                let mut last = self.last[kind].lock().await;
                match &*last {
                    Some(look) if look.due > Instant::now() => {
                        if look.number > seen {
                            return Ok(look.clone());
                        }
                        look.due
                    }
                    _ => {
                        let number = last.as_ref().map_or(1, |look| look.number + 1);
                        let look = look(number, KINDS[kind], shared).await?;
                        *last = Some(look.clone());
                        return Ok(look);
                    }
                }
            };
            sleep(due.saturating_duration_since(Instant::now())).await;
        }
    }
}

async fn look(number: u64, by: Grouping, shared: &Arc<Shared>) -> Result<Look, Problem> {
    let made = answer::blocking(Arc::clone(shared), move |shared| {
        let begun = Instant::now();
        let now = shared.now();
        let view = shared.view(Window { from: now.minus(SPAN), to: now }, by, now);
        (Arc::new(view), begun.elapsed())
    });
    let ((view, took), _turn) = made.await?;
    Ok(Look { view, number, due: Instant::now() + PERIOD.max(took.saturating_mul(REST)) })
}

/// Tells one reader.
struct Teller {
    shared: Arc<Shared>,
    live: Arc<Live>,
    part: Arc<Part>,
    _place: OwnedSemaphorePermit,
}

impl Teller {
    async fn run(self, events: mpsc::Sender<Result<Event, Infallible>>) {
        let mut stopping = self.live.stopping.clone();
        tokio::select! {
            () = self.tell(&events) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
            () = events.closed() => {}
        }
    }

    async fn tell(&self, events: &mpsc::Sender<Result<Event, Infallible>>) {
        let mut told: Option<Arc<View>> = None;
        let (mut seen, kind) = (0, kind_of(self.part.grouping()));
        while let Ok(room) = events.reserve().await {
            let Ok(look) = self.live.after(kind, seen, &self.shared).await else { return };
            seen = look.number;
            let (part, before) = (Arc::clone(&self.part), told.clone());
            let made = answer::blocking(Arc::clone(&self.shared), move |_| {
                let view = part.take(View::clone(&look.view));
                (event(before.as_deref(), &view), Arc::new(view))
            });
            let Ok(((event, view), _turn)) = made.await else { return };
            told = Some(view);
            if let Some(event) = event {
                room.send(Ok(event.id(seen.to_string())));
            }
        }
    }
}

/// What is new in a view; `None` when nothing is.
fn event(before: Option<&View>, view: &View) -> Option<Event> {
    let changes = Changes::between(before, view);
    if before.is_some() && changes.is_empty() {
        return None;
    }
    let name = if before.is_some() { "changes" } else { "snapshot" };
    // It has no maps with keys that are not text, which is all that can fail.
    Event::default().event(name).json_data(changes).ok()
}

impl Changes {
    fn between(before: Option<&View>, view: &View) -> Self {
        let nodes = before.map_or(&[][..], |view| &view.nodes);
        let old_nodes: HashMap<Id, _> = nodes.iter().map(|node| (node.id, node)).collect();
        let edges = before.map_or(&[][..], |view| &view.edges);
        let old_edges: HashMap<Id, &ViewEdge> = edges.iter().map(|edge| (edge.id, edge)).collect();
        let is_new_node = |node: &&Arc<topology::ViewNode>| {
            old_nodes.get(&node.id).is_none_or(|old| *old != *node)
        };
        let is_new_edge =
            |edge: &&ViewEdge| old_edges.get(&edge.id).is_none_or(|old| *old != *edge);
        let new_nodes = view.nodes.iter().filter(is_new_node);
        let new_edges = view.edges.iter().filter(is_new_edge);
        let gone = |old: &mut dyn Iterator<Item = Id>, new: &mut dyn Iterator<Item = Id>| {
            let new: std::collections::HashSet<Id> = new.collect();
            let mut gone: Vec<Id> = old.filter(|id| !new.contains(id)).collect();
            gone.sort_unstable();
            gone.iter().map(Id::to_string).collect()
        };
        Self {
            window: view.window.into(),
            complete: view.coverage.complete,
            nodes: new_nodes.map(|node| NodeJson::from(node.as_ref())).collect(),
            edges: new_edges.map(EdgeJson::from).collect(),
            nodes_gone: gone(
                &mut old_nodes.keys().copied(),
                &mut view.nodes.iter().map(|node| node.id),
            ),
            edges_gone: gone(
                &mut old_edges.keys().copied(),
                &mut view.edges.iter().map(|edge| edge.id),
            ),
        }
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.edges.is_empty()
            && self.nodes_gone.is_empty()
            && self.edges_gone.is_empty()
    }
}
