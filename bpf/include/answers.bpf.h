/* SPDX-License-Identifier: GPL-2.0-only */
/* Copies of what name servers answer, so that user space can tell by which name an address was
 * asked for. Whoever sends from port 53 says what he likes: all of it is claimed. */
#ifndef HEDGEROW_ANSWERS_BPF_H
#define HEDGEROW_ANSWERS_BPF_H

#include "flow.bpf.h"

#define DNS_PORT 53
#define DNS_HEADER 12
#define MAX_ANSWERS 128 /* that one CPU copies in an epoch */

/* Wakes its reader. When full: the answer is not copied, and counted. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 128 << 10);
} answers __weak SEC(".maps");

struct answer_budget {
	__u32 epoch;
	__u32 used;
};

/* A softirq may interrupt another's update: one answer more or less doesn't matter. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer_budget);
} answer_budgets __weak SEC(".maps");

static __always_inline bool answer_token(void)
{
	__u32 zero = 0, epoch = control.clock.epoch;
	struct answer_budget *budget = bpf_map_lookup_elem(&answer_budgets, &zero);

	if (!budget)
		return false;
	if (budget->epoch != epoch) {
		budget->epoch = epoch;
		budget->used = 0;
	}
	return __sync_fetch_and_add(&budget->used, 1) < MAX_ANSWERS;
}

static __always_inline void answer_refuse(void)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->answers_refused, 1);
}

/* Copies a datagram from port 53, whose payload begins at `start`. A longer one than the record
 * holds is not cut: what is cut can't be read. */
static __always_inline void answer_copy(struct __sk_buff *skb, __u32 start, __u32 netns)
{
	struct wire_answer *answer;
	__u32 size = skb->len - start;

	/* The verifier follows one register for size from here on. */
	asm volatile("" : "+r"(size));
	if (size < DNS_HEADER)
		return;
	if (size > WIRE_ANSWER_MAX || !answer_token()) {
		answer_refuse();
		return;
	}
	answer = bpf_ringbuf_reserve(&answers, sizeof(*answer), 0);
	if (!answer) {
		answer_refuse();
		return;
	}
	header_fill(&answer->header, WIRE_ANSWER, sizeof(*answer));
	answer->netns = netns;
	answer->size = size;
	answer->reserved = 0;
	if (bpf_skb_load_bytes(skb, start, answer->bytes, size))
		bpf_ringbuf_discard(answer, 0);
	else
		bpf_ringbuf_submit(answer, 0);
}

#endif
