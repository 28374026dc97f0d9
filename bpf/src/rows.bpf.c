// SPDX-License-Identifier: GPL-2.0-only
// Reads rows out: those of every thread when an epoch closes, those of one process at any time.

#include "rows.bpf.h"

static __always_inline int row_write(struct seq_file *seq, struct row *row, struct bucket *bucket,
				     enum wire_row_reason reason)
{
	struct {
		struct wire_header header;
		struct wire_actor actor;
		__u32 reason;
		__u32 reserved;
	} head = {
		.header.kind = WIRE_ROW,
		.header.size = sizeof(struct wire_row),
		.header.epoch = bucket->epoch,
		.header.time_boot_ns = bpf_ktime_get_boot_ns(),
		.actor = row->actor,
		.reason = reason,
	};

	_Static_assert(sizeof(head) == __builtin_offsetof(struct wire_row, counts), "row head");
	return bpf_seq_write(seq, &head, sizeof(head))
		       ?: bpf_seq_write(seq, &bucket->counts, sizeof(bucket->counts));
}

/*
 * bpf_iter_task: int (struct bpf_iter_meta *meta, struct task_struct *task)
 * Takes the closing epoch's bucket of every thread. User space reads in steps that the kernel's
 * buffer of 32 KiB holds; should a write overflow all the same, the counts go to the sums.
 */
SEC("iter/task")
int on_rows_close(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct bucket *bucket;
	struct row *row;

	if (!task)
		return 0;
	row = bpf_task_storage_get(&rows, task, 0, 0);
	if (!row)
		return 0;
	bucket = &row->buckets[control.closing & 1];
	if (bucket->epoch != control.closing || counts_empty(&bucket->counts) ||
	    !bucket_take(bucket))
		return 0;
	if (row_write(ctx->meta->seq, row, bucket, WIRE_ROW_WINDOW))
		row_spill(row, bucket);
	return 0;
}

/*
 * bpf_iter_task: int (struct bpf_iter_meta *meta, struct task_struct *task)
 * Copies what the threads of one process (bpf_iter_link_info.task.pid) have counted so far.
 */
SEC("iter/task")
int on_rows_peek(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct row *row;

	if (!task)
		return 0;
	row = bpf_task_storage_get(&rows, task, 0, 0);
	if (!row)
		return 0;
	for (int i = 0; i < 2; i++) {
		struct bucket *bucket = &row->buckets[i];

		if (bucket->epoch && !bucket->taken && !counts_empty(&bucket->counts))
			row_write(ctx->meta->seq, row, bucket, WIRE_ROW_EARLY);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
