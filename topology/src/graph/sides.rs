//! Gathers the halves of a link into its two sides.

use std::collections::HashSet;

use super::{Graph, questions::ATTEMPTS};
use crate::{
    base::{time::Timestamp, totals::EdgeTotals},
    count::{
        former::Counted,
        half::{Half, HalfIx, Whose},
        link::{Link, LinkKey, Rest},
        pairing::{Cell, Party, Sides, Whole, find, find_server},
        scoped::seen_from_afar,
    },
    model::Role,
    who::{
        evidence::Answer,
        services::{ServiceIx, Services},
    },
};

impl Graph {
    pub(crate) fn sides(&self, link: &Link, now: Timestamp) -> Sides {
        let mut sides = Sides::default();
        let alone = link.tied.is_some() && self.is_one_sided(link);
        for (ix, half) in link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?))) {
            let role = half.role();
            let meeting = self.meeting_of(role, link.key_of(half), link.reach_of(ix, half));
            let is_client = role == Role::Client && !link.is_told_by_host(ix);
            let is_open = is_client && link.is_open(&meeting.own);
            let party = party(sides.of(role), role, half.service, meeting, alone);
            party.open_ended |= is_open;
            party.totals.add_half(role, &half.counters, &half.histograms);
            party.open = party.open.saturating_add(half.open());
            let node = self.nodes.get(half.node());
            party.live |= half.ended.is_none() && node.is_some_and(|node| node.connected());
        }
        for rest in &link.rests {
            let own = rest.reach.first().copied().unwrap_or(link.key);
            let meeting = self.meeting_of(rest.role, own, rest.reach.clone());
            let is_open = rest.role == Role::Client && link.is_open(&own);
            let party = party(sides.of(rest.role), rest.role, rest.service, meeting, alone);
            party.open_ended |= is_open;
            party.totals.merge(&rest.totals);
        }
        sort(&mut sides.clients, &self.services);
        sort(&mut sides.servers, &self.services);
        let both = !sides.clients.is_empty() && !sides.servers.is_empty();
        if link.tied.is_some() && both {
            sides.restrict(|client, known, meets| self.find_elsewhere(client, known, meets));
        }
        let many = sides.clients.len() > 1 && sides.servers.len() > 1;
        if both && (many || sides.reach.is_some()) {
            self.fill_cells(link, &mut sides, now);
        }
        sides
    }

    fn meeting_of(&self, role: Role, own: LinkKey, reach: Vec<LinkKey>) -> Meeting {
        let away = self.away_of(role, reach.get(1..).unwrap_or_default()).unwrap_or(own);
        Meeting { own, away, reach }
    }

    /// The other side is looked for beyond the translation, where all of that leads to one place, or to one service at one
    /// port, and somebody is known to be there: an address that nobody covers is better named as this side has it.
    fn away_of(&self, role: Role, told: &[LinkKey]) -> Option<LinkKey> {
        let place = |key: &LinkKey| match role {
            Role::Client => (key.server, Some(key.server_port)),
            Role::Server => (key.client, None),
        };
        let who = |key: &LinkKey| {
            let (away, port) = place(key);
            self.evidence.who(away, port).0
        };
        let first = told.iter().min()?;
        let answer = who(first);
        let alike = |key: &LinkKey| {
            let service = matches!(answer, Answer::Service(_));
            place(key) == place(first)
                || (service && place(key).1 == place(first).1 && who(key) == answer)
        };
        let known = !matches!(answer, Answer::External(_));
        (known && told.iter().all(alike)).then_some(*first)
    }

    fn is_one_sided(&self, link: &Link) -> bool {
        let halves = link.halves.iter().filter_map(|ix| self.halves.get(*ix)).map(Half::role);
        let mut roles = halves.chain(link.rests.iter().map(|rest| rest.role));
        let first = roles.next();
        roles.all(|role| Some(role) == first)
    }

    /// Whether a client has connections with somebody of whom no half is known: where translations lead and no half has
    /// told of it, or as long as no half is known at all that it can have talked to.
    fn find_elsewhere(&self, client: &mut Party, servers: &HashSet<LinkKey>, meets: bool) {
        // A server behind a bridge may have it as another key, which the client was led to, too.
        let met = client.led_to.iter().filter(|key| servers.contains(key));
        let from_afar: HashSet<LinkKey> = met.filter_map(seen_from_afar).collect();
        let answered = |key: &LinkKey| {
            servers.contains(key) || seen_from_afar(key).is_some_and(|far| from_afar.contains(&far))
        };
        let who = |key: &LinkKey| self.evidence.who(key.server, Some(key.server_port)).0;
        // A host is nobody in particular: its agent may be about to say who it is.
        let known = |key: &LinkKey| matches!(who(key), Answer::Service(_) | Answer::External(_));
        let open: Vec<LinkKey> =
            client.led_to.iter().filter(|key| !answered(key) && known(key)).copied().collect();
        client.elsewhere = client.open_ended || !open.is_empty() || !meets;
        if client.open_ended {
            client.away = client.own;
        } else if !open.is_empty() {
            client.away = self.away_of(Role::Client, &open).unwrap_or(client.own);
        }
    }

    fn fill_cells(&self, link: &Link, sides: &mut Sides, now: Timestamp) {
        sides.wholes.resize_with(sides.servers.len(), Whole::default);
        let halves = link.halves.iter().filter_map(|ix| Some((*ix, self.halves.get(*ix)?)));
        for (ix, half) in halves.filter(|(_, half)| half.role() == Role::Server) {
            let server = (half.service, half.id.2.server_port);
            let Counted { before, last, now: totals } = self.halves.counted(ix, half);
            let whose = self.client_of(ix, half, sides, now);
            for (client, totals) in before.into_iter().chain(last.filter(|_| whose.is_some())) {
                let client = client.and_then(|client| find(&sides.clients, client));
                put(sides, client, server, totals, 0);
            }
            match whose {
                Some(whose) => put(sides, whose, server, totals, half.open()),
                None => sides.asking = true,
            }
        }
        for Rest { role, service, client, reach, totals } in &link.rests {
            if *role == Role::Server {
                let client = client.and_then(|client| find(&sides.clients, client));
                let port = reach.first().unwrap_or(&link.key).server_port;
                put(sides, client, (*service, port), totals.clone(), 0);
            }
        }
        if let Some(split) = &link.split {
            sides.take_shares(split);
        }
    }

    /// For whom of the clients a server half counted: `Some(None)` when that is for their own
    /// numbers to tell, `None` while there may still be an answer.
    fn client_of(
        &self,
        ix: HalfIx,
        half: &Half,
        sides: &Sides,
        now: Timestamp,
    ) -> Option<Option<usize>> {
        let young = now.since(half.opened) < self.config.settle_after;
        match half.whose {
            _ if half.id.2.client_port == 0 || self.halves.has_several(ix, half) => Some(None),
            Whose::Of(client) => match find(&sides.clients, client) {
                None if young => None,
                found => Some(found),
            },
            Whose::Nobody => Some(None),
            Whose::Unknown { asked, again_at } => {
                let given_up = asked >= ATTEMPTS && again_at <= now;
                let young = young || self.halves.former(ix).is_some();
                (given_up || !young).then_some(None)
            }
        }
    }
}

