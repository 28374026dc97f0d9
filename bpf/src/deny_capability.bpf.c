// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kills a process of a denied tree that makes a packet socket, where LSM programs don't load: no
 * hook of a cgroup sees such a socket nor what it sends, and making one takes CAP_NET_RAW. The call
 * goes on, but the process doesn't return from it, so it never has the descriptor.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define SIGKILL 9
#define CAP_NET_RAW 13

/*
 * Whether the capability is asked for a socket that no other hook refuses. Sockets that a ring
 * makes are made by the caller, or by the ring's own thread, which has no registers of a call. The
 * family that socketcall() is given stands in user memory: it is taken for a packet socket.
 */
static __always_inline bool makes_packet_socket(struct task_struct *task)
{
	const struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	bool compat = task_in_compat(task);
	__s32 number = regs_number(regs);
	__u64 arguments[6];

	if (task->flags & PF_IO_WORKER || number == NR_URING_ENTER)
		return true;
	if (compat && number == NR_SOCKETCALL_COMPAT)
		return true;
	if (number != (compat ? NR_SOCKET_COMPAT : NR_SOCKET))
		return false;
	regs_arguments(regs, compat, arguments);
	return (int)arguments[0] != AF_INET && (int)arguments[0] != AF_INET6;
}

/*
 * cap_capable(const struct cred *cred, struct user_namespace *target_ns, const struct
 * user_namespace *capable_ns, int cap, int ret), 6.14 and newer; before that LSM programs are all
 * there is
 */
SEC("tp_btf/cap_capable")
int BPF_PROG(deny_capability, const struct cred *cred, struct user_namespace *target,
	     const struct user_namespace *capable, int capability, int ret)
{
	const struct deny_asked *asked = deny_armed(DENY_FAMILY);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};

	if (capability != CAP_NET_RAW || ret || !asked || tgid == 1)
		return 0;
	if (!makes_packet_socket(bpf_get_current_task_btf()))
		return 0;
	query.now = bpf_ktime_get_boot_ns();
	query.verb = DENY_FAMILY;
	query.look = asked->look;
	if (deny_tree_refuses(&query, tgid, deny_current_start_boot_ns()))
		bpf_send_signal(SIGKILL);
	return 0;
}
