//! What can be wrong with a message that is well-formed protobuf.

use thiserror::Error;

/// A message says something the domain has no place for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// A part that is not optional is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A number that names no variant of an enumeration.
    #[error("{field} has no variant {value}")]
    Variant {
        /// The field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// A number outside its range.
    #[error("{field} is {value}, the largest allowed is {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
        /// The largest allowed value.
        max: u64,
    },
    /// Bytes or text of the wrong length.
    #[error("{field} has {length} bytes, {expected} expected")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes found.
        length: usize,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// Text with other characters than its field has.
    #[error("{0} has characters that it may not have")]
    Text(&'static str),
    /// Too many of something.
    #[error("{count} {field}, at most {max} allowed")]
    Count {
        /// What is counted.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Two arrays that belong together differ in length, or one is not ascending.
    #[error("{0} do not fit together")]
    Shape(&'static str),
    /// An id that was not defined in this stream.
    #[error("{field} {id} is not defined")]
    Undefined {
        /// What the id names.
        field: &'static str,
        /// The id.
        id: u32,
    },
}
