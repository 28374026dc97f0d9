// SPDX-License-Identifier: GPL-2.0-only
// Processes: exec, fork and exit, where rows are cut and identities change.

#include "calls.bpf.h"
#include "descriptor.bpf.h"
#include "host.bpf.h"
#include "layer.bpf.h"
#include "path.bpf.h"
#include "script.bpf.h"

#define STANDARD_STREAMS 3

/* Name and arguments as they were claimed, after PATH_END; sets the sizes in `exec`. */
static __always_inline void exec_strings(struct task_struct *task, struct linux_binprm *bprm,
					 struct scratch *scratch, struct wire_exec *exec)
{
	unsigned long from = BPF_CORE_READ(task, mm, arg_start);
	unsigned long size = BPF_CORE_READ(task, mm, arg_end) - from;
	long name = bpf_probe_read_kernel_str(&scratch->bytes[PATH_END], WIRE_NAME_MAX,
					      BPF_CORE_READ(bprm, filename));

	name = name > 1 ? (name - 1) & (WIRE_NAME_MAX - 1) : 0;
	if (size > WIRE_ARGUMENTS_MAX - 1)
		size = WIRE_ARGUMENTS_MAX - 1;
	size &= WIRE_ARGUMENTS_MAX - 1;
	if (bpf_probe_read_user(&scratch->bytes[PATH_END + name], size, (void *)from))
		size = 0;
	exec->filename_size = name;
	exec->arguments_size = size;
}

/* Out of line, so that its buffer doesn't add to the stack of what follows. */
static __noinline __u64 exec_program_id(struct linux_binprm *bprm, const struct wire_exec *exec)
{
	return program_id(&exec->file, script_hash(bprm));
}

/* The script behind `#!` is part of the program's id; another is told by the arguments only. */
static __always_inline __u64 exec_profile_id(struct linux_binprm *bprm, struct scratch *scratch,
					     const struct wire_exec *exec, __u64 program)
{
	__u32 kind = interpreter_kind(bprm, scratch);
	__u64 script = 0;

	if (kind && (kind < WIRE_INTERPRETER_OTHER || !(exec->flags & WIRE_EXEC_SCRIPT)))
		script = script_of_arguments(scratch, PATH_END + exec->filename_size,
					     exec->arguments_size, kind);
	return profile_id(program, script);
}

static __always_inline __u32 exec_flags(struct linux_binprm *bprm)
{
	__u32 flags = 0;

	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		flags |= WIRE_EXEC_SCRIPT;
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		flags |= WIRE_EXEC_PRIVILEGED;
	return flags;
}

/* Descriptors that the new program was given: sockets among its standard streams, and a listening
 * one, as inetd gives it in their place and systemd behind them. Those that close on exec are
 * closed. */
static __noinline __u32 exec_descriptors(struct row *row, struct task_struct *task)
{
	__u32 flags = 0;

	for (__u32 i = 0; i <= STANDARD_STREAMS; i++) {
		struct file *file = task_file(task, i);
		struct sock *sk = file ? file_inet(file) : NULL;

		if (!sk)
			continue;
		if (i < STANDARD_STREAMS)
			flags = WIRE_EXEC_SOCKET;
		if (sock_listens(sk))
			row_listens(row, task);
	}
	return flags;
}

static __always_inline __u32 exec_lineage(struct row *row, struct task_struct *task)
{
	/* A thread that execs has become the leader, and is the only one. */
	lineage_exec(&row->lineage, task, row->profile_id);
	row->actor.root = row->lineage.root;
	return lineage_is_listened(row->lineage.flags) ? WIRE_EXEC_UNDER_LISTENER : 0;
}

static __noinline int exec_send(struct row *row, struct task_struct *task,
				struct linux_binprm *bprm, struct wire_exec *exec)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct scratch *scratch = scratch_get();
	struct wire_exec *record;
	__u32 tail = exec->filename_size + exec->arguments_size;

	if (!scratch)
		return 0;
	path_walk(BPF_CORE_READ(bprm, file), scratch);
	exec->path_size = PATH_END - scratch->start;
	if (scratch->cut)
		exec->flags |= WIRE_EXEC_PATH_CUT;
	exec->actor = row->actor;
	exec->parent_start_boot_ns = BPF_CORE_READ(parent, start_boottime);
	exec->parent_tgid = BPF_CORE_READ(parent, tgid);
	exec->uid = row->uid;
	exec->login_uid = task_login_uid(task);
	header_fill(&exec->header, WIRE_EXEC, sizeof(*exec) + exec->path_size + tail);
	record = (void *)&scratch->bytes[(scratch->start - sizeof(*record)) & (PATH_END - 1)];
	*record = *exec;
	if (!scratch_send(&row->actor, scratch, sizeof(*record), tail, RING_EVIDENCE))
		ring_lost(row);
	return 0;
}

