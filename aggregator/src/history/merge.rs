//! Steps that follow each other as one.

use topology::{EdgeTotals, Lost, Seen, Timestamp, Window};

use super::{
    database::HistoryError,
    table::{self, StepBytes},
};

/// Merges steps of a period, in order; returns the begin of what they make. All are read from the lowest number to the
/// highest at once, so that there is never more than one edge to add up. What only one of them has is copied.
pub(super) fn merged(
    period: Window,
    mut steps: Vec<StepBytes<'_>>,
) -> Result<(Timestamp, Vec<u8>), HistoryError> {
    let from = steps.first().map_or(period.from, |step| step.window.from);
    let to = steps.last().map_or(period.to, |step| step.window.to);
    let mut lost = Lost::default();
    steps.iter().for_each(|step| lost.merge(step.lost));
    let mut next: Vec<_> = steps.iter_mut().map(StepBytes::next_raw).collect();
    let last = next.len().saturating_sub(1);
    let mut totals = EdgeTotals::default();
    let bytes = table::pack_by(to, lost, |packer| {
        while let Some(number) = next.iter().flatten().map(|(number, _)| *number).min() {
            let has = |entry: &Option<(u32, _)>| matches!(entry, Some((of, _)) if *of == number);
            let is_only = next.iter().filter(|entry| has(entry)).count() == 1;
            totals.clear();
            let (mut seen, mut open, mut copied) = (Seen::default(), 0, false);
            for (at, entry) in next.iter_mut().enumerate() {
                let Some((_, raw)) = entry.take_if(|entry| entry.0 == number) else { continue };
                let (seen_by, was_open) = raw.seen_and_open();
                // Whatever the last step does not mention is closed.
                let stays_open = if at == last { was_open } else { 0 };
                if is_only && stays_open == was_open {
                    packer.put_raw(number as usize, raw);
                    copied = true;
                } else {
                    raw.add_to(&mut totals);
                    seen.merge(seen_by);
                    open = stays_open;
                }
                *entry = steps[at].next_raw();
            }
            if !copied {
                packer.put(number as usize, &totals, seen, open);
            }
        }
    })?;
    Ok((from, bytes))
}
