/* SPDX-License-Identifier: GPL-2.0-only */
/* Files that are used as code: mapped executable, or opened by a name that interpreters read. What
 * is executed is told by its exec. Each file is told once an hour for each program in a cgroup. */
#ifndef HEDGEROW_USED_BPF_H
#define HEDGEROW_USED_BPF_H

#include "stream.bpf.h"

#define MAX_USED 16384   /* files of programs that were told; full, those used longest ago go */
#define USED_AGAIN 720   /* epochs: an hour */
#define USED_TOKENS 1024 /* records of a CPU in an epoch; more are counted, and told later */
#define S_IFREG 0100000
#define O_WRONLY 1

struct used_key {
	__u64 program_id;
	__u64 cgroup_id;
	__u64 device;
	__u64 inode;
	__u64 ctime_ns;
};

/* The epoch in which a file was told last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_USED);
	__type(key, struct used_key);
	__type(value, __u32);
} used __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} used_budgets __weak SEC(".maps");

static __always_inline bool used_token(__u32 epoch)
{
	__u32 zero = 0;
	struct budget *budget = bpf_map_lookup_elem(&used_budgets, &zero);

	if (!budget)
		return false;
	if (budget->epoch != epoch) {
		budget->epoch = epoch;
		budget->used = 0;
	}
	return budget->used++ < USED_TOKENS;
}

static __noinline bool used_send(struct row *row, struct file *file, const struct wire_file *key,
				 __u32 flags)
{
	struct scratch *scratch = scratch_get();
	struct wire_used *record;
	__u32 size;

	if (!scratch || !used_token(row->seen.epoch))
		return false;
	path_walk(file, scratch);
	size = (PATH_END - scratch->start) & 1023;
	record = (void *)&scratch->bytes[(scratch->start - sizeof(*record)) & (PATH_END - 1)];
	header_fill(&record->header, WIRE_USED, sizeof(*record) + size);
	record->header.epoch = row->seen.epoch;
	record->actor = row->actor;
	record->file = *key;
	record->flags = flags | (scratch->cut ? WIRE_USED_PATH_CUT : 0);
	record->path_size = size;
	record->reserved = 0;
	return scratch_send(&row->actor, scratch, sizeof(*record), 0, RING_COMMON);
}

/* What can't be told is counted, and told when the file is next used. */
static __noinline int used_tell(struct row *row, struct file *file, __u32 flags)
{
	struct wire_file file_of = {};
	struct used_key key = {};
	struct wire_stats *cpu;
	__u32 epoch = row->seen.epoch;
	__u32 *told;

	/* A memfd, a device or a pipe is no package's. */
	if (!file_key(file, &file_of) || (file_of.mode & S_IFMT) != S_IFREG || !file_of.links)
		return 0;
	key.program_id = row->actor.program_id;
	key.cgroup_id = row->actor.cgroup_id;
	key.device = file_of.device;
	key.inode = file_of.inode;
	key.ctime_ns = file_of.ctime_ns;
	told = bpf_map_lookup_elem(&used, &key);
	if (told && epoch - *told < USED_AGAIN)
		return 0;
	if (used_send(row, file, &file_of, flags)) {
		bpf_map_update_elem(&used, &key, &epoch, BPF_ANY);
		return 0;
	}
	cpu = cpu_stats();
	if (cpu)
		__sync_fetch_and_add(&cpu->used_untold, 1);
	return 0;
}

#define ENDING(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* Whether a file that was opened has a name of what interpreters read: the last four bytes. */
static __always_inline bool used_is_source(struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	__u32 length = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u32 ending = 0;

	if (length < sizeof(ending) || (BPF_CORE_READ(file, f_flags) & O_ACCMODE) == O_WRONLY ||
	    bpf_probe_read_kernel(&ending, sizeof(ending), name + length - sizeof(ending)))
		return false;
	switch (ending) {
	case ENDING('.', 'p', 'y', 'c'):
	case ENDING('.', 'm', 'j', 's'):
	case ENDING('.', 'c', 'j', 's'):
	case ENDING('.', 'j', 'a', 'r'):
	case ENDING('.', 'w', 'a', 'r'):
	case ENDING('.', 'p', 'h', 'p'):
		return true;
	}
	switch (ending & ENDING(0, 0xff, 0xff, 0xff)) {
	case ENDING(0, '.', 'p', 'y'):
	case ENDING(0, '.', 'j', 's'):
	case ENDING(0, '.', 'r', 'b'):
	case ENDING(0, '.', 'p', 'l'):
	case ENDING(0, '.', 'p', 'm'):
		return true;
	}
	return false;
}

/* A call that mapped or opened something. The file is looked up by the descriptor that the call was
 * given, or gave: who exchanges it meanwhile in another thread hides his own use, nobody else's. */
static __noinline int used_call(struct row *row, struct task_struct *task, __s64 result,
				const __u64 *arguments, __u32 flags)
{
	struct file *file;

	if (result < 0 || control.shed & WIRE_SHED_USED)
		return 0;
	if (flags & WIRE_INFO_MAPS) {
		if (!(arguments[2] & PROT_EXEC) || arguments[3] & MAP_ANONYMOUS)
			return 0;
		file = task_file(task, arguments[4]);
		return file ? used_tell(row, file, 0) : 0;
	}
	file = task_file(task, result);
	return file && used_is_source(file) ? used_tell(row, file, WIRE_USED_READ) : 0;
}

#endif
