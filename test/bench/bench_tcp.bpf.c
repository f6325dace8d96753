// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The enforcement programs, taking the test run's socket for TCP; and an empty program, the floor. */
#define CASA_IS_TCP(type, protocol) 1
#define CASA_IS_UDP(type, protocol) 0
#include "enforce.bpf.c"

SEC("cgroup_skb/egress")
int casa_empty(struct __sk_buff* skb) { return 1; }

/* casa_egress inside a body that is passed over (`skb->mark`: 1), or on a connection that is not read. */
SEC("cgroup_skb/egress")
int casa_bench_body(struct __sk_buff* skb) {
  struct casa_sk* state = casa_state_of(skb);
  if (state) {
    state->read_to = 1 << 20;
    if (skb->mark) state->flags |= CASA_SK_REQUESTS;
    else state->flags &= ~CASA_SK_REQUESTS;
  }
  return casa_packet_passes(skb, CASA_EGRESS) == 1;
}
