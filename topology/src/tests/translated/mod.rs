//! Halves that see the same connections under different addresses.

mod addresses;
mod bridges;
mod crowds;
mod orders;
mod room;

use super::world::*;
use crate::{model::Ends, *};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const D: &str = "10.0.0.3";
const VIP: &str = "10.96.0.10";
const POD: &str = "10.244.0.5";
const POD2: &str = "10.244.0.6";

fn ends(client: &str, server: &str, server_port: u16) -> Ends {
    Ends { client: global(client), server: global(server), server_port }
}

/// An address behind a bridge of a host.
fn local(text: &str) -> model::Address {
    model::Address { ip: ip(text), scope: model::Scope::Network(7) }
}

impl World {
    fn tell(&mut self, half: HalfIx, told: &[Ends]) {
        self.graph.add_translations(half, told.iter().copied(), self.now);
    }
}
