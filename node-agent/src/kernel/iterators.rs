//! Running iterators: over everything once, for what they do on the way.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use aya::{Ebpf, programs::Iter};

use super::programs::{ADOPT_FILES, WALK_TCP};

/// Where the iterators are.
pub enum Iterators {
    /// In this process.
    Loaded(Box<Ebpf>),
    /// Pinned: reading the file runs them.
    Pinned {
        /// Walks live sockets.
        walk_tcp: PathBuf,
        /// Tags sockets older than the agent.
        adopt_files: PathBuf,
        /// What could not be pinned lives as long as the process.
        _rest: Option<Box<Ebpf>>,
    },
}

impl Iterators {
    /// Walks the sockets of this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn walk_tcp(&mut self) -> io::Result<()> {
        match self {
            Self::Loaded(ebpf) => run(ebpf, WALK_TCP),
            Self::Pinned { walk_tcp, .. } => read(File::open(walk_tcp)?),
        }
    }

    /// Tags the sockets of the processes in `adoptions`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn adopt_files(&mut self) -> io::Result<()> {
        match self {
            Self::Loaded(ebpf) => run(ebpf, ADOPT_FILES),
            Self::Pinned { adopt_files, .. } => read(File::open(adopt_files)?),
        }
    }
}

fn run(ebpf: &mut Ebpf, name: &str) -> io::Result<()> {
    let program = ebpf.program_mut(name).ok_or(io::ErrorKind::NotFound)?;
    let iterator: &mut Iter = program.try_into().map_err(io::Error::other)?;
    let link = iterator.attach().map_err(io::Error::other)?;
    let link = iterator.take_link(link).map_err(io::Error::other)?;
    read(link.into_file().map_err(io::Error::other)?)
}

/// To the end; the output is empty.
fn read(mut file: File) -> io::Result<()> {
    let mut nothing = [0; 64];
    while file.read(&mut nothing)? != 0 {}
    Ok(())
}
