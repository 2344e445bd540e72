//! The last report of an agent whose programs were replaced: everything that they counted, as totals, in the name of its
//! session.

use std::time::Instant;

use proto::v1;

use crate::{
    owners::Owners,
    report::{DeferredChange, Report},
    source::{Former, LastSlot, SlotChange},
};

/// The batches of a stream of that session, from the preface on. `hello` and `status` are this agent's own, but
/// for what was lost; also returns the other's `hello`.
#[must_use]
pub fn last_report(
    former: &mut Former,
    status: v1::NodeStatus,
    owners: &mut Owners,
    hello: &v1::Hello,
) -> (v1::Hello, Vec<v1::Batch>) {
    let now = Instant::now();
    let mut report = Report::resume(&former.past, former.max_halves as usize, now);
    let link_of = |slot: &LastSlot| {
        former.past.links.get(&slot.slot).filter(|link| link.owner == slot.key.owner)
    };
    // As at every first look: what is known to be part of a half, then the rest.
    let (linked, others): (Vec<_>, Vec<_>) =
        former.slots.iter().partition(|slot| link_of(slot).is_some());
    for slot in linked.into_iter().chain(others) {
        let change = DeferredChange::of(&SlotChange {
            slot: slot.slot,
            key: &slot.key,
            counters: &slot.counters,
            users: 0,
            buckets: &slot.buckets,
        });
        let change = change.change();
        match link_of(slot) {
            Some(link) => report.absorb_into(&change, link, now),
            None => {
                let workload = owners.workload(slot.key.owner, now, |_| slot.owner);
                report.absorb_as(&change, &workload, now);
                // Should this agent be killed, the next one is to call it the same.
                if former.ledger.has_room_for_slot()
                    && let Some(link) = report.link_of_slot(slot.slot, &slot.key)
                {
                    former.ledger.link(slot.slot, link);
                }
            }
        }
    }
    let losses = former.losses.iter().map(|(cause, count)| ((*cause).to_owned(), *count));
    report.set_status(v1::NodeStatus { losses: losses.collect(), ..status });
    let seq = report.pass_over();
    let batches = report.preface(seq, std::iter::empty());
    let hello = v1::Hello {
        generation: former.identity.generation,
        session: former.identity.session,
        ..hello.clone()
    };
    (hello, batches)
}
