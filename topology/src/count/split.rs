//! What a server counted without telling its connections apart, split over several clients.
//!
//! Where there are several services on both sides of a link, a connection that is a half of its own is
//! its client's. All others of a server are one half: each client has the part of it that its own
//! numbers leave open, when they all fit together: as soon as both hosts have told of the same
//! moment. A part that was given is given for good, so that the next server finds only its own left.

use std::time::Duration;

use common::HistogramKind;
use serde::{Deserialize, Serialize};

use super::{
    edges::EdgeKey,
    known::Known,
    pairing::{Cell, Party, Sides, find, find_server},
};
use crate::{
    base::{
        time::Timestamp,
        totals::{EdgeTotals, Measure},
    },
    who::services::ServiceIx,
};

/// A client's part of what a server counted for several together.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Share {
    client: ServiceIx,
    /// With its port.
    server: (ServiceIx, u16),
    totals: EdgeTotals,
}

/// The parts given so far at a link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Split {
    shares: Vec<Share>,
    /// Since when there is something that does not fit.
    since: Option<Timestamp>,
    /// Something was split. Until then, what was published before there were several on both sides tells
    /// two servers apart.
    begun: bool,
}

impl Split {
    /// Calls clients and servers otherwise; those that are called the same are one from then on.
    pub(crate) fn rename(
        &mut self,
        client: impl Fn(ServiceIx) -> ServiceIx,
        server: impl Fn(ServiceIx) -> ServiceIx,
    ) {
        let mut shares: Vec<Share> = Vec::new();
        for mut share in std::mem::take(&mut self.shares) {
            (share.client, share.server.0) = (client(share.client), server(share.server.0));
            let ends = |share: &Share| (share.client, share.server);
            match shares.iter_mut().find(|known| ends(known) == ends(&share)) {
                Some(known) => known.totals.merge(&share.totals),
                None => shares.push(share),
            }
        }
        self.shares = shares;
    }

    /// Two links are one: so are the parts given at them.
    pub(crate) fn absorb(&mut self, other: Split) {
        self.shares.extend(other.shares);
        self.begun |= other.begun;
        self.since = None;
        self.rename(|client| client, |server| server);
    }

    /// What does not fit does so from the next look on.
    pub(crate) const fn wait_anew(&mut self) {
        self.since = None;
    }

    /// Gives the clients what fits, and after `long` also what does not. Returns whether there is more.
    pub(crate) fn advance<'a>(
        &mut self,
        sides: &mut Sides,
        published: impl Iterator<Item = (EdgeKey, &'a EdgeTotals)>,
        now: Timestamp,
        long: Duration,
    ) -> bool {
        // A connection whose owner became known after all took away from them.
        self.shares.retain(|share| !sides.misfits.contains(&share.server));
        if sides.undivided().next().is_none() {
            self.since = None;
            return false;
        }
        // On a busy link somebody is always being asked about a connection that has just begun.
        let overdue = now.since(*self.since.get_or_insert(now)) >= long;
        if !self.begun && (overdue || !sides.asking) && sides.undivided().count() > 1 {
            self.begun = true;
            let parts = sides.divide_as(published);
            self.keep(sides, parts);
        }
        if !overdue && (sides.asking || !sides.fit()) {
            return true;
        }
        self.since = None;
        self.begun = true;
        let parts = sides.divide();
        self.keep(sides, parts);
        false
    }

    fn keep(&mut self, sides: &Sides, parts: Vec<Cell>) {
        for part in parts {
            let ends = (sides.clients.get(part.client), sides.servers.get(part.server));
            let (Some(client), Some(server)) = ends else { continue };
            let (client, server) = (client.service, (server.service, server.port));
            let same = |share: &&mut Share| (share.client, share.server) == (client, server);
            match self.shares.iter_mut().find(same) {
                Some(share) => share.totals.merge(&part.totals),
                None => self.shares.push(Share { client, server, totals: part.totals }),
            }
        }
    }
}

