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
};

/* What a look-up needs beside who talks to whom, in one number: the port, and above it these. */
#define CASA_CALL_PROTOCOL 16
#define CASA_CALL_DIRECTION 24
#define CASA_CALL_SAME_HOST (1u << 31)
#define CASA_CALL(port, protocol, direction, same_host)                                                                \
  ((casa_u32)(port) | (casa_u32)(protocol) << CASA_CALL_PROTOCOL | (casa_u32)(direction) << CASA_CALL_DIRECTION |      \
   ((same_host) ? CASA_CALL_SAME_HOST : 0))
/* The answer in one number: the rule and the reason as in casa_policy's payload, and above them the verdict. */
#define CASA_ANSWER_VERDICT 32
#define CASA_VERDICT_OF(answer) ((casa_u8)((answer) >> CASA_ANSWER_VERDICT))
#define CASA_REASON_OF(answer) ((casa_u8)(answer))
#define CASA_RULE_OF(answer) ((casa_u32)(answer) >> 8)

static __always_inline casa_u32 casa_policy_payload(const struct casa_policy_key *key, casa_u32 gen) {
  return casa_in_force(bpf_map_lookup_elem(&casa_policy, key), gen);
}

static __always_inline casa_u8 casa_denial_reason(const struct casa_policy_key *key, casa_u16 port, casa_u32 flags,
                                                  casa_u32 gen) {
  if (flags & CASA_SUBJECT_UNDECLARED)
    return CASA_REASON_UNDECLARED_CGROUP;
  if (flags & CASA_SUBJECT_INVALID)
    return CASA_REASON_POLICY_INVALID;
  if (flags & CASA_SUBJECT_NO_POLICY)
    return CASA_REASON_NO_POLICY;
  if (key->peer == CASA_ID_NOBODY)
    return CASA_REASON_NO_LISTENER;
  if (key->peer == CASA_ID_UNKNOWN)
    return CASA_REASON_PEER_UNKNOWN;
  if (key->peer == CASA_ID_DNS)
    return CASA_REASON_DNS_NAME_NOT_ALLOWED; /* its policy needs no name at all */
  struct casa_policy_key mark = {.subject = key->subject, .peer = key->peer, .direction = key->direction};
  /* A mark's payload has rule bits only to be non-zero. */
  if (casa_policy_payload(&mark, gen)) {
    mark.protocol = IPPROTO_TCP;
    mark.port = port;
    return key->protocol == IPPROTO_UDP && casa_policy_payload(&mark, gen) ? CASA_REASON_UDP_NOT_ALLOWED
                                                                           : CASA_REASON_PORT_NOT_ALLOWED;
  }
  if (key->direction == CASA_INGRESS)
    return CASA_REASON_SOURCE_NOT_ALLOWED;
  if (port == CASA_DNS_PORT)
    return CASA_REASON_RESOLVER_NOT_TRUSTED;
  return key->peer == CASA_ID_WORLD ? CASA_REASON_EXTERNAL_NOT_ALLOWED : CASA_REASON_PEER_NOT_ALLOWED;
}

static __always_inline casa_u8 casa_refusal(casa_u32 flags) {
  return (flags & CASA_SUBJECT_AUDIT) ? CASA_AUDIT : CASA_DENIED;
}

static __always_inline void casa_refuse(const struct casa_question *q, casa_u8 reason, struct casa_decision *d) {
  d->rule = 0;
  d->reason = reason;
  d->verdict = casa_refusal(q->subject_flags);
}

/*
 * Global, with numbers as arguments and a number as answer, for the verifier's sake: it walks this once in a program, not
 * once for each way that leads here, and goes on with "some number" and not with each reason by itself. Verifiers before
 * 6.2 keep apart all constants that a program with functions has on its stacks; before 5.12 only numbers and the context
 * can be handed to a global function.
 */
__noinline casa_u64 casa_answer(casa_u32 gen, casa_u32 subject, casa_u32 flags, casa_u32 peer, casa_u32 call) {
  struct casa_policy_key key = {
      .subject = subject,
      .peer = peer,
      .port = (casa_u16)call,
      .protocol = (casa_u8)(call >> CASA_CALL_PROTOCOL),
      .direction = (call >> CASA_CALL_DIRECTION) & 1,
  };
  casa_u64 allowed = (casa_u64)CASA_ALLOWED << CASA_ANSWER_VERDICT;
  if ((call & CASA_CALL_SAME_HOST) && peer == subject && !(flags & CASA_SUBJECT_UNDECLARED))
    return allowed | CASA_REASON_BASELINE_LOOPBACK;
  casa_u32 payload = casa_policy_payload(&key, gen);
  if (!payload) {
    key.port = 0;
    payload = casa_policy_payload(&key, gen);
  }
  if (payload)
    return allowed | payload;
  return (casa_u64)casa_refusal(flags) << CASA_ANSWER_VERDICT | casa_denial_reason(&key, (casa_u16)call, flags, gen);
}

static __always_inline void casa_decide(const struct casa_question *q, struct casa_decision *d) {
  casa_u32 call = CASA_CALL(q->port, q->protocol, q->direction, q->same_host);
  casa_u64 answer = casa_answer(q->gen, q->subject, q->subject_flags, q->peer, call);
  d->rule = CASA_RULE_OF(answer);
  d->reason = CASA_REASON_OF(answer);
  d->verdict = CASA_VERDICT_OF(answer);
}

#endif
