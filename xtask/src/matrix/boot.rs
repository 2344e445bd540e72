//! Boots a kernel with an initial file system of our own and gathers what the guest says.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{archive::Archive, kernels::Image};

const QEMU: &str = "qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
const MEMORY_MIB: u32 = 1024;
const PROCESSORS: u32 = 2;

/// Marks the line with the script's exit code on the results' serial line.
const EXIT_MARK: &str = "weft-guest-exit ";

/// What runs in the guest.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Files that the guest gets, all executable: absolute path in the guest, path here.
    pub files: &'a [(&'a str, PathBuf)],
    /// A busybox `sh` script, run as process 1's only child with the usual file systems mounted.
    /// What it writes to file descriptor 3 becomes [`Outcome::results`].
    pub script: &'a str,
    /// Time from power-on to power-off.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code of the script.
    pub exit: i32,
    /// What the script wrote to its file descriptor 3.
    pub results: String,
}

/// The first process of the guest. Results go over a serial line of their own, where no message of
/// the kernel can cut them.
const INIT: &str = r#"#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
hostname guest
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
export HOME=/tmp PATH=/bin
exec 3>/dev/ttyS1
sh /script 2>&1
echo "weft-guest-exit $?" >&3
exec 3>&-
sync
poweroff -f
"#;

/// Says in one line what is missing when the emulator or the static shell is.
pub fn require_qemu() -> Result<()> {
    let found = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    ensure!(found.is_ok_and(|status| status.success()), "no {QEMU}; install qemu-system-x86");
    ensure!(Path::new(BUSYBOX).exists(), "no {BUSYBOX}; install busybox-static");
    Ok(())
}

/// Boots `image`, runs the script and powers off. The console is kept in `folder` as
/// `<kernel>.console`. A guest that hangs is booted once more, and that is said: emulated processors were seen to
/// get stuck. The console of the first is kept then, too, as `<kernel>.hung.console`.
///
/// # Errors
/// When the guest cannot be made, does not end in time twice, or ends without the script's exit code:
/// with the last lines of its console.
pub fn boot(image: &Image, guest: &Guest<'_>, folder: &Path) -> Result<Outcome> {
    match boot_once(image, guest, folder) {
        Err(error) if error.downcast_ref::<Hung>().is_some() => {
            let (name, console) = (image.kernel.name, console_of(image, folder));
            let kept = folder.join(format!("{name}.hung.console"));
            fs::rename(&console, &kept)?;
            super::say(format_args!(
                "HUNG {name:<5} booting it once more; see {}: {error:#}",
                kept.display()
            ));
            boot_once(image, guest, folder)
        }
        ended => ended,
    }
}

/// The guest did not power off in time.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not power off within {} s", .0.as_secs())]
struct Hung(Duration);

fn console_of(image: &Image, folder: &Path) -> PathBuf {
    folder.join(format!("{}.console", image.kernel.name))
}

fn boot_once(image: &Image, guest: &Guest<'_>, folder: &Path) -> Result<Outcome> {
    let initial = folder.join(format!("{}.initrd", image.kernel.name));
    let console = console_of(image, folder);
    let results = folder.join(format!("{}.results", image.kernel.name));
    write_initial(&initial, guest).context("cannot make the initial file system")?;
    for log in [&console, &results] {
        File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    }
    let child = Command::new(QEMU)
        // One thread for all processors: with a thread each, a 5.10 kernel was once seen to hang for ever in a soft
        // lockup just after programs were attached, which is when it rewrites code that another processor runs.
        .args(["-accel", "tcg,thread=single", "-nodefaults", "-no-user-config"])
        // Under QEMU 7.2 a 6.12 kernel was seen to crash just after CMPXCHG16B, with its flags
        // overwritten. Kernels do without that instruction where there is none.
        .args(["-cpu", "max,-cx16"])
        .args(["-display", "none", "-no-reboot", "-nic", "none"])
        .args(["-m", &format!("{MEMORY_MIB}M"), "-smp", &PROCESSORS.to_string()])
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", &format!("file:{}", results.display())])
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(&initial)
        // `panic=-1` with `-no-reboot` turns a kernel panic into an end instead of a hang.
        .args([
            "-append",
            "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on",
        ])
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {QEMU}"))?;
    let ended = wait(Running(child), guest.timeout);
    fs::remove_file(&initial)?;
    ended.with_context(|| tail(&console))?;
    let text = read_serial(&results)?;
    parse_outcome(&text).with_context(|| tail(&console))
}

/// A guest that is powered off when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(mut guest: Running, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Some(status) = guest.0.try_wait()? {
            ensure!(status.success(), "{QEMU} failed ({status})");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Hung(timeout).into())
}

fn write_initial(path: &Path, guest: &Guest<'_>) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    let mounts = ["proc", "sys", "dev", "tmp", "run", "bin", "etc"];
    let mut folders: BTreeSet<String> = mounts.iter().map(|name| (*name).to_owned()).collect();
    for (inside, _) in guest.files {
        let parents = Path::new(inside.trim_start_matches('/')).ancestors().skip(1);
        folders
            .extend(parents.filter_map(|p| p.to_str()).filter(|p| !p.is_empty()).map(Into::into));
    }
    // In alphabetical order a parent comes before its children.
    for folder in &folders {
        archive.folder(folder)?;
    }
    // Process 1 writes to the console before it has mounted a `/dev`.
    archive.device("dev/console", 5, 1)?;
    archive.program("bin/busybox", &read(Path::new(BUSYBOX))?)?;
    for applet in applets()? {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    archive.program("init", INIT.as_bytes())?;
    archive.program("script", guest.script.as_bytes())?;
    for (inside, here) in guest.files {
        archive.program(inside.trim_start_matches('/'), &read(here)?)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

/// The commands that the static shell brings along.
fn applets() -> Result<Vec<String>> {
    let list = super::kernels::run(Command::new(BUSYBOX).arg("--list"))?;
    Ok(list.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A serial line ends its lines with CR LF, and may carry any byte.
fn read_serial(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).replace('\r', ""))
}

fn tail(console: &Path) -> String {
    let text = read_serial(console).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    format!("console ends with: {}", last.join(" | "))
}

fn parse_outcome(text: &str) -> Result<Outcome> {
    let (results, rest) = text.rsplit_once(EXIT_MARK).context("the guest's script did not end")?;
    let exit = rest.trim().parse().context("the guest's exit code is no number")?;
    Ok(Outcome { exit, results: results.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_results_from_the_exit_code() {
        let outcome = parse_outcome("a\nb\nweft-guest-exit 3\n").unwrap();
        assert_eq!((outcome.exit, outcome.results.as_str()), (3, "a\nb\n"));
        assert!(parse_outcome("a\n").is_err());
        assert!(parse_outcome("weft-guest-exit x\n").is_err());
    }

    #[test]
    fn the_init_program_marks_the_exit_code() {
        assert!(INIT.contains(EXIT_MARK));
    }
}
