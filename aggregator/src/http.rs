//! What readers see.
//!
//! - `server` accepts connections, `tls` and `patient` are what they are made of,
//! - `routes` says what is where, `access` who may see it, `restrict` how much of it,
//! - `problem` is how errors look,
//! - `query` reads times and limits, `time` and `human` write numbers, `answer` reads the graph,
//! - the rest answers: `topology`, `nodes`, `grafana`, `metrics`, `health`.

mod access;
mod answer;
mod grafana;
mod health;
mod human;
mod metrics;
mod nodes;
mod patient;
mod problem;
mod query;
mod restrict;
mod routes;
mod server;
mod time;
mod tls;
mod topology;

pub(crate) use routes::router;
pub use server::{Entrance, serve};
pub use tls::Tls;
