// SPDX-License-Identifier: GPL-2.0-only
// Every system call: counted by class, its order checked against the program's profile.

#include "calls.bpf.h"

/*
 * sys_exit: void (struct pt_regs *regs, long ret)
 * The exit alone suffices: the registers still hold number and arguments, and sys_enter would
 * cost as much again. exit and exit_group never get here; on_process_exit counts them.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_call_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct row *row = row_of(task);
	struct call call;

	if (!row)
		return call_uncounted();
	if (row->flags & ROW_OWN)
		return 0;
	call.number = regs_number(regs);
	call.compat = task_in_compat(task);
	call.result = ret;
	hook_hit(row, WIRE_HOOK_CALLS);
	call_count(row, &call);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
