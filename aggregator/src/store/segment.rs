//! Files of the journal: a header, then frames of (length, checksum, entry).
//!
//! A position counts the bytes of all frames since the state began, whatever file they are in; a file is
//! named after the position of its first frame.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::core::ENTRY_VERSION;

const MAGIC: [u8; 8] = *b"weftjrnl";

/// Magic, version, instance, position.
const HEADER: usize = 8 + 4 + 8 + 8;

/// Length and checksum of a frame.
pub(super) const FRAME: usize = 4 + 4;

/// No entry is longer: a batch and some more.
pub(super) const LONGEST: usize = proto::MAX_MESSAGE_BYTES + 4096;

const PREFIX: &str = "journal-";

/// Appends a frame to `out`; its contents come in two parts.
pub(super) fn put_frame(entry: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    let mut sum = crc32fast::Hasher::new();
    sum.update(entry);
    sum.update(rest);
    // An agent's message is far below 4 GiB.
    let length = (entry.len() + rest.len()) as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sum.finalize().to_le_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(rest);
}

/// A file of the journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Position of its first frame.
    pub(super) from: u64,
    pub(super) path: PathBuf,
}

impl Segment {
    /// Every file of the journal, by position.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in dir.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let from = name.and_then(|name| name.strip_prefix(PREFIX));
            if let Some(from) = from.and_then(|from| u64::from_str_radix(from, 16).ok()) {
                found.push(Self { from, path });
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes a file for the frames from a position on. One of that name holds nothing that is needed.
    pub(super) fn create(dir: &Path, instance: u64, from: u64) -> io::Result<File> {
        let path = dir.join(format!("{PREFIX}{from:016x}"));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&Contents::header(instance, from))?;
        Ok(file)
    }

