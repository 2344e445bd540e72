//! Disks that hang, fail, or cannot be written.

use std::{path::Path, time::Duration};

use testbed::disk::Disk;
use tokio::time::timeout;

use crate::{
    agent::Agent,
    binary,
    fleet::eventually,
    reports::{client, increments, server, totals},
    restarts::{CONNECTIONS, Program, counted},
};

/// `None` for users who may not make one, which is said.
#[allow(clippy::print_stderr)]
fn disk(dir: &Path) -> Option<Disk> {
    Disk::in_folder(dir)
        .inspect_err(|error| {
            eprintln!("SKIPPED: only root can make a disk that hangs or fails: {error}");
            assert!(std::env::var_os("CI").is_none(), "CI runs every test");
        })
        .ok()
}

/// An aggregator with its data on a disk, and both ends of an edge that has counted three connections.
async fn on_a_disk(dir: &Path, disk: &Disk) -> (Program, Agent, Agent) {
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();
    std::os::unix::fs::symlink(disk.path(), dir.join("data")).unwrap();
    let program = Program::start(dir);
    let (mut a, mut b) = (program.connect(dir, "n1").await.0, program.connect(dir, "n2").await.0);
    a.report(vec![client(), increments(&counted(3))]).await;
    b.report(vec![server(), increments(&counted(3))]).await;
    counts(&program, 3.0).await;
    (program, a, b)
}

async fn counts(program: &Program, connections: f64) {
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == connections))
        .await;
}

/// Reports four more, which are not acknowledged.
async fn report_in_vain(agent: &mut Agent) -> u64 {
    let seq = agent.next;
    agent.next += 1;
    let sent = agent.send(seq, vec![increments(&counted(4))]);
    assert!(timeout(Duration::from_secs(1), sent).await.is_err());
    seq
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_back_acknowledgements_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = disk(folder.path()) else { return };
    let (program, mut a, mut b) = on_a_disk(folder.path(), &disk).await;
    let frozen = disk.freeze().unwrap();
    let (first, second) = (report_in_vain(&mut a).await, report_in_vain(&mut b).await);
    let stalled = "weft_aggregator_journal_stalled";
    eventually(async || program.series(stalled).await.filter(|value| *value == 1.0)).await;
    // What was said counts, and whoever asks is answered without delay.
    let answer = timeout(Duration::from_secs(2), program.series(CONNECTIONS));
    assert_eq!(answer.await.unwrap(), Some(7.0));
    // Those who wait are told that the aggregator lives.
    assert!(a.acknowledged().await.unwrap() < first);
    drop(frozen);
    while a.acknowledged().await.unwrap() < first {}
    while b.acknowledged().await.unwrap() < second {}
    assert_eq!(program.series(stalled).await, Some(0.0));
    assert_eq!(program.said("has not written the journal for"), 1);
    assert_eq!(program.said("the disk writes again"), 1);
    drop(program);
    let program = Program::start(folder.path());
    assert_eq!(program.series(CONNECTIONS).await, Some(7.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_read_only_and_what_was_acknowledged_is_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = disk(folder.path()) else { return };
    let (program, mut a, mut b) = on_a_disk(folder.path(), &disk).await;
    disk.fail().unwrap();
    let first = report_in_vain(&mut a).await;
    report_in_vain(&mut b).await;
    counts(&program, 7.0).await;
    assert_eq!(program.series("weft_aggregator_journal_failing").await, Some(1.0));
    assert_eq!(program.said("the journal cannot be written"), 1);
    drop((program, a, b));
    disk.repair().unwrap();

    let program = Program::start(folder.path());
    assert_eq!(program.series(CONNECTIONS).await, Some(3.0));
    // Agents tell the rest again.
    let (mut a, welcome) = program.connect(folder.path(), "n1").await;
    assert_eq!(welcome.acked_seq, first - 1);
    let mut b = program.connect(folder.path(), "n2").await.0;
    for (agent, section) in [(&mut a, client()), (&mut b, server())] {
        agent.next = first;
        agent.preface(first - 1, false, vec![section, totals(&counted(3))]).await;
        assert_eq!(agent.acknowledged().await.unwrap(), first - 1);
        agent.report(vec![increments(&counted(4))]).await;
    }
    counts(&program, 7.0).await;
}

#[test]
fn a_directory_that_cannot_be_written_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = disk(folder.path()) else { return };
    binary::pki(folder.path());
    disk.write_protect().unwrap();
    std::os::unix::fs::symlink(disk.path(), folder.path().join("data")).unwrap();
    let output = binary::serving(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("data directory") && last.contains("Read-only"), "{said}");
}
