/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is at the other end. On this host: by the peer's own socket, no address involved. Elsewhere: by exact address, then
 * by the longest prefix that a policy names, else the world.
 */
#ifndef CASA_BPF_PEER_H
#define CASA_BPF_PEER_H

#include "decide.h"
#include "packet.h"
#include "subject.h"

struct casa_peer {
  casa_u32 identity;
  casa_u32 pid;
  casa_u32 same_host;
  casa_u32 named; /* a DNS name told who it is */
  char comm[CASA_COMM_LEN];
};

/* The address in two halves, as in memory. Global, with numbers only: see casa_answer. */
__noinline casa_u32 casa_identity_of(casa_u64 first, casa_u64 last, casa_u32 gen) {
  struct casa_lpm_key key = {.prefix_bits = 128};
  __builtin_memcpy(key.address, &first, 8);
  __builtin_memcpy(key.address + 8, &last, 8);
  casa_u32 identity = casa_in_force(bpf_map_lookup_elem(&casa_addr, &key.address), gen) & ~CASA_ADDR_HERE;
  if (!identity)
    identity = casa_in_force(bpf_map_lookup_elem(&casa_lpm, &key), gen);
  return identity ? identity : CASA_ID_WORLD;
}

static __always_inline casa_u32 casa_identity_of_address(const casa_u8 *address, casa_u32 gen) {
  casa_u64 half[2];
  __builtin_memcpy(half, address, 16);
  return casa_identity_of(half[0], half[1], gen);
}

/* The address in two halves. Global, with numbers only: see casa_answer; and a frame of its own, which its callers need not have. */
__noinline int casa_resolver_at(casa_u64 first, casa_u64 last, casa_u32 port, casa_u32 gen) {
  struct casa_resolver_key key = {.port = (casa_u16)port};
  __builtin_memcpy(key.address, &first, 8);
  __builtin_memcpy(key.address + 8, &last, 8);
  return casa_in_force(bpf_map_lookup_elem(&casa_resolver, &key), gen) != 0;
}

static __always_inline int casa_is_resolver(const casa_u8 *address, casa_u16 port, casa_u32 gen) {
  casa_u64 half[2];
  __builtin_memcpy(half, address, 16);
  return casa_resolver_at(half[0], half[1], port, gen);
}

static __always_inline casa_u32 casa_now_seconds(void) { return (casa_u32)(bpf_ktime_get_ns() / CASA_NS_PER_SECOND); }

/* Beside an identity: the peer is known by a name. Identities end below it. */
#define CASA_REMOTE_NAMED (1u << 31)

/*
 * The name that an address was learnt for by the subject's own DNS answers: the one that a rule allows on this port if there are
 * several, else any; CASA_ID_NONE when there is none.
 */
static __always_inline casa_u32 casa_named_peer(const struct casa_learnt_key *key, casa_u16 port, casa_u32 gen) {
  struct casa_learnt *learnt = bpf_map_lookup_elem(&casa_learnt, key);
  if (!learnt)
    return CASA_ID_NONE;
  casa_u32 now = casa_now_seconds(), found = CASA_ID_NONE;
  for (casa_u32 i = 0; i < CASA_LEARNT_SLOTS; i++) {
    casa_u32 identity = learnt->slots[i].identity;
    if (!identity || learnt->slots[i].expires <= now)
      continue;
    struct casa_policy_key rule = {
        .subject = key->subject, .peer = identity, .port = port, .protocol = IPPROTO_TCP, .direction = CASA_EGRESS};
    found = identity;
    if (casa_policy_payload(&rule, gen))
      break;
  }
  return found;
}

/*
 * The identity of somebody elsewhere who is called: a trusted resolver, then exact addresses, then learnt names (CASA_REMOTE_NAMED), then
 * prefixes. What a DNS answer says never makes a workload's, a Service's or this host's address somebody else's.
 */
static __always_inline casa_u32 casa_identity_of_called(const struct casa_learnt_key *key, casa_u16 port,
                                                        casa_u32 gen) {
  if (port == CASA_DNS_PORT && casa_is_resolver(key->address, port, gen))
    return CASA_ID_DNS;
  casa_u32 identity = casa_in_force(bpf_map_lookup_elem(&casa_addr, key->address), gen) & ~CASA_ADDR_HERE;
  if (identity)
    return identity;
  identity = casa_named_peer(key, port, gen);
  return identity ? identity | CASA_REMOTE_NAMED : casa_identity_of_address(key->address, gen);
}

