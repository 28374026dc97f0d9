/* SPDX-License-Identifier: GPL-2.0-only */
/* Records into the ring of this CPU. No wakeups: user space drains on a timer. What finds the ring
 * full is charged to the thread's row. */
#ifndef HEDGEROW_RING_BPF_H
#define HEDGEROW_RING_BPF_H

#include "state.bpf.h"

enum ring_priority {
	RING_COMMON,   /* only into the lower half, so that a noisy neighbour leaves room */
	RING_EVIDENCE, /* as long as there is room */
};

static __always_inline void *ring_of_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&rings, &cpu);
}

/* What a thread may put into the ring before it looks again how full that is: 1 KiB. */
#define RING_RUN 16

/* One record was lost; `row` may be NULL. */
static __always_inline void ring_lost(struct row *row)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->lost, 1);
	if (row)
		row->buckets[row->seen.epoch & 1].counts.lost++;
	else if (cpu)
		__sync_fetch_and_add(&cpu->uncharged, 1);
}

static __always_inline bool ring_has_room(void *ring, enum ring_priority priority)
{
	return priority == RING_EVIDENCE ||
	       bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < ring_bytes / 2;
}

static __always_inline void header_fill(struct wire_header *header, enum wire_kind kind, __u16 size)
{
	header->kind = kind;
	header->size = size;
	header->epoch = control.clock.epoch;
	header->time_boot_ns = bpf_ktime_get_boot_ns();
}

static __always_inline void *ring_take(void *ring, enum wire_kind kind, __u64 size)
{
	struct wire_header *header = bpf_ringbuf_reserve(ring, size, 0);

	if (header)
		header_fill(header, kind, size);
	return header;
}

/* Room for a record of constant size with its header filled, or NULL. Loss is the caller's to
 * charge: a row that finds no room is not lost but spilled. */
static __always_inline void *ring_reserve(enum wire_kind kind, __u64 size,
					  enum ring_priority priority)
{
	void *ring = ring_of_cpu();

	if (!ring || !ring_has_room(ring, priority))
		return NULL;
	return ring_take(ring, kind, size);
}

/* The same for a thread's many common records: it looks for room once for RING_RUN of them. */
static __always_inline void *ring_reserve_run(struct row *row, enum wire_kind kind, __u64 size)
{
	void *ring = ring_of_cpu();

	if (!ring)
		return NULL;
	if (!row->run) {
		if (!ring_has_room(ring, RING_COMMON))
			return NULL;
		row->run = RING_RUN;
	}
	row->run--;
	return ring_take(ring, kind, size);
}

static __always_inline void ring_submit(void *record)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->records, 1);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* Copies a record of variable size, with its header filled by the caller. */
static __always_inline bool ring_output(void *record, __u64 size, enum ring_priority priority)
{
	void *ring = ring_of_cpu();
	struct wire_stats *cpu = cpu_stats();

	if (!ring || !ring_has_room(ring, priority) ||
	    bpf_ringbuf_output(ring, record, size, BPF_RB_NO_WAKEUP))
		return false;
	if (cpu)
		__sync_fetch_and_add(&cpu->records, 1);
	return true;
}

#endif
