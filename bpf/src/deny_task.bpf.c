// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps who is who among processes, hands a denied tree's entry to its children, and kills a denied
 * program before its first instruction.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define SIGKILL 9

/* Processes of one tree: half of the table, so that no tree takes it from others. */
const volatile __s64 tree_share = DENY_TASKS_MAX / 2;

struct image {
	__u64 program;
	struct deny_file file;
};

/* `script` is 0 where the file runs itself, or where it is not known. */
static __always_inline bool identify(struct image *image, struct file *file, __u64 script)
{
	struct wire_file key = {};

	if (!file_key(file, &key))
		return false;
	image->program = program_id(&key, script);
	image->file.device = key.device;
	image->file.inode = key.inode;
	image->file.generation = key.generation;
	return true;
}

/* Out of line, so that its buffers don't add to the stack of the look-ups that follow. */
static __noinline bool identify_image(struct image *image, struct linux_binprm *bprm)
{
	return identify(image, bprm->file, script_hash(bprm));
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

/* Out of line for the same reason. Only the process itself execs, so nobody else writes it. */
static __noinline void enter_image(__u32 tgid, __u64 start_boot_ns, const struct image *image)
{
	struct deny_process *known = bpf_map_lookup_elem(&deny_processes, &tgid);
	struct deny_process process = {};

	if (known && known->start_boot_ns == start_boot_ns) {
		known->program = image->program;
		known->file = image->file;
		return;
	}
	process.start_boot_ns = start_boot_ns;
	process.program = image->program;
	process.file = image->file;
	enter(tgid, &process, BPF_ANY);
}

static __always_inline bool is_alive(const struct deny_ancestor *ancestor)
{
	__u32 tgid = ancestor->tgid;
	struct deny_process *process = bpf_map_lookup_elem(&deny_processes, &tgid);

	return process && process->start_boot_ns == ancestor->start_boot_ns;
}

/*
 * The child's ancestors: its parent, then the parent's own. Without room the oldest dead one goes,
 * and only then the oldest: while each process keeps one living ancestor, a tree is found whole,
 * however many of its members came and went.
 */
static __noinline void enter_child(__u32 tgid, __u64 start_boot_ns, __u32 parent_tgid)
{
	struct deny_process *parent = bpf_map_lookup_elem(&deny_processes, &parent_tgid);
	struct deny_process child = {};
	int gone = DENY_ANCESTORS_MAX - 1;

	if (!parent)
		return;
	if (parent->ancestors[DENY_ANCESTORS_MAX - 1].tgid) {
		for (int i = DENY_ANCESTORS_MAX - 1; i >= 0; i--) {
			if (!is_alive(&parent->ancestors[i])) {
				gone = i;
				break;
			}
		}
	}
	child.start_boot_ns = start_boot_ns;
	child.program = parent->program;
	child.file = parent->file;
	child.ancestors[0].start_boot_ns = parent->start_boot_ns;
	child.ancestors[0].tgid = parent_tgid;
#pragma unroll
	for (int i = 1; i < DENY_ANCESTORS_MAX; i++)
		child.ancestors[i] = i <= gone ? parent->ancestors[i - 1] : parent->ancestors[i];
	enter(tgid, &child, BPF_ANY);
}

static __always_inline void doom(struct deny_control *control, __u32 tgid, __u64 id)
{
	struct deny_entry *entry = bpf_map_lookup_elem(&deny_entries, &id);
	__u32 index = tgid / 64;
	__u64 *word = bpf_map_lookup_elem(&deny_doomed, &index);

	if (!entry || !word)
		return;
	if (entry->mode != DENY_ENFORCE) {
		/* Who only counts refuses and kills nobody. */
		__sync_fetch_and_add(&control->uncounted, 1);
		return;
	}
	__sync_fetch_and_or(word, 1ULL << (tgid % 64));
	__sync_fetch_and_add(&control->doomed, 1);
	if (control->doomed_until_boot_ns < entry->expiry_boot_ns)
		control->doomed_until_boot_ns = entry->expiry_boot_ns;
}

/*
 * Enters a process under the tree's entry; false where it finds no room, or its tree has more than
 * one may have.
 */
static __always_inline bool enter_member(__u32 tgid, const struct deny_task *member)
{
	__u64 id = member->id;
	struct deny_hits *hits = bpf_map_lookup_elem(&deny_hits, &id);

	if (hits && hits->members >= tree_share)
		return false;
	if (bpf_map_update_elem(&deny_tasks, &tgid, member, BPF_ANY))
		return false;
	if (hits)
		__sync_fetch_and_add(&hits->members, 1);
	return true;
}

static __always_inline void leave_member(__u32 tgid)
{
	struct deny_task *member = bpf_map_lookup_elem(&deny_tasks, &tgid);
	struct deny_hits *hits;
	__u64 id;

	if (!member)
		return;
	id = member->id;
	hits = bpf_map_lookup_elem(&deny_hits, &id);
	if (hits)
		__sync_fetch_and_add(&hits->members, -1);
	bpf_map_delete_elem(&deny_tasks, &tgid);
}

/* The last of its threads has exited, or is about to pass deny_exit. */
static __always_inline bool has_exited(struct task_struct *task)
{
	return !task->signal->live.counter;
}

static __always_inline void pardon(__u32 tgid)
{
	__u32 index = tgid / 64;
	__u64 *word = bpf_map_lookup_elem(&deny_doomed, &index);

	if (word && *word & (1ULL << (tgid % 64)))
		__sync_fetch_and_and(word, ~(1ULL << (tgid % 64)));
}

/* sched_process_fork(struct task_struct *parent, struct task_struct *child), before it first runs
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(deny_fork, struct task_struct *parent, struct task_struct *child)
{
	struct deny_control *control = control_word();
	struct deny_task *denied;
	__u32 parent_tgid = parent->tgid;
	__u32 tgid = child->tgid;

	if (!control || child->pid != child->tgid)
		return 0;
	enter_child(tgid, child->start_boottime, parent_tgid);
	denied = bpf_map_lookup_elem(&deny_tasks, &parent_tgid);
	if (denied && denied->start_boot_ns == parent->group_leader->start_boottime) {
		struct deny_task copy = {child->start_boottime, denied->id};

		if (!enter_member(tgid, &copy))
			doom(control, tgid, copy.id);
	} else if (deny_is_doomed(parent_tgid, bpf_ktime_get_boot_ns())) {
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
	const struct deny_asked *asked;
	struct image image = {};
	struct deny_query query = {};
	__u32 tgid = task->tgid;

	if (!identify_image(&image, bprm))
		return 0;
	enter_image(tgid, task->group_leader->start_boottime, &image);
	/* Whom no table had room for dies here, whatever it is that his tree is refused. */
	asked = deny_armed(~0U);
	if (!asked || tgid == 1)
		return 0;
	deny_query_current(&query, asked, DENY_EXEC);
	query.file = image.file;
	query.programs[0] = image.program;
	if (deny_allows(&query))
		return 0;
	if (deny_is_doomed(tgid, query.now) ||
	    deny_tree_refuses(&query, tgid, task->group_leader->start_boottime) ||
	    deny_refuses(&query))
		bpf_send_signal(SIGKILL);
	return 0;
}

