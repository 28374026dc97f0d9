/* SPDX-License-Identifier: GPL-2.0-only */
/* Which n-gram profile a program has. */
#ifndef HEDGEROW_PROFILE_BPF_H
#define HEDGEROW_PROFILE_BPF_H

#include "identity.bpf.h"
#include "state.bpf.h"

#define PROFILE_STRANGER (1ULL << WIRE_PROFILE_STRANGER_BIT)

/* Workload numbers by cgroup id, given by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WORKLOADS);
	__type(key, __u64);
	__type(value, __u32);
} workloads __weak SEC(".maps");

/* Of the services in cgroups of the host's number, given by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct wire_service_key);
	__type(value, __u32);
} services __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PROGRAMS);
	__type(key, struct wire_program_key);
	__type(value, struct wire_program);
} programs __weak SEC(".maps");

/* Slots that no program has; filled by user space, popped while learning. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_PROFILES);
	__type(value, __u32);
} free_slots __weak SEC(".maps");

/* Slot 0 is for programs without a profile and stays unused. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PROFILES);
	__type(key, __u32);
	__type(value, struct wire_profile);
} profiles __weak SEC(".maps");

/* What has a profile of its own: a program with the script of its arguments, 0 for none. */
static __always_inline __u64 profile_id(__u64 program_id, __u64 script)
{
	__u64 id = script ? mix64(program_id ^ script) : program_id;

	return id & ~PROFILE_STRANGER;
}

/* The same for a process, and its children, of which only the file is known. */
static __always_inline __u64 stranger_profile_id(__u64 program_id, __u32 tgid)
{
	return program_id ? mix64(program_id ^ tgid) | PROFILE_STRANGER : 0;
}

/* The number of a process's workload; 0 until user space has named it. */
static __always_inline __u32 workload_number(__u64 cgroup_id, const struct wire_root *root)
{
	struct wire_service_key key = {.service = root->service, .login_uid = root->login_uid};
	__u32 *number = bpf_map_lookup_elem(&workloads, &cgroup_id);

	if (number && *number == WIRE_WORKLOAD_HOST)
		number = bpf_map_lookup_elem(&services, &key);
	return number ? *number : 0;
}

/* The slot of a program in a workload; a new one while learning. */
static __noinline __u32 profile_slot(__u64 cgroup_id, const struct wire_root *root,
				     __u64 profile_id)
{
	struct wire_program_key key = {.profile_id = profile_id};
	struct wire_program *program, fresh = {};
	struct wire_stats *cpu;

	key.workload = workload_number(cgroup_id, root);
	if (!key.workload || !profile_id)
		return 0;
	program = bpf_map_lookup_elem(&programs, &key);
	if (program)
		return program->slot;
	if (!control.learning || profile_id & PROFILE_STRANGER)
		return 0;
	if (bpf_map_pop_elem(&free_slots, &fresh.slot)) {
		cpu = cpu_stats();
		if (cpu)
			__sync_fetch_and_add(&cpu->profiles_refused, 1);
		return 0;
	}
	if (bpf_map_update_elem(&programs, &key, &fresh, BPF_NOEXIST) == 0)
		return fresh.slot;
	/* Another CPU was faster, or the table is full. */
	bpf_map_push_elem(&free_slots, &fresh.slot, 0);
	program = bpf_map_lookup_elem(&programs, &key);
	return program ? program->slot : 0;
}

/* Whether what the slot's profile holds counts as known in an epoch. */
static __always_inline bool profile_holds(__u32 slot, __u32 epoch)
{
	struct wire_profile *profile;

	if (!slot || !control.known_since || (__s32)(epoch - control.known_since) < 0)
		return false;
	profile = bpf_map_lookup_elem(&profiles, &slot);
	return profile && profile->armed;
}

#endif
