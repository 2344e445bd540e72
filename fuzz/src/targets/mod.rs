//! The targets, a file for each parser.

pub mod batches;
pub mod btf;
pub mod cluster;
pub mod columns;
pub mod config_agent;
pub mod config_aggregator;
pub mod conntrack;
pub mod engine;
pub mod exposition;
pub mod hints;
pub mod history;
pub mod journal;
pub mod kubernetes;
pub mod ledger;
pub mod messages;
pub mod processes;
pub mod query;
pub mod recording;
pub mod snapshot;
pub mod spool;
pub mod tls;
