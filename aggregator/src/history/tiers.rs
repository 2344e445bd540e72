//! Which steps there are, which are made of which, and which answer a question.

use std::time::Duration;

use topology::{Timestamp, Window};

/// Lengths of the steps, finest first: each is a multiple of the one before.
pub(super) const TIERS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];

/// The length of the coarsest steps.
pub(super) const LONGEST: Duration = TIERS[TIERS.len() - 1];

/// Of the bytes that a layer may take, how many hundredths each tier has.
pub(super) const SHARES: [u64; TIERS.len()] = [45, 25, 15];

/// And how many the names have.
pub(super) const NAMES: u64 = 15;

/// A question is answered by steps of the first tier of which it needs no more than this.
const MOST_STEPS: u32 = 400;

/// The tier whose steps are to answer a question, where there are any.
pub(super) fn tier_for(window: Window) -> usize {
    let length = window.to.since(window.from);
    let fits = |step: &Duration| length <= step.saturating_mul(MOST_STEPS);
    TIERS.iter().position(fits).unwrap_or(TIERS.len() - 1)
}

/// The stretch whose steps of a tier are merged into one of the next, around a moment.
pub(super) fn period(tier: usize, at: Timestamp) -> Option<Window> {
    let length = *TIERS.get(tier + 1)?;
    let from = at.floor(length);
    Some(Window { from, to: from.plus(length) })
}

/// A step that is stored, by tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) tier: usize,
    pub(super) window: Window,
}

/// Picks steps that end by `limit` and cover a window without overlapping: of the tier, finer ones where that has
/// none yet, coarser ones where it has none any more. Steps of each tier are given in order.
pub(super) fn pick(
    window: Window,
    limit: Timestamp,
    tier: usize,
    tiers: &[Vec<Window>; TIERS.len()],
) -> Vec<Stored> {
    let touches =
        |step: &&Window| step.to > window.from && step.from < window.to && step.to <= limit;
    let mut picked: Vec<Stored> = Vec::new();
    // From the coarsest on, each tier begins where the one before it ends, up to the one that is asked for, which
    // goes first where both have something.
    let mut until = limit;
    for (coarser, windows) in tiers.iter().enumerate().skip(tier) {
        let fits = |step: &&Window| touches(step) && step.to <= until;
        let steps = windows.iter().filter(fits);
        picked.extend(steps.map(|window| Stored { tier: coarser, window: *window }));
        if let Some(first) = windows.first() {
            until = until.min(first.from);
        }
    }
    let mut after = picked.iter().map(|step| step.window.to).max().unwrap_or_default();
    for finer in (0..tier).rev() {
        let fits = |step: &&Window| touches(step) && step.from >= after;
        let steps: Vec<_> = tiers[finer].iter().filter(fits).copied().collect();
        after = steps.iter().map(|step| step.to).fold(after, Timestamp::max);
        picked.extend(steps.into_iter().map(|window| Stored { tier: finer, window }));
    }
    picked.sort_unstable_by_key(|step| step.window.from);
    picked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_ns(seconds * 1_000_000_000)
    }

    fn window(from: u64, to: u64) -> Window {
        Window { from: at(from), to: at(to) }
    }

    fn steps(tier: usize, from: u64, to: u64) -> Vec<Window> {
        let length = TIERS[tier].as_secs();
        (from..to).step_by(length as usize).map(|s| window(s, s + length)).collect()
    }

    #[test]
    fn long_questions_are_answered_by_long_steps() {
        assert_eq!(tier_for(window(0, 300)), 0);
        assert_eq!(tier_for(window(0, 4_000)), 0);
        assert_eq!(tier_for(window(0, 4_001)), 1);
        assert_eq!(tier_for(window(0, 30 * 86_400)), 2);
    }

    #[test]
    fn steps_are_merged_by_the_clock() {
        assert_eq!(period(0, at(59)), Some(window(0, 60)));
        assert_eq!(period(1, at(600)), Some(window(600, 1_200)));
        assert_eq!(period(2, at(0)), None);
    }

    #[test]
    fn what_is_gone_or_not_merged_yet_comes_from_other_tiers() {
        let tiers = [steps(0, 1_200, 1_930), steps(1, 600, 1_920), steps(2, 0, 1_800)];
        let picked = pick(window(300, 1_935), at(9_999), 0, &tiers);
        let of = |tier| picked.iter().filter(move |step| step.tier == tier).count();
        assert_eq!((of(0), of(1), of(2)), (73, 10, 1));
        let picked = pick(window(0, 1_935), at(9_999), 2, &tiers);
        let of = |tier| picked.iter().filter(move |step| step.tier == tier).count();
        assert_eq!((of(2), of(1), of(0)), (3, 2, 1));
    }

    proptest! {
        #[test]
        fn steps_never_overlap_and_leave_nothing_out(
            (coarse, middle, fine) in (0..3_u64, 0..3_u64, 0..12_u64),
            end in 1..40_u64,
            (from, length) in (0..3_000_u64, 1..3_000_u64),
            tier in 0..3_usize,
            limit in 0..30_u64,
        ) {
            // What finer tiers have lost, by whole periods, coarser ones have kept.
            let end = 1_800 + 10 * end;
            let merged = |tier: usize| end - end % TIERS[tier].as_secs();
            let begin = 600 * (coarse + middle);
            let begins = [begin + 60 * fine, begin, 600 * coarse];
            // Of the period that the limit is in, finer steps are left.
            let limit = end - 10 * limit.min(end / 10);
            let kept = |t: usize| begins[t].min(merged(t)).min(limit - limit % 600);
            let tiers = [0, 1, 2].map(|t| steps(t, kept(t), merged(t)));
            let asked = window(from, from + length);
            let picked = pick(asked, at(limit), tier, &tiers);
            for pair in picked.windows(2) {
                prop_assert!(pair[0].window.to <= pair[1].window.from);
            }
            for second in from.max(kept(2))..(from + length).min(limit) {
                let covers = |step: &Stored| step.window.from <= at(second) && at(second) < step.window.to;
                prop_assert!(picked.iter().any(covers), "{second} {picked:?}");
            }
        }
    }
}
