//! Writing steps where there is no disk, for the benchmarks.

use topology::Given;

use super::{
    Database,
    database::{AllNumbers, HistoryError},
};

/// Room for everything.
const PLENTY: u64 = 10 << 30;

/// A history in memory, and who writes it.
pub struct InMemory {
    database: Database,
    numbers: AllNumbers,
}

impl InMemory {
    /// With nothing in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let disk = redb::backends::InMemoryBackend::new();
        let disk = redb::Builder::new().create_with_backend(disk).map_err(HistoryError::from)?;
        let database = Database::of(disk, 1, PLENTY)?;
        let numbers = database.numbers()?;
        Ok(Self { database, numbers })
    }

    /// Writes a step; returns how many bytes were put in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, given: &Given) -> anyhow::Result<u64> {
        Ok(self.database.write(given, &mut self.numbers)?.bytes)
    }
}
