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

struct sock___deny {
	struct {
		int owned;
	} sk_lock;
};

#pragma clang attribute pop

#endif