/*
 * sched_process_exec: void (struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
 * The task has its new image and credentials; what it counted belongs to the old program.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct row *row = row_of(task);
	struct scratch *scratch = scratch_get();
	struct wire_exec exec = {};

	if (!row || !scratch)
		return call_uncounted();
	if (!row_is_skipped(row))
		row_flush(row, WIRE_ROW_EXEC);
	exec.previous_program_id = row->actor.program_id;
	exec.uid_before = row->uid;
	exec.old_tid = old_pid;
	exec.flags = exec_flags(bprm) | layer_flags(BPF_CORE_READ(bprm, file));
	file_key(BPF_CORE_READ(bprm, file), &exec.file);
	actor_fill(&row->actor, task);
	row->actor.program_id = exec_program_id(bprm, &exec);
	exec_strings(task, bprm, scratch, &exec);
	row->profile_id = exec_profile_id(bprm, scratch, &exec, row->actor.program_id);
	exec.profile_id = row->profile_id;
	exec.flags |= exec_lineage(row, task);
	exec.flags |= exec_descriptors(row, task);
	if (task_is_hosts(task, scratch, exec.flags & WIRE_EXEC_SCRIPT))
		exec.flags |= WIRE_EXEC_HOST;
	row_credentials(row, task);
	row->history = 0;
	row->misses = 0;
	row_refresh(row, task);
	if (row_is_skipped(row))
		return 0;
	hook_hit(row, WIRE_HOOK_EXEC);
	exec_send(row, task, bprm, &exec);
	return 0;
}

static __always_inline void fork_lineage(struct row *born, struct task_struct *child,
					 struct row *row, struct task_struct *parent)
{
	__u32 flags = lineage_flags(row, parent);

	if (child->tgid == parent->tgid) {
		born->lineage = row->lineage;
		born->lineage.flags = flags;
	} else {
		lineage_fork(&born->lineage, child, &row->lineage, parent, flags, row->profile_id);
	}
	row->actor.root = row->lineage.root;
	born->actor.root = born->lineage.root;
}

#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000

/* Namespaces that a child has and its parent hasn't, by the flags that make them. */
static __always_inline __u32 fork_namespaces(struct task_struct *parent, struct task_struct *child)
{
	struct nsproxy *old = BPF_CORE_READ(parent, nsproxy);
	struct nsproxy *fresh = BPF_CORE_READ(child, nsproxy);
	__u32 made = 0;

	if (BPF_CORE_READ(parent, real_cred, user_ns) != BPF_CORE_READ(child, real_cred, user_ns))
		made |= CLONE_NEWUSER;
	if (old == fresh)
		return made;
	if (BPF_CORE_READ(old, mnt_ns) != BPF_CORE_READ(fresh, mnt_ns))
		made |= CLONE_NEWNS;
	if (BPF_CORE_READ(old, cgroup_ns) != BPF_CORE_READ(fresh, cgroup_ns))
		made |= CLONE_NEWCGROUP;
	if (BPF_CORE_READ(old, uts_ns) != BPF_CORE_READ(fresh, uts_ns))
		made |= CLONE_NEWUTS;
	if (BPF_CORE_READ(old, ipc_ns) != BPF_CORE_READ(fresh, ipc_ns))
		made |= CLONE_NEWIPC;
	if (BPF_CORE_READ(old, pid_ns_for_children) != BPF_CORE_READ(fresh, pid_ns_for_children))
		made |= CLONE_NEWPID;
	if (BPF_CORE_READ(old, net_ns) != BPF_CORE_READ(fresh, net_ns))
		made |= CLONE_NEWNET;
	return made;
}

/* clone3() has its flags in user memory, where they can be changed meanwhile; what came of them is
 * told as its call. Of clone() the registers tell. */
static __noinline int fork_tell_namespaces(struct row *row, struct task_struct *parent,
					   struct task_struct *child)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(parent);
	__s32 number = regs_number(regs);
	bool compat = task_in_compat(parent);
	__u32 made = fork_namespaces(parent, child);
	struct wire_call *record;

	if (!made || number == (compat ? NR_CLONE_COMPAT : NR_CLONE))
		return 0;
	record = ring_reserve(&row->actor, WIRE_CALL, sizeof(*record));
	if (!record) {
		ring_lost(row);
		return 0;
	}
	record->actor = row->actor;
	record->result = BPF_CORE_READ(child, pid);
	for (int i = 0; i < 6; i++)
		record->arguments[i] = 0;
	record->arguments[0] = made;
	record->number = NR_CLONE3;
	record->flags = 0;
	record->class = calls_native[NR_CLONE3].class;
	record->reserved = 0;
	record->path_size = 0;
	record->reserved2 = 0;
	record->file_flags = 0;
	ring_submit(record);
	return 0;
}

