//! Workloads that end and come again elsewhere, and edges that come and go.

use super::{Instance, Link, NEVER, Random, Tick, World, purpose};

/// A replacement begins within so many ticks after the end.
const GAP: u64 = 3;

/// Edges rest no more so many ticks before the end, so that all are there in the end.
const AWAKE: Tick = 20;

impl World {
    /// Ends `churn` instances per tick and replaces each, links and all; and has restless edges rest.
    pub(super) fn churn(&mut self, horizon: Tick) {
        let (per_tick, restless) = (self.settings.churn, self.settings.restless);
        if per_tick <= 0.0 && restless <= 0.0 {
            return;
        }
        let mut random = Random::of(&[self.seed, purpose::CHURN]);
        let mut links_of = vec![Vec::new(); self.instances.len()];
        for (number, link) in self.links.iter().enumerate() {
            links_of[link.client as usize].push(number as u32);
            links_of[link.server as usize].push(number as u32);
        }
        let rests = self.rests();
        let mut due = 0.0;
        for tick in 1..horizon {
            due += per_tick.max(0.0);
            while due >= 1.0 {
                due -= 1.0;
                let old = random.below(self.instances.len() as u64) as usize;
                if self.instances[old].died == NEVER {
                    let born = tick + 1 + random.below(GAP) as Tick;
                    self.replace(old, tick, born, &mut random, &mut links_of);
                }
            }
            let awake = tick + self.settings.rest_ticks;
            if let Some(resting) = rests.get((tick % self.settings.cycle_ticks.max(1)) as usize)
                && awake + AWAKE < horizon
            {
                self.rest(resting, tick, awake, &mut links_of);
            }
        }
        self.links.retain(|link| link.born < link.died);
    }

    /// The edges that begin to rest at each tick of a cycle.
    fn rests(&self) -> Vec<Vec<u32>> {
        if self.settings.restless <= 0.0 {
            return Vec::new();
        }
        let mut rests = vec![Vec::new(); self.settings.cycle_ticks as usize];
        for edge in 0..self.edges.len() as u32 {
            let mut random = Random::of(&[self.seed, purpose::REST, edge.into()]);
            if random.chance(self.settings.restless) {
                rests[random.below(self.settings.cycle_ticks.into()) as usize].push(edge);
            }
        }
        rests
    }

    /// Ends every link of these edges and begins each anew when they are awake.
    fn rest(&mut self, edges: &[u32], died: Tick, awake: Tick, links_of: &mut [Vec<u32>]) {
        if edges.is_empty() {
            return;
        }
        let lives = |link: &Link| link.died == NEVER && edges.contains(&link.edge);
        let ending: Vec<_> = (0..self.links.len()).filter(|at| lives(&self.links[*at])).collect();
        for number in ending {
            let link = &mut self.links[number];
            link.died = died;
            let next = Link { born: awake, died: NEVER, ..*link };
            let number = self.links.len() as u32;
            links_of[next.client as usize].push(number);
            links_of[next.server as usize].push(number);
            self.links.push(next);
        }
    }

    fn replace(
        &mut self,
        old: usize,
        died: Tick,
        born: Tick,
        random: &mut Random,
        links_of: &mut Vec<Vec<u32>>,
    ) {
        let new = self.instances.len() as u32;
        let agent = random.below(self.settings.agents.into()) as u32;
        self.instances[old].died = died;
        self.instances.push(Instance { agent, died: NEVER, ..self.instances[old] });
        links_of.push(Vec::new());
        for number in std::mem::take(&mut links_of[old]) {
            let link = &mut self.links[number as usize];
            if link.died != NEVER {
                continue;
            }
            // One that has not begun yet never does.
            link.died = died;
            let mut next = Link { born: born.max(link.born), died: NEVER, ..*link };
            for end in [&mut next.client, &mut next.server] {
                if *end as usize == old {
                    *end = new;
                }
            }
            let number = self.links.len() as u32;
            links_of[next.client as usize].push(number);
            links_of[next.server as usize].push(number);
            self.links.push(next);
        }
    }
}
