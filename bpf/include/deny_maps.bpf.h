/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The deny maps, shared by every deny program and with nobody else: they are pinned and outlive the
 * daemon. Weak, so that each file of the object can include them.
 */
#ifndef HEDGEROW_DENY_MAPS_BPF_H
#define HEDGEROW_DENY_MAPS_BPF_H

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct deny_control);
} deny_control __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct deny_asked);
} deny_asked __weak SEC(".maps");

/* The kill switch: 0 lets everything through. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} deny_switch __weak SEC(".maps");

/* When full: the responder refuses the new entry; nothing is evicted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_ENTRIES_MAX);
	__type(key, __u64);
	__type(value, struct deny_entry);
} deny_entries __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_ENTRIES_MAX);
	__type(key, __u64);
	__type(value, struct deny_hits);
} deny_hits __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, DENY_PEERS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct deny_peer_key);
	__type(value, struct deny_peer);
} deny_peers __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, DENY_PEERS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct deny_peer_key);
	__type(value, struct deny_peer);
} allow_peers __weak SEC(".maps");

/* Denied processes by tgid. When full: a forked child is doomed (see deny_doomed). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_TASKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct deny_task);
} deny_tasks __weak SEC(".maps");

/* One bit per tgid: children of denied tasks that deny_tasks had no room for. Never full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DENY_DOOMED_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} deny_doomed __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_PROGRAMS_MAX);
	__type(key, struct deny_program_key);
	__type(value, __u64);
} deny_programs __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_PROGRAMS_MAX);
	__type(key, struct deny_program_key);
	__type(value, __u64);
} allow_programs __weak SEC(".maps");

/* By real user id, as the host counts. When full: the responder refuses the new entry. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_USERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} deny_users __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_SCOPES_MAX);
	__type(key, __u64);
	__type(value, struct deny_scope);
} deny_scopes __weak SEC(".maps");

/* What each process runs, by tgid. When full: counted in deny_control.unknown. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DENY_PROCESSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct deny_process);
} deny_processes __weak SEC(".maps");

/* Creator of each socket and the entry that denied it; accepted sockets take their listener's. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct deny_socket);
} deny_sockets __weak SEC(".maps");

#endif
