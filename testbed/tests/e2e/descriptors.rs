//! An agent that has used up its file descriptors.

use std::{process::Command, time::Duration};

use testbed::fleet::{AGENT_HTTP, get};

use crate::{
    support::{burst, exchange},
    world::world,
};

/// How long it may take until everything is as it was.
const LIMIT: Duration = Duration::from_secs(60);

/// Sets how many a process may have.
fn limit_files(pid: u32, limit: &str) {
    let limit = format!("--nofile={limit}");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(done.unwrap().success());
}

#[test]
fn an_agent_without_file_descriptors_counts_and_comes_back() {
    let Some(mut world) = world() else { return };
    let node = world.hosts[1].name().to_owned();
    let agent = world.fleet.agents().iter().find(|agent| agent.node == node);
    let pid = agent.unwrap().process.id();
    let two = &world.hosts[1];
    let (mut web, mut db) = (world.hosts[0].peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(2, 100, 1_000))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    limit_files(pid, "3:4096");
    // The stream that is there goes on, and so does counting.
    web.burst(burst(target, 5, exchange(2, 300, 2_000))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    limit_files(pid, "1024:4096");
    let back = world.fleet.wait("readers of the agent's metrics", LIMIT, |_| {
        let answer = get(two.namespace(), &format!("http://{AGENT_HTTP}/metrics"));
        answer.map(drop).map_err(|error| error.to_string())
    });
    back.unwrap();
    web.burst(burst(target, 5, exchange(1, 200, 500))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    world.stop();
}
