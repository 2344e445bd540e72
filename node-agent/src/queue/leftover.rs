//! What an earlier process of the agent left in the spool: batches of another session, which are
//! delivered in its name before this one's.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use proto::v1;

use super::spool::{
    Leftovers,
    frame::FrameError,
    segment::{Reader, parse_name, put_aside},
};
use crate::{clock::Moment, kernel::aside};

/// The files of one earlier session, with at least one that can be read.
#[derive(Debug)]
pub struct Leftover {
    hello: v1::Hello,
    /// With their sizes, in the order of their batches.
    files: Vec<(PathBuf, u64)>,
    /// Where there are no files.
    batches: Vec<v1::Batch>,
    /// When those ended.
    ended: Moment,
    /// Where the kernel keeps what they were made from.
    folder: Option<PathBuf>,
    shared: Arc<Leftovers>,
}

/// Finds what earlier processes of the node left, the oldest first: nothing of this one is there yet, even if it goes on with
/// the session of the last. What cannot be read, or is of
/// another node or another version of the protocol, is put aside.
pub fn find(dir: &Path, own: &v1::Hello, shared: &Arc<Leftovers>) -> Vec<Leftover> {
    let files = match files_in_order(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), "cannot look into the spool: {error}");
            Vec::new()
        }
    };
    let mut leftovers: Vec<Leftover> = Vec::new();
    for File { session, path, bytes, .. } in files {
        let hello = match hello_of(&path, own, session) {
            Ok(hello) => hello,
            Err(reason) => {
                reject(shared, &path, &reason);
                continue;
            }
        };
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        match leftovers.iter_mut().find(|known| known.hello.session == session) {
            Some(leftover) => leftover.files.push((path, bytes)),
            None => {
                let (files, shared) = (vec![(path, bytes)], Arc::clone(shared));
                let (batches, ended) = (Vec::new(), Moment::default());
                let folder = None;
                leftovers.push(Leftover { hello, files, batches, ended, folder, shared });
            }
        }
    }
    leftovers
}

/// A file of a session.
struct File {
    session: u64,
    start: u64,
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// In the order in which sessions wrote last, and of their batches.
fn files_in_order(dir: &Path) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let Some((owner, start)) = parse_name(&path) else { continue };
        let facts = entry.metadata()?;
        let (bytes, modified) = (facts.len(), facts.modified()?);
        files.push(File { session: owner, start, path, bytes, modified });
    }
    let mut last_written: HashMap<u64, SystemTime> = HashMap::new();
    for file in &files {
        let last = last_written.entry(file.session).or_insert(file.modified);
        *last = file.modified.max(*last);
    }
    files.sort_by_key(|file| (last_written.get(&file.session).copied(), file.session, file.start));
    Ok(files)
}

fn hello_of(path: &Path, own: &v1::Hello, session: u64) -> Result<v1::Hello, String> {
    let hello = Reader::open(path).map_err(|error| error.to_string())?.hello;
    if hello.session != session {
        return Err("its name is that of another session".to_owned());
    }
    if hello.node != own.node {
        return Err(format!("it is of node `{}`", hello.node));
    }
    if hello.protocol_version != own.protocol_version {
        return Err(format!("it is of version {} of the protocol", hello.protocol_version));
    }
    Ok(hello)
}

impl Leftover {
    /// Batches of an earlier session, from a preface on, that are in no file; with where what they were made from is kept until
    /// they are delivered.
    #[must_use]
    pub fn in_memory(
        hello: v1::Hello,
        batches: Vec<v1::Batch>,
        folder: Option<PathBuf>,
        shared: &Arc<Leftovers>,
    ) -> Self {
        let (ended, files, shared) = (Moment::now(), Vec::new(), Arc::clone(shared));
        Self { hello, files, batches, ended, folder, shared }
    }

    /// Opens a stream of that session.
    #[must_use]
    pub fn hello(&self) -> &v1::Hello {
        &self.hello
    }

