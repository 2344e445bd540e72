//! Adds up what edges had in steps: first an outline of each, which says whether and how high it is shown; then, once it
//! is known as what, everything else.

use std::{collections::HashMap, sync::Arc};

use super::{abreast::Abreast, pending::Pending, rank::Rank, view::SeenBy};
use crate::{
    base::{
        arena::Arena,
        id::Id,
        sheet::Sheet,
        totals::{EdgeTotals, Measure},
    },
    count::{
        edges::{Edge, EdgeKey, Seen},
        history::Packed,
        packed::{Packer, Unpacker},
    },
    model::WorkloadKind,
    who::services::Service,
};

/// What is known of an edge before everything is added up.
pub(super) struct Outline {
    pub(super) key: EdgeKey,
    /// Unless it was never published.
    pub(super) id: Option<Id>,
    /// How high it is.
    pub(super) high: u64,
    pub(super) seen: Seen,
    pub(super) open: u64,
    /// Something of it was published in the window.
    pub(super) published: bool,
    /// It has moved anything, or has connected.
    moved: bool,
    connected: bool,
}

impl Outline {
    fn new(key: EdgeKey, id: Option<Id>) -> Self {
        Outline {
            key,
            id,
            high: 0,
            seen: Seen::default(),
            open: 0,
            published: false,
            moved: false,
            connected: false,
        }
    }

    /// Whether it moved anything in the window or has a connection open at its end.
    pub(super) const fn is_shown(&self) -> bool {
        self.open > 0 || self.moved
    }

    /// Whether only one side has seen it, although the other is covered.
    pub(super) fn is_one_sided(&self, services: &Arena<Service>) -> bool {
        let connected = self.open > 0 || self.connected;
        let ends = (services.get(self.key.0), services.get(self.key.1));
        let ((Some(client), Some(server)), true) = (ends, connected && self.published) else {
            return false;
        };
        let missing = match SeenBy::of(self.seen) {
            SeenBy::Both => return false,
            SeenBy::Client => server,
            SeenBy::Server => client,
        };
        !matches!(missing.kind, WorkloadKind::External | WorkloadKind::Other)
    }

    fn gain(&mut self, totals: &EdgeTotals, rank: Rank) {
        self.high = self.high.saturating_add(rank.of_totals(totals));
        self.connected |= totals.get(Measure::Connections) > 0;
    }
}

/// What an edge is shown as: by itself, or as a part of what is shown of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Own(u32),
    Shared(u32),
}

/// Everything of an edge that was published.
pub(super) struct Whole {
    pub(super) key: EdgeKey,
    /// The place of the edge.
    pub(super) place: usize,
    pub(super) totals: EdgeTotals,
    pub(super) seen: Seen,
    pub(super) open: u64,
}

/// Everything that was added up so far.
pub(super) struct Added {
    rank: Rank,
    /// By the place of the edge; then those that are no edge yet.
    outlines: Vec<Option<Outline>>,
    /// What was published: the sum of the steps before the last, the last, and the running one.
    packed: Vec<Arc<[u8]>>,
    /// What was not, with the place of its outline.
    pending: Vec<(usize, EdgeTotals)>,
}

impl Added {
    /// Nothing but what these edges have in the running step.
    pub(super) fn new(edges: &Arena<Edge>, running: bool, rank: Rank) -> Self {
        let mut outlines: Vec<Option<Outline>> = Vec::new();
        outlines.resize_with(edges.places(), || None);
        let mut packer = Packer::default();
        for (ix, edge) in edges.iter() {
            if let Some(outline) = outlines.get_mut(ix.index()) {
                *outline = Some(Outline::new(edge.key, Some(edge.id)));
            }
            if running && edge.is_running() {
                packer.put(ix.index(), &edge.running, edge.seen, edge.open);
            }
        }
        let packed = running.then(|| packer.finish().into()).into_iter().collect();
        Added { rank, outlines, packed, pending: Vec::new() }
    }