/// Where somebody's halves meet those of the others.
struct Meeting {
    own: LinkKey,
    /// Where to look for the other side.
    away: LinkKey,
    /// The first and what translations make of it, of a link that is tied.
    reach: Vec<LinkKey>,
}

/// The party of a service, to which this is added. When there is nobody on the other side (`alone`), those who look for
/// it in different places are different parties.
fn party(
    parties: &mut Vec<Party>,
    role: Role,
    service: ServiceIx,
    meeting: Meeting,
    alone: bool,
) -> &mut Party {
    let port = if role == Role::Server { meeting.own.server_port } else { 0 };
    let same = |party: &Party| {
        (party.service, party.port) == (service, port) && (!alone || party.away == meeting.away)
    };
    let at = parties.iter().position(same).unwrap_or_else(|| {
        let Meeting { own, away, .. } = meeting;
        parties.push(Party { away, ..Party::new(service, port, own) });
        parties.len() - 1
    });
    let party = &mut parties[at];
    // Whichever came first.
    party.own = party.own.min(meeting.own);
    party.away = party.away.min(meeting.away);
    if !meeting.reach.is_empty() {
        let told = meeting.reach.get(1..).filter(|told| !told.is_empty());
        party.led_to.extend(told.unwrap_or(&meeting.reach));
        party.reach.extend(&meeting.reach);
    }
    party
}

fn sort(parties: &mut [Party], services: &Services) {
    if parties.len() > 1 {
        parties.sort_by(|a, b| {
            let rank = |party: &Party| services.get(party.service).map(|service| service.rank());
            let rest = |party: &Party| (party.port, party.away);
            rank(a).cmp(&rank(b)).then_with(|| rest(a).cmp(&rest(b)))
        });
    }
}

fn put(
    sides: &mut Sides,
    client: Option<usize>,
    service: (ServiceIx, u16),
    totals: EdgeTotals,
    open: u64,
) {
    let Some(server) = find_server(&sides.servers, service) else { return };
    if sides.servers.get(server).is_some_and(|server| server.elsewhere) {
        // Nobody's here.
        return;
    }
    match (client, sides.wholes.get_mut(server)) {
        (Some(client), _) => sides.cells.push(Cell { client, server, totals, open, whole: false }),
        (None, Some(whole)) => {
            whole.totals.merge(&totals);
            whole.open = whole.open.saturating_add(open);
        }
        (None, None) => {}
    }
}
