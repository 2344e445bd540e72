//! Bytes of protobuf messages, and how many they are before they are written. No field here has a number above 15, so
//! a tag is one byte.

/// Bytes on their way out, as protobuf has them.
#[derive(Default)]
pub(super) struct Wire(pub(super) Vec<u8>);

/// Bytes that a number takes: 7 bits of it in each.
pub(super) const fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Bytes that a field takes which has so many, with its tag and its length.
pub(super) const fn field_bytes(bytes: usize) -> usize {
    1 + varint_bytes(bytes as u64) + bytes
}

/// Bytes that a label takes.
pub(super) const fn pair_bytes(name: &str, value: &str) -> usize {
    field_bytes(field_bytes(name.len()) + field_bytes(value.len()))
}

/// A number that may be below 0, so that those close to it take few bytes.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

impl Wire {
    #[inline]
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn number(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.varint(value);
    }

    pub(super) fn signed(&mut self, field: u8, value: i64) {
        self.number(field, zigzag(value));
    }

    pub(super) fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    /// Begins a field of so many bytes, which are to follow.
    pub(super) fn begin(&mut self, field: u8, bytes: usize) {
        self.0.push(field << 3 | 2);
        self.varint(bytes as u64);
    }

    pub(super) fn bytes(&mut self, field: u8, value: &[u8]) {
        self.begin(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// A label of a metric.
    pub(super) fn pair(&mut self, name: &str, value: &str) {
        self.begin(1, field_bytes(name.len()) + field_bytes(value.len()));
        self.bytes(1, name.as_bytes());
        self.bytes(2, value.as_bytes());
    }

    /// A whole message with its length before it.
    pub(super) fn delimited(&mut self, message: &Wire) {
        self.varint(message.0.len() as u64);
        self.0.extend_from_slice(&message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_calculated_is_what_is_written() {
        let written = |write: &dyn Fn(&mut Wire)| {
            let mut wire = Wire::default();
            write(&mut wire);
            wire.0.len()
        };
        for bits in 0..64 {
            for value in [(1 << bits) - 1, 1 << bits, u64::MAX >> bits] {
                assert_eq!(varint_bytes(value), written(&|wire| wire.varint(value)), "{value}");
            }
        }
        for length in [0, 1, 100, 127, 128, 20_000] {
            let text = "x".repeat(length);
            let bytes = written(&|wire| wire.bytes(15, text.as_bytes()));
            assert_eq!(field_bytes(length), bytes, "{length}");
            assert_eq!(pair_bytes("ab", &text), written(&|wire| wire.pair("ab", &text)));
        }
        assert_eq!([0, -1, 1, -2, i64::MIN].map(zigzag), [0, 1, 2, 3, u64::MAX]);
    }
}
