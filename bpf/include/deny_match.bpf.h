/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one question every hook asks: does a live entry refuse this verb to this process, socket and
 * peer? Allowed is looked up before denied. An entry in monitor mode is counted and passed over.
 */
#ifndef HEDGEROW_DENY_MATCH_BPF_H
#define HEDGEROW_DENY_MATCH_BPF_H

#include "deny_maps.bpf.h"

struct deny_query {
	__u64 now;
	/* Program of the acting process and of the socket's creator; 0 is unknown. */
	__u64 programs[2];
	struct deny_file file;
	__u8 address[16];
	__u32 verb;
	__u32 look;
	/* Real user id of who asks, or of the socket's creator, as the host counts; and whose the
	 * user namespace is that he is in (see deny_owner). 0 is looked up by nobody. */
	__u32 uid;
	__u32 owner;
	bool has_address;
	/* A live entry was found, also where it only counts. */
	bool met;
	/* cgroup ids from the root down, 0 beyond the last; a deeper one takes the last place. */
	__u64 cgroups[DENY_LEVELS_MAX];
};

#define NAT64_PREFIX 0x0064ff9b /* 64:ff9b::/96, RFC 6052 */
#define MAPPED_WORD 0x0000ffff  /* third word of ::ffff:0:0/96 */
#define LOOPBACK_V4 0x7f000001

/* One form of each address: IPv4 is mapped into ::ffff:0:0/96, and what a translator on the way
 * makes IPv4 of is that address. */
static __always_inline void deny_ipv6(__u8 *out, const __u32 *words)
{
	if (words[0] == bpf_htonl(NAT64_PREFIX) && !words[1] && !words[2])
		map_v4(out, words[3]);
	else
		__builtin_memcpy(out, words, 16);
}

/* The unspecified address as a destination is this host. */
static __always_inline void deny_ipv4_destination(__u8 *out, __u32 address)
{
	map_v4(out, address ? address : bpf_htonl(LOOPBACK_V4));
}

static __always_inline void deny_ipv6_destination(__u8 *out, __u32 *words)
{
	if (!words[0] && !words[1] && !words[3]) {
		if (!words[2])
			words[3] = bpf_htonl(1);
		else if (words[2] == bpf_htonl(MAPPED_WORD))
			words[3] = bpf_htonl(LOOPBACK_V4);
	}
	deny_ipv6(out, words);
}

static __always_inline __u64 deny_current_start_boot_ns(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, group_leader, start_boottime);
}

/*
 * Who made the outermost user namespace above these credentials, but for root; 0: nobody. All that
 * is in it is his: whatever ids he has there, and what others among them make in turn. What root
 * makes is a container's, and who makes one in there is who he is.
 *
 * Out of line, for the stack.
 */
static __noinline __u32 deny_owner(const struct cred *cred)
{
	struct user_namespace *space = BPF_CORE_READ(cred, user_ns);
	__u32 owner = 0;

	for (int i = 0; i < DENY_USER_NAMESPACES_MAX; i++) {
		__u32 made_by;

		if (!space || !BPF_CORE_READ(space, level))
			break;
		made_by = BPF_CORE_READ(space, owner.val);
		if (made_by)
			owner = made_by;
		space = BPF_CORE_READ(space, parent);
	}
	return owner;
}

static __always_inline __u32 deny_current_owner(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return deny_owner(BPF_CORE_READ(task, cred));
}

/* When, what, and in which cgroups the running process asks. */
static __always_inline void deny_query_current(struct deny_query *query,
					       const struct deny_asked *asked, __u32 verb)
{
	query->now = bpf_ktime_get_boot_ns();
	query->verb = verb;
	query->look = asked->look;
	if (query->look & DENY_LOOK_USERS) {
		/* A file that sets another one doesn't change it. */
		query->uid = (__u32)bpf_get_current_uid_gid();
		query->owner = deny_current_owner();
	}
	if (!(query->look & DENY_LOOK_CGROUPS))
		return;
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		query->cgroups[i] = bpf_get_current_ancestor_cgroup_id(i);
		if (!query->cgroups[i])
			break;
	}
	if (query->cgroups[DENY_LEVELS_MAX - 1])
		query->cgroups[DENY_LEVELS_MAX - 1] = bpf_get_current_cgroup_id();
}

