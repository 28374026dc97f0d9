// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drops what a socket sends and receives once it, its owner, its peer or who sends on it is denied:
 * connect hooks don't see a connection that stands. 0 drops; on egress the sender gets EPERM.
 */
#include "deny_kernel.h"
#include "deny_match.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD

/* The header is nearly always where it can be read without a call. */
static __always_inline bool load(struct __sk_buff *skb, __u32 offset, void *to, __u32 size)
{
	void *data = (void *)(long)skb->data;

	if (data + offset + size > (void *)(long)skb->data_end)
		return !bpf_skb_load_bytes(skb, offset, to, size);
	__builtin_memcpy(to, data + offset, size);
	return true;
}

static __always_inline bool peer_of(struct __sk_buff *skb, __u8 *address, bool egress)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 word;

		if (!load(skb, egress ? 16 : 12, &word, sizeof(word)))
			return false;
		map_v4(address, word);
		return true;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		__u32 words[4];

		if (!load(skb, egress ? 24 : 8, words, sizeof(words)))
			return false;
		deny_ipv6(address, words);
		return true;
	}
	return false;
}

/*
 * The subflows of MPTCP are the kernel's own: no process has created them, what it holds is their
 * parent.
 */
static __always_inline struct deny_socket *held_instead(struct bpf_sock *sk)
{
	struct mptcp_sock *parent;

	if (!bpf_core_type_exists(struct mptcp_sock___deny))
		return NULL;
	/*
	 * The socket by which the kernel answers segments of no connection is a raw one of protocol
	 * TCP: Linux 6.1's helper reads past its end.
	 */
	if (sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		return NULL;
	parent = bpf_skc_to_mptcp_sock(sk);
	return parent ? bpf_sk_storage_get(&deny_sockets, parent, NULL, 0) : NULL;
}

/*
 * The denied process that runs, where the socket is not of its tree: it has inherited the socket,
 * or was handed it. What a tree made is refused by its owner.
 */
static __always_inline struct deny_task *borrower(const struct deny_socket *socket)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct deny_task *denied, *owner;
	__u32 tgid = task->tgid;

	if (socket && socket->tgid == tgid)
		return NULL;
	denied = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (!denied || denied->start_boot_ns != task->group_leader->start_boottime)
		return NULL;
	if (!socket)
		return denied;
	tgid = socket->tgid;
	owner = bpf_map_lookup_elem(&deny_tasks, &tgid);
	if (owner && owner->start_boot_ns == socket->start_boot_ns && owner->id == denied->id)
		return NULL;
	return denied;
}

/* What is sent on them leaves in the call that asks for it, mostly without the socket's lock. */
static __always_inline bool sends_datagrams(struct bpf_sock *sk)
{
	return sk->type == SOCK_RAW || sk->protocol == IPPROTO_UDP ||
	       sk->protocol == IPPROTO_UDPLITE || sk->protocol == IPPROTO_ICMP ||
	       sk->protocol == IPPROTO_ICMPV6;
}

/*
 * Whether it is the running process that sends. The kernel sends from interrupts, too, whoever
 * runs: by sockets of its own, which hold no network namespace, such as those of ICMP; and TCP and
 * SCTP by any socket, yet never by one that a process has locked, as one does that writes or reads.
 * A listener answers locked or not, and writes nothing itself; SCTP's may.
 */
static __always_inline bool sends_itself(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct sock___deny *sock = BPF_CORE_READ((struct sk_buff___deny *)skb, sk);

	if (!BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_net_refcnt))
		return false;
	if (sends_datagrams(sk))
		return true;
	if (sk->state == TCP_LISTEN && sk->protocol != IPPROTO_SCTP)
		return false;
	return BPF_CORE_READ(sock, sk_lock.owned);
}

/*
 * One word for a generation and a peer, so that two CPUs never make one of two peers out of it. An
 * IPv6 address is known by a hash that only the host can compute. Never 0.
 */
