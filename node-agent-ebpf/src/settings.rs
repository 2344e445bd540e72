//! What the agent finds out about the kernel and writes into read-only data before loading.
//! The verifier sees constants, so a branch on one that is off is never checked, and may use
//! helpers that this kernel lacks.

macro_rules! settings {
    ($($(#[$doc:meta])* $function:ident = $name:ident;)+) => { $(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        static $name: u32 = 0;

        $(#[$doc])*
        #[inline(always)]
        pub fn $function() -> u32 {
            // SAFETY: a static; volatile because the loader replaces its value.
            unsafe { core::ptr::read_volatile(&raw const $name) }
        }
    )+ };
}

settings! {
    /// 1 where `bpf_skc_to_mptcp_sock` exists (5.19 and later).
    mptcp = MPTCP;
    /// `bpf_sock_ops` callbacks to ask for on connections.
    callbacks = CALLBACKS;
    /// Callbacks to ask for on listeners.
    listener_callbacks = LISTENER_CALLBACKS;
    /// 1 where events bring live sockets up to date, because no iterator can.
    flush_on_event = FLUSH_ON_EVENT;
    /// 1 where `bpf_setsockopt` takes `TCP_BPF_SOCK_OPS_CB_FLAGS` in an iterator.
    adopt_callbacks = ADOPT_CALLBACKS;
    /// 1 when the run queue is measured for one cgroup only.
    runqueue_filter = RUNQUEUE_FILTER;

    // Offsets of fields, from the kernel's own BTF; 0 where it does not tell.
    /// `sock.sk_err`
    sock_error = OFFSET_SOCK_ERROR;
    /// `sock_common.skc_flags`
    sock_flags = OFFSET_SOCK_FLAGS;
    /// `sock.sk_protocol`
    sock_protocol = OFFSET_SOCK_PROTOCOL;
    /// `sock_common.skc_family`
    sock_family = OFFSET_SOCK_FAMILY;
    /// `sock_common.skc_state`
    sock_state = OFFSET_SOCK_STATE;
    /// `sock_common.skc_num`
    sock_local_port = OFFSET_SOCK_LOCAL_PORT;
    /// `sock_common.skc_dport`
    sock_peer_port = OFFSET_SOCK_PEER_PORT;
    /// `sock_common.skc_rcv_saddr`
    sock_local4 = OFFSET_SOCK_LOCAL4;
    /// `sock_common.skc_daddr`
    sock_peer4 = OFFSET_SOCK_PEER4;
    /// `sock_common.skc_v6_rcv_saddr`
    sock_local6 = OFFSET_SOCK_LOCAL6;
    /// `sock_common.skc_v6_daddr`
    sock_peer6 = OFFSET_SOCK_PEER6;
    /// `sock_common.skc_net`
    sock_net = OFFSET_SOCK_NET;
    /// `net.net_cookie`
    net_cookie = OFFSET_NET_COOKIE;
    /// `inet_connection_sock.icsk_ulp_data`
    sock_ulp_data = OFFSET_SOCK_ULP_DATA;
    /// `mptcp_subflow_context.conn`
    subflow_parent = OFFSET_SUBFLOW_PARENT;
    /// `tcp_sock.bytes_received`
    tcp_bytes_received = OFFSET_TCP_BYTES_RECEIVED;
    /// `tcp_sock.bytes_acked`
    tcp_bytes_acked = OFFSET_TCP_BYTES_ACKED;
    /// `tcp_sock.segs_out`
    tcp_segments_sent = OFFSET_TCP_SEGMENTS_SENT;
    /// `tcp_sock.segs_in`
    tcp_segments_received = OFFSET_TCP_SEGMENTS_RECEIVED;
    /// `tcp_sock.total_retrans`
    tcp_retransmits = OFFSET_TCP_RETRANSMITS;
    /// `tcp_sock.snd_una`
    tcp_snd_una = OFFSET_TCP_SND_UNA;
    /// `tcp_sock.write_seq`
    tcp_write_seq = OFFSET_TCP_WRITE_SEQ;
    /// `tcp_sock.data_segs_in`
    tcp_data_segments_received = OFFSET_TCP_DATA_SEGMENTS_RECEIVED;
    /// `socket.sk`
    socket_sk = OFFSET_SOCKET_SK;
    /// `task_struct.pid`
    task_pid = OFFSET_TASK_PID;
    /// `task_struct.tgid`
    task_tgid = OFFSET_TASK_TGID;
    /// `task_struct.__state` or, before 5.14, `state`
    task_state = OFFSET_TASK_STATE;
    /// `task_struct.group_leader`
    task_leader = OFFSET_TASK_LEADER;
    /// `task_struct.start_boottime`
    task_start = OFFSET_TASK_START;
    /// `task_struct.sched_info.pcount`
    task_waits = OFFSET_TASK_WAITS;
    /// `task_struct.sched_info.run_delay`
    task_waited = OFFSET_TASK_WAITED;
}
