//! `/metrics`: what the graph has published, the nodes, and the aggregator itself.
//!
//! The published numbers are shared under the graph's lock and written afterwards, family by family and piece by
//! piece (`scrape`): as text, or as protobuf (`wire`) with native histograms (`native`, `sparse`); packed if asked for
//! (`gzip`). `edges` and `service_graph` say what there is (`rows`), `nodes` and `process` are written as text only, which
//! `plain` turns into protobuf.

mod buckets;
mod edges;
mod gzip;
mod native;
mod nodes;
mod plain;
mod process;
mod rows;
mod scrape;
mod service_graph;
mod sparse;
#[cfg(test)]
mod tests;
mod text;
mod wire;

pub use gzip::Gzip;
pub(crate) use native::MEDIA_TYPE as NATIVE;
pub use scrape::{Format, Scrape};
