/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the file of an exec lies: in which layer of an overlay, and whether on a file system whose
 * content is told by a server or by another process. */
#ifndef HEDGEROW_LAYER_BPF_H
#define HEDGEROW_LAYER_BPF_H

#include "identity.bpf.h"

/* Whoever answers for these may answer each reader differently, or never. */
static __always_inline bool is_remote(unsigned long magic)
{
	switch (magic) {
	case 0x65735546: /* FUSE, virtiofs */
	case 0x6969:     /* NFS */
	case 0xfe534d42: /* SMB */
	case 0x01021997: /* 9P */
	case 0x00c36400: /* Ceph */
	case 0x5346414f: /* AFS */
	case 0x6b414653: /* AFS */
	case 0x73757245: /* Coda */
	case 0x47504653: /* GPFS */
	case 0x0bd00bd0: /* Lustre */
	case 0x9fa0:     /* proc */
		return true;
	}
	return false;
}

/* Flags of `enum wire_exec_flags` for the file that runs. What an unprivileged user may mount in a
 * user namespace of his own has a lower layer that he can write, so that it vouches for nothing. */
static __noinline __u32 layer_flags(struct file *file)
{
	struct inode *front = file ? BPF_CORE_READ(file, f_inode) : NULL;
	struct inode *inode = front ? real_inode(front) : NULL;
	struct ovl_inode *ovl;
	__u32 flags = 0;

	if (!inode)
		return 0;
	if (is_remote(BPF_CORE_READ(inode, i_sb, s_magic)))
		flags |= WIRE_EXEC_REMOTE;
	if (inode == front)
		return flags;
	ovl = (void *)front - bpf_core_field_offset(struct ovl_inode, vfs_inode);
	if (BPF_CORE_READ(ovl, __upperdentry))
		flags |= WIRE_EXEC_UPPER;
	else if (!BPF_CORE_READ(front, i_sb, s_user_ns, level))
		flags |= WIRE_EXEC_LOWER;
	return flags;
}

#endif
