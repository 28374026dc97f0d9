// SPDX-License-Identifier: GPL-2.0-only
/* Flows of UDP, SCTP, ICMP and other raw sockets, of all but TCP: every packet is counted where it
 * passes its socket's cgroup. */
#include "answers.bpf.h"

#define ETH_P_IPV6 0x86dd
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define UDP_HEADER 8
#define MAX_FLOW_PEERS_KEPT (MAX_FLOW_PEERS - 1024) /* the rest is for the unspecified peers */

/* A packet whose peer has no room of its own. */
static __always_inline void flow_refuse(void)
{
	struct wire_stats *cpu = cpu_stats();

	if (cpu)
		cpu->flow_peers_refused++;
}

struct packet {
	struct flow_ends ends;
	__u64 bytes;
	__u64 packets;
	__u32 payload; /* of UDP: where it begins */
};

/* Ends, ports and size of the packet, whose data starts at its network header. A large datagram
 * that hardware or the lower layers will cut has its headers counted for each part. */
static __always_inline bool packet_read(struct __sk_buff *skb, bool egress, struct packet *packet)
{
	__u8 *source = egress ? packet->ends.local_address : packet->ends.peer_address;
	__u8 *target = egress ? packet->ends.peer_address : packet->ends.local_address;
	__u32 header = IPV6_HEADER;
	__u32 segments = skb->gso_segs ?: 1;
	__be16 ports[2] = {};
	__u8 protocol;

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, 8, source, 16) ||
		    bpf_skb_load_bytes(skb, 24, target, 16))
			return false;
	} else {
		__be32 addresses[2];
		__u8 version;

		if (bpf_skb_load_bytes(skb, 0, &version, 1) ||
		    bpf_skb_load_bytes(skb, 9, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, 12, addresses, 8))
			return false;
		header = (version & 0xf) * 4;
		map_v4(source, addresses[0]);
		map_v4(target, addresses[1]);
	}
	packet->ends.protocol = protocol;
	if (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_TCP ||
	    protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP)
		bpf_skb_load_bytes(skb, header, ports, sizeof(ports));
	packet->ends.local_port = bpf_ntohs(ports[!egress]);
	packet->ends.peer_port = bpf_ntohs(ports[egress]);
	packet->packets = segments;
	packet->payload = header + UDP_HEADER;
	packet->bytes = skb->len + (segments - 1) * (header + UDP_HEADER);
	return true;
}

static __always_inline void flow_count(struct flow_state *state, const struct packet *packet,
				       bool egress)
{
	if (egress) {
		__sync_fetch_and_add(&state->seen.bytes_out, packet->bytes);
		__sync_fetch_and_add(&state->seen.packets_out, packet->packets);
	} else {
		__sync_fetch_and_add(&state->seen.bytes_in, packet->bytes);
		__sync_fetch_and_add(&state->seen.packets_in, packet->packets);
	}
}

/* Counts unless the iterator has just given the entry up as idle. */
static __always_inline bool flow_peer_count_live(struct flow_state *peer,
						 const struct packet *packet, bool egress)
{
	bool live;

	bpf_spin_lock(&peer->lock);
	live = !(peer->flags & FLOW_ENDED);
	if (live)
		flow_count(peer, packet, egress);
	bpf_spin_unlock(&peer->lock);
	return live;
}

/* A peer beside the socket's first, or (`rest`) all those that there is no room for. */
static __always_inline bool flow_peer_packet(struct flow_state *state, const struct packet *packet,
					     bool egress, bool rest)
{
	struct flow_peer_key key = {.cookie = state->cookie};
	struct flow_state made = {};
	struct flow_state *peer;

	made.ends = packet->ends;
	if (rest) {
		__builtin_memset(made.ends.peer_address, 0, sizeof(made.ends.peer_address));
		made.ends.peer_port = 0;
	}
	__builtin_memcpy(key.address, made.ends.peer_address, sizeof(key.address));
	key.port = made.ends.peer_port;
	key.protocol = made.ends.protocol;
	peer = bpf_map_lookup_elem(&flow_peers, &key);
	if (peer && flow_peer_count_live(peer, packet, egress))
		return true;
	if (peer && !bpf_map_delete_elem(&flow_peers, &key))
		__sync_fetch_and_add(&flow_peer_count, -1);
	if (!rest && flow_peer_count >= MAX_FLOW_PEERS_KEPT)
		return false;

	made.flags = (state->flags & (FLOW_OWN | FLOW_OWNED)) | FLOW_PEER;
	if (!egress)
		made.flags |= FLOW_INBOUND;
	made.netns = state->netns;
	made.cookie = state->cookie;
	made.owner = state->owner;
	if (bpf_map_update_elem(&flow_peers, &key, &made, BPF_NOEXIST) == 0)
		__sync_fetch_and_add(&flow_peer_count, 1);
	peer = bpf_map_lookup_elem(&flow_peers, &key);
	if (!peer || !flow_peer_count_live(peer, packet, egress))
		return false;
	state->fresh = key;
	return true;
}

