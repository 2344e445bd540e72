//! Any target under libFuzzer: `cargo xtask fuzz` builds it with what it needs, and says by the environment which
//! target (`WEFT_FUZZ_TARGET`), where it may write files (`WEFT_FUZZ_DIR`), and where inputs to begin with are to be
//! put (`WEFT_FUZZ_SEEDS`).
#![no_main]

use std::{env, path::Path, sync::LazyLock};

use fuzz::Target;
use libfuzzer_sys::{Corpus, fuzz_target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("WEFT_FUZZ_TARGET").unwrap_or_default();
    let target = fuzz::target(&name);
    assert!(target.is_some(), "WEFT_FUZZ_TARGET is no target: {name:?}");
    target.unwrap_or(&fuzz::TARGETS[0])
});

fn begin() {
    if let Some(dir) = env::var_os("WEFT_FUZZ_DIR") {
        fuzz::set_place(Path::new(&dir));
    }
    let Some(dir) = env::var_os("WEFT_FUZZ_SEEDS") else { return };
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        let written = std::fs::write(Path::new(&dir).join(format!("seed-{number}")), seed);
        assert!(written.is_ok(), "a seed cannot be written: {written:?}");
    }
}

fuzz_target!(
    init: begin(),
    |data: &[u8]| -> Corpus {
        if data.len() > TARGET.longest {
            return Corpus::Reject;
        }
        (TARGET.run)(data);
        Corpus::Keep
    }
);
