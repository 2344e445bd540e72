//! A limit on memory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::v1::{HalfDefinition, Role, Section, SectionKind};
use tokio::time::{Instant, timeout};

use crate::{
    agent::{Agent, section},
    binary,
    fleet::{PATIENCE, eventually},
    reports::{client, definitions, half, increments, server, totals, workload},
    restarts::{CONNECTIONS, Program, counted},
};

/// A cgroup with a limit, of whichever version controls memory here.
struct Limited(PathBuf);

impl Limited {
    /// Takes a process in, and lets it have so much more.
    fn take(pid: u32, more_bytes: u64) -> std::io::Result<Self> {
        let name = format!("weft-test-memory-{pid}");
        let one = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit) = match one.join("memory.limit_in_bytes").exists() {
            true => (one, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let dir = parent.join(name);
        fs::create_dir(&dir)?;
        let group = Self(dir);
        // What it has already is charged to where it was.
        fs::write(group.0.join(limit), more_bytes.to_string())?;
        fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Its process has ended.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Halves that nobody has told of before: connections of few edges, so that answers stay short.
fn news(batch: u32) -> Section {
    const HALVES: u32 = 2000;
    let first = 10 + batch * HALVES;
    let halves = (first..first + HALVES).map(|id| {
        let (server_port, client_port) = (6000 + id / 50_000, 1 + id % 50_000);
        HalfDefinition { client_port, ..half(id, 1, Role::Client, server_port) }
    });
    section(SectionKind::Definitions, &definitions(vec![workload(1, "web")], halves.collect()))
}

/// Sends until the aggregator is gone; returns the last batch that was acknowledged.
async fn report_until_it_ends(program: &mut Program, agent: &mut Agent) -> u64 {
    let mut acked = agent.next - 1;
    for batch in 0..200 {
        let seq = agent.next;
        agent.next += 1;
        let sections = vec![news(batch), increments(&counted(1))];
        match timeout(Duration::from_secs(5), agent.send(seq, sections)).await {
            Ok(Ok(seq)) => acked = acked.max(seq),
            // The stream breaks before the process is gone.
            _ => {
                let begin = Instant::now();
                while !program.has_ended() {
                    assert!(begin.elapsed() < PATIENCE, "it goes on without a stream");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return acked;
            }
        }
    }
    panic!("it was not ended");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr)]
async fn an_aggregator_that_is_out_of_memory_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();
    let mut program = Program::start(dir);
    let (mut a, mut b) = (program.connect(dir, "n1").await.0, program.connect(dir, "n2").await.0);
    a.report(vec![client(), totals(&counted(3))]).await;
    b.report(vec![server(), totals(&counted(3))]).await;
    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    let group = match Limited::take(program.pid(), 24 << 20) {
        Ok(group) => group,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI runs every test");
            return eprintln!("SKIPPED: memory cannot be limited here: {error}");
        }
    };
    let acked = report_until_it_ends(&mut program, &mut a).await;
    drop((program, group));

    let program = Program::start(dir);
    let (mut a, welcome) = program.connect(dir, "n1").await;
    // Nothing that was acknowledged is lost; of the one after, the answer may have been.
    assert!((acked..=acked + 1).contains(&welcome.acked_seq), "{acked}: {welcome:?}");
    let connections = 3 + welcome.acked_seq - 1;
    eventually(async || {
        program.series(CONNECTIONS).await.filter(|value| *value == connections as f64)
    })
    .await;
    a.preface(welcome.acked_seq, false, vec![client(), totals(&counted(connections))]).await;
    assert_eq!(a.acknowledged().await.unwrap(), welcome.acked_seq);
    a.next = welcome.acked_seq + 1;
    a.report(vec![increments(&counted(1))]).await;
    eventually(async || {
        program.series(CONNECTIONS).await.filter(|value| *value == (connections + 1) as f64)
    })
    .await;
}
