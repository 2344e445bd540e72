//! A file system of its own, on a disk that can hang, fail, and come back.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// A small ext4 file system in a file, mounted for as long as this lives.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

/// A disk that hangs.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Disk);

impl Disk {
    /// Makes one in a folder, with room for some 10 MB.
    ///
    /// # Errors
    /// When it cannot be made or mounted: only root can.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        let (image, mounted) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::create_dir_all(&mounted)?;
        std::fs::File::create(&image)?.set_len(16 << 20)?;
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image])?;
        let disk = Self { image, mounted };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    fn mount(&self) -> io::Result<()> {
        let options = Path::new("loop,errors=remount-ro");
        run("mount", &[Path::new("-o"), options, &self.image, &self.mounted])
    }

    /// Whatever is written hangs for as long as what is returned lives. A program that hangs cannot be killed: it has to
    /// be dropped before the program is, also by a test that fails.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn freeze(&self) -> io::Result<Frozen<'_>> {
        run("fsfreeze", &[Path::new("-f"), &self.mounted])?;
        Ok(Frozen(self))
    }

    /// An error of the disk is found: the file system is read-only from now on, also for files that are open.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn fail(&self) -> io::Result<()> {
        let devices =
            Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.mounted).output()?;
        let device = String::from_utf8_lossy(&devices.stdout);
        let device = Path::new(device.trim()).file_name().unwrap_or_default().to_owned();
        std::fs::write(Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error"), "1")
    }

    /// It is checked and mounted anew. Nobody may use it.
    ///
    /// # Errors
    /// When it cannot be repaired or mounted.
    pub fn repair(&self) -> io::Result<()> {
        run("umount", &[&self.mounted])?;
        // It says with its exit code that it has repaired something.
        let checked = Command::new("fsck.ext4").arg("-fy").arg(&self.image).output()?;
        if checked.status.code().is_none_or(|code| code > 1) {
            return Err(io::Error::other(String::from_utf8_lossy(&checked.stderr).into_owned()));
        }
        self.mount()
    }

    /// Nothing can be written from now on. Nobody may have a file open for that.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_protect(&self) -> io::Result<()> {
        run("mount", &[Path::new("-o"), Path::new("remount,ro"), &self.mounted])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not needed any more, whoever still has files open in it.
        let _ = run("umount", &[Path::new("-l"), &self.mounted]);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // What hung goes on.
        let _ = run("fsfreeze", &[Path::new("-u"), &self.0.mounted]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}
