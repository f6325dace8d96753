// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that read requests and the tokens in them, called by casa_egress and casa_ingress (lib/tcp.h) and behind casa_http_out. They
 * need 5.15; where they cannot load, nothing is read, and no policy that stops tokens is in force.
 */
#include "lib/request.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Run by the daemon when it has read tokens (bpf_prog_test_run): as often as the ring has room, and again when that is read. */
SEC("syscall")
int casa_wipe(void *unused) { return casa_wipe_ring(); }

/* A packet that is longer than one round reads goes on in the next. */
SEC("cgroup_skb/egress")
int casa_req_out(struct __sk_buff *skb) {
  int passes = casa_requests(skb, CASA_EGRESS);
  if (passes >= 0)
    return passes;
  bpf_tail_call(skb, &casa_look_out, CASA_LOOK_REQUESTS);
  casa_count(CASA_STAT_FAIL_LOOK);
  return 0;
}

SEC("cgroup_skb/ingress")
int casa_req_in(struct __sk_buff *skb) {
  int passes = casa_requests(skb, CASA_INGRESS);
  if (passes >= 0)
    return passes;
  bpf_tail_call(skb, &casa_look_in, CASA_LOOK_REQUESTS);
  casa_count(CASA_STAT_FAIL_LOOK);
  return 0;
}
