//! Names that runtimes without an engine to ask leave in files: containerd's bundles, and the storage of Podman and
//! CRI-O.
//!
//! Nothing is watched: the collector asks for a container when the kernel first tells of it, and that is when its files
//! are there. Reading them is for a thread of its own, since a disk may hang, and without any capability: they are root's, as
//! the agent is.

mod bundle;
mod storage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use proto::convert::ContainerName;
use tokio::sync::mpsc::Sender;

use super::{Labels, News, Source, Told};
use crate::privileges;
pub(super) use bundle::read as read_bundle;
pub(super) use storage::read as read_storage;

/// Containers that are asked for and not looked for yet; the collector asks again for what has no place.
const ASKED_WAITING: usize = 256;

/// How often it is looked whether a container that was found is still there.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Containers that are looked after so. A name beyond is kept for as long as the report needs it.
const LOOKED_AFTER: usize = 2_048;

/// Where something was found that says what a container is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A file of its own.
    File(PathBuf),
    /// A list in which it is one of many.
    List,
}

/// Looks for names in files.
#[derive(Debug)]
pub struct Files {
    /// State of containerd, and storage of Podman and CRI-O, wherever they are.
    pub roots: Vec<PathBuf>,
    /// Labels that are told besides ours.
    pub labels: Labels,
}

impl Files {
    /// Begins to look, until the collector is gone. What is sent names a container as the kernel's view does.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(self, told: Sender<Told>) -> std::io::Result<SyncSender<String>> {
        let (ask, asked) = sync_channel(ASKED_WAITING);
        let work = move || {
            privileges::keep_only(&[]);
            Looking { files: self, told, found: BTreeMap::new() }.look(&asked);
        };
        // It ends with its channels; a disk that hangs keeps nobody from ending.
        std::thread::Builder::new().name("weft-names".to_owned()).spawn(work)?;
        Ok(ask)
    }

    /// What these containers are called, as far as a file says.
    fn find(&self, wanted: &BTreeSet<String>) -> Vec<(Place, ContainerName)> {
        let mut found = Vec::new();
        for root in &self.roots {
            let is_wanted = |id: &str| super::short(id).is_some_and(|short| wanted.contains(short));
            bundle::find(root, &self.labels, is_wanted, &mut found);
            storage::find(root, &self.labels, is_wanted, &mut found);
        }
        found
    }
}

/// The collector is gone.
struct Over;

struct Looking {
    files: Files,
    told: Sender<Told>,
    /// What has been told and is looked after.
    found: BTreeMap<String, (Place, ContainerName)>,
}

impl Looking {
    fn look(mut self, asked: &Receiver<String>) {
        let mut looked = Instant::now();
        loop {
            let wait = LOOK_EVERY.saturating_sub(looked.elapsed());
            let over = match asked.recv_timeout(wait) {
                Ok(first) => {
                    let wanted = std::iter::once(first).chain(asked.try_iter());
                    self.answer(&wanted.collect())
                }
                Err(RecvTimeoutError::Timeout) => {
                    looked = Instant::now();
                    self.look_after()
                }
                Err(RecvTimeoutError::Disconnected) => Err(Over),
            };
            if over.is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, wanted: &BTreeSet<String>) -> Result<(), Over> {
        for (place, name) in self.files.find(wanted) {
            if self.found.len() < LOOKED_AFTER || self.found.contains_key(&name.container) {
                self.found.insert(name.container.clone(), (place, name.clone()));
                self.tell(News::Called(name))?;
            } else {
                self.tell(News::Ended(name))?;
            }
        }
        Ok(())
    }

    /// Finds out who has ended.
    fn look_after(&mut self) -> Result<(), Over> {
        let listed = self.found.iter().filter(|(_, (place, _))| *place == Place::List);
        let listed: BTreeSet<String> = listed.map(|(container, _)| container.clone()).collect();
        let still: BTreeSet<String> = if listed.is_empty() {
            BTreeSet::new()
        } else {
            self.files.find(&listed).into_iter().map(|(_, name)| name.container).collect()
        };
        let is_there = |container: &String, place: &Place| match place {
            Place::File(path) => path.exists(),
            Place::List => still.contains(container),
        };
        let ended: Vec<_> = self
            .found
            .iter()
            .filter(|(container, (place, _))| !is_there(container, place))
            .map(|(_, (_, name))| name.clone())
            .collect();
        for name in ended {
            self.found.remove(&name.container);
            self.tell(News::Ended(name))?;
        }
        Ok(())
    }

    fn tell(&self, news: News) -> Result<(), Over> {
        self.told.blocking_send(Told { source: Source::Files, news }).map_err(|_| Over)
    }
}

/// All of a file; `None` when it cannot be read, or is longer than this.
fn whole(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Names of what is in a folder.
fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests;
