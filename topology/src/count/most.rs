//! How much a link can come to, whatever is still to be found out about it.

use common::{HISTOGRAMS, HistogramKind};

use super::pairing::{Party, Sides, met};
use crate::base::totals::{EdgeTotals, MEASURES, Measure};

/// What all that a link publishes can come to: what waits to be told apart, or to have lasted, included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Most {
    /// By [`Measure::index`].
    pub(crate) measures: [u64; MEASURES],
    /// Samples, by [`HistogramKind::index`].
    pub(crate) samples: [u64; HISTOGRAMS],
}

impl Sides {
    /// Of what both sides count for the same connections, the larger number; of all else, the sum.
    pub(crate) fn most(&self) -> Most {
        let come_to = |both: bool, number: &dyn Fn(&EdgeTotals) -> u64| {
            let sum = |parties: &mut dyn Iterator<Item = &Party>| {
                parties.fold(0, |sum: u64, party| sum.saturating_add(number(&party.totals)))
            };
            let clients = sum(&mut self.clients.iter());
            let servers = sum(&mut self.servers.iter().filter(met));
            // Nobody at the link was their client.
            let others = sum(&mut self.servers.iter().filter(|server| !met(server)));
            let all = if both { clients.max(servers) } else { clients.saturating_add(servers) };
            all.saturating_add(others)
        };
        let mut most = Most::default();
        for measure in Measure::ALL {
            let both = Measure::SHARED.contains(&measure);
            most.measures[measure.index()] = come_to(both, &|totals| totals.get(measure));
        }
        for kind in HistogramKind::ALL {
            let both = kind == HistogramKind::Lifetime;
            most.samples[kind.index()] = come_to(both, &|totals| totals.histogram(kind).count());
        }
        most
    }
}
