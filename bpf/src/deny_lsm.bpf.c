// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refuses a denied program's exec outright where BPF LSM programs load; elsewhere, and for what
 * slips past, deny_exec kills the image before its first instruction.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define EPERM 1

static __noinline bool file_of(struct deny_file *out, struct file *file)
{
	struct wire_file key = {};

	if (!file_key(file, &key))
		return false;
	out->device = key.device;
	out->inode = key.inode;
	out->generation = key.generation;
	return true;
}

/* security_bprm_check(struct linux_binprm *bprm), once for each interpreter in the chain */
SEC("lsm/bprm_check_security")
int BPF_PROG(deny_bprm, struct linux_binprm *bprm, int ret)
{
	struct deny_control *control = deny_armed();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};

	if (ret || !control || tgid == 1 || !file_of(&query.file, bprm->file))
		return ret;
	query.now = bpf_ktime_get_boot_ns();
	query.verb = DENY_EXEC;
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		query.cgroups[i] = bpf_get_current_ancestor_cgroup_id(i);
		if (!query.cgroups[i])
			break;
	}
	if (query.cgroups[DENY_LEVELS_MAX - 1])
		query.cgroups[DENY_LEVELS_MAX - 1] = bpf_get_current_cgroup_id();
	return !deny_allows(&query) && deny_refuses(&query) ? -EPERM : 0;
}
