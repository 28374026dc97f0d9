/* SPDX-License-Identifier: GPL-2.0-only */
/* Security-relevant calls as records, held back by token buckets per thread and cgroup. */
#ifndef HEDGEROW_STREAM_BPF_H
#define HEDGEROW_STREAM_BPF_H

#include "calls.bpf.h"
#include "descriptor.bpf.h"
#include "path.bpf.h"

#define PROT_EXEC 4
#define CLONE_NEW_ANY 0x7e020000ULL /* every CLONE_NEW* that clone(2) knows */

struct budget {
	__u32 epoch;
	__u32 used;
};

/* Streamed calls by cgroup. Full: the bucket per thread stands alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CGROUP_BUDGETS);
	__type(key, __u64);
	__type(value, struct budget);
} budgets __weak SEC(".maps");

static __always_inline bool budget_take(__u64 cgroup_id, __u32 epoch)
{
	struct budget *budget = bpf_map_lookup_elem(&budgets, &cgroup_id);
	struct budget fresh = {.epoch = epoch, .used = 1};

	if (!budget) {
		bpf_map_update_elem(&budgets, &cgroup_id, &fresh, BPF_NOEXIST);
		return true;
	}
	if (budget->epoch != epoch) {
		budget->used = 0;
		budget->epoch = epoch;
	}
	return __sync_fetch_and_add(&budget->used, 1) < cgroup_tokens;
}

/* Evidence has tokens of its own, so that a flood of opens doesn't hide a ptrace. */
static __always_inline bool stream_token(struct row *row, __u16 flags)
{
	if (flags & WIRE_INFO_EVIDENCE) {
		if (!row->evidence)
			return false;
		row->evidence--;
		return true;
	}
	if (!row->tokens)
		return false;
	row->tokens--;
	return budget_take(row->actor.cgroup_id, row->seen.epoch);
}

/* Whether a call is of the streamed kind, by its table entry and its arguments. */
static __always_inline bool stream_wants(__u16 flags, const __u64 *arguments)
{
	if (!(flags & WIRE_INFO_STREAM))
		return false;
	if (flags & WIRE_INFO_IF_EXEC)
		return arguments[2] & PROT_EXEC;
	if (flags & WIRE_INFO_IF_NAMESPACE)
		return arguments[0] & CLONE_NEW_ANY;
	return true;
}

/* Brings the call's path to PATH_END, kernel-owned where a descriptor has one. Returns the size of
 * a claimed path, which follows PATH_END instead. */
static __always_inline __u32 stream_path(struct task_struct *task, const struct call *call,
					 __u16 flags, const __u64 *arguments,
					 struct scratch *scratch)
{
	struct file *file;
	long size;

	scratch->start = PATH_END;
	scratch->cut = 0;
	if (flags & WIRE_INFO_DESCRIPTOR && call->result >= 0) {
		file = task_file(task, call->result);
		if (file)
			path_walk(file, scratch);
		return 0;
	}
	if (!(flags & (WIRE_INFO_PATH_0 | WIRE_INFO_PATH_1)))
		return 0;
	size = bpf_probe_read_user_str(
		&scratch->bytes[PATH_END], WIRE_PATH_MAX,
		(void *)(flags & WIRE_INFO_PATH_0 ? arguments[0] : arguments[1]));
	return size > 1 ? (size - 1) & (WIRE_PATH_MAX - 1) : 0;
}

static __noinline int stream_call(struct row *row, struct task_struct *task,
				  const struct call *call, const __u64 *arguments, __u32 info)
{
	struct scratch *scratch = scratch_get();
	__u16 flags = info;
	enum ring_priority priority = flags & WIRE_INFO_EVIDENCE ? RING_EVIDENCE : RING_COMMON;
	struct wire_call *record;
	__u32 claimed, size;

	if (!stream_token(row, flags)) {
		row_bucket(row)->counts.limited++;
		return 0;
	}
	if (!scratch)
		return 0;
	claimed = stream_path(task, call, flags, arguments, scratch);
	size = (PATH_END - scratch->start + claimed) & (PATH_END - 1);
	record = (void *)&scratch->bytes[(scratch->start - sizeof(*record)) & (PATH_END - 1)];
	header_fill(&record->header, WIRE_CALL, sizeof(*record) + size);
	record->header.epoch = row->seen.epoch; /* as it was counted */
	record->actor = row->actor;
	record->result = call->result;
	for (int i = 0; i < 6; i++)
		record->arguments[i] = arguments[i];
	record->number = call->number;
	record->flags = (call->compat ? WIRE_CALL_COMPAT : 0) |
			(call->uring ? WIRE_CALL_URING : 0) | (claimed ? WIRE_CALL_CLAIMED : 0) |
			(scratch->cut ? WIRE_CALL_PATH_CUT : 0);
	record->class = info >> 16;
	record->reserved = 0;
	record->path_size = size;
	__builtin_memset(record->reserved2, 0, sizeof(record->reserved2));
	if (!scratch_send(scratch, sizeof(*record), claimed, priority))
		ring_lost(row);
	return 0;
}

#endif