    /// Its batches, from the first on; `own` is of the session of this process.
    #[must_use]
    pub fn delivery(&self, own: &v1::Hello) -> Delivery<'_> {
        Delivery {
            leftover: self,
            files: self.files.iter().map(|(path, _)| path.as_path()).collect(),
            reader: None,
            preface: self.batches.clone().into(),
            preface_ended: self.ended,
            last: None,
            same_boot: self.hello.boot_id == own.boot_id,
        }
    }

    /// It is delivered.
    pub fn remove(self) {
        for (path, bytes) in &self.files {
            if path.exists()
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::warn!(file = %path.display(), "cannot remove a spool file: {error}");
            }
            self.shared.bytes.fetch_sub(*bytes, Ordering::Relaxed);
        }
        self.discard();
    }

    /// It cannot be delivered.
    pub fn put_aside(self, reason: &str) {
        for (path, bytes) in &self.files {
            reject(&self.shared, path, reason);
            self.shared.bytes.fetch_sub(*bytes, Ordering::Relaxed);
        }
        self.discard();
    }

    fn discard(&self) {
        if let Some(Err(error)) = self.folder.as_deref().map(aside::discard) {
            tracing::warn!("{error:#}");
        }
    }
}

fn reject(shared: &Leftovers, path: &Path, reason: &str) {
    tracing::warn!(file = %path.display(), "a spool file is put aside: {reason}");
    shared.unreadable.fetch_add(1, Ordering::Relaxed);
    put_aside(path);
}

/// Goes through the batches of a leftover.
#[derive(Debug)]
pub struct Delivery<'a> {
    leftover: &'a Leftover,
    files: VecDeque<&'a Path>,
    reader: Option<(Reader, &'a Path)>,
    preface: VecDeque<v1::Batch>,
    /// When the interval ended of the last batch that the preface stands for.
    preface_ended: Moment,
    last: Option<u64>,
    same_boot: bool,
}

impl Iterator for Delivery<'_> {
    type Item = v1::Batch;

    /// The next batch, as it goes out now. Reads no more of a file than that.
    fn next(&mut self) -> Option<v1::Batch> {
        let now = Moment::now();
        loop {
            if let Some(batch) = self.preface.pop_front() {
                let age_ns = self.age_ns(&now, &self.preface_ended);
                return Some(v1::Batch { sent_unix_ns: now.unix_ns, age_ns, ..batch });
            }
            match self.step(&now) {
                Ok(None) if self.files.is_empty() => return None,
                Ok(None) => self.open_next(),
                Ok(Some(batch)) => return Some(batch),
                Err(error) => self.give_up(&error),
            }
        }
    }
}

impl Delivery<'_> {
    fn step(&mut self, now: &Moment) -> Result<Option<v1::Batch>, FrameError> {
        let Some((reader, _)) = &mut self.reader else { return Ok(None) };
        let Some(entry) = reader.batch()? else {
            self.reader = None;
            return Ok(None);
        };
        if self.last.is_none_or(|last| entry.seq != last + 1) {
            return Err(FrameError::Order);
        }
        self.last = Some(entry.seq);
        Ok(Some(entry.batch(now, self.age_ns(now, &entry.ended))?))
    }

    fn age_ns(&self, now: &Moment, ended: &Moment) -> u64 {
        if self.same_boot { now.since(ended) } else { now.since_other_boot(ended) }
    }

    fn open_next(&mut self) {
        let Some(path) = self.files.pop_front() else { return };
        let opened = Reader::open(path).and_then(|mut reader| {
            let preface = reader.preface()?;
            Ok((reader, preface))
        });
        match opened {
            Ok((reader, preface)) => {
                if self.last != Some(reader.start) {
                    (self.preface, self.preface_ended) = (preface.into(), reader.start_ended);
                    self.last = Some(reader.start);
                }
                self.reader = Some((reader, path));
            }
            Err(error) => reject(&self.leftover.shared, path, &error.to_string()),
        }
    }

    /// A frame that was being written when the process ended is nothing unheard of.
    fn give_up(&mut self, error: &FrameError) {
        let Some((_, path)) = self.reader.take() else { return };
        match error {
            FrameError::Torn => {
                tracing::info!(file = %path.display(), "the end of a spool file was not written");
            }
            error => reject(&self.leftover.shared, path, &error.to_string()),
        }
    }
}
