//! What readers see.
//!
//! - `server` accepts connections, of which `places` knows all, `tls` and `patient` are what they are made of,
//! - `routes` says what is where, `access` who may see it, `restrict` how much of it,
//! - `problem` is how errors look,
//! - `window`, `part` and `liked` read what is asked for, `time`, `human` and `shapes` write what is told, `answer` reads the
//!   graph, `kept` has what was read of late,
//! - the rest answers: `topology`, `diff`, `explain`, `live`, `nodes`, `grafana`, `metrics`, `health`, and `openapi`, which
//!   describes them.

mod access;
mod answer;
mod diff;
mod explain;
mod grafana;
mod health;
mod human;
mod kept;
mod liked;
mod live;
mod metrics;
mod nodes;
mod openapi;
mod part;
mod patient;
mod places;
mod problem;
mod restrict;
mod routes;
mod server;
mod shapes;
mod time;
mod tls;
mod topology;
mod window;

pub use answer::Answers;
pub use kept::Kept;
pub(crate) use live::Live;
pub(crate) use routes::router;
pub use server::{Entrance, serve};
pub use tls::Tls;
