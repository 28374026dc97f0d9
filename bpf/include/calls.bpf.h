/* SPDX-License-Identifier: GPL-2.0-only */
/* Classifying and counting one call; event::calls does the same in Rust, bit for bit. */
#ifndef HEDGEROW_CALLS_BPF_H
#define HEDGEROW_CALLS_BPF_H

#include "grams.bpf.h"

#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516
#define MAX_ERRNO 4095

struct call {
	__s64 result;
	__s32 number; /* as the task used it; io_uring: the opcode */
	bool compat;
	bool uring;
	struct io_kiocb *request; /* io_uring */
};

static __noinline int call_uncounted(void)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->calls_uncounted, 1);
	return 0;
}

static __always_inline struct wire_call_info call_info(const struct call *call)
{
	struct wire_call_info info = {.code = WIRE_CODE_ODD, .class = WIRE_CLASS_ODD};
	__u32 number = call->number;

	if (call->uring) {
		if (number < 64)
			info = *(const struct wire_call_info *)&calls_uring[number];
		return info;
	}
	if (!call->compat) {
		if (number == (__u32)-1)
			number = NR_RT_SIGRETURN;
		if (number < WIRE_TABLE_SIZE)
			info = *(const struct wire_call_info *)&calls_native[number];
		return info;
	}
	if (number == (__u32)-1)
		info = *(const struct wire_call_info *)&calls_native[NR_RT_SIGRETURN];
	else if (number < WIRE_TABLE_SIZE)
		info = *(const struct wire_call_info *)&calls_compat[number];
	info.class = WIRE_CLASS_COMPAT;
	return info;
}

/* One of the full stream. */
static __always_inline void call_raw(struct row *row, const struct call *call, bool streamed)
{
	struct wire_raw *raw = ring_reserve_run(row, WIRE_RAW, sizeof(*raw));

	if (!raw) {
		ring_lost(row);
		return;
	}
	raw->header.epoch = row->seen.epoch;
	raw->start_boot_ns = row->actor.start_boot_ns;
	raw->cgroup_id = row->actor.cgroup_id;
	raw->program_id = row->actor.program_id;
	raw->result = call->result;
	raw->tgid = row->actor.tgid;
	raw->tid = row->actor.tid;
	raw->number = call->number;
	raw->flags = (call->compat ? WIRE_CALL_COMPAT : 0) | (call->uring ? WIRE_CALL_URING : 0) |
		     (row->history & HISTORY_MASK ? 0 : WIRE_CALL_FRESH) |
		     (streamed ? WIRE_CALL_STREAMED : 0) |
		     (row->flags & ROW_PROOF ? WIRE_CALL_PROOF : 0);
	raw->slot = row->actor.slot;
	ring_submit(raw);
}

/* The kernel will make the call again, unless a signal's handler says that it shall not: neither a
 * call nor an error. What it does may go on all the same, as a connection does that is being made.
 */
static __always_inline bool call_restarts(const struct call *call)
{
	return call->number != -1 && call->result <= -ERESTARTSYS &&
	       call->result >= -ERESTART_RESTARTBLOCK;
}

/* Counts a call that doesn't restart, takes it into the history and checks its n-grams. */
static __always_inline void call_count(struct row *row, const struct call *call,
				       struct wire_call_info info)
{
	struct wire_counts *counts = &row_bucket(row)->counts;

	counts->calls++;
	if (call->number != -1 && call->result < 0 && call->result >= -MAX_ERRNO)
		counts->errors++;
	if (info.flags & WIRE_INFO_FORK && !call->result) {
		info.code = WIRE_CODE_BORN;
		if (!call->compat)
			info.class = WIRE_CLASS_BORN;
	}
	counts->classes[info.class & (WIRE_CLASSES - 1)]++;
	if (!info.code)
		return;
	if (!history_push(&row->history, info.code, call->compat)) {
		counts->collapsed++;
		return;
	}
	grams_check(row, counts);
}

#endif
