//! Where the built programs are.

use std::{env, path::PathBuf, sync::OnceLock};

use crate::{Error, Result};

/// Environment variable that names the folder of the built programs.
pub const BIN_DIR: &str = "WEFT_BIN_DIR";

static PREFERRED: OnceLock<PathBuf> = OnceLock::new();

/// Has programs taken from this folder, whatever else there is. Only the first call counts.
pub fn prefer(folder: PathBuf) {
    let _ = PREFERRED.set(folder);
}

/// Path of a program of this workspace: in the folder that was [preferred](prefer), in the folder that [`BIN_DIR`] names, else in the
/// target folder that the running test or program was built into.
///
/// # Errors
/// When it is in none of them.
pub fn find(name: &str) -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = PREFERRED.get().cloned().into_iter().collect();
    folders.extend(env::var_os(BIN_DIR).map(PathBuf::from));
    if let Ok(own) = env::current_exe() {
        // target/debug/deps/test-… and target/debug/xtask alike.
        folders.extend(own.ancestors().skip(1).take(2).map(PathBuf::from));
    }
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::Unavailable(format!(
            "no {name} beside the running program: build it, or name its folder in {BIN_DIR}"
        ))
    })
}
