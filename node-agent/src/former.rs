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
                // Should this agent be killed, the next one is to call it the same: told as two, it would count twice.
                report.fold_new(!former.ledger.has_room());
                if !former.ledger.has_room_for_slot() {
                    report.refuse(&change, now);
                    continue;
                }
                let workload = owners.workload(slot.key.owner, now, |_| slot.owner);
                report.absorb_as(&change, &workload, now);
                if let Some(link) = report.link_of_slot(slot.slot, &slot.key) {
                    former.ledger.link(slot.slot, link);
                }
            }
        }
    }
    let mut losses = former.losses.clone();
    losses.push(("report_full", report.refused()));
    losses.push(("report_folded", report.folded()));
    former.ledger.add_carried(&mut losses);
    let losses = losses.into_iter().map(|(cause, count)| (cause.to_owned(), count)).collect();
    report.set_status(v1::NodeStatus { losses, ..status });
    let seq = report.pass_over();
    let batches = report.preface(seq, std::iter::empty());
    let hello = v1::Hello {
        generation: former.identity.generation,
        session: former.identity.session,
        ..hello.clone()
    };
    (hello, batches)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use common::{
        COUNTERS, Counter,
        kernel::{HalfKey, Owner},
    };

    use super::*;
    use crate::{
        cgroup_fs::CgroupFs,
        ledger::{Key, LEAST, Ledger, Link},
        owners::ProcFs,
        testing::{
            client_key,
            ledger::{IDENTITY, begun},
            receiver::{Receiver, Value},
            skipped,
            world::workload,
        },
    };

    const OWNER: u64 = 11;
    const SENT: Value = Value::Counter(Counter::BytesSent);

    fn owners() -> Option<Owners> {
        let cgroup = CgroupFs::default_root().ok().or_else(|| {
            skipped("no cgroup v2 here");
            None
        })?;
        Some(Owners::new("n1", cgroup, ProcFs::new("/proc")))
    }

    fn owner() -> Owner {
        Owner {
            cgroup_id: 0,
            netns_cookie: 1,
            start_ns: 1 << 60,
            tgid: std::process::id(),
            reserved: 0,
            comm: *b"shop\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    /// Each slot has sent ten bytes.
    fn former(ledger: Ledger, slots: &[(u32, HalfKey)]) -> Former {
        let mut counters = [0; COUNTERS];
        counters[Counter::BytesSent.index()] = 10;
        counters[Counter::Connections.index()] = 1;
        let slots = slots.iter().map(|(slot, key)| LastSlot {
            slot: *slot,
            key: *key,
            counters,
            buckets: Vec::new(),
            owner: Some(owner()),
        });
        Former {
            identity: IDENTITY,
            past: ledger.past().unwrap(),
            max_halves: 1_000,
            slots: slots.collect(),
            losses: Vec::new(),
            ledger,
            folder: None,
        }
    }

    fn told(former: &mut Former, owners: &mut Owners) -> Receiver {
        let status = v1::NodeStatus::default();
        let (_, batches) = last_report(former, status, owners, &v1::Hello::default());
        let mut receiver = Receiver::default();
        receiver.restart();
        for batch in &batches {
            receiver.apply(batch);
        }
        receiver
    }

    fn half(owners: &mut Owners, port: u16) -> Key {
        let key = client_key(OWNER, "10.0.0.2", port);
        Key {
            workload: owners.workload(OWNER, Instant::now(), |_| Some(owner())),
            local: crate::addresses::scoped(key.local, 1),
            peer: crate::addresses::scoped(key.peer, 1),
            server_port: port,
            client_port: 0,
            role: topology::model::Role::Client,
        }
    }

    /// A slot that was never told of comes before one that was told as part of the same half.
    #[test]
    fn a_slot_more_is_part_of_the_half_that_was_told() {
        let Some(mut owners) = owners() else { return };
        let (shared, mut ledger) = begun(1 << 20);
        let half = half(&mut owners, 80);
        ledger.link(7, Link { owner: OWNER, half: half.clone(), birth: 5 });
        let slots = [3, 7].map(|slot| (slot, client_key(OWNER, "10.0.0.2", 80)));
        let receiver = told(&mut former(shared.open(), &slots), &mut owners);
        let counted: Vec<_> = receiver.counted.values().map(|values| values[&SENT]).collect();
        assert_eq!(counted, [20]);
        let links = shared.open().past().unwrap().links;
        let births: HashSet<_> = links.values().map(|link| (&link.half, link.birth)).collect();
        assert_eq!((links.len(), births), (2, HashSet::from([(&half, 5)])));
    }

    /// Without room to note what a slot is told as, another agent could tell it as something else.
    #[test]
    fn what_a_full_ledger_cannot_note_is_refused_and_said() {
        let Some(mut owners) = owners() else { return };
        let (shared, mut ledger) = begun((3 * LEAST + 2_000) * 2);
        let half = half(&mut owners, 80);
        let mut known = Link { owner: OWNER, half: half.clone(), birth: 1 };
        ledger.link(1, known.clone());
        let slots =
            [(1, 80), (2, 90)].map(|(slot, port)| (slot, client_key(OWNER, "10.0.0.2", port)));
        let mut number = 0;
        while ledger.has_room() {
            number += 1;
            let half = Key { workload: workload(&format!("job-{number}")), ..half.clone() };
            known = Link { owner: 1, half, birth: u64::from(number) };
            ledger.link(1_000 + number, known.clone());
        }
        let receiver = told(&mut former(shared.open(), &slots), &mut owners);
        let (folded, apart): (Vec<_>, Vec<_>) =
            receiver.counted.iter().partition(|(key, _)| key.is_folded());
        assert_eq!((folded.len(), apart.len()), (1, 1), "there is room for a slot, not for a half");
        assert_eq!(receiver.status.losses["report_folded"], 1);

        // To the last byte: slots of halves that are known take little.
        while ledger.has_room_for_slot() {
            number += 1;
            ledger.link(10_000 + number, known.clone());
        }
        let receiver = told(&mut former(shared.open(), &slots), &mut owners);
        assert_eq!(receiver.counted.len(), 1, "what was told before is told");
        assert_eq!(receiver.status.losses["report_full"], 1);
        assert!(!shared.open().past().unwrap().links.contains_key(&2));
    }
}
