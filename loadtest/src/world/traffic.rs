//! What a link carries in a tick, as the kernels of its two ends would count it.

use common::{BUCKETS, COUNTERS, Counter, HistogramKind};

use super::{Random, Side, Tick, World, purpose};

/// A storm lasts for so many ticks and makes so many times the connections.
const STORM_TICKS: Tick = 3;
const STORM: u64 = 30;

/// Payload of a full segment.
const SEGMENT: u64 = 1_448;

/// What one half of a link counts in a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    pub counters: [u64; COUNTERS],
    /// By kind, then by bucket, each once.
    pub buckets: Vec<(HistogramKind, u16, u64)>,
}

impl Increment {
    fn set(&mut self, counter: Counter, value: u64) {
        self.counters[counter.index()] = value;
    }

    fn get(&self, counter: Counter) -> u64 {
        self.counters[counter.index()]
    }

    /// Adds samples around a place, as a log-normal distribution has them: the bounds of buckets
    /// are a logarithmic scale. They fall into so many different buckets, if there are that many.
    fn spread(
        &mut self,
        random: &mut Random,
        kind: HistogramKind,
        around: f64,
        samples: u64,
        places: u64,
    ) {
        let places = places.clamp(1, samples.max(1));
        for place in 0..places {
            let count = samples / places + u64::from(place < samples % places);
            let bucket = (around + 4.0 * random.normal()).clamp(0.0, (BUCKETS / 2) as f64) as u16;
            let taken =
                |bucket: &u16| self.buckets.iter().any(|one| (one.0, one.1) == (kind, *bucket));
            let bucket = (bucket..).find(|bucket| !taken(bucket)).unwrap_or(bucket);
            self.add(kind, bucket, count);
        }
    }

    fn add(&mut self, kind: HistogramKind, bucket: u16, count: u64) {
        if count == 0 {
            return;
        }
        let key = (kind.index(), bucket);
        match self.buckets.binary_search_by_key(&key, |(kind, bucket, _)| (kind.index(), *bucket)) {
            Ok(at) => self.buckets[at].2 += count,
            Err(at) => self.buckets.insert(at, (kind, bucket, count)),
        }
    }
}

/// A link's own character, the same in every tick.
struct Character {
    long_lived: bool,
    /// Connections and bytes of an ordinary tick.
    connections: u64,
    bytes: u64,
    /// Buckets in the middle of its distributions.
    rtt: f64,
    lifetime: f64,
}

impl World {
    fn character(&self, link: u32) -> Character {
        let mut random = Random::of(&[self.seed, purpose::LINK, link.into()]);
        // Most are small and few are large.
        let size = random.unit().powi(3);
        Character {
            long_lived: random.chance(self.settings.long_lived),
            connections: 1 + (size * 40.0) as u64,
            bytes: 200 + (size * 2e5) as u64,
            // 60 µs to 16 ms, and 2 ms to 8 s.
            rtt: 48.0 + 64.0 * random.unit(),
            lifetime: 88.0 + 96.0 * random.unit(),
        }
    }

