/* SPDX-License-Identifier: GPL-2.0-only */
/* Kernel types that only the deny programs read, as CO-RE flavours beside those of kernel.h. */
#ifndef HEDGEROW_DENY_KERNEL_H
#define HEDGEROW_DENY_KERNEL_H

#include "identity.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup___deny {
	int level;
	struct kernfs_node *kn;
	struct cgroup___deny *ancestors[];
};

struct net___deny {
	struct ns_common ns;
};

struct in6_addr___deny {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common___deny {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	int skc_bound_dev_if;
	struct {
		struct net___deny *net;
	} skc_net;
	struct in6_addr___deny skc_v6_daddr;
	struct in6_addr___deny skc_v6_rcv_saddr;
};

struct sock___deny {
	struct sock_common___deny __sk_common;
	__u16 sk_protocol;
};

struct socket___deny {
	struct sock___deny *sk;
};

struct mptcp_sock___deny {
	int dummy;
};

struct bpf_iter__task_file___deny {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
