//! Who is who: services, places, and the evidence that leads from one to the other.

pub(crate) mod evidence;
pub(crate) mod place;
pub mod services;