impl Sides {
    /// Takes what was given before out of what is to be split. More than there is to split
    /// is not taken.
    pub(crate) fn take_shares(&mut self, split: &Split) {
        for (server, party) in self.servers.iter().enumerate() {
            let ends = (party.service, party.port);
            let shares = || split.shares.iter().filter(|share| share.server == ends);
            let mut given = EdgeTotals::default();
            shares().for_each(|share| given.merge(&share.totals));
            let Some(whole) = self.wholes.get_mut(server) else { continue };
            match whole.totals.less(&given) {
                Some(left) => whole.totals = left,
                None => {
                    self.misfits.push(ends);
                    continue;
                }
            }
            for share in shares() {
                let Some(client) = find(&self.clients, share.client) else { continue };
                let totals = share.totals.clone();
                self.cells.push(Cell { client, server, totals, open: 0, whole: true });
            }
        }
    }

    /// Servers with something that is in no cell.
    pub(super) fn undivided(&self) -> impl Iterator<Item = usize> {
        (0..).zip(&self.wholes).filter(|(_, whole)| !whole.totals.is_zero()).map(|(at, _)| at)
    }

    /// Whether clients and servers have told the same in all.
    pub(super) fn tell_the_same(&self) -> bool {
        let sum = |parties: &[Party], measure| {
            parties.iter().map(|party| u128::from(party.totals.get(measure))).sum::<u128>()
        };
        let same = |measure| sum(&self.clients, measure) == sum(&self.servers, measure);
        Measure::TELLING.into_iter().all(same)
    }

    /// Whether the clients' numbers are the servers'.
    fn fit(&self) -> bool {
        // What is with somebody elsewhere is in no server's numbers.
        let open_ended = self.clients.iter().any(|client| client.elsewhere);
        Measure::TELLING.into_iter().all(|measure| {
            let value = |totals: &EdgeTotals| u128::from(totals.get(measure));
            let mut left = 0;
            for (at, client) in self.clients.iter().enumerate() {
                let cells = self.cells.iter().filter(|cell| cell.client == at);
                let told: u128 = cells.map(|cell| value(&cell.totals)).sum();
                match value(&client.totals).checked_sub(told) {
                    Some(more) => left += more,
                    None => return false,
                }
            }
            let whole = self.wholes.iter().map(|whole| value(&whole.totals)).sum();
            if open_ended { left >= whole } else { left == whole }
        })
    }

    /// What each client counted that is in no cell.
    fn left(&self) -> Vec<EdgeTotals> {
        let mut left: Vec<_> = self.clients.iter().map(|client| client.totals.clone()).collect();
        for cell in &self.cells {
            if let Some(left) = left.get_mut(cell.client) {
                take(left, &cell.totals);
            }
        }
        left
    }

    /// Puts all that is in no cell into cells, by what each client's numbers leave open.
    pub(crate) fn divide(&mut self) -> Vec<Cell> {
        let mut left = self.left();
        let mut all = Vec::new();
        let known = self.known(&left);
        while let Some((server, only)) = self.next(&left) {
            let Some(whole) = self.wholes.get_mut(server) else { break };
            let whole = std::mem::take(&mut whole.totals);
            let parts = self.parts(server, &whole, only, &known, &mut left);
            self.cells.extend(parts.iter().cloned());
            all.extend(parts);
        }
        all
    }

    /// The server to split next, and its client where there is one whose number is exactly the server's.
    fn next(&self, left: &[EdgeTotals]) -> Option<(usize, Option<usize>)> {
        let only = |server: usize| {
            let whole = &self.wholes.get(server)?.totals;
            let told = whole.tells();
            let same = |left: &EdgeTotals| {
                Measure::TELLING.into_iter().all(|m| left.get(m) == whole.get(m))
            };
            let mut clients = (0..)
                .zip(left)
                .filter(|(client, left)| told && same(left) && self.reaches(*client, server));
            let (client, _) = clients.next()?;
            clients.next().is_none().then_some((server, Some(client)))
        };
        let first = self.undivided().next()?;
        Some(self.undivided().find_map(only).unwrap_or((first, None)))
    }

