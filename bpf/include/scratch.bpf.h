/* SPDX-License-Identifier: GPL-2.0-only */
/* Where records of variable size are put together before they go to the ring. */
#ifndef HEDGEROW_SCRATCH_BPF_H
#define HEDGEROW_SCRATCH_BPF_H

#include "ring.bpf.h"

#define INTERPRETER_NAME_MAX 32 /* more than any has */
#define PATH_END 512            /* a path ends here, so that what precedes it can be put in front */

/* Arguments as they are read, see script.bpf.h. */
struct words {
	__u64 hash;   /* of the word so far */
	__u64 base;   /* of what follows its last slash, dashes in front left out */
	__u64 named;  /* of the word before, where that one says what this one is */
	__u64 script; /* what was found */
	__u32 interpreter;
	__u32 index; /* of the word */
	__u32 length;
	__u32 first; /* byte */
	__u32 skip;  /* the word is the value of the one before */
	__u32 done;
	__u64 stem; /* of the file's name without the digits and dots at its end */
	__u32 last; /* three bytes */
	__u32 library;
	char name[INTERPRETER_NAME_MAX];
};

/* Where an environment is read, see host.bpf.h. */
struct environment {
	unsigned long at;
	unsigned long end;
	__u32 script;
	__u32 inside; /* of a variable whose name was looked at */
	__u32 overrides;
	__u32 reserved;
};

/* A record under construction: its head ends where its path begins. */
struct scratch {
	__u32 start; /* of the path */
	__u32 cut;   /* the head of the path is missing */
	__u32 tail_cut;
	__u32 file_flags;
	struct words words;
	struct environment environment;
	__u8 bytes[2048];
};

/* Per CPU, used with preemption off and never by softirqs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches __weak SEC(".maps");

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* Sends the record that begins `size` of head before the path and has `tail` bytes after it. */
static __always_inline bool scratch_send(const struct wire_actor *actor, struct scratch *scratch,
					 __u32 head, __u32 tail, enum ring_priority priority)
{
	__u32 start = (scratch->start - head) & (PATH_END - 1);
	__u32 size = (PATH_END - start + tail) & 1023;

	return ring_output(actor, &scratch->bytes[start], size, priority);
}

#endif
