//! What readers see.
//!
//! - `server` accepts connections, `routes` says what is where, `problem` is how errors look,
//! - `query` reads times and limits, `time` writes them,
//! - the rest answers: `topology`, `nodes`, `grafana`, `metrics`, `health`.

mod grafana;
mod health;
mod human;
mod metrics;
mod nodes;
mod problem;
mod query;
mod routes;
mod server;
mod time;
mod topology;

pub use server::serve;
