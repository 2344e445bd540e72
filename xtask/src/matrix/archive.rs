//! Writes a `newc` cpio archive, the form of an initial file system. It is written here because
//! device nodes and modes can then be chosen without being root and without a tool.

use std::io::{self, Write};

/// Builds an archive entry by entry.
pub struct Archive<W> {
    out: W,
    inode: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// Entries and their contents start at multiples of this.
const ALIGNMENT: u64 = 4;

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a folder; its parent must have been added.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER | 0o755, (0, 0), &[])
    }

    /// Adds an executable file.
    pub fn program(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | 0o755, (0, 0), content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[])
    }

    /// Ends the archive and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        header.extend_from_slice(path.as_bytes());
        header.push(0);
        self.put(&header)?;
        self.put(content)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let length = bytes.len() as u64;
        for _ in length..length.next_multiple_of(ALIGNMENT) {
            self.out.write_all(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("dev").unwrap();
        archive.device("dev/console", 5, 1).unwrap();
        archive.program("init", b"#!/bin/sh").unwrap();
        archive.link("bin", "usr").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<_> = bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").collect();
        assert_eq!(starts.len(), 5, "four entries and the trailer");
        assert!(starts.iter().all(|(at, _)| at % 4 == 0));
        // Header 110 + "init\0" = 115, padded to 116; its content begins there.
        let at = bytes.windows(4).position(|w| w == b"init").unwrap() - 110;
        assert_eq!(&bytes[at + 116..at + 125], b"#!/bin/sh");
        assert_eq!(&bytes[at + 54..at + 62], b"00000009", "size in hexadecimal");
    }
}
