// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drops what a socket sends and receives once it, its owner or its peer is denied: connect hooks
 * don't see a connection that stands. 0 drops; on egress the sender gets EPERM.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD

static __always_inline bool query_peer(struct __sk_buff *skb, struct deny_query *query, bool egress)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 address;

		if (bpf_skb_load_bytes(skb, egress ? 16 : 12, &address, sizeof(address)))
			return false;
		map_v4(query->address, address);
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		__u32 words[4];

		if (bpf_skb_load_bytes(skb, egress ? 24 : 8, words, sizeof(words)))
			return false;
		deny_ipv6(query->address, words);
		return true;
	}
	return false;
}

/*
 * Owner and mark of the socket that a process holds. The subflows of MPTCP are the kernel's own: no
 * process has created them, what it holds is their parent.
 */
static __always_inline struct deny_socket *marked(struct bpf_sock *sk)
{
	struct deny_socket *socket = bpf_sk_storage_get(&deny_sockets, sk, NULL, 0);
	struct mptcp_sock *parent;

	if (socket || !bpf_core_type_exists(struct mptcp_sock___deny))
		return socket;
	/*
	 * The socket by which the kernel answers segments of no connection is a raw one of protocol
	 * TCP: Linux 6.1's helper reads past its end.
	 */
	if (sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		return NULL;
	parent = bpf_skc_to_mptcp_sock(sk);
	return parent ? bpf_sk_storage_get(&deny_sockets, parent, NULL, 0) : NULL;
}

static __always_inline int packet(struct __sk_buff *skb, bool egress)
{
	struct deny_control *control = deny_armed();
	struct deny_query query = {};
	struct deny_socket *socket;
	struct bpf_sock *sk;
	__u64 now;

	if (!control)
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	now = bpf_ktime_get_boot_ns();
	query.now = now;
	query.verb = egress ? DENY_PACKET : DENY_PACKET | DENY_INBOUND;
	query.has_address = query_peer(skb, &query, egress);
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		query.cgroups[i] = bpf_skb_ancestor_cgroup_id(skb, i);
		if (!query.cgroups[i])
			break;
	}
	if (query.cgroups[DENY_LEVELS_MAX - 1])
		query.cgroups[DENY_LEVELS_MAX - 1] = bpf_skb_cgroup_id(skb);
	socket = marked(sk);
	if (socket)
		query.programs[0] = socket->program;
	if (deny_allows(&query))
		return 1;
	if (socket) {
		if (deny_entry_refuses(socket->id, now, query.verb))
			return 0;
		if (deny_tree_refuses(socket->tgid, socket->start_boot_ns, now, query.verb))
			return 0;
	}
	return !deny_refuses(&query);
}

/* BPF_CGROUP_RUN_PROG_INET_EGRESS(struct sock *sk, struct sk_buff *skb) from ip_finish_output */
SEC("cgroup_skb/egress")
int deny_egress(struct __sk_buff *skb)
{
	return packet(skb, true);
}

/* BPF_CGROUP_RUN_PROG_INET_INGRESS(struct sock *sk, struct sk_buff *skb) from sk_filter_trim_cap */
SEC("cgroup_skb/ingress")
int deny_ingress(struct __sk_buff *skb)
{
	return packet(skb, false);
}
