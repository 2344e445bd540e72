//! Every input that is kept, through its target, with any compiler.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The folder is the name of the input in what a failure prints.
#[test]
fn every_kept_input_passes() {
    let place = tempfile::tempdir().unwrap();
    fuzz::set_place(place.path());
    for target in fuzz::TARGETS {
        let mut inputs: Vec<_> =
            (target.seeds)().into_iter().map(|seed| ("a seed".into(), seed)).collect();
        assert!(!inputs.is_empty(), "{} has no seeds", target.name);
        for file in fs::read_dir(corpus(target.name)).unwrap() {
            let path = file.unwrap().path();
            inputs.push((path.clone(), fs::read(path).unwrap()));
        }
        for (path, input) in inputs {
            let ran = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(ran.is_ok(), "{}: {}", target.name, path.display());
        }
    }
}

#[test]
fn every_folder_is_that_of_a_target() {
    let mut folders: Vec<_> = fs::read_dir(corpus(""))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    let targets: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(folders, targets);
}
