//! One scrape: taken at once, written piece by piece.

use prometheus::TextEncoder;
use topology::{Graph, Published, Series};

use super::{
    edges, native, nodes, plain, process,
    rows::{Family, Row, Rows},
    service_graph::{self, PairRow, Pairs},
    text,
    wire::Wire,
};
use crate::state::Shared;

/// Bytes of a piece, and one more row: what is written is still in the processor's caches when the connection takes it.
const PIECE: usize = 128 << 10;

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
    /// Family, counted over both kinds of rows, and place of the row that come next.
    family: usize,
    place: usize,
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
        scrape.measure();
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
    #[must_use]
    pub fn of(graph: &Graph, expected: &[String], format: Format) -> Self {
        let mut head = String::new();
        nodes::write(graph, expected, &mut head);
        let (edges, writer) = (graph.freeze_published(), Writer::new(format));
        Self {
            head: Some(head),
            position: 0,
            edges,
            pairs: Vec::new(),
            writer,
            family: 0,
            place: 0,
        }
    }

    /// Adds the series of Tempo's convention.
    pub(crate) fn add_service_graph(&mut self) {
        let mut pairs = Pairs::default();
        let edges = &self.edges;
        (0..edges.places()).filter_map(|place| edges.at(place)).for_each(|one| pairs.add(one));
        self.pairs = pairs.into_rows();
    }

    /// Adds up how long families will be, where that comes before them. The first piece does it at the latest.
    fn measure(&mut self) {
        if let Writer::Native(scratch, lengths) = &mut self.writer
            && lengths.is_empty()
        {
            *lengths = native::lengths(edges::FAMILIES, &self.edges, scratch);
            lengths.extend(native::lengths(service_graph::FAMILIES, &self.pairs, scratch));
        }
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
            self.measure();
            return Some(self.writer.head(head));
        }
        let (writer, at, place) = (&mut self.writer, self.family, self.place);
        let (next, piece) = match edges::FAMILIES.get(at) {
            Some(family) => writer.piece::<Series>(family, at, &self.edges, place),
            None => {
                let family = service_graph::FAMILIES.get(at - edges::FAMILIES.len());
                let family = family.filter(|_| !self.pairs.is_empty());
                writer.piece::<PairRow>(family?, at, &self.pairs, place)
            }
        };
        (self.family, self.place) = next.map_or((at + 1, 0), |place| (at, place));
        Some(piece)
    }
}

/// Writes pieces of either format.
enum Writer {
    Text(Box<text::Scratch>),
    /// With the bytes of all rows of each family, once they are known.
    Native(Box<native::Scratch>, Vec<usize>),
}

impl Writer {
    fn new(format: Format) -> Self {
        match format {
            Format::Text => Writer::Text(Box::default()),
            Format::Native => Writer::Native(Box::default(), Vec::new()),
        }
    }

    /// What does not come from rows.
    fn head(&self, text: String) -> Vec<u8> {
        match self {
            Writer::Text(_) => text.into_bytes(),
            Writer::Native(..) => {
                let mut out = Wire::default();
                plain::encode(&text, &mut out);
                out.0
            }
        }
    }

    /// Some rows of a family, and the place of the next, if there are more of them.
    fn piece<R: Row>(
        &mut self,
        family: &Family<R>,
        at: usize,
        of: &impl Rows<R>,
        from: usize,
    ) -> (Option<usize>, Vec<u8>) {
        let (mut place, places) = (from, of.places());
        let bytes = match self {
            Writer::Text(scratch) => {
                let mut out = String::with_capacity(PIECE + PIECE / 8);
                if from == 0 {
                    text::begin(family, &mut out);
                }
                while place < places && out.len() < PIECE {
                    if let Some(row) = of.at(place) {
                        text::row(family, row, scratch, &mut out);
                    }
                    place += 1;
                }
                out.into_bytes()
            }
            Writer::Native(scratch, lengths) => {
                let mut out = Wire(Vec::with_capacity(PIECE + PIECE / 8));
                if from == 0 {
                    native::head(family, lengths.get(at).copied().unwrap_or_default(), &mut out);
                }
                while place < places && out.0.len() < PIECE {
                    if let Some(row) = of.at(place) {
                        native::row(family, row, scratch, &mut out);
                    }
                    place += 1;
                }
                out.0
            }
        };
        ((place < places).then_some(place), bytes)
    }
}
