// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The enforcement programs, taking the test run's socket for TCP; and an empty program, the floor. */
#define CASA_IS_TCP(type, protocol) 1
#define CASA_IS_UDP(type, protocol) 0
#include "enforce.bpf.c"

SEC("cgroup_skb/egress")
int casa_empty(struct __sk_buff* skb) { return 1; }
