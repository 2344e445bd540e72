//! Files of a directory that are set aside in a folder of it, in such an order that the process may be killed between any two
//! steps.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A step.
#[derive(Debug)]
enum Step {
    Make(PathBuf),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
}

impl Step {
    fn take(&self) -> anyhow::Result<()> {
        let done = match self {
            Self::Make(folder) => match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            },
            Self::Move(from, to) => fs::rename(from, to),
            Self::Remove(file) => fs::remove_file(file),
            Self::RemoveFolder(folder) => fs::remove_dir(folder),
        };
        done.with_context(|| format!("cannot set pins aside: {self:?}"))
    }
}

/// `last` tells where they all are: as long as it is not in the folder, each of them is either there or where it was.
fn steps_aside(mut files: Vec<PathBuf>, last: &Path, folder: &Path) -> Vec<Step> {
    files.sort_by_key(|file| file == last);
    let moves = files.into_iter().filter_map(|file| {
        let to = folder.join(file.file_name()?);
        Some(Step::Move(file, to))
    });
    std::iter::once(Step::Make(folder.to_owned())).chain(moves).collect()
}

/// Without the one that was set aside last the others are nothing.
fn steps_away(folder: &Path) -> io::Result<Vec<Step>> {
    let files = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<_> = files.collect::<io::Result<_>>()?;
    files.sort_by_key(|file| !file.ends_with("map_ledger"));
    let removals = files.into_iter().map(Step::Remove);
    Ok(removals.chain([Step::RemoveFolder(folder.to_owned())]).collect())
}

/// Moves files into a folder, this one last.
///
/// # Errors
/// When one cannot be moved.
pub(super) fn set_aside(files: Vec<PathBuf>, last: &Path, folder: &Path) -> anyhow::Result<()> {
    steps_aside(files, last, folder).iter().try_for_each(Step::take)
}

/// Removes what was set aside in a folder, and the folder.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn discard(folder: &Path) -> anyhow::Result<()> {
    let steps = steps_away(folder);
    let steps = steps.with_context(|| format!("cannot look into {}", folder.display()))?;
    steps.iter().try_for_each(Step::take)
}

/// Folders of a directory whose names begin like this.
///
/// # Errors
/// When it cannot be read.
pub(super) fn folders(dir: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: [&str; 4] = ["map_slots", "map_ledger", "map_owners", "map_chunks"];

    fn maps(dir: &Path) -> Vec<PathBuf> {
        MAPS.iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect()
    }

    #[test]
    fn a_kill_at_any_step_leaves_all_of_it_here_or_there() {
        for killed_after in 0..=MAPS.len() + 1 {
            let dir = tempfile::tempdir().unwrap();
            let (dir, folder) = (dir.path(), dir.path().join("former_1"));
            let ledger = dir.join("map_ledger");
            for name in MAPS {
                fs::write(dir.join(name), name).unwrap();
            }
            let steps = steps_aside(maps(dir), &ledger, &folder);
            assert_eq!(steps.len(), MAPS.len() + 1);
            steps.iter().take(killed_after).for_each(|step| step.take().unwrap());
            let whole = folder.join("map_ledger").exists();
            assert_eq!(whole, killed_after == steps.len());
            for name in MAPS {
                let found = if whole { vec![] } else { vec![dir.join(name)] };
                let found = found.into_iter().chain([folder.join(name)]).find(|path| path.exists());
                assert_eq!(fs::read_to_string(found.unwrap()).unwrap(), name);
            }
            // The next agent goes on with it.
            set_aside(maps(dir), &ledger, &folder).unwrap();
            assert_eq!(folders(dir, "former_").unwrap(), vec![folder.clone()]);
            assert_eq!(maps(&folder).len(), MAPS.len());
            // Once it is told it goes, whoever is killed meanwhile.
            let steps = steps_away(&folder).unwrap();
            steps.iter().take(killed_after).for_each(|step| step.take().unwrap());
            assert_eq!(folder.join("map_ledger").exists(), killed_after == 0);
            if folder.exists() {
                discard(&folder).unwrap();
            }
            assert_eq!(folders(dir, "former_").unwrap(), Vec::<PathBuf>::new());
        }
    }
}
