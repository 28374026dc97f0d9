// SPDX-License-Identifier: GPL-2.0-only
/* TCP flows: begin and end by the socket's state, bytes from its own counters. No packet is looked
 * at. */
#include "tcp.bpf.h"

/* connect(), in the context of who called it. A socket may be used for several attempts, and its
 * counters are not all reset in between. */
static __always_inline void flow_connect(struct sock *sk, struct flow_state *state)
{
	struct flow_counts before = {};
	struct wire_actor owner = {};
	__u32 flags = FLOW_OWNED | FLOW_SYN;

	if (!flow_current_owner(&owner))
		flags |= FLOW_OWN;
	tcp_totals(sk, TCP_SYN_SENT, false, &before);
	bpf_spin_lock(&state->lock);
	state->flags = flags;
	state->owner = owner;
	state->reported = before;
	bpf_spin_unlock(&state->lock);
	state->exec_id = current_exec_id();
	state->cookie = bpf_get_socket_cookie(sk);
	flow_set_ends(state, sk);
}

static __always_inline void flow_listen(struct flow_state *state)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct row *row = row_of(task);
	struct wire_actor owner = {};
	__u32 flags = FLOW_LISTENER;

	if (!flow_current_owner(&owner))
		flags |= FLOW_OWN;
	bpf_spin_lock(&state->lock);
	state->flags = flags;
	state->owner = owner;
	bpf_spin_unlock(&state->lock);
	if (row)
		row_listens(row, task);
}

/* The handshake of a child is complete. It waits for its start record until somebody uses it, and
 * belongs to the listener's owner until then. */
static __always_inline void flow_accept(struct sock *sk, struct flow_state *state, __u64 cookie)
{
	const struct flow_counts none = {};

	bpf_spin_lock(&state->lock);
	state->flags = FLOW_INBOUND | (state->flags & FLOW_OWN);
	state->reported = none;
	bpf_spin_unlock(&state->lock);
	state->handed_over = 0;
	state->cookie = cookie;
	flow_set_ends(state, sk);
}

static __always_inline void flow_established(struct sock *sk, struct flow_state *state)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct flow_counts total = {};
	__u32 rtt_us;

	/* Both from SYN_SENT and, when both ends connect at once, from SYN_RECV. A clone of a
	 * listener still has the listener's cookie. */
	if (state->flags & FLOW_SYN && state->cookie == cookie) {
		flow_set_ends(state, sk);
		rtt_us = tcp_totals(sk, TCP_ESTABLISHED, true, &total);
		flow_report(state, &total, WIRE_FLOW_START, rtt_us);
	} else {
		flow_accept(sk, state, cookie);
	}
}

static __always_inline void flow_close(struct sock *sk, struct flow_state *state, int before)
{
	bool syn = state->flags & FLOW_SYN;
	struct flow_counts total = {};
	__u32 rtt_us;

	/* A listener, or a child whose handshake did not end. */
	if (!(state->flags & FLOW_PEER))
		return;
	rtt_us = tcp_totals(sk, before, syn, &total);
	if (before != TCP_SYN_SENT) {
		flow_end(state, &total, WIRE_FLOW_FINAL, rtt_us);
		return;
	}
	flow_set_ends(state, sk);
	flow_report(state, &total, WIRE_FLOW_FAILED, rtt_us);
}

/* void trace_inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)
 *
 * Called by inet_sk_state_store(), in the context of the task for connect() and listen(), often of
 * a softirq otherwise. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_flow_tcp_state, struct sock *sk, int before, int after)
{
	struct flow_state *state;
	__u64 create = BPF_SK_STORAGE_GET_F_CREATE;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_CLOSE)
		create = 0;
	else if (after != TCP_SYN_SENT && after != TCP_LISTEN && after != TCP_ESTABLISHED)
		return 0;
	state = bpf_sk_storage_get(&flows, sk, NULL, create);
	if (!state)
		return 0;
	switch (after) {
	case TCP_SYN_SENT:
		flow_connect(sk, state);
		break;
	case TCP_LISTEN:
		flow_listen(state);
		break;
	case TCP_ESTABLISHED:
		flow_established(sk, state);
		break;
	case TCP_CLOSE:
		flow_close(sk, state, before);
		break;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
