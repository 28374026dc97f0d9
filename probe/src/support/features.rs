//! The features in use, each with the question that settles it.

use std::io;

use libbpf_rs::libbpf_sys as sys;
use serde::Serialize;

use super::load::{self, Tiny};

/// What is lost without a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Nothing can be observed.
    Required,
    /// A family of observations is missing or coarser.
    Sensing,
    /// A way to refuse is missing.
    Response,
}

/// One thing that a kernel may or may not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feature {
    pub name: &'static str,
    pub need: Need,
    pub available: bool,
    /// What it is for.
    pub purpose: &'static str,
    /// The kernel's answer, where it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What helps, where it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

struct Question {
    name: &'static str,
    need: Need,
    purpose: &'static str,
    hint: &'static str,
    ask: fn() -> io::Result<()>,
}

const OLD: &str = "needs a newer kernel; 6.1 and newer are tested";
const POLICY: &str = "a policy of the host forbids it; nothing to do in Hedgerow";

fn traced(attach: sys::bpf_attach_type, symbol: &'static str) -> io::Result<()> {
    let program = sys::BPF_PROG_TYPE_TRACING;
    Tiny { program, attach, symbol: Some(symbol), returns: 0 }.load().map(drop)
}

fn tracepoint(symbol: &'static str) -> io::Result<()> {
    traced(sys::BPF_TRACE_RAW_TP, symbol)
}

fn iterator(symbol: &'static str) -> io::Result<()> {
    traced(sys::BPF_TRACE_ITER, symbol)
}

/// Of a function of the kernel.
fn function(load: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if !hedgerow_bpf::attaches_to_functions() {
        return Err(io::Error::other("this kernel attaches no programs to its functions"));
    }
    load()
}

fn lsm(symbol: &'static str) -> io::Result<()> {
    let (program, attach) = (sys::BPF_PROG_TYPE_LSM, sys::BPF_LSM_MAC);
    function(|| Tiny { program, attach, symbol: Some(symbol), returns: 0 }.load().map(drop))
}

fn cgroup(program: sys::bpf_prog_type, attach: sys::bpf_attach_type) -> io::Result<()> {
    Tiny { program, attach, symbol: None, returns: 1 }.load().map(drop)
}

fn all(parts: impl IntoIterator<Item = io::Result<()>>) -> io::Result<()> {
    parts.into_iter().collect()
}

/// Whether the send and receive tracepoints of sockets exist and load.
pub(crate) fn socket_use_tracepoints() -> io::Result<()> {
    all([tracepoint("sock_send_length"), tracepoint("sock_recv_length")])
}

/// Whether the send and receive functions of sockets can be traced instead.
pub(crate) fn socket_use_fentry() -> io::Result<()> {
    all(["inet_sendmsg", "inet6_sendmsg", "inet_recvmsg", "inet6_recvmsg"]
        .map(|symbol| function(|| traced(sys::BPF_TRACE_FENTRY, symbol))))
}

fn send_signal() -> io::Result<()> {
    load::helper(sys::BPF_PROG_TYPE_RAW_TRACEPOINT, sys::BPF_FUNC_send_signal)
}

fn connect_hooks() -> io::Result<()> {
    use sys::{
        BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_UDP4_SENDMSG,
        BPF_CGROUP_UDP6_SENDMSG,
    };
    all([
        BPF_CGROUP_INET4_CONNECT,
        BPF_CGROUP_INET6_CONNECT,
        BPF_CGROUP_UDP4_SENDMSG,
        BPF_CGROUP_UDP6_SENDMSG,
    ]
    .map(|attach| cgroup(sys::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, attach)))
}

fn socket_hooks() -> io::Result<()> {
    all([sys::BPF_CGROUP_INET_SOCK_CREATE, sys::BPF_CGROUP_INET_SOCK_RELEASE]
        .map(|attach| cgroup(sys::BPF_PROG_TYPE_CGROUP_SOCK, attach)))
}

fn packet_hooks() -> io::Result<()> {
    all([sys::BPF_CGROUP_INET_INGRESS, sys::BPF_CGROUP_INET_EGRESS]
        .map(|attach| cgroup(sys::BPF_PROG_TYPE_CGROUP_SKB, attach)))
}

fn raw_tracepoint() -> io::Result<()> {
    let program = sys::BPF_PROG_TYPE_RAW_TRACEPOINT;
    Tiny { program, ..Tiny::default() }.load().map(drop)
}

