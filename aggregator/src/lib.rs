//! `weft-aggregator`: takes in what the agents of a fleet count, merges it into one graph of
//! services, and serves it. `Config` -> [`App::bind`] -> [`App::run`].
#![forbid(unsafe_code)]

mod accept;
mod app;
mod clock;
pub mod config;
mod core;
mod data_dir;
#[doc(hidden)]
pub mod exposition;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod history;
mod http;
mod ingest;
mod kubernetes;
mod memory;
mod metrics;
pub mod pki;
mod rules;
mod state;
mod store;
mod ticker;
mod tls;
pub mod token;

pub use app::{App, AppError, Running};
pub use config::Config;
pub use data_dir::DataDirError;
