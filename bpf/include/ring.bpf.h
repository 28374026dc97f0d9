/* SPDX-License-Identifier: GPL-2.0-only */
/* Records into the ring of this CPU. No wakeups: user space drains on a timer. What finds the ring
 * full is charged to the thread's row. */
#ifndef HEDGEROW_RING_BPF_H
#define HEDGEROW_RING_BPF_H

#include "profile.bpf.h"

enum ring_priority {
	RING_COMMON,   /* only into the lower half, so that a noisy neighbour leaves room */
	RING_EVIDENCE, /* into the upper half, too, as far as its workload's share of that goes */
};

/* Of a ring, what one workload may put into the upper half in an epoch: a sixteenth, so that eight
 * of them have to flood it before a ninth loses any. */
#define RING_SHARE 16

/* What a workload has put there on this CPU. */
struct share {
	__u32 epoch;
	__u32 bytes;
};

/* By the number of the workload, of which at most 1,024 are given at a time. Those that have none
 * have one share together. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_WORKLOADS);
	__type(key, __u32);
	__type(value, struct share);
} shares __weak SEC(".maps");

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

static __always_inline bool ring_is_half_full(void *ring)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= ring_bytes / 2;
}

/* Takes from a workload's share; what doesn't fit is the workload's own loss, and counted. */
static __noinline bool share_take(const struct wire_actor *actor, __u32 size)
{
	__u32 number = workload_number(actor->cgroup_id, &actor->root) % MAX_WORKLOADS;
	__u32 epoch = control.clock.epoch;
	struct wire_stats *cpu;
	struct share *share = bpf_map_lookup_elem(&shares, &number);

	if (!share)
		return false;
	if (share->epoch != epoch) {
		share->bytes = 0;
		share->epoch = epoch;
	}
	if (share->bytes + size <= ring_bytes / RING_SHARE) {
		__sync_fetch_and_add(&share->bytes, size);
		return true;
	}
	cpu = cpu_stats();
	if (cpu)
		__sync_fetch_and_add(&cpu->shares_refused, 1);
	return false;
}

/* Whose record it is tells `actor`; NULL for one that the sensor itself needs. */
static __always_inline bool ring_has_room(void *ring, enum ring_priority priority,
					  const struct wire_actor *actor, __u32 size)
{
	if (priority == RING_EVIDENCE && !actor)
		return true;
	if (!ring_is_half_full(ring))
		return true;
	return priority == RING_EVIDENCE && share_take(actor, size);
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

/* Room for evidence of constant size with its header filled, or NULL. Loss is the caller's to
 * charge: a row that finds no room is not lost but spilled. */
static __always_inline void *ring_reserve(const struct wire_actor *actor, enum wire_kind kind,
					  __u64 size)
{
	void *ring = ring_of_cpu();

	if (!ring || !ring_has_room(ring, RING_EVIDENCE, actor, size))
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
		if (ring_is_half_full(ring))
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
static __always_inline bool ring_output(const struct wire_actor *actor, void *record, __u64 size,
					enum ring_priority priority)
{
	void *ring = ring_of_cpu();
	struct wire_stats *cpu = cpu_stats();

	if (!ring || !ring_has_room(ring, priority, actor, size) ||
	    bpf_ringbuf_output(ring, record, size, BPF_RB_NO_WAKEUP))
		return false;
	if (cpu)
		__sync_fetch_and_add(&cpu->records, 1);
	return true;
}

#endif
