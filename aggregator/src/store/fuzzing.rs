//! Files of the store that hold any bytes.

use super::{
    frame::{self, Stored},
    segment::{Contents, put_frame},
};
use crate::core::Frozen;

/// Position of the file.
const FROM: u64 = 100;

/// A file of the journal.
pub(crate) fn journal_file(bytes: &[u8]) {
    if let Ok(mut contents) = Contents::check(bytes.to_vec(), FROM) {
        while contents.next().is_some() {}
        assert_eq!(contents.length() + contents.left(), bytes.len() as u64);
        let _ = contents.ends_torn();
    }
}

/// Entries in a file that was cut off somewhere, and in which a byte is another: what is read is how it began.
pub(crate) fn journal_damaged(entries: &[&[u8]], damage: [u8; 4]) {
    let entries: Vec<_> = entries.iter().filter(|entry| !entry.is_empty()).collect();
    let mut file = Contents::header(7, FROM);
    for entry in &entries {
        let (first, second) = entry.split_at(entry.len() / 2);
        put_frame(first, second, &mut file);
    }
    let whole = file.len() as u64;
    let read = |bytes: Vec<u8>| {
        let mut contents = Contents::check(bytes, FROM).ok()?;
        let mut count = 0;
        while let Some(entry) = contents.next() {
            assert_eq!(entries.get(count).map(|entry| **entry), Some(entry), "another entry");
            count += 1;
        }
        Some((count, contents.length(), contents.ends_torn()))
    };
    assert_eq!(read(file.clone()), Some((entries.len(), whole, true)));
    let [low, high, flip, cut] = damage;
    let at = usize::from(u16::from_le_bytes([low, high])) % file.len();
    if cut % 2 == 1 {
        file.truncate(at);
    } else {
        file[at] ^= flip;
    }
    let _ = read(file);
}

/// A file of these entries.
pub(crate) fn journal_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Contents::header(7, FROM);
    entries.iter().for_each(|entry| put_frame(entry, &[], &mut file));
    file
}

/// What a snapshot holds, without what is around it.
pub(crate) fn snapshot_of(state: Frozen) -> Vec<u8> {
    let stored = Stored { instance: 7, position: FROM, state };
    postcard::to_stdvec(&stored).unwrap_or_default()
}

/// A snapshot as it is, and with the header that its contents ask for. What can be read is written the same.
pub(crate) fn snapshot(bytes: &[u8]) {
    let _ = (frame::read(bytes), frame::instance(bytes), frame::instance(&frame::sealed(bytes)));
    let Ok(stored) = frame::read(&frame::sealed(bytes)) else { return };
    let written = frame::write(&stored);
    assert!(written.is_ok(), "what was read cannot be written: {:?}", written.err());
    let written = written.unwrap_or_default();
    let again = frame::read(&written).map(|stored| frame::write(&stored));
    // Sets have no order of their own.
    let same = matches!(again, Ok(Ok(again)) if again.len() == written.len());
    assert!(same, "it is read as something else");
}
