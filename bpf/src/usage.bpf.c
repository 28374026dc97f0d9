// SPDX-License-Identifier: GPL-2.0-only
/* Bytes by whose socket they pass, at which interface and with which peer, as the interface counts
 * them: with headers, each way. Loopback is left out. Loaded only where it is asked for. */
#include "flow.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net_device {
	char name[16];
	unsigned short type;
	unsigned int mtu;
	struct possible_net nd_net;
};

struct sock___usage {
	struct kuid_like sk_uid;
};

struct sk_buff {
	struct sock___usage *sk;
	struct net_device *dev;
};

#pragma clang attribute pop

#define ETH_P_IPV6 0x86dd
#define ARPHRD_ETHER 1
#define LOOPBACK_IFINDEX 1
#define ETHERNET_HEADER 14
#define IPV6_HEADER 40
#define IPV6_FRAGMENT_HEADER 8
#define UDP_HEADER 8
#define MTU_LEAST 1280 /* whatever is no larger is never cut */

/* Two halves by the epoch's parity, so that user space takes out the one that nobody adds to. Full,
 * a peer goes without its name, in a map of its own: who uses how much is still told. What is past
 * that, too, is in what the interface counted and nobody is named for. */
#define USAGE_MAP(map, most)                                                                       \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, most);                                                         \
		__type(key, struct wire_usage_key);                                                \
		__type(value, struct wire_usage);                                                  \
	} map SEC(".maps")

USAGE_MAP(usage_even, 16384);
USAGE_MAP(usage_odd, 16384);
USAGE_MAP(usage_even_peerless, 2048);
USAGE_MAP(usage_odd_peerless, 2048);

/* One packet. */
struct usage_packet {
	struct wire_usage_way way;
	struct net_device *device;
	struct wire_actor owner;
	bool egress;
};

static __noinline bool usage_add(void *map, const struct wire_usage_key *key,
				 const struct usage_packet *packet)
{
	struct wire_usage *usage = bpf_map_lookup_elem(map, key);
	struct wire_usage_way *way;

	if (!usage) {
		struct wire_usage made = {.owner = packet->owner};

		bpf_probe_read_kernel_str(made.device, sizeof(made.device), packet->device->name);
		bpf_map_update_elem(map, key, &made, BPF_NOEXIST);
		usage = bpf_map_lookup_elem(map, key);
		if (!usage)
			return false;
	}
	way = packet->egress ? &usage->out : &usage->in;
	__sync_fetch_and_add(&way->bytes, packet->way.bytes);
	__sync_fetch_and_add(&way->segments, packet->way.segments);
	if (packet->way.extra)
		__sync_fetch_and_add(&way->extra, packet->way.extra);
	return true;
}

static __always_inline void usage_count(struct wire_usage_key *key,
					const struct usage_packet *packet)
{
	bool odd = control.clock.epoch & 1;
	struct wire_stats *cpu;

	if (odd ? usage_add(&usage_odd, key, packet) : usage_add(&usage_even, key, packet))
		return;
	__builtin_memset(key->peer, 0, sizeof(key->peer));
	if (odd)
		usage_add(&usage_odd_peerless, key, packet);
	else
		usage_add(&usage_even_peerless, key, packet);
	cpu = cpu_stats();
	if (cpu)
		cpu->usage_refused++;
}

/* Of each segment that a large TCP packet or datagram is cut into, or was joined from. */
static __always_inline __u32 transport_header(struct __sk_buff *skb, __u32 ip_header, __u8 protocol)
{
	__u8 words;

	if (protocol != IPPROTO_TCP)
		return UDP_HEADER;
	return bpf_skb_load_bytes(skb, ip_header + 12, &words, 1) ? 20 : (words >> 4) * 4;
}

/* Reads the peer, and how much of the packet the interface counts. Whether it counts the headers of
 * segments, which hardware cuts or joins, each driver does as it likes: user space finds it out. */
