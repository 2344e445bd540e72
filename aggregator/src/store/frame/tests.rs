#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use topology::{AgentFacts, Incarnation, Timestamp};

use super::*;
use crate::{core::Core, history::Keeper, metrics::Metrics};

fn snapshot() -> Vec<u8> {
    let now = Timestamp::from_unix_ns(1_000_000_000);
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap().history;
    let history = Keeper::start(folder.path(), 42, 1 << 20, metrics).unwrap();
    let mut core = Core::new(topology::Config::default(), history.into());
    let incarnation = Incarnation { boot_id: [1; 16], generation: 2, session: 3 };
    let interval = std::time::Duration::from_secs(10);
    core.connect("n1", incarnation, AgentFacts::default(), interval, now).unwrap();
    write(&Stored { instance: 42, position: 7, state: core.freeze() }).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let stored = read(&snapshot()).unwrap();
    assert_eq!((stored.instance, stored.position), (42, 7));
}
#[test]
fn another_version_is_told_apart() {
    let mut bytes = snapshot();
    bytes[8] ^= 1;
    assert_eq!(read(&bytes).err(), Some(FrameError::Version(VERSION ^ 1)));
    assert_eq!(instance(&bytes), Ok(42));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(instance(&bytes), Err(FrameError::Checksum));
    bytes[10] ^= 1;
    assert!(matches!(instance(&bytes), Err(FrameError::Version(_))), "another layout around it");
}

proptest! {
    #[test]
    fn bytes_that_changed_are_refused(at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = snapshot();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn a_part_is_refused(length: prop::sample::Index) {
        let bytes = snapshot();
        prop_assert!(read(&bytes[..length.index(bytes.len())]).is_err());
    }

    #[test]
    fn no_contents_panic(body: Vec<u8>, at: prop::sample::Index, flip: u8) {
        let mut random = vec![0; HEADER];
        random.extend(body);
        seal(&mut random);
        let _ = read(&random);
        // Nearly right ones get further.
        let mut bytes = snapshot();
        let at = HEADER + at.index(bytes.len() - HEADER);
        bytes[at] ^= flip;
        seal(&mut bytes);
        let _ = read(&bytes);
        let _ = read(&random[HEADER..]);
    }
}
