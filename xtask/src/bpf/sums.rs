//! Checksums of the kernel object and of all that it is made of. The file can be checked
//! without this program: `sha256sum -c node-agent/bpf/weft.bpf.sha256`.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What the object is made of: these files, and every `.rs` file in these folders.
const FILES: [&str; 3] =
    ["common/Cargo.toml", "node-agent-ebpf/Cargo.lock", "node-agent-ebpf/Cargo.toml"];
const FOLDERS: [&str; 2] = ["common/src", "node-agent-ebpf/src"];

/// Hex digests by path, relative to the workspace.
pub type Sums = BTreeMap<String, String>;

/// The checksums as they are now. A missing object has none.
pub fn of(workspace: &Path, object: &str) -> Result<Sums> {
    let mut paths: Vec<String> = FILES.map(String::from).to_vec();
    for folder in FOLDERS {
        collect(workspace, folder, &mut paths)?;
    }
    if workspace.join(object).exists() {
        paths.push(object.into());
    }
    paths.into_iter().map(|path| Ok((path.clone(), digest(&workspace.join(path))?))).collect()
}

fn collect(workspace: &Path, folder: &str, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(workspace.join(folder)).context(folder.to_owned())? {
        let entry = entry.context(folder.to_owned())?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().with_context(|| path.clone())?.is_dir() {
            collect(workspace, &path, paths)?;
        } else if path.ends_with(".rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn digest(path: &Path) -> Result<String> {
    let content = fs::read(path).with_context(|| path.display().to_string())?;
    let mut hex = String::new();
    for byte in Sha256::digest(content) {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

/// As `sha256sum` prints them.
pub fn print(sums: &Sums) -> String {
    sums.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect()
}

/// From what `sha256sum` prints. A line that is none of its own names no file, and so
/// shows as a difference.
pub fn parse(text: &str) -> Sums {
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
        .collect()
}

/// Paths that were changed, added or removed.
pub fn differences(kept: &Sums, now: &Sums) -> Vec<String> {
    let mut paths: Vec<&String> = kept.keys().chain(now.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().filter(|path| kept.get(*path) != now.get(*path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in FILES.iter().copied().chain(["common/src/a/b.rs", "node-agent-ebpf/src/m.rs"]) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    #[test]
    fn every_change_of_a_source_is_seen() {
        let folder = workspace();
        let now = || of(folder.path(), "o").unwrap();
        let kept = now();
        assert_eq!(parse(&print(&kept)), kept);
        assert_eq!(differences(&kept, &now()), Vec::<String>::new());
        fs::write(folder.path().join("o"), "object").unwrap();
        fs::write(folder.path().join("common/src/a/b.rs"), "y").unwrap();
        fs::write(folder.path().join("common/src/new.rs"), "").unwrap();
        fs::write(folder.path().join("common/src/notes.txt"), "").unwrap();
        fs::remove_file(folder.path().join("node-agent-ebpf/src/m.rs")).unwrap();
        let expected = ["common/src/a/b.rs", "common/src/new.rs", "node-agent-ebpf/src/m.rs", "o"];
        assert_eq!(differences(&kept, &now()), expected);
    }

    #[test]
    fn the_format_is_that_of_sha256sum() {
        let folder = workspace();
        let x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let text = print(&of(folder.path(), "o").unwrap());
        assert!(text.starts_with(&format!("{x}  common/Cargo.toml\n")), "{text}");
    }
}