/*
 * sched_process_fork: void (struct task_struct *parent, struct task_struct *child)
 * The child begins with its parent's identity and an empty history; it hasn't run yet.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct row *row, *born;
	struct wire_fork *fork;

	if (child->flags & PF_KTHREAD)
		return 0;
	row = row_of(parent);
	if (!row)
		return call_uncounted();
	born = bpf_task_storage_get(&rows, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (born) {
		actor_fill(&born->actor, child);
		born->actor.program_id = row->actor.program_id;
		born->profile_id = row->profile_id;
		row_credentials(born, child);
		born->flags = row->flags & ROW_OWN;
		fork_lineage(born, child, row, parent);
	} else {
		call_uncounted();
	}
	if (row_is_skipped(row))
		return 0;
	hook_hit(row, WIRE_HOOK_FORK);
	fork = ring_reserve(&row->actor, WIRE_FORK, sizeof(*fork));
	if (!fork) {
		ring_lost(row);
		return 0;
	}
	fork->actor = row->actor;
	fork->child_start_boot_ns = child->group_leader->start_boottime;
	fork->child_tgid = child->tgid;
	fork->child_tid = child->pid;
	ring_submit(fork);
	fork_tell_namespaces(row, parent, child);
	return 0;
}

/* exit and exit_group don't return, so that sys_exit doesn't see them. */
static __always_inline void exit_count(struct row *row, struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct call call = {.number = regs_number(regs), .compat = task_in_compat(task)};
	struct wire_call_info info;

	if (call.compat ? call.number != NR_EXIT_COMPAT && call.number != NR_EXIT_GROUP_COMPAT
			: call.number != NR_EXIT && call.number != NR_EXIT_GROUP)
		return;
	/* Where those are neighbours clang knows a range that the verifier doesn't. */
	barrier_var(call.number);
	info = call_info(&call);
	if (full)
		call_raw(row, &call, false);
	call_count(row, &call, info);
}

/* A thread that execs kills the others, and takes the leader's place without what that one kept. */
static __always_inline void exit_lineage(struct row *row, struct task_struct *task)
{
	struct task_struct *heir = task->signal->group_exec_task;
	struct row *inherits;

	if (!heir || heir == task || !(row->lineage.flags & LINEAGE_LISTENS))
		return;
	inherits = bpf_task_storage_get(&rows, heir, 0, 0);
	if (inherits)
		__sync_fetch_and_or(&inherits->lineage.flags, LINEAGE_LISTENS);
}

/* Whether this thread is the last of its process. Several that exit at once all read 0 of
 * `signal->live`: the first one that comes by says so, in its leader's row, which stays until then.
 */
static __always_inline bool exit_is_last(struct row *row, struct task_struct *task)
{
	struct row *leader = row;

	if (task->signal->live.counter)
		return false;
	if (task->pid != task->tgid)
		leader = bpf_task_storage_get(&rows, task->group_leader, 0, 0);
	return leader && !__sync_val_compare_and_swap(&leader->ended, 0, 1);
}

/*
 * sched_process_exit: void (struct task_struct *p); 6.16 and newer: (..., bool group_dead)
 * Per thread. The storage goes with the row: a zombie would keep it.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_process_exit, struct task_struct *task)
{
	struct wire_exit *exit;
	struct row *row;
	bool last;

	if (task->flags & PF_KTHREAD)
		return 0;
	row = row_of(task);
	if (!row)
		return call_uncounted();
	exit_lineage(row, task);
	if (row_is_skipped(row))
		return 0;
	hook_hit(row, WIRE_HOOK_EXIT);
	exit_count(row, task);
	last = exit_is_last(row, task);
	exit = ring_reserve(&row->actor, WIRE_EXIT, sizeof(*exit));
	if (exit) {
		exit->actor = row->actor;
		exit->code = task->exit_code;
		exit->process = last;
		ring_submit(exit);
	} else {
		ring_lost(row);
	}
	row_flush(row, WIRE_ROW_EXIT);
	/* The threads that live on look up what their leader kept of the process. */
	if (task->pid != task->tgid || !task->signal->live.counter)
		bpf_task_storage_delete(&rows, task);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