const QUESTIONS: &[Question] = &[
    Question {
        name: "ring_buffer",
        need: Need::Required,
        purpose: "records from the kernel",
        hint: OLD,
        ask: || load::map_type(sys::BPF_MAP_TYPE_RINGBUF),
    },
    Question {
        name: "task_storage",
        need: Need::Required,
        purpose: "counts per thread",
        hint: OLD,
        ask: || load::map_type(sys::BPF_MAP_TYPE_TASK_STORAGE),
    },
    Question {
        name: "tracepoint_calls",
        need: Need::Required,
        purpose: "system calls (tp_btf/sys_exit, or raw_tp/sys_exit)",
        hint: "the kernel needs CONFIG_FTRACE_SYSCALLS and CONFIG_BPF_EVENTS",
        ask: || tracepoint("sys_exit").or_else(|_| raw_tracepoint()),
    },
    Question {
        name: "tracepoint_processes",
        need: Need::Required,
        purpose: "exec, fork and exit (tp_btf/sched_process_*)",
        hint: "the kernel needs CONFIG_BPF_EVENTS",
        ask: || {
            all(["sched_process_exec", "sched_process_fork", "sched_process_exit"].map(tracepoint))
        },
    },
    Question {
        name: "iterator_tasks",
        need: Need::Required,
        purpose: "reading the counts when a window closes (iter/task)",
        hint: OLD,
        ask: || iterator("task"),
    },
    Question {
        name: "tracepoint_uring",
        need: Need::Sensing,
        purpose: "io_uring requests, which make no system call",
        hint: "the kernel has no io_uring, or none that can be traced",
        ask: || tracepoint("io_uring_submit_req").or_else(|_| tracepoint("io_uring_submit_sqe")),
    },
    Question {
        name: "socket_storage",
        need: Need::Sensing,
        purpose: "flows: counts per socket",
        hint: OLD,
        ask: || load::map_type(sys::BPF_MAP_TYPE_SK_STORAGE),
    },
    Question {
        name: "tracepoint_sockets",
        need: Need::Sensing,
        purpose: "flows: TCP (tp_btf/inet_sock_set_state)",
        hint: OLD,
        ask: || tracepoint("inet_sock_set_state"),
    },
    Question {
        name: "cgroup_sockets",
        need: Need::Sensing,
        purpose: "flows: makers and ends of sockets (cgroup/sock_create, sock_release)",
        hint: "the kernel needs CONFIG_CGROUP_BPF",
        ask: socket_hooks,
    },
    Question {
        name: "cgroup_packets",
        need: Need::Sensing,
        purpose: "flows: UDP and raw sockets (cgroup_skb); cutting what stands",
        hint: "the kernel needs CONFIG_CGROUP_BPF",
        ask: packet_hooks,
    },
    Question {
        name: "iterator_sockets",
        need: Need::Sensing,
        purpose: "flows: open ones at each window (iter/bpf_sk_storage_map)",
        hint: OLD,
        ask: || all([iterator("bpf_sk_storage_map"), iterator("bpf_map_elem")]),
    },
    Question {
        name: "tracepoint_socket_use",
        need: Need::Sensing,
        purpose: "flows: who uses a socket (tp_btf/sock_send_length)",
        hint: "6.3 and newer; without it fentry serves, or a socket stays its maker's",
        ask: socket_use_tracepoints,
    },
    Question {
        name: "fentry",
        need: Need::Sensing,
        purpose: "tracing of functions, in place of missing tracepoints",
        hint: POLICY,
        ask: socket_use_fentry,
    },
    Question {
        name: "cgroup_connect",
        need: Need::Response,
        purpose: "refusing connects and datagrams (cgroup/connect4, sendmsg4 and for IPv6)",
        hint: "the kernel needs CONFIG_CGROUP_BPF",
        ask: connect_hooks,
    },
    Question {
        name: "lpm_trie",
        need: Need::Response,
        purpose: "refusing address prefixes",
        hint: OLD,
        ask: || load::map_type(sys::BPF_MAP_TYPE_LPM_TRIE),
    },
    Question {
        name: "send_signal",
        need: Need::Response,
        purpose: "killing what is not to run",
        hint: OLD,
        ask: send_signal,
    },
    Question {
        name: "lsm",
        need: Need::Response,
        purpose: "refusing exec, maps and sockets of other families (LSM hooks)",
        hint: "boot with `lsm=...,bpf`; where bpf is listed already, a policy forbids it",
        ask: || all(["bprm_check_security", "mmap_file", "socket_create"].map(lsm)),
    },
];

/// Asks the kernel for each.
pub(super) fn ask_all() -> Vec<Feature> {
    QUESTIONS
        .iter()
        .map(|question| {
            let answer = (question.ask)();
            let available = answer.is_ok();
            Feature {
                name: question.name,
                need: question.need,
                available,
                purpose: question.purpose,
                refusal: answer.err().map(|error| error.to_string()),
                hint: (!available).then_some(question.hint),
            }
        })
        .collect()
}
