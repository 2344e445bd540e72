//! What a server answers, made of any bytes, for the fuzz targets of `fuzz/`. Panics when what becomes of it is not right.

use serde::de::DeserializeOwned;

use crate::{
    answers::{self, LINE_BYTES, Said},
    lines::Lines,
};

/// As a page of a list, and as a watch that comes in pieces: wherever it is cut, it says the same. What is read goes to
/// `read`.
pub fn answers<T: DeserializeOwned>(data: &[u8], mut read: impl FnMut(T)) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let most = usize::from(*cut);
    if let Ok(page) = answers::page::<T>(bytes, most) {
        assert!(page.items.len() <= most, "more than is wanted");
        page.items.into_iter().for_each(&mut read);
    }
    let mut lines = Vec::new();
    Lines::new(LINE_BYTES).take(bytes, |line| lines.push(line.to_vec()));
    let (mut pieces, mut again) = (Lines::new(LINE_BYTES), Vec::new());
    for piece in bytes.chunks(most.max(1)) {
        pieces.take(piece, |line| again.push(line.to_vec()));
    }
    assert_eq!(lines, again, "cut into pieces of {cut}");
    for line in lines {
        match answers::line::<T>(&line) {
            Ok((Said::Applied(object) | Said::Deleted(object), _)) => read(object),
            Ok((Said::Bookmark | Said::Failed(_), _)) | Err(_) => {}
        }
    }
}
