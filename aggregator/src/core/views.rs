//! What readers see of the state.

use std::time::Duration;

use topology::{Grouping, Rank, Slice, Sums, Timestamp, View, Window};

use super::{Core, Held};
use crate::history::Keeper;

/// Edges from which on a graph is large: a tick or an answer takes more than some milliseconds.
pub(super) const LARGE: usize = 5_000;

/// How old what is told of a large graph may be, as a tick takes long: so much, and so large a part of what is asked for.
/// There is one at the end of each step, and the end of the window says when the last one was.
const FRESH_ENOUGH: Duration = Duration::from_secs(15);
const PART: u32 = 10;

impl Core {
    /// Whether the graph is large.
    pub(crate) fn is_large(&self) -> bool {
        self.graph.stats().edges >= LARGE
    }

    /// What the graph over a window of time is made of; to be grouped as said. As of now, but where it is large and there
    /// was a tick of late, as of that.
    pub fn slice(&mut self, window: Window, by: Grouping, now: Timestamp) -> Slice {
        if !(self.is_large() && self.is_fresh_enough(window, now)) {
            self.tick(now);
        }
        match by.is_finer() {
            true => self.graph.slice_finer_as_ticked(window, by),
            false => self.graph.slice_as_ticked(window),
        }
    }

    /// Whether a window can be told of as of the last tick.
    fn is_fresh_enough(&self, window: Window, now: Timestamp) -> bool {
        let age = now.since(self.graph.ticked_at());
        let asked = window.to.min(now).since(window.from);
        age <= FRESH_ENOUGH && age.saturating_mul(PART) <= asked && !self.graph.has_late()
    }

    /// The graph over a window of time, as of now: from memory as far as that goes, else from the history, which is
    /// read while the state is not held. Nor is it held while all that is added up.
    pub(crate) fn view_all(
        core: &Held<Self>,
        sums: &Sums,
        history: &Keeper,
        (asked, by): (Window, Grouping),
        now: Timestamp,
    ) -> View {
        let remembered = core.lock().graph.remembered_from();
        if asked.from >= remembered {
            let slice = core.lock_for_long().slice(asked, by, now);
            return reaching(slice.view(sums), history, by);
        }
        let recent = Window { from: remembered, to: asked.to.max(remembered) };
        let before = Window { from: asked.from, to: asked.to.min(remembered) };
        let older = history.older(before, remembered, by);
        let known =
            Window { from: asked.from.max(older.stored_from.unwrap_or(asked.from)), ..asked };
        let (slice, holes) = {
            let mut core = core.lock_for_long();
            let slice = core.slice(recent, by, now);
            let holes = core.graph.holes(Window { to: known.to.min(slice.window().to), ..known });
            (slice, holes)
        };
        let mut view = slice.view(sums);
        (view.coverage.holes, view.coverage.holes_left_out) = holes;
        view.with_older(older, asked)
    }

    /// The same, folded.
    pub(crate) fn folded_all(
        core: &Held<Self>,
        sums: &Sums,
        history: &Keeper,
        (asked, limit, rank): (Window, usize, Rank),
        now: Timestamp,
    ) -> View {
        if asked.from < core.lock().graph.remembered_from() {
            let asked = (asked, Grouping::Service);
            return Self::view_all(core, sums, history, asked, now).fold(limit, rank);
        }
        let slice = core.lock_for_long().slice(asked, Grouping::Service, now);
        reaching(slice.folded(limit, rank, sums), history, Grouping::Service)
    }
}

/// An answer from memory says how far back the history goes, too.
fn reaching(mut view: View, history: &Keeper, by: Grouping) -> View {
    let from = &mut view.coverage.history_from;
    *from = history.stored_from(by).min(*from);
    view
}
