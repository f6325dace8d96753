/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The verdict: a pure function of the generation's maps and of who talks to whom. Every hook, and the sweep, decides
 * here and nowhere else. The precedence of the look-ups is written beside struct casa_policy_key.
 */
#ifndef CASA_BPF_DECIDE_H
#define CASA_BPF_DECIDE_H

#include "maps.h"

#define CASA_DNS_PORT 53
#define CASA_HTTP_PORT 80 /* an llmEndpoint on this port speaks HTTP in clear text, on any other TLS */

struct casa_decision {
  casa_u32 rule;
  casa_u8 verdict;
  casa_u8 reason;
  casa_u16 pad;
};

struct casa_question {
  casa_u32 gen;
  casa_u32 subject;
  casa_u32 subject_flags; /* CASA_SUBJECT_* */
  casa_u32 peer;
  casa_u16 port; /* the destination's */
  casa_u8 protocol;
  casa_u8 direction;
  casa_u32 same_host; /* the peer was found by its socket */
  casa_u32 named; /* casa_identity_of_remote's answer: a DNS name told the peer */
};

static __always_inline casa_u8 casa_denial_reason(const struct casa_question *q) {
  if (q->subject_flags & CASA_SUBJECT_UNDECLARED)
    return CASA_REASON_UNDECLARED_CGROUP;
  if (q->subject_flags & CASA_SUBJECT_INVALID)
    return CASA_REASON_POLICY_INVALID;
  if (q->subject_flags & CASA_SUBJECT_NO_POLICY)
    return CASA_REASON_NO_POLICY;
  if (q->peer == CASA_ID_NOBODY)
    return CASA_REASON_NO_LISTENER;
  if (q->peer == CASA_ID_UNKNOWN)
    return CASA_REASON_PEER_UNKNOWN;
  if (q->peer == CASA_ID_DNS)
    return CASA_REASON_DNS_NAME_NOT_ALLOWED; /* its policy needs no name at all */
  struct casa_policy_key mark = {.subject = q->subject, .peer = q->peer, .direction = q->direction};
  /* A mark's payload has rule bits only to be non-zero. */
  if (casa_in_force(bpf_map_lookup_elem(&casa_policy, &mark), q->gen)) {
    mark.protocol = IPPROTO_TCP;
    mark.port = q->port;
    if (q->protocol == IPPROTO_UDP && casa_in_force(bpf_map_lookup_elem(&casa_policy, &mark), q->gen))
      return CASA_REASON_UDP_NOT_ALLOWED;
    return CASA_REASON_PORT_NOT_ALLOWED;
  }
  if (q->direction == CASA_INGRESS)
    return CASA_REASON_SOURCE_NOT_ALLOWED;
  if (q->port == CASA_DNS_PORT)
    return CASA_REASON_RESOLVER_NOT_TRUSTED;
  return q->peer == CASA_ID_WORLD ? CASA_REASON_EXTERNAL_NOT_ALLOWED : CASA_REASON_PEER_NOT_ALLOWED;
}

static __always_inline void casa_refuse(const struct casa_question *q, casa_u8 reason, struct casa_decision *d) {
  d->rule = 0;
  d->reason = reason;
  d->verdict = (q->subject_flags & CASA_SUBJECT_AUDIT) ? CASA_AUDIT : CASA_DENIED;
}

/* What casa_rule_for is asked, beside who talks to whom; scalars, since 5.10 takes no pointers there. */
#define CASA_ASK(port, protocol, direction) ((casa_u32)(port) | (casa_u32)(protocol) << 16 | (casa_u32)(direction) << 24)
#define CASA_ASK_SAME_HOST (1u << 31) /* beside the subject's flags */

/*
 * The payload of the row that decides (casa/abi/policy.h): its reason, one of denial where there is no row, and its rule. Global: walked by
 * the verifier once, and all that is known of its answer afterwards is that it is a number.
 */
__noinline casa_u32 casa_rule_for(casa_u32 gen, casa_u32 subject, casa_u32 peer, casa_u32 asked, casa_u32 flags) {
  struct casa_question q = {
      .gen = gen,
      .subject = subject,
      .subject_flags = flags & ~CASA_ASK_SAME_HOST,
      .peer = peer,
      .port = (casa_u16)asked,
      .protocol = (casa_u8)(asked >> 16),
      .direction = (casa_u8)(asked >> 24),
  };
  if (flags & CASA_ASK_SAME_HOST && peer == subject && !(flags & CASA_SUBJECT_UNDECLARED))
    return CASA_POLICY_PAYLOAD(CASA_REASON_BASELINE_LOOPBACK, 0);
  struct casa_policy_key key = {
      .subject = subject, .peer = peer, .port = q.port, .protocol = q.protocol, .direction = q.direction};
  casa_u32 payload = casa_in_force(bpf_map_lookup_elem(&casa_policy, &key), gen);
  if (!payload) {
    key.port = 0;
    payload = casa_in_force(bpf_map_lookup_elem(&casa_policy, &key), gen);
  }
  return payload ? payload : CASA_POLICY_PAYLOAD(casa_denial_reason(&q), 0);
}

static __always_inline void casa_decide(const struct casa_question *q, struct casa_decision *d) {
  casa_u32 payload = casa_rule_for(q->gen, q->subject, q->peer, CASA_ASK(q->port, q->protocol, q->direction),
                                   q->subject_flags | (q->same_host ? CASA_ASK_SAME_HOST : 0));
  casa_u8 reason = payload & 0xff;
  if (reason >= CASA_REASON_FIRST_DENY) {
    casa_refuse(q, reason, d);
    return;
  }
  d->rule = payload >> 8;
  d->reason = reason;
  d->verdict = CASA_ALLOWED;
}

#endif
