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
    base::{
        time::Timestamp,
        totals::{EdgeTotals, Measure},
    },
    model::Role,
    who::services::ServiceIx,
};

/// What connections of a half were that were over before those that it counts now; `None` is nobody's in particular.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Former {
    /// All of them.
    all: EdgeTotals,
    /// But for the last one, by client.
    parts: Vec<(Option<ServiceIx>, EdgeTotals)>,
    /// The last one: whose it was, as far as its client's host said so.
    last: (Option<ServiceIx>, EdgeTotals),
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
    let known = [Counter::Connections, Counter::Adopted].map(|counter| half.total(counter));
    if known.iter().sum::<u64>() != half.total(Counter::Closed) {
        return;
    }
    let former = formers.entry(ix).or_default();
    let mut all = totals_of(half);
    let Some(more) = all.less(&former.all) else { return };
    if more.is_zero() {
        return;
    }
    let whose = match half.whose {
        Whose::Of(client) if more.get(Measure::Connections) <= 1 => Some(client),
        Whose::Of(_) | Whose::Nobody | Whose::Unknown { .. } => None,
    };
    std::mem::swap(&mut former.all, &mut all);
    let known = former.last_of(whose);
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
    match parts.iter_mut().find(|(known, _)| *known == client) {
        Some((_, known)) => known.merge(&totals),
        None => parts.push((client, totals)),
    }
}

impl Former {
    /// Whose the last one was, given whose the next one is: the host that was asked had perhaps seen that already, when both
    /// are of the same.
    fn last_of(&self, next: Option<ServiceIx>) -> Option<ServiceIx> {
        self.last.0.filter(|last| next.is_some_and(|next| next != *last))
    }

    /// Whose connections they were, where that is known.
    pub(crate) fn clients(&self) -> impl Iterator<Item = ServiceIx> {
        self.parts.iter().filter_map(|(client, _)| *client).chain(self.last.0)
    }

    fn rename(&mut self, old: ServiceIx, new: ServiceIx) {
        let last = self.last.0.iter_mut();
        let clients = self.parts.iter_mut().filter_map(|(client, _)| client.as_mut()).chain(last);
        clients.filter(|client| **client == old).for_each(|client| *client = new);
    }
}

impl Halves {
    pub(crate) fn former(&self, ix: HalfIx) -> Option<&Former> {
        // Nearly always there are none.
        if self.formers.is_empty() { None } else { self.formers.get(&ix).map(Box::as_ref) }
    }

    /// What a server's half has counted for whom, before the connection that it counts now, and in that.
    pub(crate) fn parts_of(
        &self,
        ix: HalfIx,
        half: &Half,
    ) -> (Vec<(Option<ServiceIx>, EdgeTotals)>, EdgeTotals) {
        let all = totals_of(half);
        let Some(former) = self.former(ix) else { return (Vec::new(), all) };
        let next = match half.whose {
            Whose::Of(client) if !self.has_several(ix, half) => Some(client),
            Whose::Of(_) | Whose::Nobody | Whose::Unknown { .. } => None,
        };
        let mut parts = former.parts.clone();
        add(&mut parts, former.last_of(next), former.last.1.clone());
        let now = all.less(&former.all).unwrap_or_default();
        (parts, now)
    }

    /// Whether several connections that cannot be told apart had the one port of a client: they need not have been of the
    /// same client, and its host tells of the last one only.
    pub(crate) fn has_several(&self, ix: HalfIx, half: &Half) -> bool {
        let former = self.former(ix).map_or(0, |former| former.all.get(Measure::Connections));
        half.total(Counter::Connections) > former.saturating_add(1)
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
