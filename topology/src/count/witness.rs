//! Who saw an edge, and when: kept of halves that are forgotten.

use serde::{Deserialize, Serialize};

use super::half::Half;
use crate::{base::time::Timestamp, model::Role, nodes::NodeIx};

/// Hosts that are kept of an edge; those that saw it last.
const MOST: usize = 16;

/// A host that saw one side of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Witness {
    pub(crate) node: NodeIx,
    pub(crate) role: Role,
    /// When it first told of it.
    pub(crate) first: Timestamp,
    /// When it last told of something new.
    pub(crate) last: Timestamp,
}

impl Witness {
    /// What a half saw.
    pub(crate) fn of(half: &Half) -> Self {
        let (first, last) = (half.opened, half.changed_at.max(half.opened));
        Witness { node: half.node(), role: half.role(), first, last }
    }
}

/// Adds what a host saw to what is known of it.
pub(crate) fn add(witnesses: &mut Vec<Witness>, witness: Witness) {
    let same = |known: &&mut Witness| (known.node, known.role) == (witness.node, witness.role);
    match witnesses.iter_mut().find(same) {
        Some(known) => {
            known.first = known.first.min(witness.first);
            known.last = known.last.max(witness.last);
        }
        None => witnesses.push(witness),
    }
}

/// The same, of so many at most.
pub(crate) fn add_bounded(witnesses: &mut Vec<Witness>, witness: Witness) {
    add(witnesses, witness);
    if witnesses.len() > MOST
        && let Some(oldest) =
            (0..witnesses.len()).min_by_key(|at| witnesses.get(*at).map(|known| known.last))
    {
        witnesses.swap_remove(oldest);
    }
}