static __always_inline __u64 passed_by(__u32 generation, const __u8 *address)
{
	__u64 halves[2];
	__u32 words[4];

	__builtin_memcpy(words, address, sizeof(words));
	if (words[0] || words[1] || words[2] != bpf_htonl(MAPPED_WORD)) {
		__builtin_memcpy(halves, address, sizeof(halves));
		words[3] = mix64(mix64(halves[0] ^ identity_key[0]) ^ halves[1] ^ identity_key[1]);
	}
	return (__u64)generation << 32 | words[3];
}

static __always_inline void query_packet(struct deny_query *query, const struct deny_asked *asked,
					 struct __sk_buff *skb, bool egress)
{
	query->now = bpf_ktime_get_boot_ns();
	query->verb = egress ? DENY_PACKET : DENY_PACKET | DENY_INBOUND;
	query->look = asked->look;
	if (!(query->look & DENY_LOOK_CGROUPS))
		return;
	for (int i = 0; i < DENY_LEVELS_MAX; i++) {
		query->cgroups[i] = bpf_skb_ancestor_cgroup_id(skb, i);
		if (!query->cgroups[i])
			break;
	}
	if (query->cgroups[DENY_LEVELS_MAX - 1])
		query->cgroups[DENY_LEVELS_MAX - 1] = bpf_skb_cgroup_id(skb);
}

/* `socket` is owner and mark of what a process holds; NULL is unknown. */
static __always_inline bool refuses(struct deny_query *query, const struct deny_socket *socket)
{
	if (socket) {
		query->programs[0] = socket->program;
		query->uid = socket->uid;
		query->owner = socket->owner;
	}
	if (deny_allows(query))
		return false;
	if (socket) {
		if (deny_entry_refuses(query, socket->id))
			return true;
		if (deny_tree_refuses(query, socket->tgid, socket->start_boot_ns))
			return true;
	}
	return deny_refuses(query);
}

/*
 * A TCP socket for which no entry was met is not looked up again for the same peer until the
 * entries change: its owner, program, user and cgroup don't. What other sockets send is: their
 * owner may connect them anew at the same time. The generation is read before the entries: what
 * changes in between is for the next packet.
 */
static __always_inline int packet(struct __sk_buff *skb, bool egress)
{
	const struct deny_asked *asked = deny_armed(DENY_PACKET);
	struct deny_socket *socket, *held;
	struct deny_task *sender = NULL;
	struct deny_query query;
	struct bpf_sock *sk;
	__u8 address[16] = {};
	__u64 passed = 0;
	bool has_address;

	if (!asked)
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	socket = bpf_sk_storage_get(&deny_sockets, sk, NULL, 0);
	if (egress && asked->look & DENY_LOOK_TREES)
		sender = borrower(socket);
	has_address = peer_of(skb, address, egress);
	if (socket && has_address) {
		passed = passed_by(*(const volatile __u32 *)&asked->generation, address);
		if (socket->passed == passed && !sender)
			return 1;
	}
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	__builtin_memset(&query, 0, sizeof(query));
	query.has_address = has_address;
	if (has_address)
		__builtin_memcpy(query.address, address, sizeof(address));
	query_packet(&query, asked, skb, egress);
	held = socket ?: held_instead(sk);
	if (refuses(&query, held))
		return 0;
	if (sender && sends_itself(skb, sk) && !deny_allows(&query) &&
	    deny_entry_refuses(&query, sender->id)) {
		/* What TCP was given is sent again later, by nobody in particular. */
		if (!held)
			held = bpf_sk_storage_get(&deny_sockets, sk, NULL,
						  BPF_SK_STORAGE_GET_F_CREATE);
		if (held && sk->protocol == IPPROTO_TCP) {
			held->id = sender->id;
			held->passed = 0;
		}
		return 0;
	}
	if (passed && !query.met && sk->protocol == IPPROTO_TCP)
		socket->passed = passed;
	return 1;
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
