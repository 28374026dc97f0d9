// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps who is who among processes, hands a denied tree's entry to its children, and kills a denied
 * program before its first instruction.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define SIGKILL 9

/* `script` is 0 where the file runs itself, or where it is not known. */
static __always_inline bool identify(struct deny_process *process, struct file *file, __u64 script)
{
	struct wire_file key = {};

	if (!file_key(file, &key))
		return false;
	process->program = program_id(&key, script);
	process->file.device = key.device;
	process->file.inode = key.inode;
	process->file.generation = key.generation;
	return true;
}

/* Out of line, so that its buffers don't add to the stack of the look-ups that follow. */
static __noinline bool identify_image(struct deny_process *process, struct linux_binprm *bprm)
{
	return identify(process, bprm->file, script_hash(bprm));
}

static __always_inline struct deny_control *control_word(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&deny_control, &zero);
}

static __always_inline bool entry_lives(__u64 id, __u64 now)
{
	struct deny_entry *entry = bpf_map_lookup_elem(&deny_entries, &id);

	return entry && entry->expiry_boot_ns > now;
}

static __always_inline void enter(__u32 tgid, const struct deny_process *process, __u64 flags)
{
	long error = bpf_map_update_elem(&deny_processes, &tgid, process, flags);
	struct deny_control *control = control_word();

	if (error && flags == BPF_ANY && control)
		__sync_fetch_and_add(&control->unknown, 1);
}

static __always_inline void doom(struct deny_control *control, __u32 tgid, __u64 id)
{
	struct deny_entry *entry = bpf_map_lookup_elem(&deny_entries, &id);
	__u32 index = tgid / 64;
	__u64 *word = bpf_map_lookup_elem(&deny_doomed, &index);

	if (!entry || !word)
		return;
	__sync_fetch_and_or(word, 1ULL << (tgid % 64));
	__sync_fetch_and_add(&control->doomed, 1);
	if (control->doomed_until_boot_ns < entry->expiry_boot_ns)
		control->doomed_until_boot_ns = entry->expiry_boot_ns;
}

/* sched_process_fork(struct task_struct *parent, struct task_struct *child), before it first runs
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(deny_fork, struct task_struct *parent, struct task_struct *child)
{
	struct deny_control *control = control_word();
	struct deny_process *process;
	struct deny_task *denied;
	__u32 parent_tgid = parent->tgid;
	__u32 tgid = child->tgid;

	if (!control || child->pid != child->tgid)
		return 0;
	process = bpf_map_lookup_elem(&deny_processes, &parent_tgid);
	if (process) {
		struct deny_process copy = *process;

		copy.start_boot_ns = child->start_boottime;
		enter(tgid, &copy, BPF_ANY);
	}
	denied = bpf_map_lookup_elem(&deny_tasks, &parent_tgid);
	if (denied && denied->start_boot_ns == parent->group_leader->start_boottime) {
		struct deny_task copy = {child->start_boottime, denied->id};

		if (bpf_map_update_elem(&deny_tasks, &tgid, &copy, BPF_ANY))
			doom(control, tgid, copy.id);
	} else if (deny_is_doomed(control, parent_tgid, bpf_ktime_get_boot_ns())) {
		__u32 index = tgid / 64;
		__u64 *word = bpf_map_lookup_elem(&deny_doomed, &index);

		if (word)
			__sync_fetch_and_or(word, 1ULL << (tgid % 64));
		if (deny_is_switched_on())
			bpf_send_signal(SIGKILL);
	}
	return 0;
}

/* sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm) */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(deny_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct deny_process process = {};
	struct deny_control *control;
	struct deny_query query = {};
	__u32 tgid = task->tgid;

	if (!identify_image(&process, bprm))
		return 0;
	process.start_boot_ns = task->group_leader->start_boottime;
	enter(tgid, &process, BPF_ANY);
	control = deny_armed();
	if (!control || tgid == 1)
		return 0;
	query.now = bpf_ktime_get_boot_ns();
	query.verb = DENY_EXEC;
	query.file = process.file;
	query.programs[0] = process.program;
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		query.cgroups[i] = bpf_get_current_ancestor_cgroup_id(i);
		if (!query.cgroups[i])
			break;
	}
	if (query.cgroups[DENY_LEVELS_MAX - 1])
		query.cgroups[DENY_LEVELS_MAX - 1] = bpf_get_current_cgroup_id();
	if (deny_allows(&query))
		return 0;
	if (deny_is_doomed(control, tgid, query.now) ||
	    deny_tree_refuses(tgid, task->group_leader->start_boottime, query.now, DENY_EXEC) ||
	    deny_refuses(&query))
		bpf_send_signal(SIGKILL);
	return 0;
}

/* sched_process_exit(struct task_struct *p[, bool group_dead]), before files are closed */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(deny_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;
	__u32 index = tgid / 64;
	__u64 *word;

	if (task->signal->live.counter)
		return 0;
	bpf_map_delete_elem(&deny_processes, &tgid);
	bpf_map_delete_elem(&deny_tasks, &tgid);
	word = bpf_map_lookup_elem(&deny_doomed, &index);
	if (word && *word & (1ULL << (tgid % 64)))
		__sync_fetch_and_and(word, ~(1ULL << (tgid % 64)));
	return 0;
}

/* Processes older than the hooks; what a hook has entered meanwhile is newer and stays. */
SEC("iter/task")
int deny_enter_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct deny_process process = {};

	if (!task || task->pid != task->tgid)
		return 0;
	process.start_boot_ns = task->start_boottime;
	if (identify(&process, BPF_CORE_READ(task, mm, exe_file), 0))
		enter(task->tgid, &process, BPF_NOEXIST);
	return 0;
}

#define PARENTS_MAX 32

/*
 * Enters the living descendants of denied tasks, once such an entry is made; those that are forked
 * meanwhile are entered by deny_fork. Writes one byte for each that is new.
 */
SEC("iter/task")
int deny_spread(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct deny_control *control = control_word();
	struct task_struct *parent;
	struct deny_task *known;
	__u64 now, id = 0;
	__u32 tgid;

	if (!task || !control || task->pid != task->tgid)
		return 0;
	now = bpf_ktime_get_boot_ns();
	tgid = task->tgid;
	known = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (known && known->start_boot_ns == task->start_boottime && entry_lives(known->id, now))
		return 0;
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	for (int i = 0; i < PARENTS_MAX && parent; i++) {
		__u32 parent_tgid = BPF_CORE_READ(parent, tgid);
		struct deny_task *denied = bpf_map_lookup_elem(&deny_tasks, &parent_tgid);

		if (parent_tgid <= 1)
			break;
		if (denied && denied->start_boot_ns == BPF_CORE_READ(parent, start_boottime) &&
		    entry_lives(denied->id, now)) {
			id = denied->id;
			break;
		}
		parent = BPF_CORE_READ(parent, real_parent, group_leader);
	}
	if (id) {
		struct deny_task copy = {task->start_boottime, id};
		__u8 one = 1;

		if (bpf_map_update_elem(&deny_tasks, &tgid, &copy, BPF_ANY))
			doom(control, tgid, id);
		else
			bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
	}
	return 0;
}
