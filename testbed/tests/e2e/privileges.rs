//! An agent at work holds few privileges.

use std::{fs, path::PathBuf};

use crate::world::world;

/// Bits of the capabilities that looking takes: NET_ADMIN, SYS_PTRACE, SYS_ADMIN, BPF.
const KEPT: u64 = 1 << 12 | 1 << 19 | 1 << 21 | 1 << 39;

#[test]
fn an_agent_at_work_keeps_four_capabilities_and_none_where_the_network_is() {
    let Some(mut world) = world() else { return };
    for agent in world.fleet.agents() {
        let process = agent.process.id();
        let mut held = 0;
        for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let task: PathBuf = task.unwrap().path();
            // One that has ended meanwhile holds nothing.
            let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            let capabilities = field("CapPrm:") | field("CapEff:") | field("CapInh:");
            assert_eq!(capabilities & !KEPT, 0, "{status}");
            assert_eq!(field("NoNewPrivs:"), 1, "{status}");
            if task.ends_with(process.to_string()) {
                assert_eq!(capabilities, 0, "the main thread talks to the network: {status}");
            }
            held |= capabilities;
        }
        assert_eq!(held, KEPT, "the collector's thread needs them");
    }
    world.stop();
}
