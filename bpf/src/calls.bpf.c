// SPDX-License-Identifier: GPL-2.0-only
// Every system call: counted by class, its order checked against the program's profile.

#include "used.bpf.h"

static __always_inline bool credentials_differ(const struct row *row, struct task_struct *task)
{
	const struct cred *cred = task->real_cred;

	return cred->euid.val != row->uid || cred_capabilities(cred) != row->capabilities;
}

/* No bucket holds this back: nobody can do it often, and it is never normal. */
static __noinline int credentials_tell(struct row *row, __s32 number, __u32 uid, __u64 capabilities)
{
	struct wire_call *record = ring_reserve(&row->actor, WIRE_CALL, sizeof(*record));

	if (!record) {
		ring_lost(row);
		return 0;
	}
	record->header.epoch = row->seen.epoch;
	record->actor = row->actor;
	record->result = 0;
	record->arguments[0] = row->uid;
	record->arguments[1] = uid;
	record->arguments[2] = row->capabilities;
	record->arguments[3] = capabilities;
	record->arguments[4] = 0;
	record->arguments[5] = 0;
	record->number = number;
	record->flags = WIRE_CALL_CREDENTIALS;
	record->class = WIRE_CLASS_ODD;
	record->reserved = 0;
	record->path_size = 0;
	record->reserved2 = 0;
	record->file_flags = 0;
	ring_submit(record);
	return 0;
}

/* Rights that grew while no call was made that grants any: somebody wrote into the kernel's memory.
 * Those that shrink, and those of a namespace, are nobody's gain. */
static __noinline int credentials_changed(struct row *row, struct task_struct *task, __s32 number,
					  __u32 flags)
{
	__u32 uid = task->real_cred->euid.val;
	__u64 capabilities = cred_capabilities(task->real_cred);

	if (!(flags & WIRE_INFO_CREDENTIALS) &&
	    ((row->uid && !uid) || capabilities & ~row->capabilities))
		credentials_tell(row, number, uid, capabilities);
	row_credentials(row, task);
	return 0;
}

static __always_inline int call_exit(struct task_struct *task, const struct pt_regs *regs,
				     __s32 number, long ret)
{
	struct call call = {.result = ret, .number = number, .compat = task_in_compat(task)};
	struct row *row = row_of(task);
	__u64 arguments[6];
	struct wire_call_info info;
	bool streamed = false, restarts = call_restarts(&call);

	if (!row)
		return call_uncounted();
	if (row_is_skipped(row))
		return 0;
	info = call_info(&call);
	if (info.flags & WIRE_INFO_STREAM) {
		regs_arguments(regs, call.compat, arguments);
		streamed = stream_wants(info.flags, arguments);
		if (info.flags & (WIRE_INFO_MAPS | WIRE_INFO_DESCRIPTOR))
			used_call(row, task, ret, arguments, info.flags);
	}
	if (restarts && !streamed)
		return 0;
	hook_hit(row, WIRE_HOOK_CALLS);
	if (full)
		call_raw(row, &call, streamed);
	if (!restarts)
		call_count(row, &call, info);
	if (streamed)
		stream_call(row, task, &call, arguments, info.class << 16 | info.flags);
	if (credentials_differ(row, task))
		credentials_changed(row, task, number, info.flags);
	return 0;
}

/*
 * sys_exit: void (struct pt_regs *regs, long ret)
 * The exit alone suffices: the registers still hold number and arguments, and sys_enter would
 * cost as much again. exit and exit_group never get here; on_process_exit counts them.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_call_exit, struct pt_regs *regs, long ret)
{
	return call_exit(bpf_get_current_task_btf(), regs, regs_number(regs), ret);
}

/* Where BTF tracing is refused: the same, with the registers behind an untyped pointer. */
SEC("raw_tp/sys_exit")
int on_call_exit_raw(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

	return call_exit(task, regs, regs_number(regs), ctx->args[1]);
}

char LICENSE[] SEC("license") = "GPL";
