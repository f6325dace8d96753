/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of UDP sockets. A socket can talk to many, so the verdict belongs to (socket, remote end), in casa_udp. A reply
 * passes because its conversation is there, with the direction of its first packet. casa_udp forgets the oldest, whosever it
 * is; then a reply to this workload passes by its rule, and one of this workload because casa_udp_asked has who asked.
 */
#ifndef CASA_BPF_UDP_H
#define CASA_BPF_UDP_H

#include "tcp.h"

static __always_inline void casa_make_udp_key(struct casa_udp_key *key, casa_u64 cookie, const casa_u8 *remote,
                                              casa_u16 remote_port) {
  __builtin_memset(key, 0, sizeof(*key));
  key->cookie = cookie;
  __builtin_memcpy(key->remote, remote, 16);
  key->remote_port = remote_port;
}

static __always_inline void casa_account(struct casa_sk *s, casa_u8 hook, casa_u32 bytes) {
  if (hook == CASA_EGRESS) {
    s->tx_bytes += bytes;
    s->tx_packets++;
  } else {
    s->rx_bytes += bytes;
    s->rx_packets++;
  }
}

/* Returns 0 when it could not be kept. Two CPUs at once may take one place; then one of the two is not remembered. */
static __noinline int casa_keep_asker(const struct casa_sk *note, casa_u64 cookie) {
  static const struct casa_asked nobody;
  if (!note)
    return 0;
  struct casa_asked_key pair = {.subject = note->subject, .peer = note->peer};
  struct casa_asked *asked = bpf_map_lookup_elem(&casa_udp_asked, &pair);
  if (!asked) {
    bpf_map_update_elem(&casa_udp_asked, &pair, &nobody, BPF_NOEXIST);
    asked = bpf_map_lookup_elem(&casa_udp_asked, &pair);
    if (!asked)
      return 0;
  }
  casa_make_udp_key(&asked->who[asked->next++ & (CASA_UDP_ASKERS - 1)], cookie, note->remote, note->remote_port);
  return 1;
}

static __noinline int casa_has_asked(const struct casa_sk *note, casa_u64 cookie) {
  if (!note)
    return 0;
  struct casa_asked_key pair = {.subject = note->subject, .peer = note->peer};
  struct casa_asked *asked = bpf_map_lookup_elem(&casa_udp_asked, &pair);
  if (!asked)
    return 0;
  /* Without a branch: each would be a way of its own for the verifier, 32 times. */
  casa_u64 wanted[2], found = 0;
  __builtin_memcpy(wanted, note->remote, 16);
  for (casa_u32 i = 0; i < CASA_UDP_ASKERS; i++) {
    const struct casa_udp_key *who = &asked->who[i];
    casa_u64 remote[2];
    __builtin_memcpy(remote, who->remote, 16);
    casa_u64 differs = (who->cookie ^ cookie) | (remote[0] ^ wanted[0]) | (remote[1] ^ wanted[1]) |
                       (casa_u64)(who->remote_port ^ note->remote_port);
    found |= ~(differs | -differs) >> 63;
  }
  return (int)found;
}

/* The same two ends, if not who sent this packet but the other one had begun. */
static __noinline int casa_judge_reply(struct __sk_buff *skb, const struct casa_packet *p, casa_u32 flags,
                                       const struct casa_config *config, struct casa_sk *note) {
  if (!p || !config || !note)
    return 0;
  int called = note->direction == CASA_INGRESS; /* by this workload, then */
  struct casa_decision decision = {};
  struct casa_question question = {
      .gen = config->gen,
      .subject = note->subject,
      .subject_flags = flags,
      .peer = note->peer,
      .port = called ? p->remote_port : p->local_port,
      .protocol = p->protocol,
      .direction = called ? CASA_EGRESS : CASA_INGRESS,
      .same_host = note->flags & CASA_SK_SAME_HOST,
  };
  /* As casa_find_peer has it for one who is called. */
  if (called && !question.same_host)
    question.peer =
        casa_remote_identity(skb, note->subject, p->remote_port | CASA_REMOTE_IS_SOURCE) & ~CASA_REMOTE_NAMED;
  else if (called && question.peer == CASA_ID_UNKNOWN)
    question.peer = CASA_ID_NOBODY;
  else if (called && question.peer == CASA_ID_HOST && p->remote_port == CASA_DNS_PORT &&
           casa_is_resolver(p->remote, p->remote_port, config->gen))
    question.peer = CASA_ID_DNS;
  casa_decide(&question, &decision);
  if (decision.verdict == CASA_DENIED)
    return 0;
  note->direction = question.direction;
  note->peer = question.peer;
  note->verdict = decision.verdict;
  note->reason = decision.reason;
  note->rule = decision.rule;
  return 1;
}

/* The key lives in these functions' own frames: the stack is short. */
static __noinline struct casa_sk *casa_find_conversation(const struct casa_packet *p, casa_u64 cookie) {
  struct casa_udp_key key;
  if (!p || p->error)
    return 0;
  casa_make_udp_key(&key, cookie, p->remote, p->remote_port);
  return bpf_map_lookup_elem(&casa_udp, &key);
}

