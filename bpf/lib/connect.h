/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The friendly half: connect() and sendto() fail with EPERM at once instead of a connection that hangs. What cannot be
 * told here (a listener older than the programs) is left to the packet programs, which are authoritative.
 */
#ifndef CASA_BPF_CONNECT_H
#define CASA_BPF_CONNECT_H

#include "udp.h"

#define CASA_ID_DEFER 0xffffffffu

static __always_inline struct bpf_sock *casa_find_receiver(struct bpf_sock_addr *ctx, const casa_u8 *remote,
                                                           casa_u16 port) {
  struct bpf_sock_tuple tuple = {};
  casa_u8 from[16];
  __builtin_memcpy(from, remote, 16);
  casa_u32 size = casa_make_tuple(&tuple, from, 0, remote, port);
  if (size == sizeof(tuple.ipv4))
    return ctx->protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
                                        : bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
  return ctx->protocol == IPPROTO_TCP ? bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0)
                                      : bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __noinline int casa_find_destination(struct bpf_sock_addr *ctx, const casa_u8 *remote, struct casa_question *q,
                                            const struct casa_config *config, struct casa_peer *peer) {
  if (!remote || !config || !peer || !q)
    return 0;
  __builtin_memset(peer, 0, sizeof(*peer));
  casa_u16 port = q->port;
  if (!casa_is_loopback(remote)) {
    struct casa_learnt_key key = {.subject = q->subject};
    __builtin_memcpy(key.address, remote, 16);
    casa_u32 found = casa_identity_of_called(&key, q->port, config->gen);
    peer->identity = found & ~CASA_REMOTE_NAMED;
    peer->named = found & CASA_REMOTE_NAMED ? 1 : 0;
    if (peer->identity != CASA_ID_HOST || !config->host_netns_cookie ||
        bpf_get_netns_cookie(ctx) != config->host_netns_cookie)
      return 0;
  }
  peer->same_host = 1;
  struct bpf_sock *sk = casa_find_receiver(ctx, remote, port);
  if (!sk) {
    peer->identity = CASA_ID_NOBODY;
    return 0;
  }
  struct casa_sk *state = bpf_sk_storage_get(&casa_sk, sk, 0, 0);
  peer->identity = CASA_ID_DEFER;
  if (state) {
    peer->pid = state->pid;
    __builtin_memcpy(peer->comm, state->comm, CASA_COMM_LEN);
    if (state->subject_gen == config->gen)
      peer->identity = state->subject ? state->subject : CASA_ID_HOST;
    else if (state->subject && casa_subject_flags(state->subject, config->gen))
      peer->identity = state->subject;
  }
  bpf_sk_release(sk);
  if (peer->identity == CASA_ID_HOST && port == CASA_DNS_PORT && casa_is_resolver(remote, port, config->gen))
    peer->identity = CASA_ID_DNS;
  return 0;
}

static __always_inline int casa_is_any(const casa_u8 *a) {
  casa_u32 w[4];
  __builtin_memcpy(w, a, 16);
  return !w[0] && !w[1] && !w[3] && (w[2] == 0 || w[2] == bpf_htonl(0xffff));
}

/* connect() and sendto() to the unspecified address reach this host. */
static __always_inline void casa_any_to_loopback(casa_u8 *remote) {
  if (!casa_is_any(remote))
    return;
  if (remote[10])
    remote[12] = 127;
  remote[15] = 1;
}

/* Whose rules this call is under: the socket's maker where that is known, else the caller. */
static __always_inline casa_u32 casa_caller(const struct casa_sk *state, const struct casa_config *config) {
  if (state && state->subject_gen == config->gen && state->subject)
    return state->subject;
  casa_u32 subject = casa_subject_of_task();
  if (!subject && state && state->subject && casa_subject_flags(state->subject, config->gen))
    subject = state->subject;
  return subject;
}

static __always_inline void casa_note_process(struct casa_sk *note) {
  note->pid = (casa_u32)(bpf_get_current_pid_tgid() >> 32);
  bpf_get_current_comm(note->comm, sizeof(note->comm));
}

/*
 * A process outside every workload calls a workload of this host: the workload's ingress rules decide here too, so that
 * the caller gets EPERM instead of silence. Filled into note from the workload's point of view.
 */
