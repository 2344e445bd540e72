//! Which kernels, and how their packages are fetched without being installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// A kernel of the matrix.
#[derive(Debug)]
pub struct Kernel {
    /// Version as people say it.
    pub name: &'static str,
    /// Debian suite whose cloud kernel has this version.
    pub suite: &'static str,
    /// Names of the programs that cannot be attached to it.
    pub failed: &'static [&'static str],
    /// Names of the programs that it does not need.
    pub off: &'static [&'static str],
    /// Whether connections older than the agent can be taken up.
    pub adopts: bool,
}

/// Guests have no modules, and so no connection tracking.
const UNTRACKED: &str = "conntrack";

/// All of them add up how long tasks wait.
const WAKEUPS: [&str; 2] = ["sched_wakeup", "sched_wakeup_new"];

/// The oldest kernel that Weft supports, the long-term one of the current Debian, and a recent one.
pub const KERNELS: [Kernel; 3] = [
    Kernel {
        name: "5.10",
        suite: "bullseye",
        // Its iterators cannot reach socket storage, and it tells no MPTCP socket of a subflow.
        failed: &["walk_tcp", "adopt_files", "mptcp_owners"],
        off: &["survey", "set_state", WAKEUPS[0], WAKEUPS[1], UNTRACKED],
        adopts: false,
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        failed: &[],
        off: &[WAKEUPS[0], WAKEUPS[1], UNTRACKED],
        adopts: true,
    },
    Kernel {
        name: "6.12",
        suite: "bookworm-backports",
        failed: &[],
        // Sockets older than the agent get callbacks there.
        off: &["set_state", WAKEUPS[0], WAKEUPS[1], UNTRACKED],
        adopts: true,
    },
];

/// A kernel that is ready to boot.
#[derive(Debug)]
pub struct Image {
    /// Which one it is.
    pub kernel: &'static Kernel,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
}

/// The package that always depends on the suite's newest cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches and unpacks a kernel, or finds it in the cache.
pub fn fetch(kernel: &'static Kernel, cache: &Path) -> Result<Image> {
    let home = cache.join(kernel.name);
    let unpacked = home.join("root");
    if let Some(vmlinuz) = find_vmlinuz(&unpacked, kernel) {
        return Ok(Image { kernel, vmlinuz });
    }
    super::say(format_args!("fetching the kernel of {} ({})", kernel.suite, kernel.name));
    let apt = Apt::new(&home, kernel.suite)?;
    apt.run("apt-get", &["update", "-q=2"])?;
    let package = apt.dependency(META_PACKAGE)?;
    apt.run("apt-get", &["download", "-q=2", &package])?;
    let archive = only_file(&home, "deb")?;
    // Unpacked beside the final place and renamed, so that a cut-off run leaves no half kernel.
    let partial = home.join("root.partial");
    remove_folder(&partial)?;
    let mut unpack = Command::new("dpkg");
    run(unpack.arg("--extract").arg(&archive).arg(&partial))?;
    remove_folder(&unpacked)?;
    fs::rename(&partial, &unpacked)?;
    fs::remove_file(&archive)?;
    let vmlinuz = find_vmlinuz(&unpacked, kernel)
        .with_context(|| format!("package {package} has no kernel {}", kernel.name))?;
    Ok(Image { kernel, vmlinuz })
}

/// A package manager that looks at one suite only and keeps its lists to itself.
struct Apt<'a> {
    home: &'a Path,
    options: Vec<String>,
}

impl<'a> Apt<'a> {
    fn new(home: &'a Path, suite: &str) -> Result<Self> {
        let lists = home.join("lists");
        fs::create_dir_all(lists.join("partial"))?;
        let signed = if Path::new(KEYRING).exists() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let sources = home.join("sources.list");
        fs::write(&sources, format!("deb {signed}{} {suite} main\n", mirror()?))?;
        for old in files(home, "deb") {
            fs::remove_file(old)?;
        }
        let options = [
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::State::Status=/dev/null".into(),
            // The machine's own package cache must not be mixed up with ours.
            "Dir::Cache::PkgCache=".into(),
            "Dir::Cache::SrcPkgCache=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            // The folder need not be readable by another user.
            "APT::Sandbox::User=root".into(),
            "Debug::NoLocking=true".into(),
        ];
        Ok(Self {
            home,
            options: options.into_iter().map(|option| format!("-o{option}")).collect(),
        })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(Command::new(program).args(&self.options).args(arguments).current_dir(self.home))
    }

    fn dependency(&self, package: &str) -> Result<String> {
        let answer = self.run("apt-cache", &["depends", package])?;
        parse_dependency(&answer).with_context(|| format!("package {package} depends on no kernel"))
    }
}

fn parse_dependency(answer: &str) -> Option<String> {
    answer
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// The Debian mirror that this machine itself uses, or the one in `WEFT_DEBIAN_MIRROR`.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("WEFT_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    parse_mirror(&run(&mut list)?)
        .context("no debian mirror in this machine's package sources; set WEFT_DEBIAN_MIRROR")
}

fn parse_mirror(targets: &str) -> Option<String> {
    targets
        .lines()
        .map(|line| line.trim().trim_end_matches('/'))
        .find(|uri| uri.ends_with("/debian"))
        .map(str::to_owned)
}

fn find_vmlinuz(root: &Path, kernel: &Kernel) -> Option<PathBuf> {
    let prefix = format!("vmlinuz-{}.", kernel.name);
    let entries = fs::read_dir(root.join("boot")).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    })
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut found = files(folder, extension);
    ensure!(found.len() == 1, "{} files *.{extension} in {}", found.len(), folder.display());
    found.pop().context("no file")
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Runs a command and gives its standard output; its error output is part of the error.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_kernel_among_the_dependencies() {
        let answer = "linux-image-cloud-amd64\n  Depends: base\n  Depends: linux-image-6.1.0-9-cloud-amd64\n";
        assert_eq!(parse_dependency(answer).unwrap(), "linux-image-6.1.0-9-cloud-amd64");
        assert_eq!(parse_dependency("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn takes_the_main_mirror_and_not_the_security_one() {
        let targets = "http://security.test/debian-security/\nhttp://mirror.test/debian/\n";
        assert_eq!(parse_mirror(targets).unwrap(), "http://mirror.test/debian");
        assert_eq!(parse_mirror("http://mirror.test/ubuntu/\n"), None);
    }
}