    /// Adds the steps that are over: the sum of those before the last, and the last.
    pub(super) fn add(&mut self, before: Arc<[u8]>, last: Vec<Packed>) {
        let over = [before].into_iter().chain(last.into_iter().map(|step| step.bytes));
        self.packed.splice(0..0, over);
        let mut totals = EdgeTotals::default();
        for (at, bytes) in self.packed.iter().enumerate() {
            let mut unpacker = Unpacker::new(bytes);
            while let Some(head) = unpacker.head() {
                totals.clear();
                let read = unpacker.add_values(&head, &mut totals);
                if read.and_then(|()| unpacker.pass_samples(&head)).is_none() {
                    break;
                }
                let outline = self.outlines.get_mut(head.index).and_then(Option::as_mut);
                let Some(outline) = outline else { continue };
                outline.published = true;
                outline.moved |= head.has_any();
                outline.seen.merge(head.seen);
                outline.open = if at > 0 { head.open } else { outline.open };
                outline.gain(&totals, self.rank);
            }
        }
    }

    /// Adds what is shown before it is published.
    pub(super) fn add_pending(&mut self, pending: Vec<Pending>) {
        let mut new: HashMap<EdgeKey, usize> = HashMap::new();
        for Pending { key, place, totals, seen, open } in pending {
            let place = place.unwrap_or_else(|| {
                *new.entry(key).or_insert_with(|| {
                    self.outlines.push(Some(Outline::new(key, None)));
                    self.outlines.len() - 1
                })
            });
            let Some(Some(outline)) = self.outlines.get_mut(place) else { continue };
            outline.moved |= !totals.is_zero();
            outline.seen.merge(seen);
            outline.open = outline.open.saturating_add(open);
            outline.gain(&totals, self.rank);
            self.pending.push((place, totals));
        }
    }

    /// How many places of outlines there are.
    pub(super) const fn places(&self) -> usize {
        self.outlines.len()
    }

    fn outlines(&self) -> impl Iterator<Item = (usize, &Outline)> {
        let all = self.outlines.iter().enumerate();
        all.filter_map(|(place, outline)| Some((place, outline.as_ref()?)))
    }

    /// Those that are to be shown, with their places.
    pub(super) fn shown(&self) -> impl Iterator<Item = (usize, &Outline)> {
        self.outlines().filter(|(_, outline)| outline.is_shown())
    }

    /// Everything that was published of each edge.
    pub(super) fn whole(self) -> Vec<Whole> {
        let mut whole = Vec::new();
        let mut places = vec![None; self.places()];
        for (place, outline) in self.outlines().filter(|(_, outline)| outline.published) {
            places[place] = Some(Place::Own(whole.len() as u32));
            let &Outline { key, seen, open, .. } = outline;
            whole.push(Whole { key, place, totals: EdgeTotals::default(), seen, open });
        }
        self.pour(&places, (&mut whole, |whole: &mut Whole| &mut whole.totals), &mut []);
        whole
    }

    /// Adds up everything of the edges that have a place: to `own`, each for itself, and to `shared`.
    pub(super) fn pour<T>(
        self,
        places: &[Option<Place>],
        (own, totals): (&mut [T], impl Fn(&mut T) -> &mut EdgeTotals),
        shared: &mut [Sheet],
    ) {
        let place = |of: usize| places.get(of).copied().flatten();
        let mut abreast = Abreast::of(self.packed.iter().map(|bytes| &**bytes));
        let mut sheet = Sheet::default();
        while let Some(next) = abreast.next() {
            match place(next) {
                Some(Place::Own(at)) => {
                    abreast.add(next, &mut sheet, |_| {});
                    let sum = sheet.take();
                    if let Some(own) = own.get_mut(at as usize) {
                        *totals(own) = sum;
                    }
                }
                Some(Place::Shared(at)) => match shared.get_mut(at as usize) {
                    Some(shared) => abreast.add(next, shared, |_| {}),
                    None => abreast.pass(next),
                },
                None => abreast.pass(next),
            }
        }
        for (of, pending) in &self.pending {
            match place(*of) {
                Some(Place::Own(at)) => {
                    if let Some(own) = own.get_mut(at as usize) {
                        totals(own).merge(pending);
                    }
                }
                Some(Place::Shared(at)) => {
                    if let Some(shared) = shared.get_mut(at as usize) {
                        shared.add(pending);
                    }
                }
                None => {}
            }
        }
    }
}
