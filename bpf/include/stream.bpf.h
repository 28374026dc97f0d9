/* SPDX-License-Identifier: GPL-2.0-only */
/* Security-relevant calls as records, held back by token buckets per thread and cgroup. */
#ifndef HEDGEROW_STREAM_BPF_H
#define HEDGEROW_STREAM_BPF_H

#include "calls.bpf.h"
#include "descriptor.bpf.h"
#include "path.bpf.h"

#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20
#define AF_PACKET 17
#define AF_XDP 44
#define AT_FDCWD (-100)
#define O_ACCMODE 3
#define S_IROTH 4
#define S_IXOTH 1
#define TMPFS_MAGIC 0x01021994
#define FMODE_CREATED 0x100000      /* this open made the file */
#define CLONE_NEW_ANY 0x7e020000ULL /* every CLONE_NEW* that clone(2) knows */

struct budget {
	__u32 epoch;
	__u32 used;
};

/* Streamed calls by cgroup. Full: the bucket per thread stands alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CGROUP_BUDGETS);
	__type(key, __u64);
	__type(value, struct budget);
} budgets __weak SEC(".maps");

static __always_inline bool budget_take(__u64 cgroup_id, __u32 epoch)
{
	struct budget *budget = bpf_map_lookup_elem(&budgets, &cgroup_id);
	struct budget fresh = {.epoch = epoch, .used = 1};

	if (!budget) {
		bpf_map_update_elem(&budgets, &cgroup_id, &fresh, BPF_NOEXIST);
		return true;
	}
	if (budget->epoch != epoch) {
		budget->used = 0;
		budget->epoch = epoch;
	}
	return __sync_fetch_and_add(&budget->used, 1) < cgroup_tokens;
}

/* Evidence has tokens of its own, so that a flood of opens doesn't hide a ptrace. */
static __always_inline bool stream_token(struct row *row, __u16 flags)
{
	if (flags & WIRE_INFO_EVIDENCE) {
		if (!row->evidence)
			return false;
		row->evidence--;
		return true;
	}
	if (!row->tokens)
		return false;
	row->tokens--;
	return budget_take(row->actor.cgroup_id, row->seen.epoch);
}

/* Whether a call is of the streamed kind, by its table entry and its arguments. */
static __always_inline bool stream_wants(__u16 flags, const __u64 *arguments)
{
	if (!(flags & WIRE_INFO_STREAM))
		return false;
	if (flags & WIRE_INFO_IF_EXEC && !(arguments[2] & PROT_EXEC))
		return false;
	if (flags & WIRE_INFO_IF_ANONYMOUS)
		return arguments[3] & MAP_ANONYMOUS;
	if (flags & WIRE_INFO_IF_NAMESPACE)
		return arguments[0] & CLONE_NEW_ANY;
	if (flags & WIRE_INFO_IF_PACKET)
		return (__u32)arguments[0] == AF_PACKET || (__u32)arguments[0] == AF_XDP;
	return true;
}

#define PATH_ARGUMENTS (WIRE_INFO_PATH_0 | WIRE_INFO_PATH_1 | WIRE_INFO_PATH_2 | WIRE_INFO_PATH_3)

/* Writes the path of the directory that a name is relative to, so that it ends at PATH_END. */
static __noinline int stream_directory(struct task_struct *task, __s32 descriptor,
				       struct scratch *scratch)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct file *file;

	if (descriptor == AT_FDCWD)
		return path_walk_from(BPF_CORE_READ(fs, pwd.dentry), BPF_CORE_READ(fs, pwd.mnt),
				      scratch);
	file = task_file(task, descriptor);
	if (file)
		path_walk(file, scratch);
	return 0;
}

/* Brings a name to PATH_END, behind the directory that it is relative to. Returns its size. */
static __always_inline __u32 stream_name(struct task_struct *task, const char *name, bool user,
					 __s32 directory, struct scratch *scratch)
{
	__u8 *at = &scratch->bytes[PATH_END];
	__u32 slash = 0;
	char first = 0;
	long size;

	if (user)
		bpf_probe_read_user(&first, 1, name);
	else
		bpf_probe_read_kernel(&first, 1, name);
	if (!first)
		return 0;
	if (first != '/') {
		stream_directory(task, directory, scratch);
		slash = scratch->start != PATH_END;
	}
	*at = '/';
	size = user ? bpf_probe_read_user_str(at + slash, WIRE_PATH_MAX, name)
		    : bpf_probe_read_kernel_str(at + slash, WIRE_PATH_MAX, name);
	if (size <= 1)
		return 0;
	if (size == WIRE_PATH_MAX)
		scratch->tail_cut = 1;
	return slash + ((size - 1) & (WIRE_PATH_MAX - 1));
}

/* The name that an io_uring open was given, as the kernel has copied it. */
static __noinline int stream_uring_name(struct task_struct *task, struct io_kiocb *request,
					struct scratch *scratch)
{
	struct io_open *open = (void *)request + bpf_core_field_offset(struct io_kiocb, file);

	return stream_name(task, BPF_CORE_READ(open, filename, name), false,
			   BPF_CORE_READ(open, dfd), scratch);
}

