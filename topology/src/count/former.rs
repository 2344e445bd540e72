//! Ports that clients of one address have used again.
//!
//! A half that is a single connection goes on where the same port of a client comes again, perhaps another client's. What
//! it had counted when all of that was over is set apart then, by whose it was, and the client's host is asked anew: it
//! knows of the last one only.

use std::collections::BTreeMap;

use common::Counter;
use serde::{Deserialize, Serialize};

use super::half::{Half, HalfIx, Halves, Whose};
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    model::Role,
    who::services::ServiceIx,
};

/// So many clients are told apart that had a port before the last one; what more of them had is nobody's in particular.
const MOST: usize = 4;

/// What connections of a half were that were over before those that it counts now; `None` is nobody's in particular.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Former {
    /// How many they were.
    connections: u64,
    /// What they had.
    all: EdgeTotals,
    /// But for the last one, by client.
    parts: Vec<(Option<ServiceIx>, EdgeTotals)>,
    /// The last one: whose it was, as far as its client's host said so.
    last: (Option<ServiceIx>, EdgeTotals),
}

/// What a server's half has counted, by whose that was.
pub(crate) struct Counted {
    /// Before the last connection that is over.
    pub(crate) before: Vec<(Option<ServiceIx>, EdgeTotals)>,
    /// In that one. While it is being asked whose the next one is, that is in question.
    pub(crate) last: Option<(Option<ServiceIx>, EdgeTotals)>,
    /// In the connection that it counts now.
    pub(crate) now: EdgeTotals,
}

/// Of each half whose port was used again.
pub(crate) type Formers = BTreeMap<HalfIx, Box<Former>>;

/// A half begins to count a further connection. If it is a single one and all before is over, that is set apart.
#[inline]
pub(super) fn begin(formers: &mut Formers, ix: HalfIx, half: &mut Half) {
    if half.is_single && half.total(Counter::Closed) > 0 {
        begin_again(formers, ix, half);
    }
}

#[cold]
fn begin_again(formers: &mut Formers, ix: HalfIx, half: &mut Half) {
    let connections = connections_of(half);
    if connections != half.total(Counter::Closed) {
        return;
    }
    let former = formers.entry(ix).or_default();
    let all = totals_of(half);
    let Some(more) = all.less(&former.all) else { return };
    if more.is_zero() {
        return;
    }
    let known = former.last_of(half.whose);
    let whose = match half.whose {
        Whose::Of(client) if connections <= former.connections.saturating_add(1) => Some(client),
        Whose::Of(_) | Whose::Nobody | Whose::Unknown { .. } => None,
    };
    former.connections = connections;
    former.all = all;
    let (_, last) = std::mem::replace(&mut former.last, (whose, more));
    if !last.is_zero() {
        add(&mut former.parts, known, last);
    }
    let again_at = match half.whose {
        // The answer that is on its way may be about the one before.
        Whose::Unknown { asked, again_at } if asked > 0 => again_at,
        _ => Timestamp::default(),
    };
    half.whose = Whose::Unknown { asked: 0, again_at };
}

/// How many connections a half has counted or taken over.
fn connections_of(half: &Half) -> u64 {
    half.total(Counter::Connections).saturating_add(half.total(Counter::Adopted))
}

fn totals_of(half: &Half) -> EdgeTotals {
    let mut totals = EdgeTotals::default();
    totals.add_half(Role::Server, &half.counters, &half.histograms);
    totals
}

fn add(
    parts: &mut Vec<(Option<ServiceIx>, EdgeTotals)>,
    client: Option<ServiceIx>,
    totals: EdgeTotals,
) {
    let is_known = |client| parts.iter().any(|(known, _)| *known == client);
    let client = client.filter(|client| parts.len() < MOST || is_known(Some(*client)));
    match parts.iter_mut().find(|(known, _)| *known == client) {
        Some((_, known)) => known.merge(&totals),
        None => parts.push((client, totals)),
    }
}

impl Former {
    /// Whose the last one was, given whose the next one is: when both are of the same, the host that was asked had perhaps
    /// seen the next one already.
    fn last_of(&self, next: Whose) -> Option<ServiceIx> {
        self.last.0.filter(|last| next != Whose::Of(*last))
    }

    /// Whose connections they were, where that is known.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ServiceIx> {
        self.parts.iter().filter_map(|(client, _)| *client).chain(self.last.0)
    }

    fn rename(&mut self, old: ServiceIx, new: ServiceIx) {
        let name = |client: Option<ServiceIx>| client.map(|it| if it == old { new } else { it });
        self.last.0 = name(self.last.0);
        for (client, totals) in std::mem::take(&mut self.parts) {
            add(&mut self.parts, name(client), totals);
        }
    }
}

impl Halves {
    pub(crate) fn former(&self, ix: HalfIx) -> Option<&Former> {
        // Nearly always there are none.
        if self.formers.is_empty() { None } else { self.formers.get(&ix).map(Box::as_ref) }
    }

    /// What a server's half has counted, and for whom.
    pub(crate) fn counted(&self, ix: HalfIx, half: &Half) -> Counted {
        let all = totals_of(half);
        let Some(former) = self.former(ix) else {
            return Counted { before: Vec::new(), last: None, now: all };
        };
        Counted {
            before: former.parts.clone(),
            last: Some((former.last_of(half.whose), former.last.1.clone())),
            now: all.less(&former.all).unwrap_or_default(),
        }
    }

    /// Whether several connections that cannot be told apart had the one port of a client: they need not have been of the
    /// same client, and its host tells of the last one only.
    pub(crate) fn has_several(&self, ix: HalfIx, half: &Half) -> bool {
        let before = self.former(ix).map_or(0, |former| former.connections);
        connections_of(half) > before.saturating_add(1)
    }

    /// Whose connections had ports that were used again.
    pub(crate) fn former_clients(&self) -> impl Iterator<Item = ServiceIx> {
        self.formers.values().flat_map(|former| former.clients())
    }

    /// A client of a half is called something else.
    pub(crate) fn rename_client(&mut self, ix: HalfIx, old: ServiceIx, new: ServiceIx) {
        if let Some(half) = self.get_mut(ix)
            && half.whose == Whose::Of(old)
        {
            half.whose = Whose::Of(new);
        }
        if let Some(former) = self.formers.get_mut(&ix) {
            former.rename(old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{arena::Arena, totals::Measure},
        who::services::Service,
    };

    #[test]
    fn a_few_clients_are_told_apart_and_nothing_is_lost() {
        let mut arena = Arena::default();
        let clients: Vec<ServiceIx> =
            (0..3 * MOST).map(|_| arena.insert(Service::nameless())).collect();
        let mut former = Former::default();
        for client in clients.iter().chain(&clients) {
            let mut totals = EdgeTotals::default();
            totals.add(Measure::BytesToServer, 1);
            add(&mut former.parts, Some(*client), totals);
        }
        let bytes = |former: &Former| -> Vec<u64> {
            former.parts.iter().map(|(_, totals)| totals.bytes()).collect()
        };
        assert_eq!(bytes(&former), [2, 2, 2, 2, 16]);
        former.rename(clients[0], clients[1]);
        assert_eq!(bytes(&former), [4, 2, 2, 16]);
    }
}
