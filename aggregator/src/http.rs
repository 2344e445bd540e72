//! What readers see.
//!
//! - `server` accepts connections, `routes` says what is where, `problem` is how errors look,
//! - `query` reads times and limits, `time` and `human` write numbers, `answer` reads the graph,
//! - the rest answers: `topology`, `nodes`, `grafana`, `metrics`, `health`.

mod answer;
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
