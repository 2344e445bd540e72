//! One scrape: taken at once, written piece by piece.

use prometheus::TextEncoder;
use topology::Graph;

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
}

impl Scrape {
    /// Copies every number; the graph is held for no longer than that takes.
    #[must_use]
    pub fn take(shared: &Shared) -> Self {
        let (mut scrape, stats) = {
            let core = shared.core();
            let graph = core.graph();
            let scrape = Self::of(graph, &shared.expected_nodes, shared.service_graph_metrics);
            (Self { position: core.position(), ..scrape }, graph.stats())
        };
        shared.metrics.set_graph_stats(&stats);
        let families = shared.metrics.gather();
        let mut head = scrape.head.take().unwrap_or_default();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut head) {
            tracing::warn!(%error, "cannot write the aggregator's own metrics");
        }
        process::write(&mut head);
        Self { head: Some(head), ..scrape }
    }

    /// What the graph alone has to say.
    pub(crate) fn of(graph: &Graph, expected: &[String], service_graph: bool) -> Self {
        let mut head = String::new();
        nodes::write(graph, expected, &mut head);
        let edges = graph.published().map(EdgeRow::of).collect();
        let mut pairs = Pairs::default();
        if service_graph {
            graph.published().for_each(|series| pairs.add(series));
        }
        let pairs = pairs.into_rows();
        Self { head: Some(head), position: 0, edges, pairs, family: 0, row: 0 }
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
            Some(family) => piece(family, &self.edges, self.row),
            None => {
                let family = self.family - edges::FAMILIES.len();
                let family = service_graph::FAMILIES.get(family).filter(|_| !self.pairs.is_empty());
                piece(family?, &self.pairs, self.row)
            }
        };
        (self.family, self.row) =
            if more { (self.family, self.row + ROWS) } else { (self.family + 1, 0) };
        Some(piece)
    }
}

/// The text of some rows of a family, and whether there are more of them.
fn piece<R>(family: &Family<R>, rows: &[R], from: usize) -> (bool, String) {
    let mut out = String::new();
    if from == 0 {
        family.head(&mut out);
    }
    for row in rows.iter().skip(from).take(ROWS) {
        (family.write)(family.name, row, &mut out);
    }
    (from + ROWS < rows.len(), out)
}
