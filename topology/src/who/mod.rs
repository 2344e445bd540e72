//! Who is who: services, places, and the evidence that leads from one to the other.

pub mod basis;
pub mod cluster;
pub(crate) mod directory;
pub(crate) mod evidence;
pub(crate) mod names;
pub(crate) mod place;
pub mod rules;
pub mod services;
pub mod zones;
