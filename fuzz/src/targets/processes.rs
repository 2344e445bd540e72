//! Paths of cgroups, files of `/proc`, the mount table.

use crate::{Target, place};

/// Whatever they hold, names are to the aggregator's liking.
pub const TARGET: Target = Target {
    name: "processes",
    about: "cgroup paths, /proc/PID/stat, cgroup and cmdline, mountinfo",
    run: |data| node_agent::fuzzing::processes(place(), data),
    seeds: || {
        let id = "0123456789abcdef".repeat(4);
        let stat = "77 (x) y) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20\n";
        let mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n\
                      50 1 0:38 /a\\040b /mnt/c\\134d rw - cgroup2 none rw\n";
        [
            ("0::/system.slice/nginx.service\n", "python3\0-um\0shop.web\0"),
            ("/machine.slice/libpod-ID.scope/container", "sh\0-o\0x\0+O\0y\0/srv/run.sh\0"),
            ("/kubepods/burstable/pod1/ID", "java\0-cp\0a.jar\0-jar\0b.jar\0"),
            ("0::/docker/ID (deleted)\n", "deno\0run\0--config\0x\0main.ts\0"),
        ]
        .map(|(path, command)| {
            let path = path.replace("ID", &id);
            let files = [path.as_bytes(), stat.as_bytes(), command.as_bytes(), mounts.as_bytes()];
            files.join(&0xff)
        })
        .into()
    },
    longest: 2048,
};
