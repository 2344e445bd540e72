//! Whether the aggregator's answers are what the agents have sent.
//!
//! - `expected` is what they have sent, by the labels and ids that answers have,
//! - `text` reads `/metrics` line by line, `exact` compares it, `monotone` sees to it that no
//!   counter falls,
//! - `topology` compares `/api/v1/topology`,
//! - `answer` fetches them.

mod answer;
mod exact;
mod expected;
mod monotone;
mod text;
mod topology;

pub use answer::{Answer, Fetched, fetch, fetch_as};
pub use exact::{compare_clients, compare_metrics};
pub use expected::{Differences, Expected};
pub use monotone::Monotone;
pub use topology::compare_topology;