static __always_inline bool deny_is_switched_on(void)
{
	__u32 zero = 0;
	const __u32 *on = bpf_map_lookup_elem(&deny_switch, &zero);

	return on && *on;
}

/* What there is to look up, where some entry may refuse the verb; NULL spares it all. */
static __always_inline const struct deny_asked *deny_armed(__u32 verb)
{
	__u32 zero = 0;
	const struct deny_asked *asked;

	if (!deny_is_switched_on())
		return NULL;
	asked = bpf_map_lookup_elem(&deny_asked, &zero);
	return asked && asked->verbs & verb ? asked : NULL;
}

/* Out of line, for the stack: 6.1 allows 512 bytes over all frames. */
static __noinline void deny_count(__u64 id, __u64 now, __u32 verb)
{
	struct deny_hits *hits;

	if (verb & DENY_ASKED)
		return;
	hits = bpf_map_lookup_elem(&deny_hits, &id);
	if (!hits)
		return;
	if (verb & DENY_INBOUND) {
		__sync_fetch_and_add(&hits->inbound, 1);
		return;
	}
	__sync_fetch_and_add(&hits->hits, 1);
	hits->last_boot_ns = now;
}

/* The entry refuses the verb. A live entry is counted, also where it only monitors. */
static __always_inline bool deny_entry_refuses(struct deny_query *query, __u64 id)
{
	struct deny_entry *entry;

	if (!id)
		return false;
	entry = bpf_map_lookup_elem(&deny_entries, &id);
	if (!entry || entry->expiry_boot_ns <= query->now || !(entry->verbs & query->verb))
		return false;
	query->met = true;
	deny_count(id, query->now, query->verb);
	return entry->mode == DENY_ENFORCE;
}

static __always_inline void deny_peer_key(struct deny_peer_key *key, const struct deny_query *query,
					  __u64 cgroup, __u64 program)
{
	key->prefixlen = DENY_SCOPE_BITS + 128;
	key->cgroup[0] = (__u32)cgroup;
	key->cgroup[1] = cgroup >> 32;
	key->program[0] = (__u32)program;
	key->program[1] = program >> 32;
	__builtin_memcpy(key->address, query->address, sizeof(key->address));
}

/*
 * The functions below are global: the verifier checks each once instead of once a call. Weak, as
 * every file of the object has them.
 *
 * An expired or counting longer prefix must not hide a live shorter one: look again, shorter.
 */
__weak __u64 deny_peer_refuses(struct deny_query *query, __u64 cgroup, __u64 program)
{
	struct deny_peer_key key;

	if (!query)
		return 0;
	deny_peer_key(&key, query, cgroup, program);
	for (int i = 0; i <= DENY_RETRIES_MAX; i++) {
		struct deny_peer *peer = bpf_map_lookup_elem(&deny_peers, &key);

		if (!peer)
			return 0;
		if (deny_entry_refuses(query, peer->id))
			return peer->id;
		if (peer->plen <= DENY_SCOPE_BITS || peer->plen > DENY_SCOPE_BITS + 128)
			return 0;
		key.prefixlen = peer->plen - 1;
	}
	return 0;
}

__weak int deny_scope_allows(const struct deny_query *query, __u64 cgroup)
{
	struct deny_scope *scope = bpf_map_lookup_elem(&deny_scopes, &cgroup);

	if (!scope || !query)
		return false;
	if (scope->flags & DENY_SCOPE_ALLOWED)
		return true;
	if (scope->flags & DENY_SCOPE_ALLOW_PEERS && query->has_address) {
		struct deny_peer_key key;

		deny_peer_key(&key, query, cgroup, 0);
		if (bpf_map_lookup_elem(&allow_peers, &key))
			return true;
	}
	if (scope->flags & DENY_SCOPE_ALLOW_PROGRAMS) {
		struct deny_program_key key = {.cgroup = cgroup, .file = query->file};

		if (bpf_map_lookup_elem(&allow_programs, &key))
			return true;
	}
	return false;
}

