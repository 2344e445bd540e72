//! Writing new files, all or none of them.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::PkiError;

/// Permissions of a key, and of what everybody may read.
pub(super) const KEY: u32 = 0o600;
pub(super) const CERTIFICATE: u32 = 0o644;

/// Writes files that must not exist yet; keys (`*.key`) only for their owner's eyes. When one
/// cannot be written, those before it are removed.
pub(super) fn write_all(dir: &Path, files: &[(&str, &str)]) -> Result<Vec<PathBuf>, PkiError> {
    let paths: Vec<_> = files.iter().map(|(name, _)| dir.join(name)).collect();
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(PkiError::Exists(path.clone()));
    }
    for (index, (path, (name, text))) in paths.iter().zip(files).enumerate() {
        if let Err(source) =
            write(path, text, if name.ends_with(".key") { KEY } else { CERTIFICATE })
        {
            for written in &paths[..index] {
                // The first failure is the one to report.
                let _ = std::fs::remove_file(written);
            }
            return Err(PkiError::Io { path: path.clone(), source });
        }
    }
    Ok(paths)
}

/// Writes a file in place of the one before; whoever reads it sees either the one or the other.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = write(&draft, text, mode).and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|source| {
        // The first failure is the one to report.
        let _ = std::fs::remove_file(&draft);
        PkiError::Io { path: path.to_path_buf(), source }
    })
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}