static __always_inline bool flow_same_peer(const struct flow_ends *a, const struct flow_ends *b)
{
	const __u64 *x = (const void *)a->peer_address, *y = (const void *)b->peer_address;

	return x[0] == y[0] && x[1] == y[1] && a->peer_port == b->peer_port &&
	       a->protocol == b->protocol;
}

static __always_inline void flow_packet_hit(const struct flow_state *state)
{
	struct wire_stats *cpu;

	if (!control.proof_tgid || state->owner.tgid != control.proof_tgid)
		return;
	cpu = cpu_stats();
	if (cpu)
		__sync_fetch_and_add(&cpu->hits[WIRE_HOOK_PACKET], 1);
}

/* The first packet names the peer of the socket's own flow, and who began. */
static __always_inline void flow_claim(struct flow_state *state, const struct packet *packet,
				       bool egress)
{
	bpf_spin_lock(&state->lock);
	if (!(state->flags & FLOW_PEER)) {
		state->ends = packet->ends;
		flow_set(state, egress ? FLOW_PEER : FLOW_PEER | FLOW_INBOUND);
	}
	bpf_spin_unlock(&state->lock);
}

static __always_inline void flow_packet(struct __sk_buff *skb, bool egress)
{
	struct bpf_sock *sk = skb->sk;
	struct packet packet = {};
	struct flow_state *state;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_MPTCP)
		return;
	state = bpf_sk_storage_get(&flows, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state || state->flags & FLOW_OWN || !packet_read(skb, egress, &packet))
		return;
	flow_packet_hit(state);
	if (!egress && packet.ends.protocol == IPPROTO_UDP && packet.ends.peer_port == DNS_PORT &&
	    state->netns && !(control.shed & WIRE_SHED_NAMES))
		answer_copy(skb, packet.payload, state->netns);
	if (!state->cookie) {
		state->cookie = bpf_get_socket_cookie(skb);
		flow_set(state, FLOW_STARTED); /* older than the sensor */
	}
	if (!(state->flags & FLOW_PEER))
		flow_claim(state, &packet, egress);
	if (flow_same_peer(&state->ends, &packet.ends)) {
		flow_count(state, &packet, egress);
		return;
	}
	/* The kernel's own sockets (as for ICMP), and older ones until somebody uses them. */
	if (!state->owner.tgid)
		return;
	if (flow_peer_packet(state, &packet, egress, false))
		return;
	flow_refuse();
	flow_peer_packet(state, &packet, egress, true);
}

/* int __cgroup_bpf_run_filter_skb(struct sock *sk, struct sk_buff *skb,
 *				   enum cgroup_bpf_attach_type atype)
 *
 * From sk_filter_trim_cap(), usually in a softirq. */
SEC("cgroup_skb/ingress")
int on_flow_packet_in(struct __sk_buff *skb)
{
	flow_packet(skb, false);
	return 1;
}

/* The same from ip_finish_output() and ip6_finish_output(), before fragmentation. */
SEC("cgroup_skb/egress")
int on_flow_packet_out(struct __sk_buff *skb)
{
	flow_packet(skb, true);
	return 1;
}

/* int __cgroup_bpf_run_filter_sk(struct sock *sk, enum cgroup_bpf_attach_type atype)
 *
 * At inet_release(), in the context of the last close. Further peers end when they are idle. */
SEC("cgroup/sock_release")
int on_flow_release(struct bpf_sock *sk)
{
	struct flow_state *state;

	if (sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_MPTCP)
		return 1;
	state = bpf_sk_storage_get(&flows, sk, NULL, 0);
	if (state && state->flags & FLOW_PEER)
		flow_end(state, &state->seen, WIRE_FLOW_FINAL, RTT_UNAVAILABLE);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
