/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is at the other end. On this host: by the peer's own socket, no address involved. Elsewhere: by exact address, then
 * by the longest prefix that a policy names, else the world.
 */
#ifndef CASA_BPF_PEER_H
#define CASA_BPF_PEER_H

#include "packet.h"
#include "subject.h"

struct casa_peer {
  casa_u32 identity;
  casa_u32 pid;
  casa_u32 same_host;
  char comm[CASA_COMM_LEN];
};

static __always_inline casa_u32 casa_identity_of_address(const casa_u8 *address, casa_u32 gen) {
  struct casa_lpm_key key = {.prefix_bits = 128};
  __builtin_memcpy(key.address, address, 16);
  casa_u32 identity = casa_in_force(bpf_map_lookup_elem(&casa_addr, &key.address), gen);
  if (!identity)
    identity = casa_in_force(bpf_map_lookup_elem(&casa_lpm, &key), gen);
  return identity ? identity : CASA_ID_WORLD;
}

/* The tuple as a packet from `from` to `to` would carry it; returns its size for the look-up helpers. */
static __always_inline casa_u32 casa_make_tuple(struct bpf_sock_tuple *t, const casa_u8 *from, casa_u16 from_port,
                                                const casa_u8 *to, casa_u16 to_port) {
  if (casa_is_v4(to)) {
    __builtin_memcpy(&t->ipv4.saddr, from + 12, 4);
    __builtin_memcpy(&t->ipv4.daddr, to + 12, 4);
    t->ipv4.sport = bpf_htons(from_port);
    t->ipv4.dport = bpf_htons(to_port);
    return sizeof(t->ipv4);
  }
  __builtin_memcpy(t->ipv6.saddr, from, 16);
  __builtin_memcpy(t->ipv6.daddr, to, 16);
  t->ipv6.sport = bpf_htons(from_port);
  t->ipv6.dport = bpf_htons(to_port);
  return sizeof(t->ipv6);
}

static __always_inline struct bpf_sock *casa_find_socket(struct __sk_buff *skb, const struct casa_packet *p) {
  struct bpf_sock_tuple tuple = {};
  casa_u32 size = casa_make_tuple(&tuple, p->local, p->local_port, p->remote, p->remote_port);
  if (size == sizeof(tuple.ipv4))
    return p->protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
                                      : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
  return p->protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0)
                                    : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/*
 * Fills the peer's part of `note`: identity, process, CASA_SK_SAME_HOST; and p->caller. Needs p->direction and p->known: a
 * peer that has closed its socket already is still who it was.
 */
static __noinline int casa_find_peer(struct __sk_buff *skb, struct casa_packet *p, const struct casa_config *config,
                                     struct casa_sk *note) {
  if (!p || !config || !note)
    return 0;
  p->caller = 0;
  if (skb->ifindex != CASA_LOOPBACK_IFINDEX) {
    note->flags &= ~CASA_SK_SAME_HOST;
    note->peer = casa_identity_of_address(p->remote, config->gen);
    return 0;
  }
  note->flags |= CASA_SK_SAME_HOST;
  struct bpf_sock *sk = casa_find_socket(skb, p);
  /* A listener answers for a port, it never opens a conversation: then the opener's own socket is gone. */
  if (sk && p->direction == CASA_INGRESS && p->protocol == IPPROTO_TCP && sk->state == CASA_TCP_LISTEN) {
    bpf_sk_release(sk);
    sk = 0;
  }
  if (!sk) {
    note->peer = p->known ? p->known : p->direction == CASA_EGRESS ? CASA_ID_NOBODY : CASA_ID_UNKNOWN;
    return 0;
  }
  casa_u32 subject;
  struct casa_sk *state = bpf_sk_storage_get(&casa_sk, sk, 0, 0);
  if (state && state->subject_gen == config->gen)
    subject = state->subject;
  else
    subject = casa_subject_of_socket(sk, config);
  if (state) {
    p->caller = state->created;
    note->peer_pid = state->pid;
    __builtin_memcpy(note->peer_comm, state->comm, CASA_COMM_LEN);
  }
  bpf_sk_release(sk);
  note->peer = subject ? subject : CASA_ID_HOST;
  return 0;
}

#endif
