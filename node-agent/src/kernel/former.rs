//! Programs that are replaced: what they had counted is set aside, and kept until it is told.

use std::{path::Path, thread, time::Duration};

use anyhow::Context as _;

use super::{
    Kernel, aside, losses,
    pins::{self, LEDGER, Pins},
};
use crate::{
    ledger::{Ledger, LedgerError},
    source::{Former, LastSlot, Source as _},
};

/// Programs that run while their link is removed are over after this time.
const DETACH_TIME: Duration = Duration::from_millis(50);

impl Kernel {
    /// Ends what is pinned, and sets aside what it had counted.
    pub(super) fn set_aside(pins: &Pins, ledger: Ledger) -> anyhow::Result<()> {
        let session = ledger.session();
        let mut kernel = Self::over(pins, ledger)?;
        if let Err(error) = kernel.refresh() {
            tracing::warn!("live sockets could not be looked at: {error:#}");
        }
        drop(kernel);
        pins.detach()?;
        thread::sleep(DETACH_TIME);
        pins.set_aside(session)
    }

    /// Takes what was set aside, now or by an agent that did not come to tell it.
    pub(super) fn take_formers(&mut self, pins: &Pins) -> anyhow::Result<()> {
        for folder in pins.formers()? {
            match read_out(&folder) {
                Ok(former) => self.formers.push(former),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), "what was set aside cannot be read: {error:#}");
                    self.unreadable_pins += 1;
                    // No agent after this one could read it either, and its maps are of no use.
                    if error.is::<LedgerError>()
                        && let Err(error) = aside::discard(&folder)
                    {
                        tracing::warn!("what was set aside cannot be removed: {error:#}");
                    }
                }
            }
        }
        Ok(())
    }
}

fn read_out(folder: &Path) -> anyhow::Result<Former> {
    let map = |name: &str| pins::map_in(folder, name);
    let ledger = Ledger::open(Box::new(pins::ledger_pages(&map(LEDGER)?)?))?;
    let identity = ledger.identity()?;
    let past = ledger.past().context("there is nothing to be read")?;
    let max_halves = ledger.max_halves();
    let (mut counted, maps, mut ledger) = Kernel::counted(ledger, map)?;
    let mut slots = Vec::new();
    counted.changes(None, &mut |change| {
        slots.push(LastSlot {
            slot: change.slot,
            key: *change.key,
            counters: *change.counters,
            buckets: change.buckets.to_vec(),
            owner: maps.owners.get(&change.key.owner, 0).ok(),
        });
    });
    let losses = losses(&maps, Some(&mut ledger));
    let folder = Some(folder.to_owned());
    Ok(Former { identity, past, max_halves, slots, losses, ledger, folder })
}
