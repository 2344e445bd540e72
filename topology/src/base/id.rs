//! Ids that mean the same after a restart, on any aggregator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::WorkloadKind;

/// Digits of five bits: lower case without the look-alikes, safe in a URL and in a label.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// One letter and 26 digits.
const LENGTH: usize = 27;

/// Id of a node or an edge of the graph: a pure function of what it names. It is
/// made of lower-case letters and digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id([u8; LENGTH]);

impl Id {
    /// Id of the service with this kind, namespace and name.
    #[must_use]
    pub fn of_node(kind: WorkloadKind, namespace: &str, name: &str) -> Self {
        Self::of_placed(kind, namespace, &[name])
    }

    /// The same where its name is followed by where it is. A byte that no name has is between them.
    pub(crate) fn of_placed(kind: WorkloadKind, namespace: &str, names: &[&str]) -> Self {
        let mut hash = Fnv::new();
        hash.field(kind.name().as_bytes());
        hash.field(namespace.as_bytes());
        let between = names.len().saturating_sub(1);
        hash.length(names.iter().map(|name| name.len()).sum::<usize>() + between);
        for (at, name) in names.iter().enumerate() {
            hash.bytes(if at > 0 { b"\0" } else { b"" });
            hash.bytes(name.as_bytes());
        }
        Self::from_hash(b'n', hash.0)
    }

    /// Id of the edge between two nodes.
    #[must_use]
    pub fn of_edge(source: Id, target: Id, server_port: u16, protocol: &str) -> Self {
        let mut hash = Fnv::new();
        hash.field(&source.0);
        hash.field(&target.0);
        hash.field(&server_port.to_be_bytes());
        hash.field(protocol.as_bytes());
        Self::from_hash(b'e', hash.0)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id that a text is, if it can be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        let (letter, digits) = id.split_first()?;
        let known = matches!(letter, b'n' | b'e') && digits.iter().all(|d| DIGITS.contains(d));
        known.then_some(Id(id))
    }

    fn from_hash(letter: u8, mut hash: u128) -> Self {
        let mut text = [letter; LENGTH];
        for digit in text.iter_mut().skip(1).rev() {
            *digit = DIGITS[(hash & 31) as usize];
            hash >>= 5;
        }
        Id(text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// FNV-1a of 128 bits.
struct Fnv(u128);

impl Fnv {
    const PRIME: u128 = (1 << 88) + 0x13b;

    /// What seven bytes of 0 come to.
    const SEVEN: u128 = {
        let (mut product, mut at) = (1_u128, 0);
        while at < 7 {
            product = product.wrapping_mul(Self::PRIME);
            at += 1;
        }
        product
    };

    const fn new() -> Self {
        Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    /// The length in eight bytes, the highest first. Nearly all have one that is not 0.
    fn length(&mut self, length: usize) {
        match u8::try_from(length) {
            Ok(length) => {
                self.0 = self.0.wrapping_mul(Self::SEVEN);
                self.bytes(&[length]);
            }
            Err(_) => self.bytes(&(length as u64).to_be_bytes()),
        }
    }

    /// The length goes first, so that no two lists of fields read the same.
    fn field(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hash_is_fnv_1a() {
        let mut hash = Fnv::new();
        hash.bytes(b"a");
        assert_eq!(hash.0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn short_lengths_are_hashed_like_others() {
        for length in [0_usize, 1, 255, 256, 70_000] {
            let (mut short, mut plain) = (Fnv::new(), Fnv::new());
            short.length(length);
            plain.bytes(&(length as u64).to_be_bytes());
            assert_eq!(short.0, plain.0, "{length}");
        }
    }

    #[test]
    fn places_are_part_of_the_name() {
        let of = |names: &[&str]| Id::of_placed(WorkloadKind::Pod, "shop", names);
        assert_eq!(of(&["web", "a", "east"]), of(&["web\0a\0east"]));
        assert_eq!(of(&["web"]), Id::of_node(WorkloadKind::Pod, "shop", "web"));
    }

    #[test]
    fn ids_never_change() {
        let shop = Id::of_node(WorkloadKind::Process, "", "shop");
        let db = Id::of_node(WorkloadKind::Container, "prod", "db");
        assert_eq!(shop.as_str(), "n623fzhx8ptxkqej8ryfsgyqsjn");
        assert_eq!(Id::of_edge(shop, db, 5432, "tcp").as_str(), "e2a58zacad02r5xmdjz2v8ksf3y");
    }

    #[test]
    fn every_field_counts() {
        let ids = [
            Id::of_node(WorkloadKind::Process, "a", "b"),
            Id::of_node(WorkloadKind::Process, "", "ab"),
            Id::of_node(WorkloadKind::Process, "ab", ""),
            Id::of_node(WorkloadKind::Systemd, "a", "b"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in ["", "n", "n623fzhx8ptxkqej8ryfsgyqsjl", "x623fzhx8ptxkqej8ryfsgyqsjn", "é"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_are_safe_text(namespace: String, name: String, port: u16) {
            let node = Id::of_node(WorkloadKind::Pod, &namespace, &name);
            for id in [node, Id::of_edge(node, node, port, "tcp")] {
                prop_assert_eq!(id.as_str().len(), LENGTH);
                prop_assert_eq!(Id::parse(id.as_str()), Some(id));
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
