//! Private keys are for the eyes of this program alone.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use super::TlsError;

const GROUP_READ: u32 = 0o040;
const NOT_THE_OWNER: u32 = 0o077;

/// Reads a file that only this program may read.
///
/// The bits of the group and of others must be clear. One thing else is let pass: a file of root's,
/// read by another user, that its group may read and others may not touch. So Kubernetes hands out secrets
/// (`fsGroup`) and systemd credentials (the bits are those of an access control list); the
/// program could not read them otherwise.
pub fn read_private(path: &Path) -> Result<Vec<u8>, TlsError> {
    let error = |error: std::io::Error| TlsError::File {
        what: "a private key",
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut file = File::open(path).map_err(error)?;
    let facts = file.metadata().map_err(error)?;
    if facts.is_file() && is_exposed(facts.mode(), facts.uid(), nix::unistd::geteuid().as_raw()) {
        let mode = facts.mode() & 0o7777;
        return Err(TlsError::Exposed { path: path.to_path_buf(), mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

fn is_exposed(mode: u32, owner: u32, own: u32) -> bool {
    match mode & NOT_THE_OWNER {
        0 => false,
        GROUP_READ => owner != 0 || own == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_its_owner_or_handed_over_by_root() {
        for (mode, owner, own, exposed) in [
            (0o600, 1000, 1000, false),
            (0o400, 0, 0, false),
            // Handed over by root: by group, or by an access control list.
            (0o440, 0, 65532, false),
            (0o640, 0, 65532, false),
            // The owner needs no group.
            (0o640, 1000, 1000, true),
            (0o640, 0, 0, true),
            (0o640, 1000, 0, true),
            (0o604, 1000, 1000, true),
            (0o644, 0, 65532, true),
            (0o660, 0, 65532, true),
            (0o610, 0, 65532, true),
        ] {
            assert_eq!(is_exposed(mode, owner, own), exposed, "{mode:o} of {owner} for {own}");
        }
    }
}
