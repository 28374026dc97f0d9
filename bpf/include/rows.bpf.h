/* SPDX-License-Identifier: GPL-2.0-only */
/* A thread's row: found, made, brought up to the clock, and delivered. */
#ifndef HEDGEROW_ROWS_BPF_H
#define HEDGEROW_ROWS_BPF_H

#include "identity.bpf.h"
#include "profile.bpf.h"
#include "ring.bpf.h"

/* Sums of buckets that found a full ring. Full itself: `spilled_rest`, which names no program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_SPILLED);
	__type(key, struct wire_spill_key);
	__type(value, struct wire_counts);
} spilled __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct wire_counts);
} spilled_rest __weak SEC(".maps");

/* Source of empty counts: 296 bytes are too many for the stack of a deep call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wire_counts);
} no_counts __weak SEC(".maps");

static __always_inline bool counts_empty(const struct wire_counts *counts)
{
	return !counts->calls && !counts->lost && !counts->limited;
}

static __always_inline void counts_add(struct wire_counts *to, const struct wire_counts *from)
{
	__u32 *sum = (__u32 *)to;
	const __u32 *part = (const __u32 *)from;

	for (int i = 0; i < (int)(sizeof(*to) / sizeof(*sum)); i++)
		sum[i] += part[i];
}

/* The sums of an actor's program on this CPU. */
static __noinline struct wire_counts *spill_sums(const struct wire_actor *actor, __u32 epoch)
{
	struct wire_spill_key key = {
		.cgroup_id = actor->cgroup_id,
		.program_id = actor->program_id,
		.service = actor->root.service,
		.login_uid = actor->root.login_uid,
		.epoch = epoch,
		.slot = actor->slot,
	};
	struct wire_counts *sums, *none;
	__u32 index = 0;

	sums = bpf_map_lookup_elem(&spilled, &key);
	if (!sums) {
		none = bpf_map_lookup_elem(&no_counts, &index);
		if (none)
			bpf_map_update_elem(&spilled, &key, none, BPF_NOEXIST);
		sums = bpf_map_lookup_elem(&spilled, &key);
	}
	if (!sums) {
		index = epoch & 1;
		sums = bpf_map_lookup_elem(&spilled_rest, &index);
	}
	return sums;
}

/* Adds a bucket to the sums of its program. */
static __noinline int row_spill(struct row *row, struct bucket *bucket)
{
	struct wire_counts *sums = spill_sums(&row->actor, bucket->epoch);
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		__sync_fetch_and_add(&cpu->spilled, 1);
	if (sums)
		counts_add(sums, &bucket->counts);
	return 0;
}

/* Who takes a bucket first delivers it. */
static __always_inline bool bucket_take(struct bucket *bucket)
{
	return __sync_val_compare_and_swap(&bucket->taken, 0, 1) == 0;
}

static __always_inline void row_record(struct wire_row *record, const struct row *row,
				       const struct bucket *bucket, enum wire_row_reason reason)
{
	record->header.epoch = bucket->epoch;
	record->actor = row->actor;
	record->counts = bucket->counts;
	record->reason = reason;
	record->reserved = 0;
}

static __noinline int bucket_flush(struct row *row, struct bucket *bucket,
				   enum wire_row_reason reason)
{
	struct wire_row *record;

	if (!bucket->epoch || counts_empty(&bucket->counts) || !bucket_take(bucket))
		return 0;
	record = ring_reserve(&row->actor, WIRE_ROW, sizeof(*record));
	if (!record)
		return row_spill(row, bucket);
	row_record(record, row, bucket, reason);
	ring_submit(record);
	return 0;
}

static __always_inline void bucket_open(struct bucket *bucket, __u32 epoch)
{
	__builtin_memset(&bucket->counts, 0, sizeof(bucket->counts));
	bucket->epoch = epoch;
	bucket->taken = 0;
}

/* Sends what a thread has counted, the older bucket first. */
static __always_inline void row_flush(struct row *row, enum wire_row_reason reason)
{
	__u32 epoch = row->seen.epoch;

	bucket_flush(row, &row->buckets[(epoch + 1) & 1], reason);
	bucket_flush(row, &row->buckets[epoch & 1], reason);
	bucket_open(&row->buckets[epoch & 1], epoch);
}

static __always_inline bool task_is_own(struct task_struct *task)
{
	return (__u32)task->tgid == own_tgid;
}

static __always_inline bool row_is_skipped(const struct row *row)
{
	return (row->flags & (ROW_OWN | ROW_PROOF)) == ROW_OWN;
}

/* Looks the identity up again. What was counted under another one is delivered under that, so that
 * every count is in a row of who made it. */
static __always_inline void row_identify(struct row *row, struct task_struct *task)
{
	bool proof = row->actor.tgid == control.proof_tgid;
	__u64 cgroup_id = task_cgroup_id(task);
	__u32 slot = 0;

	if (!proof && !(row->flags & ROW_OWN))
		slot = profile_slot(cgroup_id, &row->lineage.root, row->profile_id);
	if (cgroup_id != row->actor.cgroup_id || slot != row->actor.slot ||
	    proof != !!(row->flags & ROW_PROOF))
		row_flush(row, WIRE_ROW_EXEC);
	row->actor.cgroup_id = cgroup_id;
	row->actor.slot = slot;
	row->flags &= ~ROW_PROOF;
	row->actor.flags &= ~WIRE_ACTOR_PROOF;
	if (proof) {
		row->flags |= ROW_PROOF;
		row->actor.flags |= WIRE_ACTOR_PROOF;
	}
}

