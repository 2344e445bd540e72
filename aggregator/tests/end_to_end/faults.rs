//! Disks that are full, and what is left of the data then.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::StatusCode;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::Uid,
};

use proto::v1::Section;

use crate::{
    binary,
    fleet::eventually,
    reports::{client, increments, server},
    restarts::{CONNECTIONS, Program, counted},
};

/// A file system of its own, with room for this many bytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` for users who may not mount one, which is said.
    #[allow(clippy::print_stderr)]
    fn at(path: &Path, bytes: u64) -> Option<Self> {
        if !Uid::effective().is_root() {
            eprintln!("SKIPPED: only root can make a small disk");
            assert!(std::env::var_os("CI").is_none(), "CI runs every test");
            return None;
        }
        fs::create_dir_all(path).unwrap();
        let options = format!("size={bytes}");
        let (tmpfs, flags) = (Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        mount(tmpfs, path, tmpfs, flags, Some(options.as_str())).unwrap();
        Some(Self(path.to_path_buf()))
    }

    /// Takes all the room there is; returns what to remove to give it back.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut size = 1 << 20;
        let mut bytes = Vec::new();
        while size > 0 {
            let mut more = bytes.clone();
            more.resize(bytes.len() + size, 1);
            if fs::write(&path, &more).is_ok() {
                bytes = more;
            } else {
                size /= 2;
            }
        }
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It is not needed any more, whoever still has files open in it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_back_acknowledgements_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let Some(disk) = SmallDisk::at(&dir.join("data"), 1 << 20) else { return };
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();
    let program = Program::start(dir);
    let (mut a, mut b) = (program.connect(dir, "n1").await.0, program.connect(dir, "n2").await.0);
    a.report(vec![client(), increments(&counted(3))]).await;
    b.report(vec![server(), increments(&counted(3))]).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;

    let filler = disk.fill();
    let held = |agent: &mut crate::agent::Agent| {
        let seq = agent.next;
        agent.next += 1;
        seq
    };
    let (first, second) = (held(&mut a), held(&mut b));
    // Long enough not to fit into what the journal's file has left of its last page.
    let long = Section { kind: 99, payload: vec![0; 2 << 12].into() };
    let more = || vec![increments(&counted(4)), long.clone()];
    let wait = Duration::from_secs(1);
    // No acknowledgement comes, but what was said counts.
    assert!(tokio::time::timeout(wait, a.send(first, more())).await.is_err());
    assert!(tokio::time::timeout(wait, b.send(second, more())).await.is_err());
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 7.0)).await;
    assert_eq!(program.status("/readyz").await, StatusCode::OK);
    let failing = "weft_aggregator_journal_failing";
    assert_eq!(program.series(failing).await, Some(1.0));
    // Nor does a welcome say that it is taken over: the agent would forget it.
    let (again, welcome) = program.connect(dir, "n1").await;
    assert_eq!(welcome.acked_seq, 0);
    drop(again);

    fs::remove_file(filler).unwrap();
    // While it waits it may be told where it stands.
    while b.acknowledged().await.unwrap() < second {}
    assert_eq!(program.series(failing).await, Some(0.0));
    assert_eq!(program.connect(dir, "n1").await.1.acked_seq, first);
    assert_eq!(program.series("weft_aggregator_journal_failures_total").await, Some(1.0));
    drop(program);
    // What was acknowledged is there.
    let program = Program::start(dir);
    assert_eq!(program.series(CONNECTIONS).await, Some(7.0));
}
