//! The history's rows and the settings.

use std::path::Path;

use crate::{
    config::{Config, Layers},
    history::fuzzing as rows,
};

/// Rows of the history, whatever their bytes. A step that is read is written as it was read.
pub fn history(_: &Path, data: &[u8]) {
    rows::row(data);
}

/// A file of settings. It is understood, or there is a line that says what is wrong.
pub fn settings(_: &Path, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let resolved = Layers::of_text(text)
        .and_then(|layers| Config::resolve(&layers).map_err(|error| error.to_string()));
    match resolved {
        Ok(config) => {
            let open = !config.http_listen.ip().is_loopback() && !config.http.is_safe();
            assert!(!open || text.contains("http-insecure"), "open to a network without a word");
        }
        Err(error) => assert!(!error.is_empty(), "an error without a word"),
    }
}

/// Rows of each table.
pub fn history_rows() -> Vec<Vec<u8>> {
    rows::rows()
}
