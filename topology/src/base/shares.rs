//! Room that nodes share, so that none can take that of the others.
//!
//! One half of the room belongs to the nodes in equal parts, the other half to whoever comes first. A node
//! that wants more than its part and what is left of the other half gets no more, however little the
//! others use: their parts stay theirs.

use crate::nodes::NodeIx;

/// As few nodes as this still leave room for more of them.
const NODES: usize = 16;

/// Who holds how much of a room.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    most: usize,
    held: Vec<usize>,
    total: usize,
    /// What nodes hold beyond their parts.
    beyond: usize,
}

impl Shares {
    pub(crate) const fn new(most: usize) -> Self {
        Shares { most, held: Vec::new(), total: 0, beyond: 0 }
    }

    /// What each node may always hold.
    const fn part(&self) -> usize {
        let nodes = if self.held.len() > NODES { self.held.len() } else { NODES };
        self.most.div_ceil(2 * nodes)
    }

    /// There are so many nodes.
    pub(crate) fn set_nodes(&mut self, nodes: usize) {
        if nodes > self.held.len() {
            self.held.resize(nodes, 0);
            let part = self.part();
            self.beyond = self.held.iter().map(|held| held.saturating_sub(part)).sum();
        }
    }

    /// What a node holds.
    pub(crate) fn held(&self, node: NodeIx) -> usize {
        self.held.get(node.index()).copied().unwrap_or(0)
    }

    /// Whether a node may have more.
    pub(crate) fn has_room(&self, node: NodeIx) -> bool {
        let within = self.held(node) < self.part() || self.beyond < self.most / 2;
        within && self.total < self.most
    }

    /// Whether so many of four parts of the room are taken, or of what is nobody's.
    pub(crate) const fn is_taken(&self, quarters: usize) -> bool {
        4 * self.total > quarters * self.most || 8 * self.beyond > quarters * self.most
    }

    pub(crate) fn take(&mut self, node: NodeIx, amount: usize) {
        self.set_nodes(node.index() + 1);
        let part = self.part();
        if let Some(held) = self.held.get_mut(node.index()) {
            let before = held.saturating_sub(part);
            *held += amount;
            self.beyond += held.saturating_sub(part) - before;
            self.total += amount;
        }
    }

    pub(crate) fn give(&mut self, node: NodeIx, amount: usize) {
        let part = self.part();
        if let Some(held) = self.held.get_mut(node.index()) {
            let amount = amount.min(*held);
            let before = held.saturating_sub(part);
            *held -= amount;
            self.beyond -= before - held.saturating_sub(part);
            self.total -= amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greedy_node_leaves_the_others_their_parts() {
        let mut shares = Shares::new(3200);
        let greedy = NodeIx(0);
        while shares.has_room(greedy) {
            shares.take(greedy, 1);
        }
        assert_eq!(shares.held(greedy), 1700);
        for other in (1..15).map(NodeIx) {
            for _ in 0..100 {
                assert!(shares.has_room(other));
                shares.take(other, 1);
            }
            assert!(!shares.has_room(other));
        }
        shares.give(greedy, 1);
        assert!(shares.has_room(NodeIx(3)) && shares.has_room(greedy));
    }

    proptest! {
        #[test]
        fn what_is_beyond_follows_from_what_is_held(
            steps in proptest::collection::vec((0_u32..40, any::<bool>(), 1_usize..9), 0..400),
        ) {
            let mut shares = Shares::new(100);
            for (node, takes, amount) in steps {
                let node = NodeIx(node);
                if takes && shares.has_room(node) {
                    shares.take(node, amount);
                } else {
                    shares.give(node, amount);
                }
                let part = shares.part();
                prop_assert_eq!(shares.total, shares.held.iter().sum::<usize>());
                let beyond = shares.held.iter().map(|held| held.saturating_sub(part)).sum::<usize>();
                prop_assert_eq!(shares.beyond, beyond);
                prop_assert!(shares.total < 100 + 9);
            }
        }
    }
}
