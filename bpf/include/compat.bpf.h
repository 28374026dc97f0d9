/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between kernels, in one place. */
#ifndef HEDGEROW_COMPAT_BPF_H
#define HEDGEROW_COMPAT_BPF_H

#include "arch.bpf.h"

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
