//! What was packed several times, edge by edge.

use crate::{
    base::sheet::Gains,
    count::packed::{Head, Unpacker},
};

/// Goes through several at once: entries of one edge come together.
pub(super) struct Abreast<'a>(Vec<(Head, Unpacker<'a>)>);

impl<'a> Abreast<'a> {
    /// All of them, from the beginning.
    pub(super) fn of(all: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let begun = all.into_iter().filter_map(|bytes| {
            let mut unpacker = Unpacker::new(bytes);
            unpacker.head().map(|head| (head, unpacker))
        });
        Abreast(begun.collect())
    }

    /// Which edge is next.
    pub(super) fn next(&self) -> Option<usize> {
        self.0.iter().map(|(head, _)| head.index).min()
    }

    /// Adds what the next edge has, and tells how each of its entries begins.
    pub(super) fn add(&mut self, index: usize, to: &mut impl Gains, mut tell: impl FnMut(&Head)) {
        self.read(index, |unpacker, head| {
            tell(head);
            unpacker.add_values(head, to)?;
            unpacker.add_samples(head, to)
        });
    }

    /// Passes over the next edge.
    pub(super) fn pass(&mut self, index: usize) {
        self.read(index, |unpacker, head| {
            unpacker.pass_values(head)?;
            unpacker.pass_samples(head)
        });
    }

    fn read(&mut self, index: usize, mut read: impl FnMut(&mut Unpacker<'a>, &Head) -> Option<()>) {
        self.0.retain_mut(|(head, unpacker)| {
            if head.index != index {
                return true;
            }
            let next = read(unpacker, head).and_then(|()| unpacker.head());
            next.map(|next| *head = next).is_some()
        });
    }
}
