// SPDX-License-Identifier: GPL-2.0-only
/* What every open flow did, read by user space when a window closes. Written to the iterator's
 * file and not into a ring, so that no flood can displace it. */
#include "tcp.bpf.h"

/* Undoes flow_take(), for a record that did not fit: the iterator comes back to this socket. */
static __always_inline void flow_put_back(struct flow_state *state, const struct wire_flow *record)
{
	__u32 flags = 0;

	if (record->phase == WIRE_FLOW_START)
		flags = FLOW_STARTED;
	else if (record->phase == WIRE_FLOW_FINAL)
		flags = FLOW_ENDED;
	bpf_spin_lock(&state->lock);
	state->reported.bytes_out -= record->bytes_out;
	state->reported.bytes_in -= record->bytes_in;
	state->reported.packets_out -= record->packets_out;
	state->reported.packets_in -= record->packets_in;
	state->reported.retransmits -= record->retransmits;
	__sync_fetch_and_and(&state->flags, ~flags);
	bpf_spin_unlock(&state->lock);
}

/* False when the record has to wait for the reader. */
static __always_inline bool flow_write(struct seq_file *seq, struct flow_state *state,
				       const struct flow_counts *total, __u8 phase, __u32 rtt_us)
{
	struct wire_flow record = {};

	if (!flow_take(state, total, phase, &record))
		return true;
	flow_fill(&record, state, phase, rtt_us);
	header_fill(&record.header, WIRE_FLOW, sizeof(record));
	record.header.epoch = control.closing;
	if (!bpf_seq_write(seq, &record, sizeof(record)))
		return true;
	flow_put_back(state, &record);
	return false;
}

/* int bpf_iter_bpf_sk_storage_map(struct bpf_iter_meta *meta, struct bpf_map *map,
 *				   struct sock *sk, void *value)
 *
 * Sockets of all network namespaces. */
SEC("iter/bpf_sk_storage_map")
int on_flow_interim(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct flow_counts total = {};
	__u32 rtt_us = RTT_UNAVAILABLE;
	struct flow_state *state;
	__u8 phase;

	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&flows, sk, NULL, 0);
	if (!state || !(state->flags & FLOW_PEER) || !state->owner.tgid)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP) {
		int tcp = sk->__sk_common.skc_state;

		if (tcp == TCP_CLOSE || tcp == TCP_LISTEN || tcp == TCP_SYN_SENT)
			return 0;
		rtt_us = tcp_totals(sk, tcp, state->flags & FLOW_SYN, &total);
	} else {
		total = state->seen;
	}
	phase = state->flags & FLOW_STARTED ? WIRE_FLOW_INTERIM : WIRE_FLOW_START;
	return !flow_write(ctx->meta->seq, state, &total, phase, rtt_us);
}

/* int bpf_iter_bpf_map_elem(struct bpf_iter_meta *meta, struct bpf_map *map, void *key,
 *			     void *value)
 *
 * Further peers of unconnected sockets. One that was idle for a whole window ends, and leaves. */
SEC("iter/bpf_map_elem")
int on_flow_peer_interim(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flow_peer_key *source = ctx->key, key;
	struct flow_state *peer;
	struct flow_counts total;
	__u8 phase = WIRE_FLOW_START;

	if (!source)
		return 0;
	key = *source;
	peer = bpf_map_lookup_elem(&flow_peers, &key);
	if (!peer)
		return 0;
	total = peer->seen;
	if (peer->flags & FLOW_STARTED)
		phase = total.packets_out == peer->reported.packets_out &&
					total.packets_in == peer->reported.packets_in
				? WIRE_FLOW_FINAL
				: WIRE_FLOW_INTERIM;
	if (!flow_write(ctx->meta->seq, peer, &total, phase, RTT_UNAVAILABLE))
		return 1;
	if (peer->flags & FLOW_ENDED && !bpf_map_delete_elem(&flow_peers, &key))
		__sync_fetch_and_add(&flow_peer_count, -1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
