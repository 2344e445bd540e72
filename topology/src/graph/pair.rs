//! The short way for the links that nearly all are: settled, one half on each side, one edge.
//!
//! It does what the long one does (`evaluate.rs`), without gathering what the halves have counted first: of the
//! histograms, only what has changed is looked at, and nothing is allocated. Whatever it finds unusual it leaves to
//! the long one.

use common::HistogramKind;

use super::Graph;
use crate::{
    base::{
        histogram::Histogram,
        time::Timestamp,
        totals::{EdgeTotals, Measure, measures},
    },
    count::{
        agreement::{Agreement, Lead},
        edges::Seen,
        half::{Half, Halves},
        link::{Link, LinkIx},
    },
    model::Role,
    who::basis::Basis,
};

impl Graph {
    /// Publishes what an ordinary link has gained. `None` when it is not ordinary: then nothing has changed. Else whether
    /// there is more to come of what its sides disagree on.
    pub(super) fn evaluate_pair(&mut self, ix: LinkIx, now: Timestamp) -> Option<bool> {
        let Graph { config, nodes, halves, links, edges, gain, .. } = self;
        let link = links.get_mut(ix)?;
        let (client, server) = ends(halves, link, now)?;
        let [row] = &mut link.rows[..] else { return None };
        let key = (client.service, server.service, server.id.2.server_port);
        if edges.get(row.edge)?.key != key {
            return None;
        }
        gain.clear();
        let published = edges.published(row);
        if !histograms(gain, client, server, published) {
            return None;
        }
        let (ours, theirs) =
            (measures(Role::Client, &client.counters), measures(Role::Server, &server.counters));
        let lead = Lead::of(&ours, &theirs);
        let lasting = if lead == Lead::default() {
            link.agreement = None;
            lead
        } else {
            let new = || Box::new(Agreement::new(lead, now, false));
            let agreement = link.agreement.get_or_insert_with(new);
            agreement.lasting(lead, now, config.agree_for)
        };
        for measure in Measure::ALL {
            let at = measure.index();
            let target = match measure {
                Measure::Retransmits => ours[at].saturating_add(theirs[at]),
                _ => ours[at],
            };
            gain.add(measure, target.saturating_sub(published.get(measure)));
        }
        for (at, measure) in Measure::SHARED.into_iter().enumerate() {
            // What both have, and what only one has and has had for long.
            let both = ours[measure.index()].min(theirs[measure.index()]);
            let one = lead.clients[at].min(lasting.clients[at]);
            let other = lead.servers[at].min(lasting.servers[at]);
            let target = both.saturating_add(one).saturating_add(other);
            gain.set(measure, target.saturating_sub(published.get(measure)));
        }
        let live = |half: &Half| {
            let node = nodes.get(half.node());
            half.ended.is_none() && node.is_some_and(|node| node.connected())
        };
        let open = if !live(client) && live(server) { server.open() } else { client.open() };
        if !gain.is_zero() {
            edges.publish(row, gain);
            let seen = Seen { client: true, server: true, by: Basis::BothHalves };
            edges.gain(row, gain, seen, now);
        }
        let was = std::mem::replace(&mut row.open, open);
        edges.set_open(row, was, open);
        Some(lasting != lead)
    }
}

/// The client's half and the server's, if there is nothing else to the link.
fn ends<'a>(halves: &'a Halves, link: &Link, now: Timestamp) -> Option<(&'a Half, &'a Half)> {
    let [one, other] = link.halves[..] else { return None };
    let ordinary = link.settled
        && link.rests.is_empty()
        && link.split.is_none()
        && link.late.is_none()
        && link.rows.len() == 1
        && link.is_plain()
        && !link.seeks
        && !link.is_gathering(now);
    if !ordinary {
        return None;
    }
    let (one, other) = (halves.get(one)?, halves.get(other)?);
    match (one.role(), other.role()) {
        (Role::Client, Role::Server) => Some((one, other)),
        (Role::Server, Role::Client) => Some((other, one)),
        _ => None,
    }
}

/// Adds what a link has gained of histograms; false when something was published that neither side has.
fn histograms(gain: &mut EdgeTotals, client: &Half, server: &Half, published: &EdgeTotals) -> bool {
    HistogramKind::ALL.into_iter().all(|kind| {
        let at = kind.index();
        // Round trips are both sides'.
        let other = (kind == HistogramKind::Rtt).then_some(&server.histograms[at]);
        let published = published.histogram(kind);
        Histogram::add_beyond(gain.histogram_mut(kind), &client.histograms[at], other, published)
    })
}
