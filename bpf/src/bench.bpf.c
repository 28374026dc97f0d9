// SPDX-License-Identifier: GPL-2.0-only
// The yardstick: a probe that does nothing, on the hook that counts system calls.

#include "kernel.h"

/* sys_exit: void (struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_call_exit_empty, struct pt_regs *regs, long ret)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