    /// Reads the file whole; it is as long as the journal gets between two snapshots.
    pub(super) fn read(&self) -> io::Result<Result<Contents, String>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.read_to_end(&mut bytes)?;
        Ok(Contents::check(bytes, self.from))
    }

    /// Cuts off what follows the first `length` bytes of the file.
    pub(super) fn cut(&self, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(length)?;
        file.sync_all()
    }
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// Number of the state that it belongs to.
    pub(super) instance: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl Contents {
    /// What a file begins with.
    pub(super) fn header(instance: u64, from: u64) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&ENTRY_VERSION.to_le_bytes());
        header.extend_from_slice(&instance.to_le_bytes());
        header.extend_from_slice(&from.to_le_bytes());
        header
    }

    pub(super) fn check(bytes: Vec<u8>, from: u64) -> Result<Self, String> {
        let field = |at: usize| {
            let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
            field.map(u64::from_le_bytes).ok_or_else(|| "its header is cut off".to_owned())
        };
        if bytes.get(..8) != Some(MAGIC.as_slice()) {
            return Err("it is no journal".to_owned());
        }
        let (instance, said) = (field(12)?, field(20)?);
        let version = (field(8)? & u64::from(u32::MAX)) as u32;
        if version != ENTRY_VERSION {
            return Err(format!("its layout is {version}, this version reads {ENTRY_VERSION}"));
        }
        if said != from {
            return Err("its name is not that of its contents".to_owned());
        }
        Ok(Self { instance, bytes, at: HEADER })
    }

    /// The next entry. `None` at the end, and where it cannot be read on.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let entry = rest.get(..length).filter(|_| (1..=LONGEST).contains(&length))?;
        if crc32fast::hash(entry) != u32::from_le_bytes(*sum) {
            return None;
        }
        self.at += FRAME + length;
        Some(entry)
    }

    /// Where the next entry begins, for [`back_to`](Self::back_to).
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// Goes back: what was read since is as good as not read.
    pub(super) fn back_to(&mut self, place: usize) {
        self.at = place;
    }

    /// Bytes of frames that were read.
    pub(super) fn frames(&self) -> u64 {
        (self.at - HEADER) as u64
    }

    /// Bytes of the file that were read.
    pub(super) fn length(&self) -> u64 {
        self.at as u64
    }

    /// Whether what could not be read is what a machine leaves that stops while it writes: a frame that reaches to
    /// the end of the file or beyond, or room that nothing was written to.
    pub(super) fn ends_torn(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((length, after)) = rest.split_first_chunk() else { return true };
        let frame = FRAME - length.len() + u32::from_le_bytes(*length) as usize;
        rest.iter().all(|byte| *byte == 0) || frame >= after.len()
    }

    /// Bytes that could not be read.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(contents: &mut Contents) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| contents.next().map(<[u8]>::to_vec)).collect()
    }

    fn written(dir: &Path, parts: &[Vec<u8>]) -> Segment {
        let mut file = Segment::create(dir, 7, 100).unwrap();
        for part in parts {
            let mut out = Vec::new();
            let (entry, rest) = part.split_at(part.len() / 2);
            put_frame(entry, rest, &mut out);
            file.write_all(&out).unwrap();
        }
        Segment::list(dir).unwrap().remove(0)
    }

    #[test]
    fn files_are_found_by_position() {
        let folder = tempfile::tempdir().unwrap();
        for from in [1_000, 5] {
            Segment::create(folder.path(), 7, from).unwrap();
        }
        std::fs::write(folder.path().join("journal-x"), "").unwrap();
        let found = Segment::list(folder.path()).unwrap();
        assert_eq!(found.iter().map(|segment| segment.from).collect::<Vec<_>>(), [5, 1_000]);
        let other = Segment { from: 6, path: found[0].path.clone() };
        assert!(other.read().unwrap().unwrap_err().contains("name"));
    }

    #[test]
    fn damage_is_told_from_a_file_that_was_not_written_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let segment = written(folder.path(), &[vec![1; 20], vec![2; 20], vec![3; 20]]);
        let whole = std::fs::read(&segment.path).unwrap();
        let torn = |bytes: Vec<u8>| {
            let mut contents = Contents::check(bytes, 100).unwrap();
            let read = entries(&mut contents).len();
            (read, contents.ends_torn())
        };
        let (frame, last) = (FRAME + 20, whole.len() - 1);
        for cut in 1..frame {
            assert_eq!(torn(whole[..whole.len() - cut].to_vec()), (2, true), "{cut}");
        }
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        // The last frame may have been written in part; those before it were there.
        assert_eq!(torn(changed(last)), (2, true));
        assert_eq!(torn(changed(last - frame)), (1, false));
        assert_eq!(torn(changed(HEADER + FRAME)), (0, false));
        let mut room = whole;
        room.resize(last + 4_000, 0);
        assert_eq!(torn(room), (3, true));
    }

    proptest! {
        #[test]
        fn what_is_cut_off_or_flipped_ends_the_file_and_nothing_before_it(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..9),
            cut: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let segment = written(folder.path(), &parts);
            let whole = std::fs::read(&segment.path).unwrap();
            let mut contents = segment.read().unwrap().unwrap();
            prop_assert_eq!(contents.instance, 7);
            prop_assert_eq!(&entries(&mut contents), &parts);
            prop_assert_eq!((contents.length(), contents.left()), (whole.len() as u64, 0));

            let at = cut.index(whole.len());
            if let Ok(mut contents) = Contents::check(whole[..at].to_vec(), 100) {
                let found = entries(&mut contents);
                prop_assert!(found.len() <= parts.len());
                prop_assert_eq!(&found[..], &parts[..found.len()]);
                prop_assert_eq!(contents.length() + contents.left(), at as u64);
            }
            let mut flipped = whole;
            flipped[at] ^= flip;
            if let Ok(mut contents) = Contents::check(flipped, 100) {
                let found = entries(&mut contents);
                let same = found.iter().zip(&parts).take_while(|(a, b)| a == b).count();
                prop_assert_eq!(same, found.len());
            }
        }
    }
}