static __always_inline int casa_host_calls(const struct casa_peer *receiver, casa_u16 port, casa_u8 protocol,
                                           casa_u32 caller, const struct casa_config *config, struct casa_sk *note) {
  casa_u32 flags = casa_subject_flags(receiver->identity, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  struct casa_decision decision = {};
  struct casa_question question = {
      .gen = config->gen,
      .subject = receiver->identity,
      .subject_flags = flags,
      .peer = caller ? caller : CASA_ID_HOST,
      .port = port,
      .protocol = protocol,
      .direction = CASA_INGRESS,
      .same_host = 1,
  };
  casa_decide(&question, &decision);
  if (decision.verdict != CASA_DENIED)
    return 1;
  note->subject = receiver->identity;
  note->peer = question.peer;
  note->direction = CASA_INGRESS;
  note->verdict = decision.verdict;
  note->reason = decision.reason;
  note->peer_pid = note->pid;
  __builtin_memcpy(note->peer_comm, note->comm, CASA_COMM_LEN);
  note->pid = receiver->pid;
  __builtin_memcpy(note->comm, receiver->comm, CASA_COMM_LEN);
  __builtin_memcpy(note->local, note->remote, 16);
  note->local_port = note->remote_port;
  note->remote_port = 0;
  casa_emit_denial(note, protocol, 0);
  return 0;
}

/* One connect() or sendto(): who calls whom. In the programs' own frame, so that what looks around and what decides share the stack. */
struct casa_call {
  struct casa_question question;
  struct casa_peer peer;
  casa_u8 remote[16];
  casa_u32 is_connect;
  casa_u32 managed; /* the caller is held to a policy */
};

/* A datagram of a conversation that goes on, or that answers somebody who was let in: the packet program holds it to its rule. */
static __noinline int casa_is_known_datagram(struct bpf_sock_addr *ctx, const struct casa_call *call) {
  if (!call)
    return 0;
  struct casa_udp_key key;
  casa_make_udp_key(&key, bpf_get_socket_cookie(ctx), call->remote, call->question.port);
  struct casa_sk *known = bpf_map_lookup_elem(&casa_udp, &key);
  return known && (known->direction == CASA_INGRESS ||
                   (known->gen == call->question.gen && !(known->flags & CASA_SK_SAME_HOST)));
}

/* The packet program takes this verdict over for the first packet to the same end. */
static __always_inline void casa_keep_verdict(struct casa_sk *state, const struct casa_sk *note,
                                              const struct casa_call *call) {
  state->subject = note->subject;
  state->subject_gen = note->gen;
  state->peer = note->peer;
  state->peer_pid = note->peer_pid;
  __builtin_memcpy(state->peer_comm, note->peer_comm, CASA_COMM_LEN);
  state->verdict = note->verdict;
  state->reason = note->reason;
  state->rule = note->rule;
  state->direction = CASA_EGRESS;
  __builtin_memcpy(state->remote, note->remote, 16);
  state->remote_port = note->remote_port;
  state->flags &= ~(CASA_SK_SAME_HOST | CASA_SK_NAMED | CASA_SK_PROVEN | CASA_SK_LOOK);
  if (call->peer.same_host)
    state->flags |= CASA_SK_SAME_HOST;
  if (call->peer.named)
    state->flags |= CASA_SK_NAMED;
  state->gen = note->gen;
}

/* Returns 1 to let the call go on, 0 for EPERM. */
static __noinline int casa_decide_call(struct bpf_sock_addr *ctx, struct casa_call *call, struct casa_sk *state) {
  struct casa_config *config = casa_get_config();
  if (!call || !config)
    return 1;
  struct casa_question *q = &call->question;
  struct casa_peer *peer = &call->peer;
  casa_u8 protocol = q->protocol;
  struct casa_sk note = {.subject = q->subject, .direction = CASA_EGRESS, .remote_port = q->port, .gen = q->gen};
  __builtin_memcpy(note.remote, call->remote, 16);
  casa_note_process(&note);
  struct casa_decision decision = {};
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) {
    casa_refuse(q, ctx->type == CASA_SOCK_RAW ? CASA_REASON_RAW_SOCKET : CASA_REASON_PROTOCOL_NOT_ALLOWED, &decision);
  } else if (call->managed && !state) {
    casa_refuse(q, CASA_REASON_FAULT, &decision); /* as its packets */
  } else {
    if (state) {
      state->pid = note.pid;
      __builtin_memcpy(state->comm, note.comm, CASA_COMM_LEN);
    }
    /* Its own address in a network namespace of its own: the packet program sees that it stays on lo. */
    if (peer->identity == CASA_ID_DEFER || (call->managed && !peer->same_host && peer->identity == q->subject))
      return 1;
    decision.verdict = CASA_ALLOWED;
    if (call->managed) {
      q->peer = peer->identity;
      q->same_host = peer->same_host;
      casa_decide(q, &decision);
    }
  }
  note.peer = peer->identity;
  note.peer_pid = peer->pid;
  __builtin_memcpy(note.peer_comm, peer->comm, CASA_COMM_LEN);
  note.verdict = decision.verdict;
  note.reason = decision.reason;
  note.rule = decision.rule;
  if (note.verdict == CASA_DENIED) {
    /* It may be an answer whose conversation was forgotten: the packet program knows who asked, and refuses with EPERM too. */
    if (protocol == IPPROTO_UDP && !call->is_connect && state && state->flags & CASA_SK_ASKED)
      return 1;
    /*
     * getaddrinfo() connects a UDP socket to each address that it found, to put them in order, and sends nothing. A datagram to a
     * name is refused when it is sent, with EPERM too.
     */
    if (protocol == IPPROTO_UDP && call->is_connect && peer->named)
      return 1;
    /*
     * An application beside Istio's proxy may call its LLM in clear text, at port 80: it is redirected to the proxy, which calls the port
     * that the policy says. One that is not redirected is refused at its first packet.
     */
    if (protocol == IPPROTO_TCP && peer->named && q->port == CASA_HTTP_PORT && q->subject_flags & CASA_SUBJECT_ISTIO)
      return 1;
    casa_emit_denial(&note, protocol, 0);
    return 0;
  }
  if (peer->same_host && peer->identity >= CASA_ID_FIRST && peer->identity != q->subject &&
      !casa_host_calls(peer, q->port, protocol, q->subject, config, &note))
    return 0;
  if (state && call->managed && call->is_connect && protocol == IPPROTO_TCP && peer->identity != CASA_ID_NOBODY)
    casa_keep_verdict(state, &note, call);
  return 1;
}

