//! Links by the addresses that they are at.

use std::{collections::BTreeMap, net::IpAddr};

use super::link::{LinkIx, LinkKey, Links};
use crate::who::place::Place;

/// By address and, of the server's, port: the links there, and how many keys of each say so.
pub(crate) type Addresses = BTreeMap<(IpAddr, u16, LinkIx), u32>;

/// What an address of a client has in place of a port.
const NO_PORT: u16 = 0;

impl Links {
    /// From now on it is known which links are at an address of the whole fleet, or no more.
    pub(crate) fn keep_addresses(&mut self, keep: bool) {
        if keep == self.addresses.is_some() {
            return;
        }
        self.addresses = keep.then(Addresses::new);
        if keep {
            let keys = self.pairs().flat_map(|(ix, link)| link.keys().map(move |key| (*key, ix)));
            let keys: Vec<_> = keys.collect();
            keys.into_iter().for_each(|(key, ix)| self.note_addresses(&key, ix));
        }
    }

    /// The links that are at an address, on either side.
    pub(crate) fn at_address(&self, ip: IpAddr) -> impl Iterator<Item = LinkIx> {
        let from = (ip, NO_PORT, LinkIx::FIRST);
        let all = self.addresses.iter().flat_map(move |all| all.range(from..));
        all.map(|(at, _)| *at).take_while(move |at| at.0 == ip).map(|at| at.2)
    }

    /// The links that have a server at an address and port.
    pub(crate) fn at_port(&self, ip: IpAddr, port: u16) -> impl Iterator<Item = LinkIx> {
        let from = (ip, port, LinkIx::FIRST);
        let all = self.addresses.iter().flat_map(move |all| all.range(from..));
        all.map(|(at, _)| *at).take_while(move |at| (at.0, at.1) == (ip, port)).map(|at| at.2)
    }

    pub(super) fn note_addresses(&mut self, key: &LinkKey, ix: LinkIx) {
        let Some(addresses) = &mut self.addresses else { return };
        for (ip, port) in ends(key) {
            *addresses.entry((ip, port, ix)).or_default() += 1;
        }
    }

    pub(super) fn forget_addresses(&mut self, key: &LinkKey, ix: LinkIx) {
        let Some(addresses) = &mut self.addresses else { return };
        for (ip, port) in ends(key) {
            if let Some(keys) = addresses.get_mut(&(ip, port, ix)) {
                *keys = keys.saturating_sub(1);
                if *keys == 0 {
                    addresses.remove(&(ip, port, ix));
                }
            }
        }
    }
}

fn ends(key: &LinkKey) -> impl Iterator<Item = (IpAddr, u16)> {
    let ends = [(key.client, NO_PORT), (key.server, key.server_port)];
    ends.into_iter().filter_map(|(place, port)| match place {
        Place::Global(ip) => Some((ip, port)),
        _ => None,
    })
}
