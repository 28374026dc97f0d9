// SPDX-License-Identifier: GPL-2.0-only
/* Whose socket it is: its maker's, until somebody uses it. */
#include "tcp.bpf.h"

/* int __cgroup_bpf_run_filter_sk(struct sock *sk, enum cgroup_bpf_attach_type atype)
 *
 * At inet_create(), in the maker's context. Task storage can't be read here before 6.13, so the
 * program is left to the first use, or to user space. */
SEC("cgroup/sock_create")
int on_flow_create(struct bpf_sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct flow_state *state;

	state = bpf_sk_storage_get(&flows, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return 1;
	state->cookie = bpf_get_socket_cookie(sk);
	state->netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	state->owner.start_boot_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	state->owner.cgroup_id = bpf_get_current_cgroup_id();
	state->owner.tgid = pid_tgid >> 32;
	state->owner.tid = pid_tgid;
	state->owner.flags = WIRE_ACTOR_UNKNOWN;
	if (state->owner.tgid == own_tgid)
		flow_set(state, FLOW_OWN);
	return 1;
}

/* A socket that nobody saw being made is older than the sensor: what it carried until now is not
 * ours to report, nor is its start. Which end opened it is a guess by the port. */
static __always_inline void flow_adopt(struct sock *sk, struct flow_state *state)
{
	state->cookie = bpf_get_socket_cookie(sk);
	flow_set(state, FLOW_STARTED);
	if (sk->sk_protocol != IPPROTO_TCP)
		return;
	tcp_totals(sk, sk->__sk_common.skc_state, false, &state->reported);
	flow_set_ends(state, sk);
	if (state->ends.local_port < state->ends.peer_port)
		flow_set(state, FLOW_INBOUND);
}

static __always_inline __u32 flow_totals(struct sock *sk, struct flow_state *state,
					 struct flow_counts *total)
{
	if (sk->sk_protocol == IPPROTO_TCP)
		return tcp_totals(sk, sk->__sk_common.skc_state, state->flags & FLOW_SYN, total);
	*total = state->seen;
	return RTT_UNAVAILABLE;
}

/* Gives the flow to the running task, which may be its previous user after an exec. What that one
 * did is reported first, at most once in an epoch: processes that share a socket must not flood
 * the ring. */
static __always_inline void flow_hand_over(struct sock *sk, struct flow_state *state, __u64 sent,
					   __u64 received)
{
	struct flow_counts total = {};
	struct wire_actor owner = {};
	__u32 rtt_us;

	if (state->flags & FLOW_OWNED) {
		if (state->handed_over == control.clock.epoch)
			return;
		state->handed_over = control.clock.epoch;
		rtt_us = flow_totals(sk, state, &total);
		if (sk->sk_protocol == IPPROTO_TCP)
			tcp_without(sk, &total, sent, received);
		if (state->flags & FLOW_PEER)
			flow_report(state, &total, WIRE_FLOW_INTERIM, rtt_us);
	}
	if (!flow_current_owner(&owner))
		flow_set(state, FLOW_OWN);
	bpf_spin_lock(&state->lock);
	state->owner = owner;
	bpf_spin_unlock(&state->lock);
	state->exec_id = current_exec_id();
	flow_set(state, FLOW_OWNED);
}

static __always_inline void flow_start_fresh(struct flow_state *state)
{
	struct flow_peer_key key = state->fresh;
	struct flow_state *peer;

	state->fresh.cookie = 0;
	peer = bpf_map_lookup_elem(&flow_peers, &key);
	if (peer)
		flow_report(peer, &peer->seen, WIRE_FLOW_START, RTT_UNAVAILABLE);
}

/* The running task sent or received so many bytes, or (both 0) is about to. */
static __always_inline void flow_used(struct sock *sk, __u64 sent, __u64 received)
{
	struct flow_counts total = {};
	struct flow_state *state;
	__u32 rtt_us;

	if (!is_inet(sk) || sk->__sk_common.skc_state == TCP_LISTEN)
		return;
	if (sk->sk_protocol == IPPROTO_MPTCP)
		return;
	state = bpf_sk_storage_get(&flows, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		return;
	if (!state->cookie)
		flow_adopt(sk, state);
	if (!state->netns)
		state->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (!(state->flags & FLOW_OWNED) || state->exec_id != current_exec_id() ||
	    state->owner.tgid != (__u32)(bpf_get_current_pid_tgid() >> 32))
		flow_hand_over(sk, state, sent, received);
	if (state->fresh.cookie)
		flow_start_fresh(state);
	if (state->flags & FLOW_PEER && !(state->flags & (FLOW_STARTED | FLOW_ENDED | FLOW_OWN))) {
		rtt_us = flow_totals(sk, state, &total);
		flow_report(state, &total, WIRE_FLOW_START, rtt_us);
	}
}

/* void trace_sock_send_length(struct sock *sk, int ret, int flags), 6.3 and newer */
SEC("tp_btf/sock_send_length")
int BPF_PROG(on_flow_send, struct sock *sk, int result)
{
	flow_used(sk, result > 0 ? result : 0, 0);
	return 0;
}

/* void trace_sock_recv_length(struct sock *sk, int ret, int flags), 6.3 and newer */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_flow_recv, struct sock *sk, int result)
{
	flow_used(sk, 0, result > 0 ? result : 0);
	return 0;
}

/* Where these tracepoints are missing:
 * int inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size) */
SEC("fentry/inet_sendmsg")
int BPF_PROG(on_flow_inet_sendmsg, struct socket *sock)
{
	flow_used(sock->sk, 0, 0);
	return 0;
}

/* int inet6_sendmsg(struct socket *sock, struct msghdr *msg, size_t size) */
SEC("fentry/inet6_sendmsg")
int BPF_PROG(on_flow_inet6_sendmsg, struct socket *sock)
{
	flow_used(sock->sk, 0, 0);
	return 0;
}

/* int inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags) */
SEC("fentry/inet_recvmsg")
int BPF_PROG(on_flow_inet_recvmsg, struct socket *sock)
{
	flow_used(sock->sk, 0, 0);
	return 0;
}

/* int inet6_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags) */
SEC("fentry/inet6_recvmsg")
int BPF_PROG(on_flow_inet6_recvmsg, struct socket *sock)
{
	flow_used(sock->sk, 0, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