static __noinline int casa_forget_conversation(const struct casa_packet *p, casa_u64 cookie) {
  struct casa_udp_key key;
  if (!p)
    return 0;
  casa_make_udp_key(&key, cookie, p->remote, p->remote_port);
  return bpf_map_delete_elem(&casa_udp, &key);
}

static __noinline struct casa_sk *casa_keep_conversation(const struct casa_sk *note, casa_u64 cookie) {
  struct casa_udp_key key;
  if (!note)
    return 0;
  casa_make_udp_key(&key, cookie, note->remote, note->remote_port);
  if (bpf_map_update_elem(&casa_udp, &key, note, BPF_ANY)) {
    casa_count(CASA_STAT_FAIL_UDP_INSERT);
    return 0;
  }
  return bpf_map_lookup_elem(&casa_udp, &key);
}

/* Returns CASA_DROP, CASA_PASS or CASA_LOOK and more. */
static __noinline int casa_udp_slow(struct __sk_buff *skb, struct casa_sk *state, casa_u8 hook,
                                    const struct casa_config *config) {
  if (!config)
    return 0;
  casa_u32 subject = casa_refresh_subject(skb, state, config);
  if (!subject)
    return 1;
  casa_u32 flags = casa_subject_flags(subject, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  struct casa_packet p;
  casa_parse_packet(skb, hook, &p);
  /* A workload that speaks with a trusted resolver's own address and port would teach others what it likes. */
  if (!p.error && hook == CASA_EGRESS && p.local_port == CASA_DNS_PORT &&
      casa_is_resolver(p.local, p.local_port, config->gen))
    p.error = CASA_REASON_RESOLVER_NOT_TRUSTED;
  if (!state && !p.error)
    p.error = CASA_REASON_FAULT; /* as in casa_tcp_slow */
  casa_u64 cookie = bpf_get_socket_cookie(skb);
  struct casa_sk *known = casa_find_conversation(&p, cookie);
  /* A peer elsewhere does not answer over this host's loopback. */
  if (known && hook == CASA_INGRESS && skb->ifindex == CASA_LOOPBACK_IFINDEX && !(known->flags & CASA_SK_SAME_HOST))
    known = 0;
  /* On this host it is judged by who has the port now, not by who had it. */
  if (known && known->gen == config->gen && !(known->flags & CASA_SK_SAME_HOST)) {
    casa_account(known, hook, skb->len);
    return known->flags & CASA_SK_LOOK ? CASA_LOOK + CASA_LOOK_DNS : CASA_PASS;
  }
  struct casa_sk note;
  if (known)
    note = *known;
  else
    casa_clear(&note, sizeof(note));
  if (!known && state) {
    note.pid = state->pid;
    __builtin_memcpy(note.comm, state->comm, CASA_COMM_LEN);
  }
  casa_u8 old_verdict = note.verdict, old_reason = note.reason;
  note.subject = subject;
  casa_note_packet(&note, &p);
  /* A resolver only ever answers: taken for a caller, its answer to another socket would open a way to it that nobody looks at. */
  if (p.remote_port == CASA_DNS_PORT && casa_is_resolver(p.remote, p.remote_port, config->gen))
    note.direction = CASA_EGRESS;
  else if (!known)
    note.direction = hook;
  p.known = note.peer;
  casa_judge(skb, &p, flags, config, &note);
  /*
   * The conversation may have made room for others (casa_udp forgets): what a peer that may be called says is its answer,
   * and so is what this socket says to one that asked it.
   */
  if (note.verdict == CASA_DENIED && !known && !p.error && (hook == CASA_INGRESS || casa_has_asked(&note, cookie)))
    casa_judge_reply(skb, &p, flags, config, &note);
  if (note.verdict == CASA_DENIED) {
    if (known)
      casa_forget_conversation(&p, cookie);
    casa_emit_denial(&note, p.error == CASA_REASON_PROTOCOL_NOT_ALLOWED ? p.protocol : IPPROTO_UDP, 0);
    return 0;
  }
  /* Its own workload's sockets: no conversation is kept, so that talking to itself costs nobody else theirs. */
  if (note.peer == CASA_ID_NOBODY || note.reason == CASA_REASON_BASELINE_LOOPBACK)
    return 1;
  casa_mark_look(&note);
  if (!known) {
    int asked = note.direction == CASA_INGRESS && casa_keep_asker(&note, cookie);
    if (asked && state)
      state->flags |= CASA_SK_ASKED;
    known = casa_keep_conversation(&note, cookie);
    /* Its answer would be refused, and for a wrong reason. An answer to what this socket opens needs no memory: above. */
    if (!known && note.direction == CASA_INGRESS && !asked) {
      note.verdict = casa_refusal(flags);
      note.reason = CASA_REASON_MAP_FULL;
      casa_emit_denial(&note, IPPROTO_UDP, 0);
      return note.verdict != CASA_DENIED;
    }
  }
  if (!(note.flags & CASA_SK_STARTED) || note.verdict != old_verdict || note.reason != old_reason)
    casa_start_flow(&note, cookie, IPPROTO_UDP);
  casa_account(&note, hook, skb->len);
  if (known)
    *known = note;
  if (state) {
    state->flags |= CASA_SK_STARTED;
    state->cookie = cookie;
  }
  return note.flags & CASA_SK_LOOK ? CASA_LOOK + CASA_LOOK_DNS : CASA_PASS;
}

#endif
