/* SPDX-License-Identifier: GPL-2.0-only */
/* Kernel types that only the deny programs read, as CO-RE flavours beside those of kernel.h. */
#ifndef HEDGEROW_DENY_KERNEL_H
#define HEDGEROW_DENY_KERNEL_H

#include "identity.bpf.h"
#include "sock.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup___deny {
	int level;
	struct kernfs_node *kn;
	struct cgroup___deny *ancestors[];
};

struct mptcp_sock___deny {
	int dummy;
};

struct sock_common___deny {
	unsigned char skc_net_refcnt : 1;
};

struct sock___deny {
	struct sock_common___deny __sk_common;
	struct {
		int owned;
	} sk_lock;
};

struct sk_buff___deny {
	struct sock___deny *sk;
};

#pragma clang attribute pop

#endif