__weak __u64 deny_program_refuses(struct deny_query *query, __u64 cgroup, __u32 network)
{
	struct deny_program_key key = {.cgroup = cgroup, .network = network};
	__u64 *id;

	if (!query)
		return 0;
	key.file = query->file;
	id = bpf_map_lookup_elem(&deny_programs, &key);
	return id && deny_entry_refuses(query, *id) ? *id : 0;
}

__weak __u64 deny_scope_refuses(struct deny_query *query, __u64 cgroup)
{
	struct deny_scope *scope = bpf_map_lookup_elem(&deny_scopes, &cgroup);
	__u64 id;

	if (!scope || !query)
		return 0;
	if (query->has_address && scope->flags & DENY_SCOPE_PROGRAM_PEERS) {
		if (query->programs[0]) {
			id = deny_peer_refuses(query, cgroup, query->programs[0]);
			if (id)
				return id;
		}
		if (query->programs[1] && query->programs[1] != query->programs[0]) {
			id = deny_peer_refuses(query, cgroup, query->programs[1]);
			if (id)
				return id;
		}
	}
	if (query->has_address && scope->flags & DENY_SCOPE_PEERS) {
		id = deny_peer_refuses(query, cgroup, 0);
		if (id)
			return id;
	}
	if (scope->flags & DENY_SCOPE_PROGRAMS) {
		id = deny_program_refuses(query, cgroup, 0);
		if (id)
			return id;
	}
	if (scope->flags & DENY_SCOPE_PROGRAM_NETWORKS) {
		id = deny_program_refuses(query, cgroup, 1);
		if (id)
			return id;
	}
	if (deny_entry_refuses(query, scope->id))
		return scope->id;
	return 0;
}

__weak __u64 deny_user_refuses(struct deny_query *query, __u32 uid)
{
	__u64 *id;

	if (!query || !uid)
		return 0;
	id = bpf_map_lookup_elem(&deny_users, &uid);
	return id && deny_entry_refuses(query, *id) ? *id : 0;
}

static __always_inline bool deny_allows(const struct deny_query *query)
{
	if (!(query->look & DENY_LOOK_ALLOWED))
		return false;
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		__u64 cgroup = query->cgroups[i];

		if (!cgroup)
			break;
		if (deny_scope_allows(query, cgroup))
			return true;
	}
	return deny_scope_allows(query, 0);
}

/* Id of the entry that refuses by peer, program, cgroup or user; 0 is none. */
static __always_inline __u64 deny_refuses(struct deny_query *query)
{
	if (query->look & DENY_LOOK_USERS) {
		__u64 id = deny_user_refuses(query, query->uid);

		if (!id && query->owner != query->uid)
			id = deny_user_refuses(query, query->owner);
		if (id)
			return id;
	}
	for (int i = DENY_LEVELS_MAX - 1; i >= 0 && query->look & DENY_LOOK_CGROUPS; i--) {
		__u64 cgroup = query->cgroups[i];
		__u64 id;

		if (!cgroup)
			continue;
		id = deny_scope_refuses(query, cgroup);
		if (id)
			return id;
	}
	return deny_scope_refuses(query, 0);
}

static __always_inline bool deny_is_doomed(__u32 tgid, __u64 now)
{
	__u32 zero = 0;
	const struct deny_control *control = bpf_map_lookup_elem(&deny_control, &zero);
	__u32 index = tgid / 64;
	__u64 *word;

	if (!control || control->doomed_until_boot_ns <= now)
		return false;
	word = bpf_map_lookup_elem(&deny_doomed, &index);
	return word && *word & (1ULL << (tgid % 64));
}

/* Id of the live entry under which this process is denied as part of a tree. */
static __always_inline __u64 deny_tree_refuses(struct deny_query *query, __u32 tgid,
					       __u64 start_boot_ns)
{
	struct deny_task *task;

	if (!(query->look & DENY_LOOK_TREES))
		return 0;
	task = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (!task || task->start_boot_ns != start_boot_ns)
		return 0;
	return deny_entry_refuses(query, task->id) ? task->id : 0;
}

#endif