static __noinline int stream_claimed_name(struct task_struct *task, __u16 flags,
					  const __u64 *arguments, struct scratch *scratch)
{
	__s32 directory = AT_FDCWD;
	const void *name;

	if (flags & WIRE_INFO_PATH_0) {
		name = (void *)arguments[0];
	} else if (flags & WIRE_INFO_PATH_1) {
		name = (void *)arguments[1];
		directory = flags & WIRE_INFO_AT ? arguments[0] : directory;
	} else if (flags & WIRE_INFO_PATH_2) {
		name = (void *)arguments[2];
		directory = flags & WIRE_INFO_AT ? arguments[1] : directory;
	} else {
		name = (void *)arguments[3];
		directory = flags & WIRE_INFO_AT ? arguments[2] : directory;
	}
	return stream_name(task, name, true, directory, scratch);
}

/* Brings the call's path to PATH_END, kernel-owned where a descriptor has one. Returns the size of
 * a name that was given, which follows PATH_END. */
static __always_inline __u32 stream_path(struct task_struct *task, const struct call *call,
					 __u16 flags, const __u64 *arguments,
					 struct scratch *scratch)
{
	struct file *file;

	scratch->start = PATH_END;
	scratch->cut = 0;
	scratch->tail_cut = 0;
	scratch->file_flags = 0;
	if (call->uring) {
		if (!(flags & WIRE_INFO_DESCRIPTOR) || !bpf_core_type_exists(struct io_open))
			return 0;
		return stream_uring_name(task, call->request, scratch);
	}
	if (flags & WIRE_INFO_DESCRIPTOR && call->result >= 0) {
		file = task_file(task, call->result);
		if (file) {
			path_walk(file, scratch);
			scratch->file_flags = BPF_CORE_READ(file, f_flags);
		}
		return 0;
	}
	return flags & PATH_ARGUMENTS ? stream_claimed_name(task, flags, arguments, scratch) : 0;
}

/* Whether everybody may read a file: by its own mode, and not in a directory that others may not
 * enter, nor in memory, where secrets are handed to containers. */
static __always_inline bool stream_is_open_to_all(struct file *file)
{
	return BPF_CORE_READ(file, f_inode, i_mode) & S_IROTH &&
	       BPF_CORE_READ(file, f_path.dentry, d_parent, d_inode, i_mode) & S_IXOTH &&
	       BPF_CORE_READ(file, f_inode, i_sb, s_magic) != TMPFS_MAGIC;
}

/* Whether an open is of those that are not told to cost less: a failed one, or one that could only
 * read what everybody may read. What writes, or opens what is kept from others, is told always. */
static __noinline bool stream_sheds(struct task_struct *task, const struct call *call, __u32 flags)
{
	struct file *file;

	if (!(control.shed & WIRE_SHED_READS) || !(flags & WIRE_INFO_DESCRIPTOR) ||
	    flags & WIRE_INFO_EVIDENCE || call->uring)
		return false;
	if (call->result < 0)
		return true;
	file = task_file(task, call->result);
	return file && !(BPF_CORE_READ(file, f_flags) & O_ACCMODE) &&
	       !(BPF_CORE_READ(file, f_mode) & FMODE_CREATED) && stream_is_open_to_all(file);
}

static __noinline int stream_call(struct row *row, struct task_struct *task,
				  const struct call *call, const __u64 *arguments, __u32 info)
{
	struct scratch *scratch = scratch_get();
	__u16 flags = info;
	enum ring_priority priority = flags & WIRE_INFO_EVIDENCE ? RING_EVIDENCE : RING_COMMON;
	struct wire_call *record;
	__u32 given, size;

	if (stream_sheds(task, call, flags) || !stream_token(row, flags)) {
		row_bucket(row)->counts.limited++;
		return 0;
	}
	if (!scratch)
		return 0;
	given = stream_path(task, call, flags, arguments, scratch) & (PATH_END - 1);
	size = (PATH_END - scratch->start + given) & 1023;
	record = (void *)&scratch->bytes[(scratch->start - sizeof(*record)) & (PATH_END - 1)];
	header_fill(&record->header, WIRE_CALL, sizeof(*record) + size);
	record->header.epoch = row->seen.epoch; /* as it was counted */
	record->actor = row->actor;
	record->result = call->result;
	for (int i = 0; i < 6; i++)
		record->arguments[i] = arguments[i];
	record->number = call->number;
	record->flags = (call->compat ? WIRE_CALL_COMPAT : 0) |
			(call->uring ? WIRE_CALL_URING : 0) |
			(given && !call->uring ? WIRE_CALL_CLAIMED : 0) |
			(scratch->cut | scratch->tail_cut ? WIRE_CALL_PATH_CUT : 0);
	record->class = info >> 16;
	record->reserved = 0;
	record->path_size = size;
	record->reserved2 = 0;
	record->file_flags = scratch->file_flags;
	if (!scratch_send(&row->actor, scratch, sizeof(*record), given, priority))
		ring_lost(row);
	return 0;
}

#endif
