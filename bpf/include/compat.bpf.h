/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between architectures and between kernels, in one place. */
#ifndef HEDGEROW_COMPAT_BPF_H
#define HEDGEROW_COMPAT_BPF_H

#include "kernel.h"

#if !defined(__TARGET_ARCH_x86)
#error "system-call registers are known for x86_64 only"
#endif

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

/* I_CTIME_QUERIED: somebody has looked at the time since it was set (6.13 and newer). */
#define CTIME_QUERIED (1U << 31)

static __always_inline __u64 inode_ctime_ns(struct inode *inode)
{
	if (bpf_core_field_exists(inode->i_ctime_sec))
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000ULL +
		       (BPF_CORE_READ(inode, i_ctime_nsec) & ~CTIME_QUERIED);

	struct inode___6_6 *middle = (void *)inode;

	if (bpf_core_field_exists(middle->__i_ctime))
		return BPF_CORE_READ(middle, __i_ctime.tv_sec) * 1000000000ULL +
		       BPF_CORE_READ(middle, __i_ctime.tv_nsec);

	struct inode___6_1 *old = (void *)inode;

	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ULL +
	       BPF_CORE_READ(old, i_ctime.tv_nsec);
}

/* Effective capabilities. */
static __always_inline __u64 cred_capabilities(const struct cred *cred)
{
	const struct cred___6_1 *old = (const void *)cred;

	if (bpf_core_field_exists(cred->cap_effective.val))
		return cred->cap_effective.val;
	return (__u64)old->cap_effective.cap[1] << 32 | old->cap_effective.cap[0];
}

/* The first lower layer's dentry of an overlayfs inode. */
static __always_inline struct dentry *ovl_lower(struct ovl_inode *ovl)
{
	struct ovl_inode___6_1 *old = (void *)ovl;
	struct ovl_entry *entry;

	if (bpf_core_field_exists(old->lowerpath))
		return BPF_CORE_READ(old, lowerpath.dentry);
	entry = BPF_CORE_READ(ovl, oe);
	if (!entry || !BPF_CORE_READ(entry, __numlower))
		return NULL;
	return BPF_CORE_READ(entry, __lowerstack[0].dentry);
}

#endif