    fn parts(
        &self,
        server: usize,
        whole: &EdgeTotals,
        only: Option<usize>,
        known: &Known,
        left: &mut [EdgeTotals],
    ) -> Vec<Cell> {
        let reached: Vec<bool> = (0..left.len()).map(|at| self.reaches(at, server)).collect();
        // With what was given before: the last of several numbers of a connection comes alone.
        let mut sums = vec![EdgeTotals::default(); left.len()];
        let mut parts = sums.clone();
        for cell in self.cells.iter().filter(|cell| cell.whole && cell.server == server) {
            sums[cell.client].merge(&cell.totals);
        }
        for measure in Measure::SHARED {
            let value = whole.get(measure);
            // What does not tell who was there is of those who were: else it would make an edge that never was. Those
            // numbers that tell come first.
            let tells = Measure::TELLING.contains(&measure);
            let may = |at: usize| reached[at] && (tells || sums[at].tells());
            let mut fixed = known.of(server, measure, value);
            fixed.retain(|at, _| may(*at));
            let weight = |at: usize| match (only, may(at), fixed.contains_key(&at)) {
                (_, false, _) | (_, _, true) => 0,
                (Some(only), ..) => u64::from(at == only),
                (None, ..) => left[at].get(measure),
            };
            let mut weights: Vec<u64> = (0..left.len()).map(weight).collect();
            if weights.iter().all(|weight| *weight == 0) {
                weights = weights_of(&sums, &reached, EdgeTotals::bytes);
            }
            let mut dealt = deal(value - fixed.values().sum::<u64>(), &weights);
            fixed.into_iter().for_each(|(at, value)| dealt[at] += value);
            for (at, value) in dealt.into_iter().enumerate() {
                parts[at].add(measure, value);
                sums[at].add(measure, value);
            }
        }
        let weights = weights_of(&sums, &reached, EdgeTotals::segments);
        let have: Vec<_> = sums.iter().map(|sum| sum.get(Measure::Retransmits)).collect();
        let retransmits = whole.get(Measure::Retransmits);
        for (part, value) in parts.iter_mut().zip(deal_owed(retransmits, &weights, &have)) {
            part.add(Measure::Retransmits, value);
        }
        for kind in HistogramKind::ALL {
            let weights = weights_of(&sums, &reached, |sum| match kind {
                HistogramKind::Rtt => sum.segments(),
                HistogramKind::Connect | HistogramKind::Lifetime => sum.get(Measure::Connections),
            });
            let mut have: Vec<_> = sums.iter().map(|sum| sum.histogram(kind).count()).collect();
            for (bucket, count) in whole.histogram(kind).iter() {
                let dealt = deal_owed(count, &weights, &have);
                for ((part, have), value) in parts.iter_mut().zip(&mut have).zip(dealt) {
                    part.add_bucket(kind, bucket, value);
                    *have += value;
                }
            }
        }
        left.iter_mut().zip(&parts).for_each(|(left, part)| take(left, part));
        let cell = |(client, totals)| Cell { client, server, totals, open: 0, whole: true };
        parts.into_iter().enumerate().map(cell).filter(|cell| !cell.totals.is_zero()).collect()
    }

