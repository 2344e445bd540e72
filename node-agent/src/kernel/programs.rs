//! Loading and attaching, program by program: one that fails costs only itself.

use std::{error::Error, fs::File};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSock, CgroupSockAddr, Iter, ProgramError, SockOps,
        TracePoint, links::FdLink, trace_point::TracePointLinkId,
    },
};

use super::{iterators, links, over_map, pins::Pins, settings::Settings, tracefs};
use crate::source::{Program, ProgramState};

/// Name of the program that walks live sockets.
pub const WALK_TCP: &str = "weft_walk_tcp";
/// Name of the program that tags sockets older than the agent.
pub const ADOPT_FILES: &str = "weft_adopt_files";
/// Name of the program that goes over the sockets that are followed.
pub const SURVEY: &str = "weft_survey";
/// Name of the map with the state of these sockets.
pub const SOCKETS: &str = "sockets";

enum Hook {
    SockCreate,
    SockOps,
    Connect,
    ConnectExit,
    Iterator(&'static str),
    Survey,
    SetState,
    BtfTracepoint(&'static str),
}

struct Plan {
    program: &'static str,
    name: &'static str,
    hook: Hook,
    lost_without: &'static str,
    essential: bool,
}

const PLANS: [Plan; 12] = [
    Plan {
        program: "weft_sock_create",
        name: "sock_create",
        hook: Hook::SockCreate,
        lost_without: "which process or container owns a connection",
        essential: true,
    },
    Plan {
        program: "weft_sock_ops",
        name: "sock_ops",
        hook: Hook::SockOps,
        lost_without: "every TCP connection",
        essential: true,
    },
    Plan {
        program: "weft_connect4",
        name: "connect4",
        hook: Hook::Connect,
        lost_without: "IPv4 attempts that fail before a packet is sent",
        essential: false,
    },
    Plan {
        program: "weft_connect6",
        name: "connect6",
        hook: Hook::Connect,
        lost_without: "IPv6 attempts that fail before a packet is sent",
        essential: false,
    },
    Plan {
        program: "weft_connect_exit",
        name: "connect_exit",
        hook: Hook::ConnectExit,
        lost_without: "attempts that fail before a packet is sent (no route, ports exhausted)",
        essential: false,
    },
    Plan {
        program: WALK_TCP,
        name: "walk_tcp",
        hook: Hook::Iterator("tcp"),
        lost_without: "what a connection was last acknowledged, until it sends again or closes",
        essential: false,
    },
    Plan {
        program: ADOPT_FILES,
        name: "adopt_files",
        hook: Hook::Iterator("task_file"),
        lost_without: "sockets that were there before the agent",
        essential: false,
    },
    Plan {
        program: SURVEY,
        name: "survey",
        hook: Hook::Survey,
        lost_without: "nothing but time: namespaces are walked though nothing moved in them",
        essential: false,
    },
    Plan {
        program: "weft_set_state",
        name: "set_state",
        hook: Hook::SetState,
        lost_without: "the end of connections that were there before the agent",
        essential: false,
    },
    Plan {
        program: "weft_wakeup",
        name: "sched_wakeup",
        hook: Hook::BtfTracepoint("sched_wakeup"),
        lost_without: "run-queue latency of tasks that wake up",
        essential: false,
    },
    Plan {
        program: "weft_wakeup_new",
        name: "sched_wakeup_new",
        hook: Hook::BtfTracepoint("sched_wakeup_new"),
        lost_without: "run-queue latency of new tasks",
        essential: false,
    },
    Plan {
        program: "weft_switch",
        name: "sched_switch",
        hook: Hook::BtfTracepoint("sched_switch"),
        lost_without: "run-queue latency",
        essential: false,
    },
];

/// Loads and attaches every program to `cgroup` and tells what became of each.
pub fn attach_all(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    cgroup: &File,
    settings: &Settings,
    pins: Option<&Pins>,
) -> Vec<Program> {
    each(settings, |plan| attach(ebpf, btf, cgroup, settings, plan, pins))
}

/// Tells which programs an earlier agent had attached and pinned. One that could be pinned, but not its link, is attached
/// again, and is so as long as what is returned with it lives.
pub fn pinned(settings: &Settings, pins: &Pins) -> (Vec<Program>, Option<TracePoint>) {
    let mut again = None;
    let programs = each(settings, |plan| {
        if pins.has_link(plan.name) {
            return Ok(());
        }
        if !pins.has_program(plan.name) {
            return Err("not among what an earlier agent pinned".to_owned());
        }
        let mut program = TracePoint::from_pin(pins.program_path(plan.name)).map_err(one_line)?;
        attach_connect_exit(&mut program)?;
        again = Some(program);
        Ok(())
    });
    (programs, again)
}

/// Of what an earlier agent had attached to a cgroup, what is attached to it no more, and why. What the agent cannot do its
/// main job without has to be there.
pub fn detached(pins: &Pins, cgroup: u64) -> Option<String> {
    let of_cgroup =
        |plan: &&Plan| matches!(plan.hook, Hook::SockCreate | Hook::SockOps | Hook::Connect);
    PLANS.iter().filter(of_cgroup).find_map(|plan| {
        if !pins.has_link(plan.name) {
            return plan.essential.then(|| format!("{} is not there", plan.name));
        }
        match links::cgroup_of(&pins.link_path(plan.name)) {
            Ok(Some(known)) if known != cgroup => Some(format!("{} is detached", plan.name)),
            Ok(_) => None,
            Err(error) => Some(format!("{error:#}")),
        }
    })
}

fn attach_connect_exit(program: &mut TracePoint) -> Result<TracePointLinkId, String> {
    tracefs::with(|| program.attach("syscalls", "sys_exit_connect").map_err(one_line))?
}

fn each(
    settings: &Settings,
    mut attached: impl FnMut(&Plan) -> Result<(), String>,
) -> Vec<Program> {
    let mut programs: Vec<Program> = PLANS
        .iter()
        .map(|plan| {
            let (state, reason) = match off(settings, plan) {
                Some(reason) => (ProgramState::Off, reason.to_owned()),
                None => match attached(plan) {
                    Ok(()) => (ProgramState::Attached, String::new()),
                    Err(reason) => (ProgramState::Failed, reason),
                },
            };
            Program {
                name: plan.name,
                state,
                reason,
                lost_without: plan.lost_without,
                essential: plan.essential,
            }
        })
        .collect();
    programs.push(mptcp_owners(settings));
    programs
}

/// Not a program but a branch of them, which needs a helper that not every kernel has.
fn mptcp_owners(settings: &Settings) -> Program {
    let (state, reason) = if settings.mptcp {
        (ProgramState::Attached, String::new())
    } else {
        (ProgramState::Failed, "the kernel lacks bpf_skc_to_mptcp_sock (5.19 and later)".to_owned())
    };
    Program {
        name: "mptcp_owners",
        state,
        reason,
        lost_without: "who owns connections of MPTCP sockets; they are counted for the host",
        essential: false,
    }
}

/// Why a program is not needed on this kernel.
fn off(settings: &Settings, plan: &Plan) -> Option<&'static str> {
    match plan.hook {
        Hook::BtfTracepoint("sched_wakeup" | "sched_wakeup_new") if settings.waits => {
            Some("not needed: the kernel itself adds up how long tasks wait")
        }
        Hook::Survey if !settings.walk => Some("not needed: no iterator walks live sockets"),
        Hook::SetState if settings.adopt => {
            Some("not needed: sockets older than the agent get callbacks")
        }
        Hook::SetState if !settings.walk => {
            Some("not needed: sockets older than the agent are not picked up")
        }
        _ => None,
    }
}

fn attach(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    cgroup: &File,
    settings: &Settings,
    plan: &Plan,
    pins: Option<&Pins>,
) -> Result<(), String> {
    let program = ebpf.program_mut(plan.program).ok_or_else(|| {
        "not in the kernel object: build it again with `cargo xtask bpf`".to_owned()
    })?;
    let needs_btf = || btf.ok_or_else(|| "the kernel shows no type information (BTF)".to_owned());
    // `Single` is what bpf_link_create takes: links on one cgroup live side by side all the same.
    let mode = CgroupAttachMode::Single;
    match plan.hook {
        Hook::SockCreate => {
            let program: &mut CgroupSock = program.try_into().map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(cgroup, mode).map_err(one_line)?;
            keep(pins, plan, || program.take_link(link))?;
        }
        Hook::SockOps => {
            let program: &mut SockOps = program.try_into().map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(cgroup, mode).map_err(one_line)?;
            keep(pins, plan, || program.take_link(link))?;
        }
        Hook::Connect => {
            let program: &mut CgroupSockAddr = program.try_into().map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(cgroup, mode).map_err(one_line)?;
            keep(pins, plan, || program.take_link(link))?;
        }
        Hook::ConnectExit => {
            let program: &mut TracePoint = program.try_into().map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = attach_connect_exit(program)?;
            if let Err(reason) = keep(pins, plan, || program.take_link(link)) {
                // Before 5.15 there is no such link: this one ends with the process, and the next attaches the program again.
                tracing::info!(program = plan.name, "only while an agent runs: {reason}");
                attach_connect_exit(program)?;
                if let Some(pins) = pins {
                    program.pin(pins.program_path(plan.name)).map_err(one_line)?;
                }
            }
        }
        Hook::Iterator(kind) => {
            if !settings.walk {
                return Err("iterators cannot reach socket storage before kernel 5.11".to_owned());
            }
            let program: &mut Iter = program.try_into().map_err(one_line)?;
            program.load(kind, needs_btf()?).map_err(one_line)?;
            if pins.is_some() {
                let link = program.attach().map_err(one_line)?;
                keep(pins, plan, || program.take_link(link))?;
            }
        }
        Hook::Survey => {
            let program: &mut Iter = program.try_into().map_err(one_line)?;
            program.load("bpf_sk_storage_map", needs_btf()?).map_err(one_line)?;
            let link = iterators::link_over_map(ebpf, SURVEY, SOCKETS).map_err(one_line)?;
            if let Some(pins) = pins {
                over_map::pin(&link, &pins.link_path(plan.name)).map_err(one_line)?;
            }
        }
        Hook::SetState => {
            let program: &mut BtfTracePoint = program.try_into().map_err(one_line)?;
            program.load("inet_sock_set_state", needs_btf()?).map_err(one_line)?;
            let link = program.attach().map_err(one_line)?;
            keep(pins, plan, || program.take_link(link))?;
        }
        Hook::BtfTracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(one_line)?;
            program.load(name, needs_btf()?).map_err(one_line)?;
            let link = program.attach().map_err(one_line)?;
            keep(pins, plan, || program.take_link(link))?;
        }
    }
    Ok(())
}

/// Pins a link if links are to be pinned; else it lives as long as its program.
fn keep<L>(
    pins: Option<&Pins>,
    plan: &Plan,
    take: impl FnOnce() -> Result<L, ProgramError>,
) -> Result<(), String>
where
    L: TryInto<FdLink>,
{
    let Some(pins) = pins else { return Ok(()) };
    let link = take().map_err(one_line)?;
    let link = link.try_into().map_err(|_| "this kernel makes no link of it".to_owned())?;
    pins.keep_link(plan.name, link).map_err(|error| format!("{error:#}"))
}

/// An error and its causes in one line; of the verifier's log, the end that says why.
fn one_line(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    tracing::debug!(error = text, "program not attached");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    let epilogue = ["processed", "verification time", "stack depth"];
    let why = lines.rev().find(|line| !epilogue.iter().any(|start| line.starts_with(start)));
    match why {
        Some(why) => format!("{first}: {why}"),
        None => first,
    }
}
