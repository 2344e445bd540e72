//! What comes late is added to the steps that are stored of its time: of the finest tier that still goes back to
//! it, and from there to the coarser ones.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;
use topology::{EdgeTotals, EndedStep, Entry, Lost, Seen, Timestamp, Window};

use super::{
    database::HistoryError,
    names::Rows,
    steps::Steps,
    table::{self, StepBytes},
    tiers::{self, TIERS},
};

/// Adds to steps; `rows` are their edges, by number. Where the layer `begins_later` than the one between services, what is of
/// before is not added: it would look as if all of that time were there. Returns how many rows those are.
pub(super) fn add(
    steps: &mut Steps<'_>,
    late: &[EndedStep],
    rows: &[Rows<'_>],
    begins_later: bool,
) -> Result<u64, HistoryError> {
    let mut dropped = 0;
    let mut changed: [BTreeSet<Timestamp>; TIERS.len()] = Default::default();
    let firsts = steps.begins.map(|begins| Some(begins?.0));
    let lasts = |steps: &Steps<'_>| steps.begins.map(|begins| Some(begins?.1));
    let lasts_before = lasts(steps);
    for (step, rows) in late.iter().zip(rows) {
        let tier = match going_back_to(step.window.from, &firsts) {
            Some(tier) => tier,
            None if begins_later => {
                dropped += rows.rows.len() as u64;
                continue;
            }
            None => coarsest(&firsts),
        };
        let begin = step.window.from.floor(TIERS[tier]);
        add_to(steps, tier, begin, rows)?;
        changed[tier].insert(begin);
    }
    for tier in 0..TIERS.len() {
        // The period that was not over may be so by what was added after it.
        let periods = changed[tier]
            .iter()
            .chain(&lasts_before[tier])
            .filter_map(|at| tiers::period(tier, *at));
        let lasts_now = lasts(steps);
        let periods: BTreeMap<_, _> = periods.map(|period| (period.from, period.to)).collect();
        for (from, to) in periods {
            let period = Window { from, to };
            // One that is not over is merged when it is.
            if lasts_now[tier].is_some_and(|last| last >= to) {
                let (begin, bytes) = steps.merge(tier, period)?;
                steps.remove(tier + 1, period)?;
                steps.replace(tier + 1, begin, &bytes)?;
                changed[tier + 1].insert(begin);
            }
        }
    }
    Ok(dropped)
}

/// The finest tier that goes back to a moment.
fn going_back_to(at: Timestamp, firsts: &[Option<Timestamp>; TIERS.len()]) -> Option<usize> {
    let starts =
        firsts.iter().zip(TIERS).map(|(first, length)| Some(first.as_ref()?.floor(length)));
    let goes_back =
        |(_, start): &(usize, Option<Timestamp>)| start.is_some_and(|start| start <= at);
    starts.enumerate().find(goes_back).map(|(tier, _)| tier)
}

/// Of the tiers that have anything, the coarsest.
fn coarsest(firsts: &[Option<Timestamp>; TIERS.len()]) -> usize {
    firsts.iter().rposition(Option::is_some).unwrap_or(0)
}

fn add_to(
    steps: &mut Steps<'_>,
    tier: usize,
    begin: Timestamp,
    rows: &Rows<'_>,
) -> Result<(), HistoryError> {
    let end = begin.plus(TIERS[tier]);
    let mut from = begin;
    let (mut to, mut lost) = (end, Lost::default());
    let mut sums: BTreeMap<u32, (EdgeTotals, Seen, u64)> = BTreeMap::new();
    let keys = (tier as u8, begin.unix_ns())..(tier as u8, end.unix_ns());
    if let Some(row) = steps.table.range(keys)?.next() {
        let (key, bytes) = row?;
        let mut stored = StepBytes::read(key.value().1, bytes.value())?;
        (from, to, lost) = (stored.window.from, stored.window.to, stored.lost);
        let mut entry = Entry::default();
        while stored.next(&mut entry) {
            sums.insert(entry.index as u32, (entry.totals.clone(), entry.seen, entry.open));
        }
    }
    lost.folded = lost.folded.saturating_add(rows.folded);
    for (number, gained, seen_by, _) in &rows.rows {
        let (totals, seen, _) = sums.entry(*number).or_default();
        gained.add_to(totals);
        seen.merge(*seen_by);
    }
    let packed = sums.iter().map(|(number, (totals, seen, open))| (*number, totals, *seen, *open));
    let bytes = table::pack(to, lost, packed)?;
    steps.replace(tier, from, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_that_goes_back_is_added_to() {
        let at = |s: u64| Timestamp::from_unix_ns(s * 1_000_000_000);
        let firsts = [Some(at(1_203)), Some(at(600)), Some(at(0))];
        assert_eq!(going_back_to(at(1_210), &firsts), Some(0));
        assert_eq!(going_back_to(at(1_200), &firsts), Some(0));
        assert_eq!(going_back_to(at(1_190), &firsts), Some(1));
        assert_eq!(going_back_to(at(590), &firsts), Some(2));
        let later = [Some(at(1_203)), Some(at(660)), None];
        assert_eq!((going_back_to(at(600), &later), coarsest(&later)), (None, 1));
        assert_eq!((going_back_to(at(600), &[None; 3]), coarsest(&[None; 3])), (None, 0));
    }
}
