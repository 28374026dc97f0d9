/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps and variables that the sensor's objects share. Everything here is weak, so that each object
 * that includes it has the definition and the linker keeps one. */
#ifndef HEDGEROW_STATE_BPF_H
#define HEDGEROW_STATE_BPF_H

#include "lineage.bpf.h"

#define MAX_WORKLOADS 4096 /* cgroups with a number; more stay unprofiled */
#define MAX_SERVICES 4096  /* of hosts without units; more stay unprofiled */
#define MAX_PROGRAMS 8192  /* (workload, program) pairs with a slot */
#define MAX_PROFILES 256   /* n-gram slots unless user space sets another number */
#define MAX_SPILLED 2048   /* programs of which rows are summed up in an epoch; then the rest */
#define MAX_CGROUP_BUDGETS 4096

/* Settings, fixed at load. */
const volatile struct wire_call_info calls_native[WIRE_TABLE_SIZE] __weak = {};
const volatile struct wire_call_info calls_compat[WIRE_TABLE_SIZE] __weak = {};
const volatile struct wire_call_info calls_uring[64] __weak = {};
const volatile __u64 gram_multiplier[3] __weak = {1, 1, 1}; /* for 2-, 3- and 6-grams; odd */
const volatile bool full __weak = false;
const volatile __u32 own_tgid __weak = 0; /* ours as long as we live, so its start needs no look */
const volatile __u32 ring_bytes __weak = 1 << 20;
const volatile __u32 task_tokens __weak = 512;     /* streamed calls of a thread in an epoch */
const volatile __u32 cgroup_tokens __weak = 20000; /* streamed calls of a cgroup in an epoch */
const volatile __u32 evidence_tokens __weak = 256; /* of evidence, of a thread in an epoch */

struct wire_control control __weak SEC(".data.control");

struct bucket {
	__u32 epoch; /* 0: never used */
	__u32 taken; /* delivered: set by whoever delivers it, reset by the thread itself */
	struct wire_counts counts;
};

enum row_flags {
	ROW_OWN = 1,   /* of Hedgerow's own process tree: nothing is observed */
	ROW_PROOF = 2, /* the marked child: observed although it is our own */
	ROW_KNOWS = 4, /* its profile holds in this epoch */
};

/* Everything about a thread. The thread is the only writer of its counts: who takes a bucket out
 * sets `taken`, and the thread clears the bucket when it next needs it, two epochs on. */
struct row {
	struct wire_clock seen; /* the clock at the last refresh */
	__u64 history;
	__u64 profile_id;
	__u32 flags;
	__u32 tokens;
	__u32 evidence;
	__u32 uid;    /* effective, of real_cred */
	__u32 misses; /* unseen 6-grams within the last calls */
	__u32 misses_since;
	__u32 run;          /* records of the full stream for which there was room */
	__u32 ended;        /* of a leader: the end of its process was told */
	__u64 capabilities; /* effective, of real_cred */
	struct wire_actor actor;
	struct lineage lineage;
	struct bucket buckets[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct row);
} rows __weak SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
};

/* One ring per CPU; user space creates them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} rings __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} signals __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wire_stats);
} stats __weak SEC(".maps");

static __always_inline struct wire_stats *cpu_stats(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stats, &zero);
}

#endif
