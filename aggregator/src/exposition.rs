//! `/metrics` as text: what the graph has published, the nodes, and the aggregator itself.
//!
//! The numbers are copied under the graph's lock (`edges`, `service_graph`, `nodes`) and
//! written afterwards, family by family and piece by piece (`scrape`).

mod buckets;
mod edges;
mod family;
mod nodes;
mod process;
mod scrape;
mod service_graph;

pub use scrape::Scrape;
