/* SPDX-License-Identifier: GPL-2.0-only */
/* What is kept of a socket's traffic, and how a record of it is made. */
#ifndef HEDGEROW_FLOW_BPF_H
#define HEDGEROW_FLOW_BPF_H

#include "rows.bpf.h"
#include "sock.bpf.h"

#define MAX_FLOW_PEERS 16384 /* of unconnected sockets, beside each socket's first */

#define RTT_UNAVAILABLE (~0U)

enum flow_flags {
	FLOW_OWNED = 1,   /* the owner has used the socket, before it was only its maker's */
	FLOW_STARTED = 2, /* the start was reported, or was before our time */
	FLOW_ENDED = 4,
	FLOW_INBOUND = 8,
	FLOW_PEER = 16, /* peer and local address are known */
	FLOW_SYN = 32,  /* bytes_acked holds the SYN that opened it */
	FLOW_LISTENER = 64,
	FLOW_OWN = 128, /* Hedgerow's own */
};

struct flow_counts {
	__u64 bytes_out;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 packets_in;
	__u64 retransmits;
};

struct flow_ends {
	__u8 local_address[16];
	__u8 peer_address[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 protocol;
};

struct flow_peer_key {
	__u64 cookie;
	__u8 address[16];
	__u16 port;
	__u16 protocol;
	__u32 reserved;
};

/* Of one socket, or of one peer of an unconnected socket. `lock` guards `owner` and `reported`, so
 * that two reporters (say the iterator and the close) never take the same difference twice; flags
 * are set with atomic operations. */
struct flow_state {
	struct bpf_spin_lock lock;
	__u32 flags;
	__u32 netns;
	__u32 handed_over; /* epoch of the last change of owner */
	__u64 cookie;
	__u64 exec_id; /* the owner's task_struct::self_exec_id: it is another program after exec */
	struct wire_actor owner;
	struct flow_ends ends;
	struct flow_counts seen; /* what cgroup_skb counted; TCP counts in tcp_sock */
	struct flow_counts reported;
	struct flow_peer_key fresh; /* a further peer whose start is due; cookie 0: none */
};

/* CLONE: an accepted socket starts with its listener's owner. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct flow_state);
} flows __weak SEC(".maps");

/* The second and later peers of unconnected sockets. Not an LRU, which forgets in silence: a peer
 * that is refused is counted in the socket's own flow, under the unspecified peer. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_FLOW_PEERS);
	__type(key, struct flow_peer_key);
	__type(value, struct flow_state);
} flow_peers __weak SEC(".maps");

/* Entries of flow_peers. */
__s64 flow_peer_count __weak = 0;

/* The running task as the owner of what it uses. False for Hedgerow's own. */
static __always_inline bool flow_current_owner(struct wire_actor *owner)
{
	struct row *row = row_of(bpf_get_current_task_btf());

	if (!row)
		return true;
	hook_hit(row, WIRE_HOOK_FLOW);
	*owner = row->actor;
	return !row_is_skipped(row);
}

static __always_inline void flow_set(struct flow_state *state, __u32 flags)
{
	__sync_fetch_and_or(&state->flags, flags);
}

/* A total that was read before another reporter's says nothing new. */
static __always_inline __u64 flow_since(__u64 total, __u64 *reported)
{
	__u64 before = *reported;

	if (total <= before)
		return 0;
	*reported = total;
	return total - before;
}

/* The same for counters of 32 bits, which wrap. */
static __always_inline __u64 flow_since32(__u32 total, __u64 *reported)
{
	__s32 difference = total - (__u32)*reported;

	if (difference <= 0)
		return 0;
	*reported = total;
	return difference;
}

/* Moves what was not reported yet from `state` to `record`; false when there is nothing to say. */
static __always_inline bool flow_take(struct flow_state *state, const struct flow_counts *total,
				      __u8 phase, struct wire_flow *record)
{
	struct flow_counts *reported = &state->reported;
	__u32 flags = 0;
	bool wanted = false;

	if (phase == WIRE_FLOW_START)
		flags = FLOW_STARTED;
	else if (phase != WIRE_FLOW_INTERIM)
		flags = FLOW_ENDED;

	bpf_spin_lock(&state->lock);
	if (!(state->flags & (FLOW_ENDED | FLOW_OWN | flags))) {
		record->actor = state->owner;
		record->bytes_out = flow_since(total->bytes_out, &reported->bytes_out);
		record->bytes_in = flow_since(total->bytes_in, &reported->bytes_in);
		record->packets_out = flow_since32(total->packets_out, &reported->packets_out);
		record->packets_in = flow_since32(total->packets_in, &reported->packets_in);
		record->retransmits = flow_since32(total->retransmits, &reported->retransmits);
		flow_set(state, flags);
		/* A window in which nothing happened on the wire is no report. */
		wanted = flags || record->packets_out || record->packets_in || record->bytes_out ||
			 record->bytes_in;
	}
	bpf_spin_unlock(&state->lock);
	return wanted;
}

static __always_inline void flow_fill(struct wire_flow *record, const struct flow_state *state,
				      __u8 phase, __u32 rtt_us)
{
	record->cookie = state->cookie;
	__builtin_memcpy(record->local_address, state->ends.local_address, 16);
	__builtin_memcpy(record->peer_address, state->ends.peer_address, 16);
	record->local_port = state->ends.local_port;
	record->peer_port = state->ends.peer_port;
	record->phase = phase;
	record->protocol = state->ends.protocol;
	record->inbound = !!(state->flags & FLOW_INBOUND);
	record->reserved = 0;
	record->rtt_us = rtt_us;
	record->netns = state->netns;
	record->reserved2 = 0;
}

/* One record was lost of an actor whose row is not at hand: it is charged to its program, so that a
 * flood of its own makes nobody else's evidence incomplete. */
static __noinline int actor_lost(const struct wire_actor *actor)
{
	struct wire_counts *sums = NULL;
	struct wire_stats *cpu;

	if (actor->tgid)
		sums = spill_sums(actor, control.clock.epoch);
	if (!sums) {
		ring_lost(NULL);
		return 0;
	}
	cpu = cpu_stats();
	if (cpu)
		__sync_fetch_and_add(&cpu->lost, 1);
	__sync_fetch_and_add(&sums->lost, 1);
	return 0;
}

/* Reports into the ring. What finds no room is one lost record; its counts stay and go with the
 * flow's next one, unless it was the last. */
static __always_inline void flow_report(struct flow_state *state, const struct flow_counts *total,
					__u8 phase, __u32 rtt_us)
{
	struct wire_flow *record = ring_reserve(&state->owner, WIRE_FLOW, sizeof(*record));

	if (!record) {
		if (!(state->flags & (FLOW_ENDED | FLOW_OWN)))
			actor_lost(&state->owner);
		return;
	}
	if (!flow_take(state, total, phase, record)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	flow_fill(record, state, phase, rtt_us);
	ring_submit(record);
}

/* The last report, with the start before it where that is still due. */
static __always_inline void flow_end(struct flow_state *state, const struct flow_counts *total,
				     __u8 phase, __u32 rtt_us)
{
	const struct flow_counts none = {};

	if (!(state->flags & FLOW_STARTED))
		flow_report(state, &none, WIRE_FLOW_START, rtt_us);
	flow_report(state, total, phase, rtt_us);
}

/* Ends and namespace of a connected socket. The local port comes from inet_sport, which outlives
 * skc_num when the port is given back. */
static __always_inline void flow_set_ends(struct flow_state *state, struct sock *sk)
{
	__be16 port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);

	if (sk->__sk_common.skc_family == AF_INET6) {
		BPF_CORE_READ_INTO(&state->ends.local_address, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&state->ends.peer_address, sk, __sk_common.skc_v6_daddr);
	} else {
		map_v4(state->ends.local_address, sk->__sk_common.skc_rcv_saddr);
		map_v4(state->ends.peer_address, sk->__sk_common.skc_daddr);
	}
	state->ends.local_port = bpf_ntohs(port);
	state->ends.peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	state->ends.protocol = sk->sk_protocol;
	state->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	flow_set(state, FLOW_PEER);
}

#endif
