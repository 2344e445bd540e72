//! What the series of a family come from, whatever they are written as.

use topology::{Histogram, Published, Series};

use super::buckets::Exponents;

/// Families whose samples come from rows of one kind.
pub(super) struct Family<R: 'static> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) values: Values<R>,
}

/// What a row has for a family.
pub(super) enum Values<R: 'static> {
    /// Counters: one, or several that a label tells apart.
    Counters(&'static [Part<R>]),
    /// A number that may fall.
    Gauge(fn(&R) -> u64),
    /// A histogram, and the bounds that it has as a classic one.
    Histogram(fn(&R) -> &Histogram, &'static Exponents),
    /// A histogram that is a classic one in either format: those who ask for it know no other.
    Classic(fn(&R) -> &Histogram, &'static Exponents),
}

/// One counter of a row.
pub(super) struct Part<R: 'static> {
    /// Name and value of one more label.
    pub(super) label: Option<(&'static str, &'static str)>,
    pub(super) value: fn(&R) -> u64,
}

/// A row.
pub(super) trait Row {
    /// Names and values of its labels, in order.
    fn labels(&self, each: impl FnMut(&str, &str));
}

/// Rows by place; some places may be empty.
pub(super) trait Rows<R> {
    fn places(&self) -> usize;
    fn at(&self, place: usize) -> Option<&R>;
}

impl Rows<Series> for Published {
    fn places(&self) -> usize {
        Published::places(self)
    }

    fn at(&self, place: usize) -> Option<&Series> {
        Published::at(self, place)
    }
}

impl<R> Rows<R> for Vec<R> {
    fn places(&self) -> usize {
        self.len()
    }

    fn at(&self, place: usize) -> Option<&R> {
        self.get(place)
    }
}
