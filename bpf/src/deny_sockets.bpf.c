// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lists the sockets that are denied, with the entry that does so, for user space to mark and
 * destroy what stands when an entry is made; and those that listen. Processes that share a table of
 * descriptors are visited one by one, each with the whole table: nothing is told of others'
 * sockets. Whether somebody outside of the denied trees holds a socket stands in the socket.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

/* Out of line, so that its spilled registers don't add to the stack of the look-ups that follow. */
static __noinline void query_task(struct deny_query *query, struct task_struct *task)
{
	struct cgroup___deny *cgroup = (void *)BPF_CORE_READ(task, cgroups, dfl_cgrp);
	int level = BPF_CORE_READ(cgroup, level);

	for (int i = 0; i < DENY_LEVELS_MAX - 1; i++) {
		if (i > level)
			return;
		query->cgroups[i] = BPF_CORE_READ(cgroup, ancestors[i], kn, id);
	}
	if (level >= DENY_LEVELS_MAX - 1)
		query->cgroups[DENY_LEVELS_MAX - 1] = BPF_CORE_READ(cgroup, kn, id);
}

/* Out of line for the same reason. */
static __noinline void query_peer(struct deny_query *query, const struct deny_socket_record *record)
{
	__u32 words[4];

	__builtin_memcpy(words, record->peer, sizeof(words));
	deny_ipv6(query->address, words);
}

static __noinline void tuple(struct deny_socket_record *record, struct sock *sk)
{
	record->family = sk->__sk_common.skc_family;
	record->protocol = sk->sk_protocol;
	record->state = sk->__sk_common.skc_state;
	record->interface = sk->__sk_common.skc_bound_dev_if;
	record->netns = sk->__sk_common.skc_net.net->ns.inum;
	record->local_port = sk->__sk_common.skc_num;
	record->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (record->family == AF_INET) {
		map_v4(record->local, sk->__sk_common.skc_rcv_saddr);
		map_v4(record->peer, sk->__sk_common.skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&record->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&record->peer, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	}
}

SEC("iter/task_file")
int deny_list_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct deny_socket_record record = {};
	struct deny_query query = {};
	struct deny_process *process;
	struct deny_socket *marked;
	struct socket *socket;
	struct sock *sk;
	__u32 tgid;
	bool denied;

	if (!task || !file)
		return 0;
	socket = (void *)bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !is_inet(sk))
		return 0;
	tgid = task->tgid;
	record.cookie = bpf_get_socket_cookie(sk);
	record.tgid = tgid;
	record.fd = ctx->fd;
	record.listing = ctx->meta->session_id;
	tuple(&record, sk);

	process = bpf_map_lookup_elem(&deny_processes, &tgid);
	/* Sockets older than the hooks get the first holder that is found for their owner. */
	marked = bpf_sk_storage_get(&deny_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (marked) {
		if (!marked->tgid) {
			marked->tgid = tgid;
			marked->start_boot_ns = task->group_leader->start_boottime;
			marked->program = process ? process->program : 0;
			marked->uid = task->real_cred->uid.val;
			marked->owner = deny_owner(task->real_cred);
			marked->passed = 0;
		}
		query.programs[1] = marked->program;
		query.uid = marked->uid;
		query.owner = marked->owner;
		record.owner_tgid = marked->tgid;
	}
	if (process) {
		query.programs[0] = process->program;
		query.file = process->file;
	}
	query.now = bpf_ktime_get_boot_ns();
	query.verb = DENY_PACKET | DENY_ASKED;
	query.look = ~0U;
	query.has_address = record.peer_port != 0;
	query_peer(&query, &record);
	query_task(&query, task);
	if (!deny_allows(&query)) {
		record.id = deny_refuses(&query);
		record.tree_id =
			deny_tree_refuses(&query, tgid, task->group_leader->start_boottime);
	}
	if (marked && !record.tree_id)
		marked->shared_in = record.listing;
	denied = record.id || record.tree_id;
	if (denied || record.state == TCP_LISTEN)
		bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/*
 * Over the sockets of maps that an earlier version has left, before others are listed: whoever made
 * one may have gone since, and whoever marked it may hold it no more.
 */
SEC("iter/bpf_sk_storage_map")
int deny_carry_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct deny_socket *left = ctx->value;
	struct sock *sk = ctx->sk;
	struct deny_socket *own;

	if (!sk || !left)
		return 0;
	own = bpf_sk_storage_get(&deny_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!own)
		return 0;
	if (!own->tgid) {
		own->start_boot_ns = left->start_boot_ns;
		own->program = left->program;
		own->tgid = left->tgid;
		own->uid = left->uid;
		own->owner = left->owner;
	}
	if (!own->id)
		own->id = left->id;
	own->passed = 0;
	return 0;
}
