// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that read requests, on a packet that comes again and again as the next one of its connection. `skb->mark`: 1 forgets the token
 * before it.
 */
#include "requests.bpf.c"

static __always_inline void casa_bench_rewind(struct __sk_buff* skb) {
  struct bpf_sock* sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  struct casa_sk* state = sk ? bpf_sk_storage_get(&casa_sk, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
  if (!state) return;
  if (!state->start_ns) { /* the test run's socket has no handshake */
    state->start_ns = 1;
    state->subject = 1000;
    state->peer = 1001;
    state->gen = state->subject_gen = 1;
    state->verdict = CASA_ALLOWED;
    state->reason = CASA_REASON_ENDPOINT_ALLOWED;
    state->direction = CASA_EGRESS;
    state->flags = CASA_SK_STARTED | CASA_SK_REQUESTS;
    state->read_to = -1; /* the packet's sequence number is 0 */
  }
  struct casa_request* r = bpf_sk_storage_get(&casa_request, sk, 0, 0);
  if (!r) return;
  r->next = 0;
  if (skb->mark) r->known_length = 0;
}

/* What the next program does besides reading. */
SEC("cgroup_skb/egress")
int casa_rewound(struct __sk_buff* skb) {
  casa_bench_rewind(skb);
  return 1;
}

SEC("cgroup_skb/egress")
int casa_bench_read(struct __sk_buff* skb) {
  casa_bench_rewind(skb);
  return casa_requests(skb, CASA_EGRESS) == 1;
}
