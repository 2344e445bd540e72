//! Who of a link can have talked to whom, where addresses are translated.

use std::collections::{HashMap, HashSet};

use super::{
    link::LinkKey,
    pairing::{Party, Sides},
};

/// Which clients and servers have an address pair and port in common: a row for each client.
#[derive(Clone, Debug)]
pub(crate) struct Reach(Vec<Vec<bool>>);

impl Reach {
    fn of(clients: &[Party], servers: &[Party]) -> Self {
        let mut at: HashMap<&LinkKey, Vec<usize>> = HashMap::new();
        for (server, party) in servers.iter().enumerate() {
            party.reach.iter().for_each(|key| at.entry(key).or_default().push(server));
        }
        let row = |client: &Party| {
            let mut row = vec![false; servers.len()];
            let met = client.reach.iter().filter_map(|key| at.get(key)).flatten();
            met.for_each(|server| row[*server] = true);
            row
        };
        Reach(clients.iter().map(row).collect())
    }

    fn has_client(&self, server: usize) -> bool {
        self.0.iter().any(|row| row.get(server) == Some(&true))
    }
}

impl Sides {
    /// Whether a client can have talked to a server.
    pub(crate) fn reaches(&self, client: usize, server: usize) -> bool {
        let row = self.reach.as_ref().map(|reach| reach.0.get(client));
        row.is_none_or(|row| row.and_then(|row| row.get(server)) == Some(&true))
    }

    /// The first server that a client can have talked to.
    pub(super) fn first_reached(&self, client: usize) -> Option<usize> {
        (0..self.servers.len()).find(|server| self.reaches(client, *server))
    }

    /// Whether some party has nobody on the other side.
    pub(crate) fn has_strangers(&self) -> bool {
        self.reach.is_some()
            && (self.servers.iter().any(|server| server.elsewhere)
                || (0..self.clients.len()).any(|client| self.first_reached(client).is_none()))
    }

    /// Finds out who can have talked to whom, on a link that is tied and has halves on both sides. `elsewhere` finds out
    /// whether a client has connections with somebody of whom no half is known, given the address pairs and ports at which
    /// servers are known.
    pub(crate) fn restrict(&mut self, elsewhere: impl Fn(&mut Party, &HashSet<LinkKey>, bool)) {
        let reach = Reach::of(&self.clients, &self.servers);
        let known = self.servers.iter().flat_map(|server| &server.reach).copied().collect();
        for (client, row) in self.clients.iter_mut().zip(&reach.0) {
            elsewhere(client, &known, row.contains(&true));
        }
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.elsewhere = !reach.has_client(at);
        }
        let open_ended = self.clients.iter().any(|client| client.elsewhere);
        let all = reach.0.iter().flatten().all(|reached| *reached);
        self.reach = (open_ended || !all).then_some(reach);
    }
}
