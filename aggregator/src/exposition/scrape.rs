//! One scrape: taken at once, written piece by piece.

use prometheus::TextEncoder;

use super::{
    edges::{self, EdgeRow},
    family::Family,
    nodes, process,
    service_graph::{self, PairRow, Pairs},
};
use crate::state::Shared;

/// Rows of one family in a piece.
const ROWS: usize = 256;

/// One scrape: an iterator over pieces of its text.
pub struct Scrape {
    head: Option<String>,
    position: u64,
    edges: Vec<EdgeRow>,
    pairs: Vec<PairRow>,
    /// Family, counted over both kinds of rows, and row that come next.
    family: usize,
    row: usize,
    /// Bytes of the last piece: the next is about as long.
    bytes: usize,
}

impl Scrape {
    /// Copies every number; the graph is held for no longer than that takes.
    #[must_use]
    pub fn take(shared: &Shared) -> Self {
        let mut head = String::new();
        let (edges, pairs, stats, position) = {
            let core = shared.core();
            let graph = core.graph();
            nodes::write(graph, &shared.expected_nodes, &mut head);
            let edges = graph.published().map(EdgeRow::of).collect();
            let mut pairs = Pairs::default();
            if shared.service_graph_metrics {
                graph.published().for_each(|series| pairs.add(series));
            }
            (edges, pairs.into_rows(), graph.stats(), core.position())
        };
        shared.metrics.set_graph_stats(&stats);
        let families = shared.metrics.gather();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut head) {
            tracing::warn!(%error, "cannot write the aggregator's own metrics");
        }
        process::write(&mut head);
        Self { head: Some(head), position, edges, pairs, family: 0, row: 0, bytes: 0 }
    }
}

impl Scrape {
    /// Where the journal has everything that it says.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl Iterator for Scrape {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let (more, piece) = match edges::FAMILIES.get(self.family) {
            Some(family) => piece(family, &self.edges, self.row, self.bytes),
            None => {
                let family = self.family - edges::FAMILIES.len();
                let family = service_graph::FAMILIES.get(family).filter(|_| !self.pairs.is_empty());
                piece(family?, &self.pairs, self.row, self.bytes)
            }
        };
        (self.family, self.row) =
            if more { (self.family, self.row + ROWS) } else { (self.family + 1, 0) };
        self.bytes = piece.len();
        Some(piece)
    }
}

/// The text of some rows of a family, and whether there are more of them.
fn piece<R>(family: &Family<R>, rows: &[R], from: usize, bytes: usize) -> (bool, String) {
    let mut out = String::with_capacity(bytes + bytes / 8);
    if from == 0 {
        family.head(&mut out);
    }
    for row in rows.iter().skip(from).take(ROWS) {
        (family.write)(family.name, row, &mut out);
    }
    (from + ROWS < rows.len(), out)
}