static __always_inline bool usage_read(struct __sk_buff *skb, struct usage_packet *packet,
				       __u8 *peer)
{
	bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u32 header = IPV6_HEADER, link = 0, fragments, room, mtu;
	__u32 segments = skb->gso_segs ?: 1;
	struct wire_usage_way *way = &packet->way;
	struct net_device *device = packet->device;
	__u8 protocol;

	if (v6) {
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, packet->egress ? 24 : 8, peer, 16))
			return false;
	} else {
		__u8 version;
		__be32 address;

		if (bpf_skb_load_bytes(skb, 0, &version, 1) ||
		    bpf_skb_load_bytes(skb, 9, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, packet->egress ? 16 : 12, &address, 4))
			return false;
		header = (version & 0xf) * 4;
		map_v4(peer, address);
	}
	if (BPF_CORE_READ(device, type) == ARPHRD_ETHER)
		link = ETHERNET_HEADER;
	way->bytes = skb->len + link;
	way->segments = segments;
	if (segments > 1) {
		way->extra = (segments - 1) *
			     (__u64)(link + header + transport_header(skb, header, protocol));
		return true;
	}
	if (skb->len <= MTU_LEAST)
		return true;
	/* A datagram that IP itself cuts into fragments, or has put together. */
	mtu = BPF_CORE_READ(device, mtu);
	if (v6)
		header += IPV6_FRAGMENT_HEADER;
	if (mtu < MTU_LEAST || skb->len <= mtu)
		return true;
	room = (mtu - header) & ~7U;
	fragments = (skb->len - header + room - 1) / room;
	way->bytes += (fragments - 1) * (__u64)(link + header) + (v6 ? IPV6_FRAGMENT_HEADER : 0);
	way->segments = fragments;
	return true;
}

/* Whose socket it is. What sends before its first send has ended, as a datagram does, has a program
 * only by what runs. */
static __always_inline void usage_owner(const struct flow_state *state, struct usage_packet *packet)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct wire_actor *owner = &packet->owner;

	*owner = state->owner;
	if (packet->egress && !owner->program_id && owner->tgid &&
	    owner->tgid == (__u32)BPF_CORE_READ(task, tgid))
		owner->program_id = running_program_id(task);
}

static __always_inline void usage_packet(struct __sk_buff *skb, bool egress)
{
	struct usage_packet packet = {.egress = egress};
	struct wire_usage_key key = {};
	struct bpf_sock *sk = skb->sk;
	struct net_device *device;
	struct flow_state *state;

	if (!sk || !skb->ifindex || skb->ifindex == LOOPBACK_IFINDEX ||
	    control.shed & WIRE_SHED_USAGE)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	device = BPF_CORE_READ((struct sk_buff *)skb, dev);
	packet.device = device;
	if (!usage_read(skb, &packet, key.peer))
		return;
	state = bpf_sk_storage_get(&flows, sk, NULL, 0);
	if (state) {
		usage_owner(state, &packet);
		key.netns = state->netns;
	}
	if (!key.netns)
		key.netns = BPF_CORE_READ(device, nd_net.net, ns.inum);
	key.uid = BPF_CORE_READ((struct sk_buff *)skb, sk, sk_uid.val);
	key.cgroup_id = packet.owner.cgroup_id;
	key.program_id = packet.owner.program_id;
	key.service = packet.owner.root.service;
	key.login_uid = packet.owner.root.login_uid;
	key.ifindex = skb->ifindex;
	usage_count(&key, &packet);
}

/* int __cgroup_bpf_run_filter_skb(struct sock *sk, struct sk_buff *skb,
 *				   enum cgroup_bpf_attach_type atype)
 *
 * As on_flow_packet_in(). */
SEC("cgroup_skb/ingress")
int on_usage_in(struct __sk_buff *skb)
{
	usage_packet(skb, false);
	return 1;
}

/* As on_flow_packet_out(). */
SEC("cgroup_skb/egress")
int on_usage_out(struct __sk_buff *skb)
{
	usage_packet(skb, true);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
