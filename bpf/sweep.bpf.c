// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Read by the daemon through an iterator descriptor: one struct casa_event for each live TCP flow, with its counters; and
 * for a flow that the generation in force no longer allows, verdict DENIED and CASA_EVENT_ESTABLISHED, so that an idle
 * connection ends too. The packets of such a flow are dropped in any case.
 */
#include "lib/decide.h"
#include "lib/own_call.h"
#include "lib/peer.h"

#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct casa_sweep_ctx {
  __bpf_md_ptr(struct bpf_iter_meta *, meta);
  __bpf_md_ptr(struct bpf_map *, map);
  __bpf_md_ptr(struct sock *, sk);
  __bpf_md_ptr(struct casa_sk *, state);
};

static __always_inline void casa_sweep_judge(const struct casa_sk *s, casa_u32 gen, struct casa_event *e) {
  casa_u32 flags = casa_subject_flags(s->subject, gen);
  if (s->gen == gen || !casa_is_enforced(flags))
    return;
  struct casa_decision decision = {};
  struct casa_question question = {
      .gen = gen,
      .subject = s->subject,
      .subject_flags = flags,
      .peer = s->peer,
      .port = s->direction == CASA_EGRESS ? s->remote_port : s->local_port,
      .protocol = IPPROTO_TCP,
      .direction = s->direction,
      .same_host = s->flags & CASA_SK_SAME_HOST,
  };
  /* A name that the address was learnt for stays as long as the flow, and the address with it. */
  if (!question.same_host && !(s->flags & CASA_SK_NAMED)) {
    int resolves = s->direction == CASA_EGRESS && s->remote_port == CASA_DNS_PORT &&
                   casa_is_resolver(e->remote, CASA_DNS_PORT, gen);
    question.peer = resolves ? CASA_ID_DNS : casa_identity_of_address(e->remote, gen);
    if (casa_was_own_call(s->subject, s->peer, question.peer, s->direction))
      question.peer = s->peer;
  }
  casa_decide(&question, &decision);
  e->peer = question.peer;
  e->rule = decision.rule;
  e->verdict = decision.verdict;
  e->reason = decision.reason;
  if (decision.verdict == CASA_DENIED)
    e->flags = CASA_EVENT_ESTABLISHED;
}

SEC("iter/bpf_sk_storage_map")
int casa_sweep(struct casa_sweep_ctx *ctx) {
  struct casa_sk *state = ctx->state;
  struct sock *sk = ctx->sk;
  struct casa_config *config = casa_get_config();
  if (!sk || !state || !config)
    return 0;
  if (!state->cookie || !(state->flags & CASA_SK_STARTED) || !state->subject)
    return 0;
  if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
    return 0;
  struct casa_sk s = *state;
  if (s.flags & CASA_SK_NAMED)
    casa_keep_learnt(&s);
  struct casa_event e = {
      .kind = CASA_EVENT_FLOW_UPDATE,
      .time_ns = bpf_ktime_get_ns(),
      .cookie = s.cookie,
      .start_ns = s.start_ns,
      .tx_bytes = s.tx_bytes,
      .rx_bytes = s.rx_bytes,
      .tx_packets = s.tx_packets,
      .rx_packets = s.rx_packets,
      .subject = s.subject,
      .peer = s.peer,
      .rule = s.rule,
      .gen = config->gen,
      .pid = s.pid,
      .peer_pid = s.peer_pid,
      .count = 1,
      .local_port = s.local_port,
      .remote_port = s.remote_port,
      .verdict = s.verdict,
      .reason = s.reason,
      .direction = s.direction,
      .protocol = IPPROTO_TCP,
  };
  __builtin_memcpy(e.local, s.local, 16);
  __builtin_memcpy(e.remote, s.remote, 16);
  __builtin_memcpy(e.comm, s.comm, CASA_COMM_LEN);
  __builtin_memcpy(e.peer_comm, s.peer_comm, CASA_COMM_LEN);
  casa_sweep_judge(&s, config->gen, &e);
  bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
  return 0;
}
