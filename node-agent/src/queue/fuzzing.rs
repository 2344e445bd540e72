//! Files of the spool that hold any bytes.

use std::path::Path;

use bytes::Bytes;
use proto::v1;

use super::{
    Entry,
    spool::{
        frame::{Frame, Kind},
        segment::{Reader, Writer},
    },
};
use crate::clock::Moment;

/// A file as it is: it is read to its end, or to where it makes no sense.
pub(crate) fn file(dir: &Path, data: &[u8]) {
    let path = dir.join("a.spool");
    let written = std::fs::write(&path, data);
    assert!(written.is_ok(), "no room in {}: {:?}", dir.display(), written.err());
    let Ok(mut reader) = Reader::open(&path) else { return };
    if reader.preface().is_ok() {
        while let Ok(Some(entry)) = reader.batch() {
            let _ = entry.batch(&Moment::default(), 0);
        }
    }
}

/// Frames of which one byte is another, or the last are cut off: what is read is how they began. The first four
/// bytes say where; the contents of each frame follow with their lengths.
pub(crate) fn damaged(data: &[u8]) {
    let Some(([low, high, flip, cut], mut rest)) = data.split_first_chunk() else { return };
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    while let Some((length, contents)) = rest.split_first() {
        let (contents, after) = contents.split_at(contents.len().min(usize::from(*length)));
        rest = after;
        let ended = Moment { boot_ns: 5, unix_ns: 6 };
        let payload = Bytes::copy_from_slice(contents);
        let frame = Frame { kind: Kind::Batch, seq: frames.len() as u64 + 1, ended, payload };
        let written = frame.write(&mut bytes);
        assert!(written.is_ok(), "not written: {:?}", written.err());
        frames.push(frame);
    }
    let read = |mut from: &[u8]| {
        let mut count = 0;
        while let Ok(Some(frame)) = Frame::read(&mut from) {
            assert_eq!(frames.get(count), Some(&frame), "another frame");
            count += 1;
        }
        count
    };
    assert_eq!(read(&bytes), frames.len(), "what was written whole is not read");
    if bytes.is_empty() {
        return;
    }
    let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
    if cut % 2 == 1 {
        bytes.truncate(at);
    } else {
        bytes[at] ^= flip;
    }
    read(&bytes);
}

/// A file with a preface and these batches, and the same as something to be damaged.
pub(crate) fn files(dir: &Path, batches: &[v1::Batch]) -> Vec<Vec<u8>> {
    let path = dir.join("b.spool");
    let hello = v1::Hello { node: "n".to_owned(), boot_id: vec![1; 16], ..v1::Hello::default() };
    let (preface, rest) = batches.split_at(batches.len().min(1));
    let written = Writer::create(path.clone(), &hello, (1, Moment::default()), preface).and_then(
        |mut writer| {
            rest.iter().try_for_each(|batch| writer.append(&Entry::of(batch, Moment::default())))
        },
    );
    assert!(written.is_ok(), "no room in {}: {:?}", dir.display(), written.err());
    let mut damaged = vec![30, 0, 1, 0];
    for contents in [b"first".as_slice(), b"", b"third one"] {
        damaged.push(contents.len() as u8);
        damaged.extend_from_slice(contents);
    }
    vec![std::fs::read(path).unwrap_or_default(), damaged]
}
