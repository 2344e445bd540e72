//! Two hosts report the same traffic at different moments. What both have counted is beyond
//! doubt; what only one of them has counted may belong to a half that has not arrived yet, so
//! it waits. What stays after that was missed by the other side, and the larger number holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{
    time::Timestamp,
    totals::{EdgeTotals, MEASURES, Measure},
};

const SHARED: usize = Measure::SHARED.len();

/// By how much each side is ahead of the other, per shared measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lead {
    /// The clients', by the order of [`Measure::SHARED`].
    pub(crate) clients: [u64; SHARED],
    /// The servers'.
    pub(crate) servers: [u64; SHARED],
}

impl Lead {
    pub(crate) const UNLIMITED: Lead =
        Lead { clients: [u64::MAX; SHARED], servers: [u64::MAX; SHARED] };

    pub(crate) fn between(clients: &EdgeTotals, servers: &EdgeTotals) -> Self {
        Self::of(clients.values(), servers.values())
    }

    /// The same of plain numbers, by [`Measure::index`].
    pub(crate) fn of(clients: &[u64; MEASURES], servers: &[u64; MEASURES]) -> Self {
        let mut lead = Lead::default();
        for (at, measure) in Measure::SHARED.into_iter().enumerate() {
            let (client, server) = (clients[measure.index()], servers[measure.index()]);
            lead.clients[at] = client.saturating_sub(server);
            lead.servers[at] = server.saturating_sub(client);
        }
        lead
    }

    pub(crate) fn at_most(&self, other: &Lead) -> Self {
        let mut least = *self;
        for (mine, theirs) in least.clients.iter_mut().zip(&other.clients) {
            *mine = (*mine).min(*theirs);
        }
        for (mine, theirs) in least.servers.iter_mut().zip(&other.servers) {
            *mine = (*mine).min(*theirs);
        }
        least
    }
}

/// The least lead there was in a sliding stretch of time: what of it is there to stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Agreement {
    since: Timestamp,
    /// The least in the stretch before `since`, and from then on.
    before: Lead,
    least: Lead,
    /// It began when its link settled, and no stretch is over yet.
    fresh: bool,
}

impl Agreement {
    pub(crate) fn new(lead: Lead, now: Timestamp, fresh: bool) -> Self {
        Agreement { since: now, before: Lead::default(), least: lead, fresh }
    }

    /// The part of the lead that was to be seen when the link had not settled yet, and does not hold yet.
    pub(crate) const fn seen_before(&self) -> Option<&Lead> {
        if self.fresh { Some(&self.least) } else { None }
    }

    /// Takes in the present lead; returns the part of it that has lasted for `long`.
    pub(crate) fn lasting(&mut self, lead: Lead, now: Timestamp, long: Duration) -> Lead {
        self.least = self.least.at_most(&lead);
        if now.since(self.since) >= long {
            self.before = self.least;
            self.least = lead;
            self.since = now;
            self.fresh = false;
        }
        self.before.at_most(&self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(bytes: u64) -> Lead {
        let mut totals = EdgeTotals::default();
        totals.add(Measure::BytesToServer, bytes);
        Lead::between(&totals, &EdgeTotals::default())
    }

    #[test]
    fn a_lead_holds_once_it_has_lasted() {
        let at = |s: u64| Timestamp::from_unix_ns(s * 1_000_000_000);
        let long = Duration::from_secs(10);
        let mut agreement = Agreement::new(ahead(5), at(0), false);
        assert_eq!(agreement.lasting(ahead(5), at(9), long), ahead(0));
        assert_eq!(agreement.lasting(ahead(7), at(10), long), ahead(5));
        assert_eq!(agreement.lasting(ahead(7), at(19), long), ahead(5));
        assert_eq!(agreement.lasting(ahead(7), at(20), long), ahead(7));
        assert_eq!(agreement.lasting(ahead(2), at(21), long), ahead(2));
        assert_eq!(agreement.lasting(ahead(9), at(22), long), ahead(2));
    }

    #[test]
    fn a_lead_that_changes_sides_never_holds() {
        let at = |s: u64| Timestamp::from_unix_ns(s * 1_000_000_000);
        let long = Duration::from_secs(10);
        let mut agreement = Agreement::new(ahead(5), at(0), false);
        let mut behind = ahead(5);
        std::mem::swap(&mut behind.clients, &mut behind.servers);
        for second in 1..50 {
            let lead = if second % 2 == 0 { ahead(5) } else { behind };
            assert_eq!(agreement.lasting(lead, at(second), long), Lead::default());
        }
    }
}
