//! Names of workloads on their way to `/metrics`.

use crate::{Target, place};

/// Whatever they are, the text can be read.
pub const TARGET: Target = Target {
    name: "exposition",
    about: "names from agents through to the text of /metrics",
    run: |data| aggregator::fuzzing::names(place(), data),
    seeds: || {
        let texts = ["web\0shop\0db\0shop", "a\"b\0c\\d\0e\nf\0", "é\u{1}\u{85}\0\0x", "lost_a\0n"];
        texts.map(|text| text.as_bytes().to_vec()).into()
    },
    longest: 1024,
};
