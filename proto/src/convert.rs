//! Wire <-> domain. Everything that comes off the wire is checked here, once.
//!
//! References between definitions stay ids: the receiver looks them up in the tables of the
//! stream that defined them.

mod address;
mod definitions;
mod hello;
mod status;
mod translation;

pub use definitions::{
    ContainerName, HalfDefinition, ListenerChange, TupleAnswer, WorkloadDefinition,
};
pub use hello::Hello;
pub use status::{HostHistogram, losses};
pub use translation::Translation;

use crate::{ConvertError, MAX_ID, MAX_STRING_BYTES};

/// Text of at most [`MAX_STRING_BYTES`]. Control characters, which would break a log line, are
/// replaced: a process may call itself whatever it likes and is counted all the same.
fn text(field: &'static str, text: String) -> Result<String, ConvertError> {
    if text.len() > MAX_STRING_BYTES {
        let expected = "at most 256";
        return Err(ConvertError::Length { field, length: text.len(), expected });
    }
    if text.chars().any(char::is_control) {
        return Ok(text.replace(char::is_control, "\u{fffd}"));
    }
    Ok(text)
}

/// The beginning of a text for people, as far as there is room.
fn beginning(mut text: String) -> String {
    let room = (0..=MAX_STRING_BYTES).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(room.unwrap_or(0));
    text.replace(char::is_control, " ")
}

/// Text that is not empty, too.
fn name(field: &'static str, name: String) -> Result<String, ConvertError> {
    if name.is_empty() {
        return Err(ConvertError::Missing(field));
    }
    text(field, name)
}

fn port(field: &'static str, port: u32) -> Result<u16, ConvertError> {
    let max = u64::from(u16::MAX);
    u16::try_from(port).map_err(|_| ConvertError::Range { field, value: port.into(), max })
}

fn id(field: &'static str, id: u32) -> Result<u32, ConvertError> {
    if id < MAX_ID {
        return Ok(id);
    }
    Err(ConvertError::Range { field, value: id.into(), max: u64::from(MAX_ID) - 1 })
}

#[cfg(test)]
mod tests;
