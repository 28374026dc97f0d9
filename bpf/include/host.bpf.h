/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether a program runs as the host's own: in the host's root directory, as root, with nothing in
 * its environment that loads other code. A path says what it seems to say only there: whoever has a
 * root directory of his own puts any file at any path. */
#ifndef HEDGEROW_HOST_BPF_H
#define HEDGEROW_HOST_BPF_H

#include "scratch.bpf.h"

#define ENVIRONMENT_CHUNK 256      /* read at once; a longer variable takes several */
#define ENVIRONMENT_CHUNKS_MAX 512 /* what is longer counts as one that loads other code */

/* The loader's and the C library's variables name code that they load, PYTHON*, PERL* and BASH_ENV
 * what an interpreter runs before its script. */
static __always_inline bool word_overrides(const char *word, bool script)
{
	if (word[0] == 'L' && word[1] == 'D' && word[2] == '_')
		return true;
	if (word[0] == 'G' && word[1] == 'C' && word[2] == 'O' && word[3] == 'N' && word[4] == 'V')
		return true;
	if (!script)
		return false;
	if (word[0] == 'P' && word[1] == 'E' && word[2] == 'R' && word[3] == 'L')
		return true;
	if (word[0] == 'B' && word[1] == 'A' && word[2] == 'S' && word[3] == 'H' && word[4] == '_')
		return true;
	return word[0] == 'P' && word[1] == 'Y' && word[2] == 'T' && word[3] == 'H';
}

/* Works on a map's memory: the verifier of 6.1 takes what a stack holds at the first turn for what
 * it holds at each. */
static long environment_chunk(__u32 index, struct scratch **walked)
{
	struct environment *walk = &(*walked)->environment;
	char *word = (char *)(*walked)->bytes;
	long size;

	if (walk->at >= walk->end) {
		walk->overrides = 0;
		return 1;
	}
	size = bpf_probe_read_user_str(word, ENVIRONMENT_CHUNK, (void *)walk->at);
	if (size < 0 || (!walk->inside && word_overrides(word, walk->script)))
		return 1;
	/* One that just fits is read on from its end, as an empty one, whose size is 0 in 6.12. */
	walk->inside = size == ENVIRONMENT_CHUNK;
	walk->at += walk->inside ? ENVIRONMENT_CHUNK - 1 : size ?: 1;
	return 0;
}

/* As it was copied at exec, before the first instruction. What can't be read, or is too long,
 * counts as one that loads other code. */
static __noinline bool environment_overrides(struct task_struct *task, struct scratch *scratch,
					     bool script)
{
	struct environment *walk = &scratch->environment;

	walk->at = BPF_CORE_READ(task, mm, env_start);
	walk->end = BPF_CORE_READ(task, mm, env_end);
	walk->script = script;
	walk->inside = 0;
	walk->overrides = 1;
	bpf_loop(ENVIRONMENT_CHUNKS_MAX, environment_chunk, &scratch, 0);
	return walk->overrides;
}

/* Whether the root directory of a task is that of the host's init: also in the mount namespaces
 * that a service manager makes to hide parts of it. */
static __always_inline bool task_in_host_root(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct upid *first = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	struct pid_namespace *host = BPF_CORE_READ(first, ns);
	struct dentry *root = BPF_CORE_READ(host, child_reaper, fs, root.dentry);

	return root && root == BPF_CORE_READ(task, fs, root.dentry);
}

/* Uses the scratch up to ENVIRONMENT_CHUNK. */
static __always_inline bool task_is_hosts(struct task_struct *task, struct scratch *scratch,
					  bool script)
{
	const struct cred *cred = task->real_cred;

	return !cred->uid.val && !cred->euid.val && task_in_host_root(task) &&
	       !environment_overrides(task, scratch, script);
}

#endif
