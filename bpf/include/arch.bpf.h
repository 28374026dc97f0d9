/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between architectures: registers of a system call, and numbers that are asked for.
 */
#ifndef HEDGEROW_ARCH_BPF_H
#define HEDGEROW_ARCH_BPF_H

#include "kernel.h"

#define NR_CLONE3 435
#define NR_URING_ENTER 426

#if defined(__TARGET_ARCH_x86)

#define NR_RT_SIGRETURN 15 /* what -1 stands for */
#define NR_SOCKET 41
#define NR_CLONE 56
#define NR_EXIT 60
#define NR_EXIT_GROUP 231
#define NR_EXIT_COMPAT 1
#define NR_SOCKETCALL_COMPAT 102
#define NR_CLONE_COMPAT 120
#define NR_EXIT_GROUP_COMPAT 252
#define NR_SOCKET_COMPAT 359

#define TS_COMPAT 0x0002 /* thread_info::status while a 32-bit system call runs */

/* A 32-bit system call: int 0x80 or sysenter, whatever the task's own word size. */
static __always_inline bool task_in_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

/* -1 once rt_sigreturn has put back the interrupted registers; bits above 31 are ignored by the
 * system-call entry. */
static __always_inline __s32 regs_number(const struct pt_regs *regs)
{
	return (__s32)regs->orig_ax;
}

static __always_inline void regs_arguments(const struct pt_regs *regs, bool compat, __u64 *out)
{
	if (compat) {
		out[0] = (__u32)regs->bx;
		out[1] = (__u32)regs->cx;
		out[2] = (__u32)regs->dx;
		out[3] = (__u32)regs->si;
		out[4] = (__u32)regs->di;
		out[5] = (__u32)regs->bp;
	} else {
		out[0] = regs->di;
		out[1] = regs->si;
		out[2] = regs->dx;
		out[3] = regs->r10;
		out[4] = regs->r8;
		out[5] = regs->r9;
	}
}

#elif defined(__TARGET_ARCH_arm64)

#define NR_EXIT 93
#define NR_EXIT_GROUP 94
#define NR_RT_SIGRETURN 139 /* what -1 stands for */
#define NR_SOCKET 198
#define NR_CLONE 220
#define NR_EXIT_COMPAT 1
#define NR_SOCKETCALL_COMPAT 102 /* the old ABI's, which arm64 doesn't have */
#define NR_CLONE_COMPAT 120
#define NR_EXIT_GROUP_COMPAT 248
#define NR_SOCKET_COMPAT 281

#define TIF_32BIT 22
#define AT_FDCWD_32 0xffffff9cULL
#define O_CREAT_TRUNC_WRONLY 01101

/* A task of 32 bits: it can't make calls of another word size. */
static __always_inline bool task_in_compat(struct task_struct *task)
{
	return task->thread_info.flags & 1UL << TIF_32BIT;
}

/* -1 once rt_sigreturn has put back the interrupted registers. */
static __always_inline __s32 regs_number(const struct pt_regs *regs)
{
	return regs->syscallno;
}

/* Calls that arm has and arm64 hasn't, as those that stand for them. */
static __always_inline void regs_as_native(__s32 number, __u64 *out)
{
	switch (number) {
	case 8: /* creat */
		out[3] = out[1];
		out[2] = O_CREAT_TRUNC_WRONLY;
		break;
	case 9:  /* link */
	case 38: /* rename */
		out[3] = out[1];
		out[2] = AT_FDCWD_32;
		break;
	case 83: /* symlink */
		out[2] = out[1];
		out[1] = AT_FDCWD_32;
		return;
	case 5:   /* open */
	case 10:  /* unlink */
	case 14:  /* mknod */
	case 15:  /* chmod */
	case 16:  /* lchown */
	case 40:  /* rmdir */
	case 182: /* chown */
	case 198: /* lchown32 */
	case 212: /* chown32 */
		out[3] = out[2];
		out[2] = out[1];
		break;
	default:
		return;
	}
	out[1] = out[0];
	out[0] = AT_FDCWD_32;
}

/* The first one's register holds the result by now. */
static __always_inline void regs_arguments(const struct pt_regs *regs, bool compat, __u64 *out)
{
	out[0] = regs->orig_x0;
	out[1] = regs->regs[1];
	out[2] = regs->regs[2];
	out[3] = regs->regs[3];
	out[4] = regs->regs[4];
	out[5] = regs->regs[5];
	if (!compat)
		return;
	for (int i = 0; i < 6; i++)
		out[i] = (__u32)out[i];
	regs_as_native(regs->syscallno, out);
}

#else
#error "system-call registers are known for x86_64 and arm64 only"
#endif

#endif
