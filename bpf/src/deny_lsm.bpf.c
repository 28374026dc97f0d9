// SPDX-License-Identifier: GPL-2.0-only
/*
 * What only BPF LSM programs can refuse, where the kernel takes them. Elsewhere deny_exec kills a
 * denied program before its first instruction, and deny_capability kills what of a denied tree
 * opens a packet socket.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define EPERM 1
#define PROT_EXEC 4
#define AF_UNIX 1
#define AF_NETLINK 16
#define AF_ALG 38

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

static __always_inline bool refuses(struct deny_query *query, __u32 tgid)
{
	if (deny_allows(query))
		return false;
	return deny_tree_refuses(query, tgid, deny_current_start_boot_ns()) || deny_refuses(query);
}

/* int security_bprm_check(struct linux_binprm *bprm), once for each interpreter in the chain */
SEC("lsm/bprm_check_security")
int BPF_PROG(deny_bprm, struct linux_binprm *bprm, int ret)
{
	const struct deny_asked *asked = deny_armed(DENY_EXEC);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};

	if (ret || !asked || tgid == 1 || !file_of(&query.file, bprm->file))
		return ret;
	deny_query_current(&query, asked, DENY_EXEC);
	return refuses(&query, tgid) ? -EPERM : 0;
}

/*
 * int security_mmap_file(struct file *file, unsigned long prot, unsigned long flags), also for each
 * executable segment of an image: `ld.so ./prog` maps a program that nobody has executed.
 */
SEC("lsm/mmap_file")
int BPF_PROG(deny_map, struct file *file, unsigned long wanted, unsigned long prot,
	     unsigned long flags, int ret)
{
	const struct deny_asked *asked = deny_armed(DENY_MAP);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};

	if (ret || !(prot & PROT_EXEC) || !file || !asked || tgid == 1)
		return ret;
	if (!file_of(&query.file, file))
		return ret;
	deny_query_current(&query, asked, DENY_MAP);
	return !deny_allows(&query) && deny_refuses(&query) ? -EPERM : 0;
}

/* What goes no further than this host, and what cgroup/sock_create refuses. */
static __always_inline bool is_local_or_inet(int family)
{
	return family == AF_UNIX || family == AF_NETLINK || family == AF_ALG || family == AF_INET ||
	       family == AF_INET6;
}

/*
 * int security_socket_create(int family, int type, int protocol, int kern): packet, vsock,
 * Bluetooth and what else no hook of a cgroup is asked about
 */
SEC("lsm/socket_create")
int BPF_PROG(deny_family, int family, int type, int protocol, int kern, int ret)
{
	const struct deny_asked *asked = deny_armed(DENY_FAMILY);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};
	struct deny_process *process;

	if (ret || kern || is_local_or_inet(family) || !asked || tgid == 1)
		return ret;
	process = bpf_map_lookup_elem(&deny_processes, &tgid);
	if (process)
		query.file = process->file;
	deny_query_current(&query, asked, DENY_FAMILY);
	return refuses(&query, tgid) ? -EPERM : 0;
}
