//! The published series as of one moment.

use crate::{Graph, base::arena::Arena, count::series::Series};

/// The published series as of one moment. It shares their memory with the graph until that writes to it, so having
/// one costs next to nothing.
pub struct Published(Arena<Series>);

impl Published {
    /// One more than the highest place of a series.
    #[must_use]
    pub fn places(&self) -> usize {
        self.0.places()
    }

    /// The series at a place, unless it is not shown.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Series> {
        self.0.at(place).filter(|series| series.shown)
    }
}

impl Graph {
    /// The published series as they are now.
    #[must_use]
    pub fn freeze_published(&self) -> Published {
        Published(self.edges.series.freeze())
    }
}
