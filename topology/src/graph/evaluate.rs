//! A tick: links that changed are paired, and what they gained is published.

use super::Graph;
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        agreement::{Agreement, Lead},
        edges::{EdgeKey, Seen},
        gains::{Change, gains},
        link::{Link, LinkKey, Row},
        pairing::{Pairing, Pairings, Sides},
    },
    show::step::{EndedStep, StepEdge},
    who::{evidence::Answer, place::Place, services::ServiceIx},
};

/// What is left to do for a link.
struct Next {
    /// It has to be looked at again, whether it changes or not.
    again: bool,
    /// There are connections whose owners have to be asked for.
    ask: bool,
}

impl Graph {
    /// Settles and publishes what is due, ends the running step when it is over, and forgets.
    /// To be called about once a second; it looks at what changed only.
    pub fn tick(&mut self, now: Timestamp) {
        let now = self.see(now);
        for ix in std::mem::take(&mut self.halves.changed) {
            if let Some(half) = self.halves.get_mut(ix) {
                half.changed = false;
                self.links.enqueue(half.link);
            }
        }
        for ix in std::mem::take(&mut self.links.queue) {
            // Out of its place while it is evaluated: the rest of the graph is needed, too.
            let Some(mut link) = self.links.take(ix) else { continue };
            link.queued = false;
            let next = self.evaluate(&mut link, now);
            self.links.put_back(ix, link);
            if next.ask {
                self.ask(ix, now);
            }
            if next.again {
                self.links.enqueue(ix);
            }
        }
        if self.end_step(now) {
            self.expire(now);
        }
    }

    /// Ends the running step if it is over; returns whether it was.
    fn end_step(&mut self, now: Timestamp) -> bool {
        let hand_over = self.config.hand_over_steps;
        let (services, nodes) = (&mut self.services, &self.nodes);
        let mut edges = Vec::new();
        let ended = self.history.advance(now, &mut self.edges, |edge| {
            let ends =
                (services.view_node(edge.key.0, nodes), services.view_node(edge.key.1, nodes));
            if let (true, (Some(source), Some(target))) = (hand_over, ends) {
                edges.push(StepEdge {
                    id: edge.id,
                    source,
                    target,
                    server_port: edge.key.2,
                    seen: edge.seen,
                    connections_open: edge.open,
                    totals: std::mem::take(&mut edge.running),
                });
            }
        });
        let Some((window, lost)) = ended else { return false };
        if hand_over {
            self.ended.push(EndedStep { window, lost, edges });
        }
        true
    }

    fn evaluate(&mut self, link: &mut Link, now: Timestamp) -> Next {
        let mut sides = self.sides(link, now);
        let next = Next { again: true, ask: sides.asking };
        if link.is_gathering(now) {
            return next;
        }
        let both = !sides.clients.is_empty() && !sides.servers.is_empty();
        let old = now.since(link.first_seen) >= self.config.settle_after;
        link.settled |= old || (both && !sides.asking);
        if !link.settled {
            return next;
        }
        let (lasting, waiting) = self.agree(link, &sides, now);
        let pairings = sides.pair(&lasting);
        self.publish(link, &sides, pairings, now);
        Next { again: waiting || sides.asking, ..next }
    }

    /// What of the sides' disagreement counts, and whether there is more of it.
    fn agree(&self, link: &mut Link, sides: &Sides, now: Timestamp) -> (Lead, bool) {
        let Some(lead) = sides.lead().filter(|lead| *lead != Lead::default()) else {
            link.agreement = None;
            return (Lead::default(), false);
        };
        if sides.are_shared() && self.awaits(link, now) {
            link.agreement = None;
            return (Lead::default(), true);
        }
        let new = || Box::new(Agreement::new(lead, now));
        let agreement = link.agreement.get_or_insert_with(new);
        let lasting = agreement.lasting(lead, now, self.config.agree_for);
        (lasting, lasting != lead)
    }

    /// Whether one of a link's hosts has been gone for so short a time that it may be about to say what it counted.
    fn awaits(&self, link: &Link, now: Timestamp) -> bool {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix));
        halves.filter(|half| half.ended.is_none()).any(|half| {
            self.nodes.get(half.node()).is_some_and(|node| {
                !node.connected() && now.since(node.left_at) < self.config.node_return
            })
        })
    }

    fn publish(&mut self, link: &mut Link, sides: &Sides, found: Pairings, now: Timestamp) {
        let mut targets: Vec<(EdgeTotals, u64, Seen)> = Vec::new();
        targets.resize_with(link.rows.len(), Default::default);
        for pairing in found.pairings {
            let key = self.edge_key(&link.key, sides, &pairing);
            let same = |row: &Row| self.edges.get(row.edge).is_some_and(|edge| edge.key == key);
            let at = match link.rows.iter().position(same) {
                Some(at) => at,
                None if pairing.totals.is_zero() && pairing.open == 0 => continue,
                None => {
                    let Some(edge) = self.edges.refer(key, &self.services, now) else { continue };
                    link.rows.push(Row { edge, published: EdgeTotals::default(), open: 0 });
                    targets.push(Default::default());
                    link.rows.len() - 1
                }
            };
            let (totals, open, seen) = &mut targets[at];
            *open = open.saturating_add(pairing.open);
            seen.merge(pairing.seen());
            if totals.is_zero() {
                *totals = pairing.totals;
            } else {
                totals.merge(&pairing.totals);
            }
        }
        let changes: Vec<_> = link
            .rows
            .iter()
            .zip(&targets)
            .filter_map(|(row, (target, ..))| {
                let key = self.edges.get(row.edge)?.key;
                Some(Change { ends: (key.0, key.1), published: &row.published, target })
            })
            .collect();
        let gains = gains(&changes, &found.limits);
        for ((row, gain), (_, open, seen)) in link.rows.iter_mut().zip(&gains).zip(&targets) {
            if !gain.is_zero() {
                row.published.merge(gain);
                self.edges.gain(row.edge, gain, *seen, now);
            }
            self.edges.set_open(row.edge, std::mem::replace(&mut row.open, *open), *open);
        }
    }

    /// The edge of a pairing; a side without a half is found by its address.
    pub(crate) fn edge_key(&mut self, link: &LinkKey, sides: &Sides, pairing: &Pairing) -> EdgeKey {
        let client = pairing.client.and_then(|at| sides.clients.get(at)).map(|party| party.service);
        let server = pairing.server.and_then(|at| sides.servers.get(at)).map(|party| party.service);
        (
            client.unwrap_or_else(|| self.service_at(link.client, None)),
            server.unwrap_or_else(|| self.service_at(link.server, Some(link.server_port))),
            link.server_port,
        )
    }

    fn service_at(&mut self, place: Place, server_port: Option<u16>) -> ServiceIx {
        match self.evidence.who(place, server_port) {
            Answer::Service(service) => service,
            Answer::Host(node) => match self.nodes.get(node) {
                Some(node) => node.host,
                None => self.services.external(place.ip()),
            },
            Answer::External(ip) => self.services.external(ip),
        }
    }
}

impl Pairing {
    /// Which sides have a half.
    pub(crate) const fn seen(&self) -> Seen {
        Seen { client: self.client.is_some(), server: self.server.is_some() }
    }
}
