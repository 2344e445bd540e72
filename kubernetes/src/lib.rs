//! What an API server of Kubernetes has of one kind of object, and how it changes: a list in pages, then a watch that
//! goes on where it broke off. Only what is asked of the objects is read; nothing here knows what they are.
//!
//! - `access` is where the server is and who asks, `request` what becomes of one request, [`exchange`] how it is made; engines of
//!   containers are asked so, too,
//! - `answers` reads pages and events, `lines` takes a stream apart,
//! - `watch` puts them together.
#![forbid(unsafe_code)]

mod access;
mod answers;
pub mod exchange;
#[doc(hidden)]
pub mod fuzzing;
mod lines;
#[cfg(test)]
mod named;
mod request;
mod watch;

pub use access::{Access, AccessError};
pub use lines::Lines;
pub use request::RequestError;
pub use watch::{Collection, Event, Watch, WatchError};
