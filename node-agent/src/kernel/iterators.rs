//! Running iterators: over everything once, for what they do on the way.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{Ebpf, maps::Map, programs::Iter};

use super::{
    over_map,
    programs::{ADOPT_FILES, SOCKETS, SURVEY, WALK_TCP},
};

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
        /// Finds out where walking would be of use.
        survey: PathBuf,
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

    /// Goes over the sockets that the programs follow, in all namespaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn survey(&mut self) -> io::Result<()> {
        match self {
            Self::Loaded(ebpf) => read(over_map::open(&link_over_map(ebpf, SURVEY, SOCKETS)?)?),
            Self::Pinned { survey, .. } => read(File::open(survey)?),
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

/// Attaches an iterator to the map that it goes over.
///
/// # Errors
/// When one of them is not there, or the kernel refuses.
pub fn link_over_map(ebpf: &mut Ebpf, name: &str, map: &str) -> io::Result<OwnedFd> {
    let Some(Map::SkStorage(map)) = ebpf.map(map) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let map = map.fd().as_fd().try_clone_to_owned()?;
    let program = ebpf.program_mut(name).ok_or(io::ErrorKind::NotFound)?;
    let iterator: &mut Iter = program.try_into().map_err(io::Error::other)?;
    over_map::link(iterator.fd().map_err(io::Error::other)?.as_fd(), map.as_fd())
}

/// To the end; the output is empty.
fn read(mut file: File) -> io::Result<()> {
    let mut nothing = [0; 64];
    while file.read(&mut nothing)? != 0 {}
    Ok(())
}