    /// Puts into cells what was published when connections had not to be told apart.
    fn divide_as<'a>(
        &mut self,
        published: impl Iterator<Item = (EdgeKey, &'a EdgeTotals)>,
    ) -> Vec<Cell> {
        let mut parts = Vec::new();
        for ((client, server, port), published) in published {
            let ends = (find(&self.clients, client), find_server(&self.servers, (server, port)));
            let (Some(client), Some(server)) = ends else { continue };
            if !self.reaches(client, server) {
                continue;
            }
            let Some(whole) = self.wholes.get_mut(server) else { continue };
            let mut totals = EdgeTotals::default();
            for measure in Measure::SHARED {
                let told_apart = self
                    .cells
                    .iter()
                    .filter(|cell| !cell.whole && (cell.client, cell.server) == (client, server));
                let known = told_apart.map(|cell| cell.totals.get(measure)).sum();
                let part = published.get(measure).saturating_sub(known);
                totals.add(measure, part.min(whole.totals.get(measure)));
            }
            take(&mut whole.totals, &totals);
            if !totals.is_zero() {
                parts.push(Cell { client, server, totals, open: 0, whole: true });
            }
        }
        self.cells.extend(parts.iter().cloned());
        parts
    }
}

/// Lowers the shared numbers.
fn take(from: &mut EdgeTotals, totals: &EdgeTotals) {
    for measure in Measure::SHARED {
        from.limit(measure, from.get(measure).saturating_sub(totals.get(measure)));
    }
}

/// Weights by a number; without any, by connections, else all for the first of those that may have any.
fn weights_of(
    sums: &[EdgeTotals],
    reached: &[bool],
    number: impl Fn(&EdgeTotals) -> u64,
) -> Vec<u64> {
    let by_number: Vec<u64> = sums.iter().map(number).collect();
    if by_number.iter().any(|weight| *weight > 0) {
        return by_number;
    }
    let connections: Vec<u64> = sums.iter().map(|sum| sum.get(Measure::Connections)).collect();
    if connections.iter().any(|weight| *weight > 0) {
        return connections;
    }
    let first = reached.iter().position(|reached| *reached).unwrap_or_default();
    (0..sums.len()).map(|at| u64::from(at == first)).collect()
}

/// Splits a value in proportion to weights, some of which are not 0. What rounding leaves goes to the
/// heaviest, one each.
fn deal(value: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let part = |weight: &u64| u128::from(value) * u128::from(*weight) / sum.max(1);
    let mut parts: Vec<u64> =
        weights.iter().map(|weight| u64::try_from(part(weight)).unwrap_or(u64::MAX)).collect();
    let mut rest = value.saturating_sub(parts.iter().sum());
    let mut heaviest: Vec<usize> = (0..weights.len()).collect();
    heaviest.sort_by_key(|at| std::cmp::Reverse(weights[*at]));
    for at in heaviest {
        let one = rest.min(1);
        parts[at] += one;
        rest -= one;
    }
    parts
}

/// Splits a value so that all that everybody has is nearest to the proportion of the weights.
fn deal_owed(value: u64, weights: &[u64], have: &[u64]) -> Vec<u64> {
    let all = u128::from(value) + have.iter().map(|have| u128::from(*have)).sum::<u128>();
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let owed = |(weight, have): (&u64, &u64)| {
        let due = all.saturating_mul(u128::from(*weight)).div_ceil(sum.max(1));
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(*have)
    };
    deal(value, &weights.iter().zip(have).map(owed).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_rounding_leaves_goes_to_the_heaviest() {
        assert_eq!(deal(10, &[1, 2, 0]), [3, 7, 0]);
        assert_eq!(deal(7, &[3, 4]), [3, 4]);
        assert_eq!(deal(0, &[0, 0]), [0, 0]);
    }

    #[test]
    fn single_samples_come_to_the_proportion_in_the_end() {
        let mut have = vec![0, 0];
        for _ in 0..90 {
            let dealt = deal_owed(1, &[200, 100], &have);
            have.iter_mut().zip(dealt).for_each(|(have, more)| *have += more);
        }
        assert_eq!(have, [60, 30]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_dealing(
            value in 0..u64::MAX / 8,
            clients in proptest::collection::vec((0..u64::MAX / 8, 0..u64::MAX / 8), 1..5),
        ) {
            let (weights, have): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            for parts in [deal(value, &weights), deal_owed(value, &weights, &have)] {
                prop_assert_eq!(parts.iter().sum::<u64>(), value);
            }
        }
    }
}
