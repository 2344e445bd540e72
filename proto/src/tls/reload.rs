//! Notices that files have changed.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use super::TlsError;

/// What tells a file from the one that was there before. Links are followed: Kubernetes swaps the
/// one that leads to a secret's folder.
type Mark = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// Files that belong together and are read anew when one of them changes. Asked every second or
/// so; nothing but a few `stat` calls happens then.
#[derive(Debug)]
pub struct Reloader {
    paths: Vec<PathBuf>,
    /// As they were when they were last read with success.
    read: Option<Vec<Mark>>,
    /// As they were when last looked at.
    seen: Vec<Mark>,
    /// What was wrong with them, as it was told.
    complaint: Option<String>,
}

/// What came of looking.
#[derive(Debug)]
pub enum Outcome<T> {
    /// Nothing new, or what is new is not all there yet.
    Unchanged,
    /// They have changed, and this is what they hold.
    Changed(T),
    /// They have changed and cannot be used. Said once for the same reason.
    Unusable(TlsError),
}

impl Reloader {
    /// To be made before the files are read for the first time, so that no change is missed.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let seen = marks(&paths);
        Self { paths, read: Some(seen.clone()), seen, complaint: None }
    }

    /// Looks, and reads by `read` what has changed and has then stayed the same between two looks:
    /// certificate and key are seldom replaced at the same moment.
    pub fn look<T>(&mut self, read: impl FnOnce() -> Result<T, TlsError>) -> Outcome<T> {
        let now = marks(&self.paths);
        let settled = now == self.seen;
        let changed = self.read.as_ref() != Some(&now);
        self.seen = now;
        if !changed {
            // As if nothing had happened, also after a change for the worse was taken back.
            self.complaint = None;
            return Outcome::Unchanged;
        }
        if !settled {
            return Outcome::Unchanged;
        }
        match read() {
            Ok(value) => {
                self.read = Some(self.seen.clone());
                self.complaint = None;
                Outcome::Changed(value)
            }
            Err(error) => {
                let reason = error.to_string();
                if self.complaint.as_ref() == Some(&reason) {
                    return Outcome::Unchanged;
                }
                self.complaint = Some(reason);
                Outcome::Unusable(error)
            }
        }
    }

    /// Whether there is something new that cannot be used.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.complaint.is_some()
    }
}

fn marks(paths: &[PathBuf]) -> Vec<Mark> {
    let mark = |path: &PathBuf| {
        let facts = std::fs::metadata(path).ok()?;
        let changed = (facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec());
        let (a, b, c, d) = changed;
        Some((facts.dev(), facts.ino(), facts.size(), a, b, c, d))
    };
    paths.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    fn look(reloader: &mut Reloader, path: &Path) -> Outcome<String> {
        reloader.look(|| {
            fs::read_to_string(path).map_err(|error| TlsError::File {
                what: "it",
                path: path.to_path_buf(),
                reason: error.to_string(),
            })
        })
    }

    #[test]
    fn a_change_is_read_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let mut reloader = Reloader::new(vec![path.clone()]);
        assert!(matches!(look(&mut reloader, &path), Outcome::Unchanged));
        fs::write(&path, "22").unwrap();
        assert!(matches!(look(&mut reloader, &path), Outcome::Unchanged), "not settled");
        assert!(matches!(look(&mut reloader, &path), Outcome::Changed(text) if text == "22"));
        assert!(matches!(look(&mut reloader, &path), Outcome::Unchanged));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("v1", "1"), ("v2", "2")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("key"), text).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let path = at("key");
        let mut reloader = Reloader::new(vec![path.clone()]);
        symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(matches!(look(&mut reloader, &path), Outcome::Unchanged), "not settled");
        assert!(matches!(look(&mut reloader, &path), Outcome::Changed(text) if text == "2"));
    }

    #[test]
    fn what_cannot_be_used_is_said_once_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let mut reloader = Reloader::new(vec![path.clone()]);
        fs::remove_file(&path).unwrap();
        look(&mut reloader, &path);
        assert!(matches!(look(&mut reloader, &path), Outcome::Unusable(_)));
        assert!(matches!(look(&mut reloader, &path), Outcome::Unchanged), "said already");
        assert!(reloader.is_stale());
        fs::write(&path, "3").unwrap();
        look(&mut reloader, &path);
        assert!(matches!(look(&mut reloader, &path), Outcome::Changed(text) if text == "3"));
        assert!(!reloader.is_stale());
    }
}
