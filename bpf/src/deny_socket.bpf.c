// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refuses what a process asks of a socket: connect, send, bind, create. These run in the caller's
 * context, also for io_uring and TCP fast open; 0 is EPERM to the caller.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

static __always_inline void query_current(struct deny_query *query, const struct deny_asked *asked,
					  __u32 tgid, __u32 verb)
{
	struct deny_process *process = bpf_map_lookup_elem(&deny_processes, &tgid);

	deny_query_current(query, asked, verb);
	if (process) {
		query->programs[0] = process->program;
		query->file = process->file;
	}
}

/* The entry that refuses; 0 is none. */
static __always_inline __u64 decide(struct deny_query *query, __u32 tgid,
				    const struct deny_socket *socket)
{
	__u64 id;

	if (socket)
		query->programs[1] = socket->program;
	if (deny_allows(query))
		return 0;
	if (socket && deny_entry_refuses(query, socket->id))
		return socket->id;
	if (query->look & DENY_LOOK_TREES) {
		id = deny_tree_refuses(query, tgid, deny_current_start_boot_ns());
		if (id)
			return id;
		if (deny_is_doomed(tgid, query->now))
			return ~0ULL;
	}
	return deny_refuses(query);
}

/* An entry for a peer refuses that peer; the socket may send to others. */
static __always_inline bool is_of_peer(__u64 id)
{
	struct deny_entry *entry = bpf_map_lookup_elem(&deny_entries, &id);

	return entry && entry->kind == DENY_KIND_PEER;
}

static __always_inline int address_verb(struct bpf_sock_addr *ctx, __u32 verb, bool ipv4)
{
	const struct deny_asked *asked = deny_armed(verb);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};
	struct deny_socket *socket;
	__u64 id;

	if (!asked)
		return 1;
	query_current(&query, asked, tgid, verb);
	query.has_address = true;
	if (ipv4) {
		deny_ipv4_destination(query.address, ctx->user_ip4);
	} else {
		__u32 words[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				  ctx->user_ip6[3]};

		deny_ipv6_destination(query.address, words);
	}
	if (!ctx->sk)
		return 1;
	socket = bpf_sk_storage_get(&deny_sockets, ctx->sk, NULL, 0);
	id = decide(&query, tgid, socket);
	if (!id)
		return 1;
	if (is_of_peer(id))
		return 0;
	/* The socket stays denied when it is handed to another process. */
	socket = bpf_sk_storage_get(&deny_sockets, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (socket) {
		socket->id = id;
		socket->passed = 0;
	}
	return 0;
}

/* BPF_CGROUP_RUN_PROG_INET4_CONNECT_LOCK(struct sock *sk, struct sockaddr *uaddr, ...) */
SEC("cgroup/connect4")
int deny_connect4(struct bpf_sock_addr *ctx)
{
	return address_verb(ctx, DENY_CONNECT, true);
}

SEC("cgroup/connect6")
int deny_connect6(struct bpf_sock_addr *ctx)
{
	return address_verb(ctx, DENY_CONNECT, false);
}

SEC("cgroup/sendmsg4")
int deny_sendmsg4(struct bpf_sock_addr *ctx)
{
	return address_verb(ctx, DENY_SEND, true);
}

SEC("cgroup/sendmsg6")
int deny_sendmsg6(struct bpf_sock_addr *ctx)
{
	return address_verb(ctx, DENY_SEND, false);
}

static __always_inline int bind_verb(struct bpf_sock_addr *ctx)
{
	const struct deny_asked *asked = deny_armed(DENY_BIND);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_query query = {};

	if (!asked)
		return 1;
	query_current(&query, asked, tgid, DENY_BIND);
	return !decide(&query, tgid, NULL);
}

SEC("cgroup/bind4")
int deny_bind4(struct bpf_sock_addr *ctx)
{
	return bind_verb(ctx);
}

SEC("cgroup/bind6")
int deny_bind6(struct bpf_sock_addr *ctx)
{
	return bind_verb(ctx);
}

/* BPF_CGROUP_RUN_PROG_INET_SOCK(struct sock *sk) from inet_create and inet6_create */
SEC("cgroup/sock_create")
int deny_sock_create(struct bpf_sock *ctx)
{
	const struct deny_asked *asked = deny_armed(DENY_SOCKET);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct deny_socket *socket;

	if (asked) {
		struct deny_query query = {};

		query_current(&query, asked, tgid, DENY_SOCKET);
		if (decide(&query, tgid, NULL))
			return 0;
	}
	socket = bpf_sk_storage_get(&deny_sockets, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (socket) {
		struct deny_process *process = bpf_map_lookup_elem(&deny_processes, &tgid);

		socket->tgid = tgid;
		socket->start_boot_ns = deny_current_start_boot_ns();
		socket->program = process ? process->program : 0;
		socket->uid = (__u32)bpf_get_current_uid_gid();
		socket->owner = deny_current_owner();
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