/* sched_process_exit(struct task_struct *p[, bool group_dead]), before files are closed */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(deny_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;

	if (!has_exited(task))
		return 0;
	bpf_map_delete_elem(&deny_processes, &tgid);
	leave_member(tgid);
	pardon(tgid);
	return 0;
}

/* Processes older than the hooks; what a hook has entered meanwhile is newer and stays. */
SEC("iter/task")
int deny_enter_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct deny_process process = {};
	struct task_struct *parent;
	struct image image = {};

	if (!task || task->pid != task->tgid)
		return 0;
	process.start_boot_ns = task->start_boottime;
	if (identify(&image, BPF_CORE_READ(task, mm, exe_file), 0)) {
		process.program = image.program;
		process.file = image.file;
	}
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	for (int i = 0; i < DENY_ANCESTORS_MAX; i++) {
		process.ancestors[i].tgid = BPF_CORE_READ(parent, tgid);
		if (!process.ancestors[i].tgid)
			break;
		process.ancestors[i].start_boot_ns = BPF_CORE_READ(parent, start_boottime);
		parent = BPF_CORE_READ(parent, real_parent, group_leader);
	}
	enter(task->tgid, &process, BPF_NOEXIST);
	return 0;
}

#define PARENTS_MAX 32

/* The live entry of the tree that this process is or was a member of; 0 is none. */
static __always_inline __u64 tree_at(const struct deny_control *control, __u32 tgid,
				     __u64 start_boot_ns, __u64 now)
{
	struct deny_task *denied;

	if (tgid <= 1)
		return 0;
	if (control->root.tgid == tgid && control->root.start_boot_ns == start_boot_ns)
		return control->root_id;
	denied = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (!denied || denied->start_boot_ns != start_boot_ns || !entry_lives(denied->id, now))
		return 0;
	return denied->id;
}

/* By who forked it, also where they have exited. */
static __noinline __u64 tree_by_forks(const struct deny_control *control, __u32 tgid,
				      __u64 start_boot_ns, __u64 now)
{
	struct deny_process *process = bpf_map_lookup_elem(&deny_processes, &tgid);

	if (!process || process->start_boot_ns != start_boot_ns)
		return 0;
	for (int i = 0; i < DENY_ANCESTORS_MAX; i++) {
		struct deny_ancestor *ancestor = &process->ancestors[i];
		__u64 id = tree_at(control, ancestor->tgid, ancestor->start_boot_ns, now);

		if (id)
			return id;
	}
	return 0;
}

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
	__u64 now, id;
	__u32 tgid;

	if (!task || !control || task->pid != task->tgid || task->tgid == 1)
		return 0;
	/* Nobody has waited for it: deny_exit has forgotten it, and would not do so again. */
	if (has_exited(task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	tgid = task->tgid;
	known = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (known && known->start_boot_ns == task->start_boottime && entry_lives(known->id, now))
		return 0;
	id = tree_by_forks(control, tgid, task->start_boottime, now);
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	for (int i = 0; i < PARENTS_MAX && parent && !id; i++) {
		__u32 parent_tgid = BPF_CORE_READ(parent, tgid);

		if (parent_tgid <= 1)
			break;
		id = tree_at(control, parent_tgid, BPF_CORE_READ(parent, start_boottime), now);
		parent = BPF_CORE_READ(parent, real_parent, group_leader);
	}
	if (id) {
		struct deny_task copy = {task->start_boottime, id};
		__u8 one = 1;

		if (enter_member(tgid, &copy)) {
			bpf_seq_write(ctx->meta->seq, &one, sizeof(one));
			return 0;
		}
		doom(control, tgid, id);
		/* The bit has no start: it must not wait for the next process of this number. */
		if (has_exited(task))
			pardon(tgid);
	}
	return 0;
}