/* Returns 1 to let the call go on, 0 for EPERM. call->remote may be rewritten (unspecified address). */
static __always_inline int casa_call(struct bpf_sock_addr *ctx, struct casa_call *call, casa_u8 is_connect) {
  struct casa_config *config = casa_get_config();
  struct bpf_sock *sk = ctx->sk;
  if (!config || !config->gen)
    return 1;
  struct casa_sk *state = sk ? bpf_sk_storage_get(&casa_sk, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
  casa_any_to_loopback(call->remote);
  casa_u8 protocol = ctx->protocol;
  casa_u32 subject = casa_caller(state, config);
  casa_u32 flags = subject ? casa_subject_flags(subject, config->gen) : 0;
  /* The socket is used again for another conversation, whoever it is under just now: what is known of the old one is not the new one's. */
  if (state && is_connect && (state->flags & CASA_SK_STARTED) && protocol == IPPROTO_TCP)
    casa_end_conversation(state);
  call->managed = casa_is_enforced(flags);
  call->is_connect = is_connect;
  int carries = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
  if (!call->managed && !(is_connect && carries && casa_is_loopback(call->remote)))
    return 1;
  call->question.gen = config->gen;
  call->question.subject = subject;
  call->question.subject_flags = flags;
  call->question.port = bpf_ntohs((casa_u16)ctx->user_port);
  call->question.protocol = protocol;
  call->question.direction = CASA_EGRESS;
  if (protocol == IPPROTO_UDP && !is_connect && casa_is_known_datagram(ctx, call))
    return 1;
  if (carries)
    casa_find_destination(ctx, call->remote, &call->question, config, &call->peer);
  return casa_decide_call(ctx, call, state);
}

#endif
