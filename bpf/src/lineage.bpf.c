// SPDX-License-Identifier: GPL-2.0-only
// Who listens, and who stood before the sensor.

#include "rows.bpf.h"
#include "descriptor.bpf.h"

/* void trace_inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)
 *
 * listen(), in the context of its caller; for a sensor without flows, which see it otherwise. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_lineage_listen, struct sock *sk, int before, int after)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct row *row;

	if (after != TCP_LISTEN || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	row = row_of(task);
	if (row)
		row_listens(row, task);
	return 0;
}

/*
 * bpf_iter_task_file: int (struct bpf_iter_meta *meta, struct task_struct *task, u32 fd,
 *			    struct file *file)
 * Every descriptor of every process: who holds a listening socket.
 */
SEC("iter/task_file")
int on_lineage_descriptor(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sock *sk;
	struct row *row;

	if (!task || !file)
		return 0;
	sk = file_inet(file);
	if (!sk || !sock_listens(sk))
		return 0;
	row = bpf_task_storage_get(&rows, task, 0, 0) ?: row_begin(task);
	if (row)
		row_listens(row, task);
	return 0;
}

/*
 * bpf_iter_task: int (struct bpf_iter_meta *meta, struct task_struct *task)
 * Looks again from where each process descends that stood before: it is known now who listens, and
 * what its parent descends from. Tells those of which something was found.
 */
SEC("iter/task")
int on_lineage_process(struct bpf_iter__task *ctx)
{
	struct wire_process record = {
		.header.kind = WIRE_PROCESS,
		.header.size = sizeof(record),
		.header.epoch = control.clock.epoch,
		.header.time_boot_ns = bpf_ktime_get_boot_ns(),
	};
	struct task_struct *task = ctx->task;
	struct lineage before = {};
	struct row *row;

	if (!task || task->flags & PF_KTHREAD)
		return 0;
	row = bpf_task_storage_get(&rows, task, 0, 0);
	if (task->pid != task->tgid) {
		if (row && row->lineage.flags & LINEAGE_FOUND) {
			lineage_find(row, task);
			row->actor.root = row->lineage.root;
		}
		return 0;
	}
	if (row) {
		before = row->lineage;
		if (before.flags & LINEAGE_FOUND)
			lineage_find(row, task);
	} else {
		row = row_begin(task);
	}
	if (!row || (row->lineage.root.start_boot_ns == before.root.start_boot_ns &&
		     row->lineage.flags == before.flags))
		return 0;
	row->actor.root = row->lineage.root;
	record.actor = row->actor;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
