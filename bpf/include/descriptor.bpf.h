/* SPDX-License-Identifier: GPL-2.0-only */
/* What a task's descriptors stand for: the kernel's own files, whatever numbers they have. */
#ifndef HEDGEROW_DESCRIPTOR_BPF_H
#define HEDGEROW_DESCRIPTOR_BPF_H

#include "sock.bpf.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define SOCKFS_MAGIC 0x534f434b

static __always_inline struct file *task_file(struct task_struct *task, __u32 descriptor)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (descriptor < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[descriptor]);
	return file;
}

/* The IPv4 or IPv6 socket behind a file; NULL for any other file, for other sockets, and for a
 * socket's name in a directory. */
static __always_inline struct sock *file_inet(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK ||
	    BPF_CORE_READ(inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	return sk && (family == AF_INET || family == AF_INET6) ? sk : NULL;
}

static __always_inline bool sock_listens(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
	       BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;
}

#endif
