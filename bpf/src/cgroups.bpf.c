// SPDX-License-Identifier: GPL-2.0-only
// Cgroups as they come and go, so that user space can name a workload before its first window.

#include "rows.bpf.h"
#include "scratch.bpf.h"

static __always_inline int cgroup_send(struct cgroup *cgroup, const char *path, __u32 removed)
{
	struct row *row;
	struct scratch *scratch = scratch_get();
	struct wire_cgroup *record;
	long size;

	/* Ids of the older hierarchies, where there are some, are others. */
	if (BPF_CORE_READ(cgroup, root, hierarchy_id))
		return 0;
	row = row_of(bpf_get_current_task_btf());
	if (row)
		hook_hit(row, WIRE_HOOK_CGROUP);
	if (!scratch)
		return 0;
	record = (void *)&scratch->bytes[PATH_END - sizeof(*record)];
	size = bpf_probe_read_kernel_str(&scratch->bytes[PATH_END], WIRE_PATH_MAX, path);
	size = size > 1 ? (size - 1) & (WIRE_PATH_MAX - 1) : 0;
	header_fill(&record->header, WIRE_CGROUP, sizeof(*record) + size);
	record->id = BPF_CORE_READ(cgroup, kn, id);
	record->removed = removed;
	record->path_size = size;
	record->reserved = 0;
	scratch->start = PATH_END;
	if (!scratch_send(row ? &row->actor : NULL, scratch, sizeof(*record), size, RING_EVIDENCE))
		ring_lost(row);
	return 0;
}

/* cgroup_mkdir: void (struct cgroup *cgrp, const char *path) */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_make, struct cgroup *cgroup, const char *path)
{
	return cgroup_send(cgroup, path, 0);
}

/* cgroup_rmdir: void (struct cgroup *cgrp, const char *path) */
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_cgroup_remove, struct cgroup *cgroup, const char *path)
{
	return cgroup_send(cgroup, path, 1);
}

char LICENSE[] SEC("license") = "GPL";
