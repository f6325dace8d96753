// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that look at what is sent, called by casa_egress and casa_ingress (lib/look.h). They need 5.15; where they cannot load,
 * nothing that needs them is allowed.
 */
#include "lib/dns.h"
#include "lib/hello.h"
#include "lib/http.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define CASA_DNS_TCP_MESSAGES 4 /* in one segment: a stub asks for A and AAAA at once */

/* The next message of a stream, with its length in front, as far as it lies whole in this segment. Returns 0 when it does not. */
static __always_inline int casa_next_message(struct __sk_buff *skb, struct casa_dns_message *m) {
  casa_u8 prefix[2];
  if (m->l.length < sizeof(prefix) || bpf_skb_load_bytes(skb, m->l.at, prefix, sizeof(prefix)))
    return 0;
  casa_u32 length = casa_be16(prefix);
  if (length > m->l.length - sizeof(prefix))
    return 0;
  m->l.at += sizeof(prefix);
  m->l.length -= sizeof(prefix);
  casa_begin_message(m, length);
  return 1;
}

static __always_inline int casa_dns_stream_out(struct __sk_buff *skb, struct casa_dns_message *m) {
  struct casa_stream *stream = casa_stream_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
  if (!stream)
    return CASA_REASON_FAULT;
  int begun = casa_begin_reading(skb, &m->l, stream, CASA_REASON_DNS_NOT_WHOLE, CASA_REASON_DNS_MALFORMED);
  if (begun != CASA_READ_ON)
    return begun == CASA_READ_GAP ? CASA_REASON_DNS_NOT_WHOLE : begun;
  for (casa_u32 i = 0; i < CASA_DNS_TCP_MESSAGES && m->l.length; i++) {
    if (!casa_next_message(skb, m))
      return CASA_REASON_DNS_NOT_WHOLE;
    int reason = casa_check_query(skb, m);
    if (reason)
      return reason;
    m->l.at += m->length;
    m->l.length -= m->length;
    stream->next += m->length + 2;
  }
  return m->l.length ? CASA_REASON_DNS_NOT_WHOLE : CASA_REASON_NONE;
}

SEC("cgroup_skb/egress")
int casa_dns_out(struct __sk_buff *skb) {
  struct casa_dns_message m = {};
  int reason;
  if (!casa_look_at(skb, CASA_EGRESS, &m.l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 0;
  }
  if (m.l.protocol == IPPROTO_TCP) {
    reason = casa_dns_stream_out(skb, &m);
  } else if (skb->gso_size ||
             !casa_is_copied(skb)) { /* several datagrams in one, or pages of the sender's own: no stub does that */
    reason = CASA_REASON_DNS_MALFORMED;
  } else {
    casa_begin_message(&m, m.l.length);
    reason = casa_check_query(skb, &m);
  }
  return casa_settle(skb, &m.l, reason, 0) ? 1 : 0;
}

/*
 * Over TCP nothing is refused on the way in: the kernel has not sorted the segments yet, and one that came twice would look like an answer
 * that nobody waits for. What does not parse whole teaches nothing.
 */
SEC("cgroup_skb/ingress")
int casa_dns_in(struct __sk_buff *skb) {
  struct casa_dns_message m = {};
  if (!casa_look_at(skb, CASA_INGRESS, &m.l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 0;
  }
  if (m.l.protocol != IPPROTO_TCP) {
    casa_begin_message(&m, m.l.length);
    int reason = casa_check_answer(skb, &m);
    return reason == CASA_REASON_NONE || casa_refuse_looked(skb, &m.l, reason, 0) ? 1 : 0;
  }
  for (casa_u32 i = 0; i < CASA_DNS_TCP_MESSAGES; i++) {
    if (!casa_next_message(skb, &m))
      break;
    casa_check_answer(skb, &m);
    m.l.at += m.length;
    m.l.length -= m.length;
  }
  return 1;
}

SEC("cgroup_skb/egress")
int casa_tls_out(struct __sk_buff *skb) { return casa_pin_out(skb); }

SEC("cgroup_skb/ingress")
int casa_tls_in(struct __sk_buff *skb) { return casa_pin_in(skb, CASA_REASON_NOT_TLS); }

/* A head that is longer than one round reads goes on in the next: 33 rounds are the kernel's limit for one packet. */
SEC("cgroup_skb/egress")
int casa_http_out(struct __sk_buff *skb) {
  struct casa_looked l;
  struct casa_sk *state = casa_state_of(skb);
  if (!state || !casa_look_at(skb, CASA_EGRESS, &l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 0;
  }
  struct casa_stream *stream = casa_stream_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
  int reason = stream ? casa_http_reason(skb, &l, state, stream) : CASA_REASON_FAULT;
  if (reason == CASA_READ_ON) {
    bpf_tail_call(skb, &casa_look_out, CASA_LOOK_HTTP);
    reason = CASA_REASON_NOT_HTTP;
  }
  if (!casa_pass_read(skb, &l, reason, CASA_REASON_HOST_MISMATCH))
    return 0;
  if (state->flags & CASA_SK_REQUESTS)
    bpf_tail_call(skb, &casa_look_out, CASA_LOOK_REQUESTS);
  return 1;
}

SEC("cgroup_skb/ingress")
int casa_http_in(struct __sk_buff *skb) {
  struct casa_stream *stream = casa_stream_of(skb, 0);
  if (stream && stream->flags & CASA_HTTP_ASKED && !stream->refused)
    return 1;
  return casa_pin_in(skb, CASA_REASON_NOT_HTTP);
}

/* The addresses that the daemon's own resolver found (bpf_prog_test_run). */
SEC("syscall")
int casa_learn(struct casa_learn_call *call) { return casa_learn_address(call); }
