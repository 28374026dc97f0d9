/* SPDX-License-Identifier: GPL-2.0-only */
/* Classifying and counting one call; event::calls does the same in Rust, bit for bit. */
#ifndef HEDGEROW_CALLS_BPF_H
#define HEDGEROW_CALLS_BPF_H

#include "rows.bpf.h"

#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516
#define MAX_ERRNO 4095

/* The newest six codes of nine bits, the newest lowest; 0 is "none yet". */
#define HISTORY_BITS 9
#define HISTORY_MASK ((1ULL << 54) - 1)
#define HISTORY_COMPAT (1ULL << 62)

struct call {
	__s64 result;
	__s32 number; /* as the task used it; io_uring: the opcode */
	bool compat;
};

static __noinline int call_uncounted(void)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->calls_uncounted, 1);
	return 0;
}

/* Pushes a code; false where it repeats the one before. 32-bit calls are a stream of their own. */
static __always_inline bool history_push(__u64 *history, __u16 code, bool compat)
{
	__u64 stream = compat ? HISTORY_COMPAT : 0;
	__u64 old = *history;

	if ((old & HISTORY_COMPAT) != stream)
		old = stream;
	if ((old & ((1 << HISTORY_BITS) - 1)) == code)
		return false;
	*history = (((old << HISTORY_BITS) | code) & HISTORY_MASK) | stream;
	return true;
}

static __always_inline void call_count(struct row *row, const struct call *call)
{
	struct wire_counts *counts = &row_bucket(row)->counts;
	struct wire_call_info info;
	__s32 number = call->number;

	if (number == -1) {
		number = WIRE_SIGRETURN;
	} else if (call->result < 0 && call->result >= -MAX_ERRNO) {
		if (call->result <= -ERESTARTSYS && call->result >= -ERESTART_RESTARTBLOCK)
			return;
		counts->errors++;
	}
	(void)info;
	counts->classes[number & 63]++;
	counts->calls++;
}

#endif
