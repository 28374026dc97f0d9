/* SPDX-License-Identifier: GPL-2.0-only */
/* Which instance of a service a process belongs to, and whether a listener stands above it. Decided
 * at fork and exec, by who forks and by nothing that can be changed afterwards: double forks,
 * setsid(), CLONE_PARENT and re-parenting leave it as it was. No maps: each object keeps a struct
 * lineage by thread where it likes.
 *
 * An instance begins, with its *root*, where a program is executed that nobody of an instance asked
 * for: by a process below a supervisor that has executed nothing since (*below*), or by one that
 * was moved to another cgroup. Supervisors are
 *  - the host's init, and the kernel itself;
 *  - pid 1 of another pid namespace, the target of PR_SET_CHILD_SUBREAPER, and whoever starts
 *    another pid namespace, unless it listens for connections or descends from somebody who does:
 *    that one is a service, and can't make its children strangers to it.
 * A process that is found in another cgroup than its instance begins one at once, at a fork also
 * without executing anything.
 *
 * A *listener* has put a TCP socket to listen, or was given one among its first descriptors. What
 * descends from it is *under* it, through everything but the edges of instances that the host's
 * init and cgroups draw: those only the privileged can.
 */
#ifndef HEDGEROW_LINEAGE_BPF_H
#define HEDGEROW_LINEAGE_BPF_H

#include "identity.bpf.h"

enum lineage_flags {
	LINEAGE_LISTENS = 1,
	LINEAGE_UNDER = 2,
	LINEAGE_BELOW = 4,
	LINEAGE_FOUND = 8, /* by its living parent, since nobody saw it being forked */
};

#define LOGIN_UID_UNSET (~0U)

struct lineage {
	struct wire_root root;
	__u64 cgroup_id; /* of the instance */
	__u32 flags;
	__u32 session; /* in which the instance began: task_struct::sessionid */
};

static __always_inline __u32 task_login_uid(struct task_struct *task)
{
	if (!bpf_core_field_exists(task->loginuid))
		return LOGIN_UID_UNSET;
	return BPF_CORE_READ(task, loginuid.val);
}

/* Another one with each login, also of the same user. */
static __always_inline __u32 task_session(struct task_struct *task)
{
	if (!bpf_core_field_exists(task->sessionid))
		return 0;
	return BPF_CORE_READ(task, sessionid);
}

/* Who logged in since the instance began. */
static __always_inline __u32 lineage_login_uid(const struct lineage *lineage,
					       struct task_struct *task)
{
	return task_session(task) == lineage->session ? LOGIN_UID_UNSET : task_login_uid(task);
}

static __always_inline bool lineage_is_listened(__u32 flags)
{
	return flags & (LINEAGE_LISTENS | LINEAGE_UNDER);
}

/* Depth of the pid namespace that a task belongs to; the number it has there goes to `number`. */
static __always_inline __u32 task_pid_level(struct task_struct *task, __u32 *number)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	void *upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
		     level * bpf_core_type_size(struct upid);

	*number = BPF_CORE_READ((struct upid *)upid, nr);
	return level;
}

/* Whether the children of `parent`, whose process has these flags, are none of its own instance. */
static __always_inline bool lineage_supervises(struct task_struct *parent, __u32 flags)
{
	__u32 number = 0;

	if (parent->flags & PF_KTHREAD || parent->tgid == 1)
		return true;
	if (lineage_is_listened(flags))
		return false;
	if (BPF_CORE_READ_BITFIELD_PROBED(parent->signal, is_child_subreaper))
		return true;
	task_pid_level(parent->group_leader, &number);
	return number == 1;
}

/* Whether a child starts a pid namespace, and its parent may do so as a stranger to it. */
static __always_inline bool lineage_enters(struct task_struct *parent, struct task_struct *child,
					   __u32 flags)
{
	__u32 number = 0;

	if (lineage_is_listened(flags))
		return false;
	return task_pid_level(child, &number) > task_pid_level(parent, &number);
}

/* The process becomes the root of an instance; what it listens on stays its own. */
static __always_inline void lineage_begin(struct lineage *lineage, struct task_struct *task,
					  __u64 service)
{
	lineage->root.start_boot_ns = task->group_leader->start_boottime;
	lineage->root.service = service;
	lineage->root.tgid = task->tgid;
	lineage->root.login_uid = LOGIN_UID_UNSET;
	lineage->cgroup_id = task_cgroup_id(task);
	lineage->flags &= LINEAGE_LISTENS;
	lineage->session = task_session(task);
}

static __always_inline bool lineage_is_root(const struct lineage *lineage, struct task_struct *task)
{
	return lineage->root.tgid == (__u32)task->tgid &&
	       lineage->root.start_boot_ns == task->group_leader->start_boottime;
}

/* `task` executes the program that names `service`. A root that executes another one passes the
 * name on (`sh -c "exec daemon"`), unless it listens, or has just become a login: those go on under
 * the name that they have, and so does what was forked before. */
static __always_inline void lineage_exec(struct lineage *lineage, struct task_struct *task,
					 __u64 service)
{
	__u32 login_uid = lineage_login_uid(lineage, task);

	if (lineage->flags & LINEAGE_BELOW || lineage->cgroup_id != task_cgroup_id(task)) {
		lineage_begin(lineage, task, service);
		return;
	}
	if (lineage_is_root(lineage, task) && !lineage_is_listened(lineage->flags) &&
	    login_uid == LOGIN_UID_UNSET)
		lineage->root.service = service;
	lineage->root.login_uid = login_uid;
}

/* A thread of the process with these flags, which runs what names `service`, becomes the parent of
 * another process. */
static __always_inline void lineage_fork(struct lineage *born, struct task_struct *child,
					 struct lineage *lineage, struct task_struct *parent,
					 __u32 flags, __u64 service)
{
	if (lineage->cgroup_id != task_cgroup_id(parent)) {
		lineage_begin(lineage, parent, service);
		flags &= LINEAGE_LISTENS;
	}
	*born = *lineage;
	born->flags = flags & LINEAGE_BELOW;
	if (lineage_is_listened(flags) && parent->tgid != 1)
		born->flags |= LINEAGE_UNDER;
	if (lineage_supervises(parent, flags) || lineage_enters(parent, child, flags))
		born->flags |= LINEAGE_BELOW;
}

/* Whether a process that stood before is of the instance of its parent, of which `flags` are
 * known. */
static __always_inline bool lineage_continues(struct task_struct *parent, struct task_struct *child,
					      __u32 flags)
{
	return !lineage_supervises(parent, flags) && !lineage_enters(parent, child, flags) &&
	       task_cgroup_id(parent) == task_cgroup_id(child);
}

#endif
