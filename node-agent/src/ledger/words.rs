//! What is in the head of a ledger besides the notes' length.

use super::{Identity, Ledger, LedgerError, store::Word};

/// Losses of the agent itself, which count on over its restarts.
pub(super) const CARRIED: [(&str, Word); 5] = [
    ("report_full", Word::ReportFull),
    ("report_folded", Word::ReportFolded),
    ("resolution_folded", Word::Folded),
    ("resolution_folded_seconds", Word::FoldedSeconds),
    ("spool_unreadable", Word::SpoolUnreadable),
];

impl Ledger {
    /// Number of the session.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.store.get(Word::Session)
    }

    /// How many halves the kernel has room for.
    #[must_use]
    pub fn max_halves(&self) -> u32 {
        u32::try_from(self.store.get(Word::MaxHalves)).unwrap_or(u32::MAX)
    }

    /// Generation of the maps.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.store.get(Word::Generation)
    }

    /// Whom and what it is of.
    ///
    /// # Errors
    /// When it is not finished.
    pub fn identity(&self) -> Result<Identity, LedgerError> {
        Self::identity_of(&*self.store)
    }

    /// Checksum of the kernel object.
    #[must_use]
    pub fn object(&self) -> u64 {
        self.store.get(Word::Object)
    }

    /// What the programs were told of the kernel.
    #[must_use]
    pub fn settings(&self) -> u64 {
        self.store.get(Word::Settings)
    }

    /// Adds to the agent's own losses what the processes before counted.
    pub fn add_carried(&self, losses: &mut Vec<(&'static str, u64)>) {
        for ((cause, _), carried) in CARRIED.into_iter().zip(self.carried) {
            match losses.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, count)) => *count = count.saturating_add(carried),
                None if carried > 0 => losses.push((cause, carried)),
                None => {}
            }
        }
    }

    /// The same, and remembers the sum.
    pub fn carry(&mut self, losses: &mut Vec<(&'static str, u64)>) {
        self.add_carried(losses);
        for (cause, word) in CARRIED {
            let sum = losses.iter().find(|(known, _)| *known == cause).map_or(0, |(_, sum)| *sum);
            self.store.set(word, sum);
        }
    }

    /// One more than the highest slot, and chunk, that was ever seen in use.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        (self.store.get(Word::SlotsEnd) as usize, self.store.get(Word::ChunksEnd) as usize)
    }

    /// Notes the same.
    pub fn set_ends(&mut self, (slots, chunks): (usize, usize)) {
        self.store.set(Word::SlotsEnd, slots as u64);
        self.store.set(Word::ChunksEnd, chunks as u64);
    }

    /// Hints that the kernel could not send, `all` so far, without those that nobody was there to read.
    pub fn hints_missed(&mut self, all: u64) -> u64 {
        self.store.set(Word::HintsSeen, all);
        all.saturating_sub(self.store.get(Word::HintsIgnored))
    }

    /// Nobody read hints until now.
    pub fn ignore_hints(&mut self, all: u64) {
        let unread = all.saturating_sub(self.store.get(Word::HintsSeen));
        let ignored = self.store.get(Word::HintsIgnored).saturating_add(unread);
        self.store.set(Word::HintsIgnored, ignored);
        self.store.set(Word::HintsSeen, all);
    }
}