    /// What one end of a link counts in a tick; false when it carries nothing then. `open`
    /// connections are left from the tick before.
    pub fn traffic(
        &self,
        number: u32,
        side: Side,
        tick: Tick,
        open: u64,
        into: &mut Increment,
    ) -> bool {
        into.counters = [0; COUNTERS];
        into.buckets.clear();
        let link = &self.links[number as usize];
        let (begins, ends) = (tick == link.born, tick == link.died);
        let mut random = Random::of(&[self.seed, purpose::SHARED, number.into(), tick.into()]);
        if !begins && !ends && !random.chance(self.settings.active) {
            return false;
        }
        let own = self.character(number);
        let (connections, closed) =
            self.comings(&own, link.edge, tick, open, (begins, ends), &mut random);
        let factor = self.daily(link.edge, tick);
        let bytes =
            |random: &mut Random| 1 + (own.bytes as f64 * factor * (0.5 + random.unit())) as u64;
        let (to_server, to_client) = (bytes(&mut random) / 4 + 1, bytes(&mut random));
        into.set(Counter::Connections, connections);
        into.set(Counter::Closed, closed);
        let (out, back) = match side {
            Side::Client => (to_server, to_client),
            Side::Server => (to_client, to_server),
        };
        into.set(Counter::BytesSent, out);
        into.set(Counter::BytesReceived, back);
        if random.chance(self.settings.detail) {
            self.details(side, &mut random, into);
        }
        let per_side = [self.seed, purpose::SIDE, number.into(), tick.into(), side as u64];
        let mut random_side = Random::of(&per_side);
        let places = 1 + u64::from(self.settings.detail > 0.0);
        // Each end samples on its own, the server's one bucket more for the one it lacks.
        let more = u64::from(side == Side::Server);
        let samples = 2 * (connections + 1) + random_side.below(4);
        into.spread(&mut random_side, HistogramKind::Rtt, own.rtt, samples, places + more);
        if into.get(Counter::Retransmits) > 0 {
            into.set(Counter::Retransmits, 1 + random_side.below(4));
        }
        if connections > 0 {
            // Drawn by both ends, so that what follows is the same.
            let mut connect = Increment::default();
            connect.spread(&mut random, HistogramKind::Connect, own.rtt + 4.0, connections, places);
            if side == Side::Client {
                connect.buckets.iter().for_each(|(kind, bucket, n)| into.add(*kind, *bucket, *n));
            }
        }
        into.spread(&mut random, HistogramKind::Lifetime, own.lifetime, closed, places);
        true
    }

    /// Connections that begin and that end.
    fn comings(
        &self,
        own: &Character,
        edge: u32,
        tick: Tick,
        open: u64,
        (begins, ends): (bool, bool),
        random: &mut Random,
    ) -> (u64, u64) {
        let connections = match own.long_lived {
            true => u64::from(begins),
            false if self.storms(edge, tick) => STORM * own.connections,
            false => own.connections + random.below(own.connections),
        };
        let all = open + connections;
        let closed = match ends {
            true => all,
            false if own.long_lived => 0,
            // Some are still open when the tick is over.
            false if random.chance(self.settings.detail / 4.0) => all - all.min(random.below(3)),
            false => all,
        };
        (connections, closed)
    }

    /// Whether everybody connects to the server of this edge anew.
    fn storms(&self, edge: u32, tick: Tick) -> bool {
        let every = self.settings.storm_every;
        if every == 0 || tick % every >= STORM_TICKS {
            return false;
        }
        let mut random = Random::of(&[self.seed, purpose::STORM, (tick / every).into()]);
        // The servers of edges, so that it is somebody who is asked at all.
        let hit = random.below(self.edges.len() as u64) as usize;
        self.edges[hit].server == self.edges[edge as usize].server
    }

    /// The time of day: between a half and one and a half, each client in its own time zone.
    fn daily(&self, edge: u32, tick: Tick) -> f64 {
        let day = self.settings.day_ticks.max(2);
        let zone = self.edges[edge as usize].client % day;
        let hour = f64::from((tick + zone) % day) / f64::from(day);
        0.5 + (1.0 - (2.0 * hour - 1.0).abs())
    }

    /// Segments always, and now and then what goes wrong.
    fn details(&self, side: Side, random: &mut Random, into: &mut Increment) {
        let connections = into.get(Counter::Connections);
        let segments = |bytes: u64| bytes.div_ceil(SEGMENT) + 2 * connections + 1;
        into.set(Counter::SegmentsSent, segments(into.get(Counter::BytesSent)));
        into.set(Counter::SegmentsReceived, segments(into.get(Counter::BytesReceived)));
        if random.chance(0.1) {
            // How many, each end knows of its own.
            into.set(Counter::Retransmits, 1);
        }
        if random.chance(0.02) {
            let kinds = [
                Counter::FailedRefused,
                Counter::FailedTimeout,
                Counter::FailedUnreachable,
                Counter::FailedAborted,
                Counter::FailedLocal,
            ];
            let (kind, count) = (kinds[random.below(5) as usize], 1 + random.below(3));
            if side == Side::Client {
                into.set(kind, count);
            }
        }
        if random.chance(0.02) && into.get(Counter::Closed) > 0 {
            let by_client = random.chance(0.5);
            let mine = by_client == (side == Side::Client);
            into.set(if mine { Counter::ResetSent } else { Counter::ResetReceived }, 1);
        }
    }
}
