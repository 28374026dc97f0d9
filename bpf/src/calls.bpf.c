// SPDX-License-Identifier: GPL-2.0-only
// Every system call: counted by class, its order checked against the program's profile.

#include "stream.bpf.h"

static __noinline int credentials_changed(struct row *row, struct task_struct *task)
{
	row->uid = BPF_CORE_READ(task, cred, euid.val);
	return 0;
}

static __always_inline int call_exit(struct task_struct *task, const struct pt_regs *regs,
				     __s32 number, long ret)
{
	struct call call = {.result = ret, .number = number, .compat = task_in_compat(task)};
	struct row *row = row_of(task);
	__u64 arguments[6];
	struct wire_call_info info;
	bool streamed = false;

	if (!row)
		return call_uncounted();
	if (row_is_skipped(row) || call_restarts(&call))
		return 0;
	hook_hit(row, WIRE_HOOK_CALLS);
	info = call_info(&call);
	if (info.flags & (WIRE_INFO_STREAM | WIRE_INFO_CREDENTIALS)) {
		regs_arguments(regs, call.compat, arguments);
		streamed = stream_wants(info.flags, arguments);
	}
	if (full)
		call_raw(row, &call, streamed);
	call_count(row, &call, info);
	if (streamed)
		stream_call(row, task, &call, arguments, info.class << 16 | info.flags);
	if (info.flags & WIRE_INFO_CREDENTIALS)
		credentials_changed(row, task);
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
