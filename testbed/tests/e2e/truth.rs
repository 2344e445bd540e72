//! Worlds that are drawn by chance, from seeds that stay; `cargo xtask truth` plays many more.

use testbed::worlds::{Feature, Options, run};

use crate::world::alone;

#[test]
fn the_graph_of_a_random_world_is_the_truth() {
    for seed in SEEDS {
        let Some(_alone) = alone() else { return };
        let options = Options { features: Feature::ALL.into(), keep: None };
        let outcome = run(seed, &options).unwrap();
        let wrong = &outcome.verdict.wrong;
        assert!(outcome.verdict.is_exact(), "cargo xtask truth --seed {seed}\n{outcome}\n{wrong}");
    }
}

/// Worlds of three, four and six hosts.
const SEEDS: [u64; 3] = [1, 2, 3];
