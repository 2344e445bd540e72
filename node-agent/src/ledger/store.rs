//! Memory that outlives the process: a head of words, and two areas for notes.

/// Bytes of the head.
pub const HEAD_BYTES: usize = 4_096;

/// In [`Word::Magic`] of a finished ledger.
pub(super) const MAGIC: u64 = 0x7765_6674_2d6c_6564;

/// Bits of the length in [`Word::Active`]; the one above tells which area it is of.
const AREA_AT_END: u32 = 48;

/// Words of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// Set last.
    Magic = 0,
    /// `LEDGER_VERSION`; the words up to here never change their place.
    Version = 1,
    /// As in `Identity`.
    Schema = 2,
    /// As in `Identity`.
    Generation = 3,
    /// As in `Identity`.
    Session = 4,
    /// As in `Identity`.
    Cgroup = 5,
    /// As in `Identity`.
    Node = 6,
    /// As in `Identity`.
    Object = 7,
    /// As in `Identity`.
    Settings = 8,
    /// The last batch that was built.
    LastSeq = 9,
    /// The last batch that is known to be taken over.
    Acked = 10,
    /// Which area, and how many bytes of it, are notes.
    Active = 11,
    /// `Active` when the last slot was cleared.
    Cleared = 12,
    /// 1 when a note could not be made.
    Broken = 13,
    /// Hints that could not be sent when an agent last looked.
    HintsSeen = 14,
    /// Those of them that nobody was there for.
    HintsIgnored = 15,
    /// The loss `report_full`.
    ReportFull = 16,
    /// The loss `resolution_folded`.
    Folded = 17,
    /// The loss `resolution_folded_seconds`.
    FoldedSeconds = 18,
    /// The loss `spool_unreadable`.
    SpoolUnreadable = 19,
    /// One more than the highest slot that an agent has seen in use.
    SlotsEnd = 20,
    /// One more than the highest chunk that an agent has seen in use.
    ChunksEnd = 21,
    /// How many halves the kernel has room for.
    MaxHalves = 22,
    /// How many processes had the session.
    Processes = 23,
    /// The loss `report_folded`.
    ReportFolded = 24,
}

/// Bytes that outlive the process. Each word is stored at once, and stores are seen in their order.
pub trait Store: Send {
    /// How many.
    fn bytes(&self) -> usize;
    /// A word of the head.
    fn get(&self, word: Word) -> u64;
    /// Sets a word of the head.
    fn set(&mut self, word: Word, value: u64);
    /// Copies bytes out.
    fn read(&self, at: usize, into: &mut [u8]);
    /// Copies bytes in.
    fn write(&mut self, at: usize, bytes: &[u8]);
}

/// Memory of the process: for tests, and in the place of one that is not there.
#[derive(Clone, Debug)]
pub struct Memory(Vec<u8>);

impl Memory {
    /// So many bytes, all zero.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }
}

impl Store for Memory {
    fn bytes(&self) -> usize {
        self.0.len()
    }

    fn get(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.read(word as usize * 8, &mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn set(&mut self, word: Word, value: u64) {
        self.write(word as usize * 8, &value.to_ne_bytes());
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0[at..at + into.len()]);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Bytes of an area.
pub(super) fn area_bytes(store: &dyn Store) -> usize {
    store.bytes().saturating_sub(HEAD_BYTES) / 2
}

/// Where an area begins.
pub(super) fn area_start(store: &dyn Store, area: usize) -> usize {
    HEAD_BYTES + area * area_bytes(store)
}

/// [`Word::Active`] of an area and a length.
pub(super) fn join(area: usize, len: usize) -> u64 {
    ((area as u64) << AREA_AT_END) | len as u64
}

/// Area and length of [`Word::Active`].
pub(super) fn split(active: u64) -> (usize, usize) {
    (((active >> AREA_AT_END) & 1) as usize, (active & ((1 << AREA_AT_END) - 1)) as usize)
}
