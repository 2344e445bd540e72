//! Running iterators: over everything once, for what they do on the way.

use std::{
    fs::File,
    io::{self, Read},
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
fn read(mut file: impl Read) -> io::Result<()> {
    let mut nothing = [0; 64];
    loop {
        match file.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // So the kernel interrupts itself after a million objects; the next read goes on behind them.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers as told, then with the end.
    struct Answers(VecDeque<io::Result<usize>>);

    impl Read for Answers {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.pop_front().unwrap_or(Ok(0))
        }
    }

    #[test]
    fn an_iterator_that_interrupts_itself_is_read_to_its_end() {
        let again = || Err(io::ErrorKind::WouldBlock.into());
        let mut answers = Answers(VecDeque::from([again(), again()]));
        read(&mut answers).unwrap();
        assert!(answers.0.is_empty());
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        let error = read(Answers(VecDeque::from([again(), refused]))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
