/* SPDX-License-Identifier: GPL-2.0-only */
/* Payload and segments of a TCP socket, from the kernel's own counters. */
#ifndef HEDGEROW_TCP_BPF_H
#define HEDGEROW_TCP_BPF_H

#include "flow.bpf.h"

/* Our FIN has a sequence number, and it was acknowledged. */
static __always_inline bool tcp_fin_acked(const struct tcp_sock *tp, int state)
{
	return (state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
		state == TCP_LAST_ACK || state == TCP_TIME_WAIT) &&
	       tp->snd_una == tp->write_seq;
}

/* Totals of `sk` in (or, at its close, just out of) `state`. bytes_acked counts the SYN of an
 * active open and the FIN, bytes_received the FIN: neither is payload. */
static __always_inline __u32 tcp_totals(struct sock *sk, int state, bool syn,
					struct flow_counts *total)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 control_out, control_in;
	__u32 rtt_us;

	if (!tp)
		return RTT_UNAVAILABLE;
	control_out = syn + tcp_fin_acked(tp, state);
	control_in = (sk->__sk_common.skc_flags >> SOCK_DONE) & 1;
	total->bytes_out = tp->bytes_acked > control_out ? tp->bytes_acked - control_out : 0;
	total->bytes_in = tp->bytes_received > control_in ? tp->bytes_received - control_in : 0;
	total->packets_out = tp->segs_out;
	total->packets_in = tp->segs_in;
	total->retransmits = tp->total_retrans;
	rtt_us = tp->srtt_us >> 3;
	return rtt_us ?: RTT_UNAVAILABLE;
}

/* Takes the payload of one send or receive, just done, back out of `total`: of what was sent,
 * that part which is acknowledged already. */
static __always_inline void tcp_without(struct sock *sk, struct flow_counts *total, __u64 sent,
					__u64 received)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 unacked = tp ? tp->write_seq - tp->snd_una : 0;
	__u64 acked = sent > unacked ? sent - unacked : 0;

	total->bytes_out -= acked < total->bytes_out ? acked : total->bytes_out;
	total->bytes_in -= received < total->bytes_in ? received : total->bytes_in;
}

#endif
