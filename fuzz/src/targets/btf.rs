//! Types of a kernel.

use crate::Target;

/// They are read or refused, and looked through in bounded time.
pub const TARGET: Target = Target {
    name: "btf",
    about: "a kernel's BTF",
    run: node_agent::fuzzing::types,
    seeds: || {
        // struct a { int x; union { int y; } }, an enumeration, a function.
        let strings = b"\0a\0x\0y\0sock\0";
        let words = [
            [0, 5 << 24 | 1, 4, 5, 9, 0].as_slice(),
            &[1, 4 << 24 | 2, 8, 3, 9, 0, 0, 1, 32],
            &[7, 6 << 24 | 1, 4, 3, 0],
            &[7, 12 << 24, 1],
            &[7, 4 << 24 | 1 << 31 | 1, 8, 5, 1, 3 << 24 | 8],
        ]
        .concat();
        let types: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&types);
        bytes.extend_from_slice(strings);
        vec![bytes]
    },
    longest: 4096,
};
