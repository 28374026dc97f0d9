/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the responder writes into the deny maps and reads back. Included by BPF and by bindgen.
 *
 * Every index (peers, tasks, programs, scopes, marked sockets) holds the id of an entry; the entry
 * itself, and with it the expiry, exists once. An index that outlives its entry matches nothing.
 */
#ifndef HEDGEROW_DENY_WIRE_H
#define HEDGEROW_DENY_WIRE_H

/* Layout of the pinned maps; another number is another set of pins. */
#define DENY_LAYOUT 8

enum deny_limit {
	DENY_ENTRIES_MAX = 4096,
	DENY_PEERS_MAX = 8192,
	DENY_TASKS_MAX = 16384,
	DENY_PROGRAMS_MAX = 1024,
	DENY_USERS_MAX = 256,
	DENY_SCOPES_MAX = 4096,
	DENY_PROCESSES_MAX = 65536,
	/* Ancestors that are looked up; an entry for a deeper cgroup is refused in user space. */
	DENY_LEVELS_MAX = 12,
	/* User namespaces that the kernel lets stand in each other, and the host's. */
	DENY_USER_NAMESPACES_MAX = 34,
	/* An expired or counting prefix is looked up again one bit shorter, at most so often. */
	DENY_RETRIES_MAX = 4,
	/* Bits of (cgroup id, program id) ahead of the address in deny_peer_key. */
	DENY_SCOPE_BITS = 128,
	/* Ancestors that are remembered of each process. */
	DENY_ANCESTORS_MAX = 8,
	/* PID_MAX_LIMIT / 64 */
	DENY_DOOMED_WORDS = 65536,
};

enum deny_verb {
	DENY_CONNECT = 1,
	DENY_SEND = 2,
	DENY_BIND = 4,
	DENY_SOCKET = 8,
	DENY_PACKET = 16,
	DENY_EXEC = 32,
	/* Map it executable, as the loader does that is told to run it. */
	DENY_MAP = 64,
	/* Make a socket of another family than IPv4 and IPv6 that reaches beyond the host. */
	DENY_FAMILY = 128,
	/* Beside a verb: it comes from outside, so whom the entry stops tries nothing. */
	DENY_INBOUND = 1 << 30,
	/* Beside a verb: user space asks, nobody tries anything. */
	DENY_ASKED = 1 << 29,
};

enum deny_mode {
	DENY_MONITOR = 1,
	DENY_ENFORCE = 2,
};

enum deny_kind {
	DENY_KIND_PEER = 1,
	DENY_KIND_TREE,
	DENY_KIND_PROGRAM,
	DENY_KIND_CGROUP,
	DENY_KIND_USER,
};

/* 0 means expired: nothing in BPF is permanent. */
struct deny_entry {
	__u64 expiry_boot_ns;
	/* Its first second: hits alone extend it for a limited time from then on. */
	__u64 began_boot_ns;
	__u32 verbs;
	__u8 mode;
	__u8 rule;
	__u8 plen;
	__u8 kind;
};

struct deny_hits {
	/* What was tried from the denied side. */
	__u64 hits;
	__u64 last_boot_ns;
	/* Packets from outside that were dropped: anybody can send them. */
	__u64 inbound;
	/* Of a tree, its processes in deny_tasks. */
	__s64 members;
};

/* LPM key: prefixlen counts DENY_SCOPE_BITS too; IPv4 is mapped into ::ffff:0:0/96. */
struct deny_peer_key {
	__u32 prefixlen;
	__u32 cgroup[2];
	__u32 program[2];
	__u8 address[16];
};

struct deny_peer {
	__u64 id;
	__u32 plen;
	__u32 pad;
};

struct deny_file {
	__u64 device;
	__u64 inode;
	__u32 generation;
	__u32 pad;
};

struct deny_program_key {
	__u64 cgroup;
	struct deny_file file;
	__u32 network; /* 1: its network alone, which stands beside what refuses to run it */
	__u32 pad;
};

struct deny_task {
	__u64 start_boot_ns;
	__u64 id;
};

struct deny_ancestor {
	__u64 start_boot_ns;
	__u32 tgid; /* 0: none */
	__u32 pad;
};

/* What a process is, kept for the cgroup hooks, where task storage is missing before 6.18. */
struct deny_process {
	__u64 start_boot_ns;
	__u64 program;
	struct deny_file file;
	/*
	 * Who forked it, nearest first. Kept from the fork on: whose parents have exited is a child
	 * of init by now, and theirs all the same.
	 */
	struct deny_ancestor ancestors[DENY_ANCESTORS_MAX];
};

enum deny_scope_flag {
	DENY_SCOPE_PEERS = 1,
	DENY_SCOPE_PROGRAM_PEERS = 2,
	DENY_SCOPE_PROGRAMS = 4,
	DENY_SCOPE_ALLOW_PEERS = 8,
	DENY_SCOPE_ALLOW_PROGRAMS = 16,
	DENY_SCOPE_ALLOWED = 32,
	DENY_SCOPE_PROGRAM_NETWORKS = 64,
};

enum deny_look {
	DENY_LOOK_TREES = 1,
	/* Cgroups have entries or allowances of their own. */
	DENY_LOOK_CGROUPS = 2,
	DENY_LOOK_ALLOWED = 4,
	DENY_LOOK_USERS = 8,
};

/* What is to be looked up for a cgroup; key 0 is every cgroup. */
struct deny_scope {
	__u64 id;
	__u32 flags;
	__u32 pad;
};

struct deny_socket {
	__u64 start_boot_ns;
	__u64 program;
	/* Entry that denied this socket; 0 is none. */
	__u64 id;
	/* Of a TCP socket: the generation and the peer for which no entry was met; 0 is none. */
	__u64 passed;
	__u32 tgid;
	/* The listing (see deny_socket_record) that found a holder outside of the denied trees. */
	__u32 shared_in;
	/* Who made it, as deny_query has them; 0 is never looked up. */
	__u32 uid;
	__u32 owner;
};

/*
 * What there is to look up, written by user space alone. The kill switch is a word and a map of its
 * own, so that nothing written here at the same time can turn it.
 */
struct deny_asked {
	/* All that live entries refuse or count; nothing else is looked up. */
	__u32 verbs;
	/* Where to look: enum deny_look. */
	__u32 look;
	/* Another number with each change: what passed is looked up anew. */
	__u32 generation;
	__u32 pad;
};

/* What happened to the tables. */
struct deny_control {
	__u32 layout;
	__u32 pad;
	/* Children that found no room among the denied tasks: refused everything until then. */
	__u64 doomed_until_boot_ns;
	__u64 doomed;
	/* Processes that found no room: program-scoped entries don't match them. */
	__u64 unknown;
	/* Children of monitored trees that found no room: their hits are not counted. */
	__u64 uncounted;
	/* The tree whose living members are being entered; its root may have exited. */
	struct deny_ancestor root;
	__u64 root_id;
};

/* One socket of one process, as the socket iterator reports it where it is denied or listens. */
struct deny_socket_record {
	__u64 cookie;
	/* Entry that matches by peer, program or cgroup, and by task tree; 0 is none. */
	__u64 id;
	__u64 tree_id;
	__u32 tgid;
	__u32 fd;
	__u32 owner_tgid;
	__u32 netns;
	__u16 family;
	__u16 protocol;
	__u16 local_port;
	__u16 peer_port;
	__u8 local[16];
	__u8 peer[16];
	__u8 state;
	__u8 pad[3];
	__u32 interface; /* that it is bound to; 0: any */
	__u32 listing;   /* number of the iterator's run */
	__u32 pad2;
};

#endif
