//! What the kernel can do, found out once, and told to the programs as constants.

use aya::EbpfLoader;

use super::btf::KernelTypes;

/// `BPF_SOCK_OPS_STATE_CB_FLAG`, `…_RTT_CB_FLAG`, `…_WRITE_HDR_OPT_CB_FLAG` of `uapi/linux/bpf.h`. The last is asked
/// for because it comes with every segment that is sent, acknowledgements included; no option is written.
const STATE_CALLBACK: u32 = 1 << 2;
const RTT_CALLBACK: u32 = 1 << 3;
const EVERY_SEGMENT_CALLBACK: u32 = 1 << 6;

/// Fields whose offsets the programs need: name of the constant, structure, member.
const OFFSETS: [(&str, &str, &str); 28] = [
    ("OFFSET_SOCK_ERROR", "sock", "sk_err"),
    ("OFFSET_SOCK_FLAGS", "sock_common", "skc_flags"),
    ("OFFSET_SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("OFFSET_SOCK_FAMILY", "sock_common", "skc_family"),
    ("OFFSET_SOCK_STATE", "sock_common", "skc_state"),
    ("OFFSET_SOCK_LOCAL_PORT", "sock_common", "skc_num"),
    ("OFFSET_SOCK_PEER_PORT", "sock_common", "skc_dport"),
    ("OFFSET_SOCK_LOCAL4", "sock_common", "skc_rcv_saddr"),
    ("OFFSET_SOCK_PEER4", "sock_common", "skc_daddr"),
    ("OFFSET_SOCK_LOCAL6", "sock_common", "skc_v6_rcv_saddr"),
    ("OFFSET_SOCK_PEER6", "sock_common", "skc_v6_daddr"),
    ("OFFSET_SOCK_NET", "sock_common", "skc_net"),
    ("OFFSET_NET_COOKIE", "net", "net_cookie"),
    ("OFFSET_SOCK_ULP_DATA", "inet_connection_sock", "icsk_ulp_data"),
    ("OFFSET_SUBFLOW_PARENT", "mptcp_subflow_context", "conn"),
    ("OFFSET_TCP_BYTES_RECEIVED", "tcp_sock", "bytes_received"),
    ("OFFSET_TCP_BYTES_ACKED", "tcp_sock", "bytes_acked"),
    ("OFFSET_TCP_SEGMENTS_SENT", "tcp_sock", "segs_out"),
    ("OFFSET_TCP_SEGMENTS_RECEIVED", "tcp_sock", "segs_in"),
    ("OFFSET_TCP_RETRANSMITS", "tcp_sock", "total_retrans"),
    ("OFFSET_TCP_SND_UNA", "tcp_sock", "snd_una"),
    ("OFFSET_TCP_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("OFFSET_TCP_DATA_SEGMENTS_RECEIVED", "tcp_sock", "data_segs_in"),
    ("OFFSET_SOCKET_SK", "socket", "sk"),
    ("OFFSET_TASK_PID", "task_struct", "pid"),
    ("OFFSET_TASK_TGID", "task_struct", "tgid"),
    ("OFFSET_TASK_LEADER", "task_struct", "group_leader"),
    ("OFFSET_TASK_START", "task_struct", "start_boottime"),
];

/// What the programs are told.
pub struct Settings {
    values: Vec<(&'static str, u32)>,
    /// Whether an iterator keeps live sockets up to date, rather than events.
    pub walk: bool,
    /// Whether connections older than the agent can be given callbacks (6.12 and later).
    pub adopt: bool,
    /// Whether the subflows of an MPTCP socket lead to it.
    pub mptcp: bool,
    /// Whether the kernel adds up how long each task waits for a processor.
    pub waits: bool,
}

impl Settings {
    /// Finds out what this kernel can do. `walk` says whether to use iterators if there are any,
    /// `whole_system` whether the cgroup to watch is the root.
    #[must_use]
    pub fn of_kernel(types: Option<&KernelTypes>, walk: bool, whole_system: bool) -> Self {
        let has = |name| types.is_some_and(|types| types.has_function(name));
        let has_structure = |name| types.is_some_and(|types| types.has_structure(name));
        // Socket storage came to tracing programs, iterators among them, with 5.11; the iterator takes the
        // socket's lock, and has this structure, since 5.15.
        let walk = walk && has("bpf_sk_storage_get_tracing") && has_structure("bpf_tcp_iter_state");
        let adopt =
            walk && types.is_some_and(|types| types.has_enumerator("TCP_BPF_SOCK_OPS_CB_FLAGS"));
        // Without MPTCP in the kernel the helper is there, but not the type that it returns.
        let mptcp = has("bpf_skc_to_mptcp_sock") && has_structure("mptcp_sock");
        let callbacks =
            STATE_CALLBACK | RTT_CALLBACK | if walk { 0 } else { EVERY_SEGMENT_CALLBACK };
        let mut values = vec![
            ("MPTCP", u32::from(mptcp)),
            ("CALLBACKS", callbacks),
            ("LISTENER_CALLBACKS", STATE_CALLBACK),
            ("FLUSH_ON_EVENT", u32::from(!walk)),
            ("ADOPT_CALLBACKS", u32::from(adopt)),
            ("RUNQUEUE_FILTER", u32::from(!whole_system)),
        ];
        if let Some(types) = types {
            for (constant, structure, member) in OFFSETS {
                values.push((constant, types.offset(structure, member).unwrap_or(0)));
            }
            let state = types
                .offset("task_struct", "__state")
                .or_else(|| types.offset("task_struct", "state"));
            values.push(("OFFSET_TASK_STATE", state.unwrap_or(0)));
        }
        let waits = types.and_then(waits);
        if let Some([count, ns]) = waits {
            values.extend([("OFFSET_TASK_WAITS", count), ("OFFSET_TASK_WAITED", ns)]);
        }
        Self { values, walk, adopt, mptcp, waits: waits.is_some() }
    }

    /// What of it the agent itself has to know, for the next one.
    #[must_use]
    pub fn bits(&self) -> u64 {
        u64::from(self.walk)
            | u64::from(self.adopt) << 1
            | u64::from(self.mptcp) << 2
            | u64::from(self.waits) << 3
    }

    /// What an earlier agent told the programs.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let is = |bit: u32| bits >> bit & 1 == 1;
        Self { values: Vec::new(), walk: is(0), adopt: is(1), mptcp: is(2), waits: is(3) }
    }

    /// Writes the constants into a loader.
    pub fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in &self.values {
            // A constant that no program uses is not in the object: that is fine.
            loader.override_global(name, value, false);
        }
    }
}

/// Where the kernel adds up how often, and for how many ns, a task has waited for a processor (`CONFIG_SCHED_INFO`).
fn waits(types: &KernelTypes) -> Option<[u32; 2]> {
    let sums = types.offset("task_struct", "sched_info")?;
    let within = |member| Some(sums + types.offset("sched_info", member)?);
    Some([within("pcount")?, within("run_delay")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_agent_knows_what_this_one_told_the_programs() {
        for bits in 0..16 {
            assert_eq!(Settings::from_bits(bits).bits(), bits);
        }
    }
}