/* A flow that goes on keeps the address that it uses for its name. */
static __always_inline void casa_keep_learnt(const struct casa_sk *state) {
  struct casa_learnt_key key = {.subject = state->subject};
  __builtin_memcpy(key.address, state->remote, 16);
  struct casa_learnt *learnt = bpf_map_lookup_elem(&casa_learnt, &key);
  if (!learnt)
    return;
  casa_u32 until = casa_now_seconds() + CASA_LEARNT_IN_USE_SECONDS;
  for (casa_u32 i = 0; i < CASA_LEARNT_SLOTS; i++)
    if (learnt->slots[i].identity == state->peer && learnt->slots[i].expires < until)
      learnt->slots[i].expires = until;
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

/* Whose socket gets what `from` sends to `to`. */
static __always_inline struct bpf_sock *casa_find_socket(struct __sk_buff *skb, casa_u8 protocol, const casa_u8 *from,
                                                         casa_u16 from_port, const casa_u8 *to, casa_u16 to_port) {
  struct bpf_sock_tuple tuple = {};
  casa_u32 size = casa_make_tuple(&tuple, from, from_port, to, to_port);
  if (size == sizeof(tuple.ipv4))
    return protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
                                   : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
  return protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0)
                                 : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* What casa_remote_identity is asked beside the subject: the port, and above it these. */
#define CASA_REMOTE_CALLS (1u << 16)     /* the remote end opened the conversation */
#define CASA_REMOTE_IS_SOURCE (1u << 17) /* of the packet: it came in */

/* Global, with numbers only: see casa_answer. */
__noinline casa_u32 casa_remote_identity(struct __sk_buff *skb, casa_u32 subject, casa_u32 asked) {
  struct casa_config *config = casa_get_config();
  struct casa_learnt_key key;
  if (!config)
    return CASA_ID_WORLD;
  if (skb->protocol == bpf_htons(CASA_ETH_P_IP)) {
    casa_u32 v4;
    if (bpf_skb_load_bytes(skb, asked & CASA_REMOTE_IS_SOURCE ? 12 : 16, &v4, sizeof(v4)))
      return CASA_ID_WORLD;
    casa_map_v4(key.address, v4);
  } else if (bpf_skb_load_bytes(skb, asked & CASA_REMOTE_IS_SOURCE ? 8 : 24, key.address, sizeof(key.address))) {
    return CASA_ID_WORLD;
  }
  key.subject = subject;
  return asked & CASA_REMOTE_CALLS ? casa_identity_of_address(key.address, config->gen)
                                   : casa_identity_of_called(&key, (casa_u16)asked, config->gen);
}

/* A peer elsewhere. One that the first bytes have proven, or whose learnt address has run out since, is still who it was. */
static __always_inline void casa_find_remote_peer(struct __sk_buff *skb, const struct casa_packet *p,
                                                  struct casa_sk *note) {
  casa_u32 known = note->flags & CASA_SK_NAMED ? p->known : CASA_ID_NONE;
  note->flags &= ~CASA_SK_SAME_HOST;
  if (known && note->flags & CASA_SK_PROVEN) {
    note->peer = known;
    return;
  }
  casa_u32 asked = p->remote_port;
  if (p->direction == CASA_INGRESS)
    asked |= CASA_REMOTE_CALLS;
  if (p->hook == CASA_INGRESS)
    asked |= CASA_REMOTE_IS_SOURCE;
  casa_u32 found = casa_remote_identity(skb, note->subject, asked);
  int named = found & CASA_REMOTE_NAMED || (known && found == CASA_ID_WORLD);
  note->peer = known && found == CASA_ID_WORLD ? known : found & ~CASA_REMOTE_NAMED;
  note->flags = named ? note->flags | CASA_SK_NAMED : note->flags & ~CASA_SK_NAMED;
}

/* A socket of a Pod in a network namespace that is not the host's. */
static __always_inline int casa_in_pod(casa_u32 subject, casa_u8 sk_flags, const struct casa_config *config) {
  return !(sk_flags & CASA_SK_HOST_NETNS) && config->host_netns_cookie &&
         casa_subject_flags(subject, config->gen) & CASA_SUBJECT_POD;
}

/* A peer on this host, by its socket. One that has closed it already is still who it was. */
static __noinline int casa_find_local_peer(struct __sk_buff *skb, struct casa_packet *p,
                                           const struct casa_config *config, struct casa_sk *note) {
  if (!p || !config || !note)
    return 0;
  note->flags |= CASA_SK_SAME_HOST;
  struct bpf_sock *sk = casa_find_socket(skb, p->protocol, p->local, p->local_port, p->remote, p->remote_port);
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
  /* Whoever else of this host holds a resolver's port is not the resolver. */
  if (!subject && p->direction == CASA_EGRESS && p->remote_port == CASA_DNS_PORT &&
      casa_is_resolver(p->remote, p->remote_port, config->gen))
    note->peer = CASA_ID_DNS;
  return 0;
}

/*
 * Fills the peer's part of `note`: identity, process, CASA_SK_SAME_HOST and CASA_SK_NAMED; and p->caller. Needs p->direction and
 * p->known, the peer of this conversation as found before.
 */
static __always_inline void casa_find_peer(struct __sk_buff *skb, struct casa_packet *p,
                                           const struct casa_config *config, struct casa_sk *note) {
  p->caller = 0;
  if (skb->ifindex != CASA_LOOPBACK_IFINDEX) {
    casa_find_remote_peer(skb, p, note);
    return;
  }
  casa_find_local_peer(skb, p, config, note);
  /*
   * What arrives on a Pod's own lo comes from that Pod. Its socket is not found where the packet was redirected on the way (to Istio's proxy):
   * it believes to be connected to somebody else.
   */
  if (note->peer == CASA_ID_UNKNOWN && casa_in_pod(note->subject, note->flags, config))
    note->peer = note->subject;
}

#endif