/* Brings a row up to the clock: opens the epoch's bucket and looks the identity up again. */
static __noinline int row_refresh(struct row *row, struct task_struct *task)
{
	struct wire_clock now = control.clock;
	struct bucket *bucket = &row->buckets[now.epoch & 1];

	if (bucket->epoch != now.epoch) {
		if (bucket->epoch && !counts_empty(&bucket->counts) && bucket_take(bucket))
			row_spill(row, bucket); /* no iterator came by in time */
		bucket_open(bucket, now.epoch);
		row->tokens = task_tokens;
		row->evidence = evidence_tokens;
	}
	row->seen = now;
	row_identify(row, task);
	if (profile_holds(row->actor.slot, now.epoch))
		row->flags |= ROW_KNOWS;
	else
		row->flags &= ~ROW_KNOWS;
	return 0;
}

static __always_inline bool row_is_stale(const struct row *row)
{
	return *(volatile __u64 *)&control.clock != *(__u64 *)&row->seen;
}

/* By real_cred, which nobody puts on for a moment as overlayfs, NFS and io_uring do `cred`. */
static __always_inline void row_credentials(struct row *row, struct task_struct *task)
{
	row->uid = task->real_cred->euid.val;
	row->capabilities = cred_capabilities(task->real_cred);
}

static __always_inline void actor_fill(struct wire_actor *actor, struct task_struct *task)
{
	actor->start_boot_ns = task->group_leader->start_boottime;
	actor->cgroup_id = task_cgroup_id(task);
	actor->tgid = task->tgid;
	actor->tid = task->pid;
	actor->slot = 0;
	actor->flags = 0;
}

/* What is known of the lineage of a process, whichever thread has done it. */
static __always_inline __u32 lineage_flags(const struct row *row, struct task_struct *task)
{
	struct row *leader;

	if (task->pid == task->tgid)
		return row->lineage.flags;
	leader = bpf_task_storage_get(&rows, task->group_leader, 0, 0);
	return row->lineage.flags | (leader ? leader->lineage.flags & LINEAGE_LISTENS : 0);
}

/* The process of `task` listens from here on. Kept by the thread that did it and by the leader,
 * where the others look. */
static __always_inline void row_listens(struct row *row, struct task_struct *task)
{
	struct row *leader;

	__sync_fetch_and_or(&row->lineage.flags, LINEAGE_LISTENS);
	if (task->pid == task->tgid)
		return;
	leader = bpf_task_storage_get(&rows, task->group_leader, 0, 0);
	if (leader)
		__sync_fetch_and_or(&leader->lineage.flags, LINEAGE_LISTENS);
}

/* The lineage of a process that nobody saw being forked: by its parent, if that one has a row. One
 * step only, so that every hook may take it; for what stood before the sensor, on_lineage_process
 * is run until nothing changes. */
static __noinline int lineage_find(struct row *row, struct task_struct *task)
{
	struct task_struct *process = task->group_leader, *parent;
	__u32 flags = LINEAGE_FOUND | (row->lineage.flags & LINEAGE_LISTENS);
	struct row *above;

	if (task->pid != task->tgid) {
		above = bpf_task_storage_get(&rows, process, 0, 0);
		if (above && above->lineage.root.start_boot_ns) {
			row->lineage = above->lineage;
			return 0;
		}
	}
	parent = process->real_parent->group_leader;
	above = bpf_task_storage_get(&rows, parent, 0, 0);
	if (above && lineage_continues(parent, process, above->lineage.flags)) {
		row->lineage = above->lineage;
		if (lineage_is_listened(above->lineage.flags))
			flags |= LINEAGE_UNDER;
	} else {
		lineage_begin(&row->lineage, process, row->profile_id);
	}
	row->lineage.root.login_uid = lineage_login_uid(&row->lineage, process);
	row->lineage.flags = flags;
	return 0;
}

/* A thread that nobody saw being made, as those that poll for io_uring, is of its process's program
 * and has its rights to a profile. */
static __noinline int row_join(struct row *row, struct task_struct *task)
{
	struct row *leader;

	if (task->pid == task->tgid)
		return 0;
	leader = bpf_task_storage_get(&rows, task->group_leader, 0, 0);
	if (!leader)
		return 0;
	row->actor.program_id = leader->actor.program_id;
	row->profile_id = leader->profile_id;
	row->flags |= leader->flags & ROW_OWN;
	return 0;
}

/* Fills the row of a task that has none yet. The task itself brings it up to the clock. */
static __noinline struct row *row_begin(struct task_struct *task)
{
	struct row *row = bpf_task_storage_get(&rows, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!row)
		return NULL;
	actor_fill(&row->actor, task);
	row->actor.program_id = running_program_id(task);
	row->profile_id = stranger_profile_id(row->actor.program_id, row->actor.tgid);
	row_credentials(row, task);
	row_join(row, task);
	lineage_find(row, task);
	row->actor.root = row->lineage.root;
	if (task_is_own(task))
		row->flags |= ROW_OWN;
	return row;
}

static __noinline struct row *row_create(struct task_struct *task)
{
	struct row *row = row_begin(task);

	if (row)
		row_refresh(row, task);
	return row;
}

/* The current row of `task`, made where it is missing; NULL where no memory is left. */
static __always_inline struct row *row_of(struct task_struct *task)
{
	struct row *row = bpf_task_storage_get(&rows, task, 0, 0);

	if (!row)
		return row_create(task);
	if (row_is_stale(row))
		row_refresh(row, task);
	return row;
}

static __always_inline struct bucket *row_bucket(struct row *row)
{
	return &row->buckets[row->seen.epoch & 1];
}

static __always_inline void hook_hit(const struct row *row, enum wire_hook hook)
{
	struct wire_stats *cpu;

	if (!(row->flags & ROW_PROOF))
		return;
	cpu = cpu_stats();
	if (cpu)
		__sync_fetch_and_add(&cpu->hits[hook], 1);
}

#endif
