//! Workloads that end and come again elsewhere.

use super::{Instance, Link, NEVER, Random, Tick, World, purpose};

/// A replacement begins within so many ticks after the end.
const GAP: u64 = 3;

impl World {
    /// Ends `churn` instances per tick and replaces each, links and all.
    pub(super) fn churn(&mut self, horizon: Tick) {
        let per_tick = self.settings.churn;
        if per_tick <= 0.0 {
            return;
        }
        let mut random = Random::of(&[self.seed, purpose::CHURN]);
        let mut links_of = vec![Vec::new(); self.instances.len()];
        for (number, link) in self.links.iter().enumerate() {
            links_of[link.client as usize].push(number as u32);
            links_of[link.server as usize].push(number as u32);
        }
        let mut due = 0.0;
        for tick in 1..horizon {
            due += per_tick;
            while due >= 1.0 {
                due -= 1.0;
                let old = random.below(self.instances.len() as u64) as usize;
                if self.instances[old].died == NEVER {
                    let born = tick + 1 + random.below(GAP) as Tick;
                    self.replace(old, tick, born, &mut random, &mut links_of);
                }
            }
        }
        self.links.retain(|link| link.born < link.died);
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
