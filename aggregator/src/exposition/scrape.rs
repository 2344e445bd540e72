//! One scrape: taken at once, written piece by piece.

use prometheus::TextEncoder;
use topology::{Graph, Published, Series};

use super::{
    edges, native, nodes, plain, process,
    rows::{Family, Row, Rows},
    service_graph::{self, PairRow, Pairs},
    text,
};
use crate::state::Shared;

/// Rows of one family in a piece.
const ROWS: usize = 256;

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format, with classic histograms.
    Text,
    /// Protobuf, with native histograms for edges.
    Native,
}

/// One scrape: an iterator over pieces of it.
pub struct Scrape {
    head: Option<String>,
    position: u64,
    edges: Published,
    pairs: Vec<PairRow>,
    writer: Writer,
    /// Family, counted over both kinds of rows, and row that come next.
    family: usize,
    row: usize,
}

impl Scrape {
    /// Takes every number as it is now; the graph is held for no longer than it takes to look at what has changed of
    /// late, and to share them.
    #[must_use]
    pub fn take(shared: &Shared, format: Format) -> Self {
        let (mut scrape, stats) = {
            let mut core = shared.held().lock_for_long();
            core.refresh(shared.now());
            let graph = core.graph();
            let scrape = Self::of(graph, &shared.expected_nodes, format);
            (Self { position: core.position(), ..scrape }, graph.stats())
        };
        if shared.service_graph_metrics {
            scrape.add_service_graph();
        }
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
    pub(crate) fn of(graph: &Graph, expected: &[String], format: Format) -> Self {
        let mut head = String::new();
        nodes::write(graph, expected, &mut head);
        let (edges, writer) = (graph.freeze_published(), Writer::new(format));
        Self { head: Some(head), position: 0, edges, pairs: Vec::new(), writer, family: 0, row: 0 }
    }

    /// Adds the series of Tempo's convention.
    pub(crate) fn add_service_graph(&mut self) {
        let mut pairs = Pairs::default();
        let edges = &self.edges;
        (0..edges.places()).filter_map(|place| edges.at(place)).for_each(|one| pairs.add(one));
        self.pairs = pairs.into_rows();
    }

    /// Where the journal has everything that it says.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl Iterator for Scrape {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(head) = self.head.take() {
            return Some(self.writer.head(head));
        }
        let (writer, row) = (&mut self.writer, self.row);
        let (more, piece) = match edges::FAMILIES.get(self.family) {
            Some(family) => writer.piece::<Series>(family, &self.edges, row),
            None => {
                let family = self.family - edges::FAMILIES.len();
                let family = service_graph::FAMILIES.get(family).filter(|_| !self.pairs.is_empty());
                writer.piece::<PairRow>(family?, &self.pairs, row)
            }
        };
        (self.family, self.row) =
            if more { (self.family, self.row + ROWS) } else { (self.family + 1, 0) };
        Some(piece)
    }
}

/// Writes pieces of either format.
enum Writer {
    /// With the labels of the row that was written last, and the bytes of the last piece: the next is about as long.
    Text(String, usize),
    Native(Box<native::Scratch>),
}

impl Writer {
    fn new(format: Format) -> Self {
        match format {
            Format::Text => Writer::Text(String::new(), 0),
            Format::Native => Writer::Native(Box::default()),
        }
    }

    /// What does not come from rows.
    fn head(&self, text: String) -> Vec<u8> {
        match self {
            Writer::Text(..) => text.into_bytes(),
            Writer::Native(_) => {
                let mut out = native::Wire::default();
                plain::encode(&text, &mut out);
                out.0
            }
        }
    }

    /// Some rows of a family, and whether there are more of them.
    fn piece<R: Row>(
        &mut self,
        family: &Family<R>,
        of: &impl Rows<R>,
        from: usize,
    ) -> (bool, Vec<u8>) {
        let more = from + ROWS < of.places();
        let rows = (from..of.places()).take(ROWS).filter_map(|place| of.at(place));
        match self {
            Writer::Text(labels, bytes) => {
                let mut out = String::with_capacity(*bytes + *bytes / 8);
                if from == 0 {
                    text::begin(family, &mut out);
                }
                rows.for_each(|row| text::row(family, row, labels, &mut out));
                *bytes = out.len();
                (more, out.into_bytes())
            }
            Writer::Native(scratch) => {
                let mut out = native::Wire::default();
                if from == 0 {
                    native::head(family, of, scratch, &mut out);
                }
                rows.for_each(|row| native::row(family, row, scratch, &mut out));
                (more, out.0)
            }
        }
    }
}
