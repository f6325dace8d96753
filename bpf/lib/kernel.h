/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs need of the kernel's types. The stable ones come from the UAPI headers; of the internal ones only the
 * members read here are declared, and CO-RE finds them in the running kernel.
 */
#ifndef CASA_BPF_KERNEL_H
#define CASA_BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/*
 * A length from 1 to `most` (at most 255), 0 for none, that every verifier believes: those before 6.8 learn nothing from a test for zero,
 * but that one more than a masked number is not zero they know.
 */
static __always_inline __u64 casa_length(__u64 n, __u64 most) {
  if (n > most)
    n = most;
  n--;
  asm volatile("" : "+r"(n));
  n = (n & 0xff) + 1;
  asm volatile("" : "+r"(n));
  if (n > most)
    return 0;
  asm volatile("" : "+r"(n)); /* or the compiler makes one test of this and the caller's */
  return n;
}

/*
 * A place in an array of `size`, a power of two, that every verifier believes: the mask must be the last thing that is done to a 64-bit
 * number, and the compiler leaves out one that it knows to change nothing.
 */
static __always_inline __u64 casa_place(__u64 n, __u64 size) {
  asm volatile("" : "+r"(n));
  return n & (size - 1);
}

/*
 * Zero, which the verifier takes for any number. Verifiers before 6.2 walk on apart for each constant, and each byte known
 * to be zero, that a stack holds: what is cleared with it looks like what is read from a map or a packet.
 */
__noinline __u64 casa_zero(void) {
  __u64 zero = 0;
  asm volatile("" : "+r"(zero));
  return zero;
}

static __always_inline int casa_is_alnum(__u8 c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Global: one way for the verifier in loops over digits. -1: no digit. */
__noinline int casa_hex(__u32 byte) {
  __u8 c = byte;
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#define CASA_AF_INET 2
#define CASA_AF_INET6 10
#define CASA_SOCK_STREAM 1
#define CASA_SOCK_DGRAM 2
#define CASA_SOCK_RAW 3
#define CASA_ETH_P_IP 0x0800
#define CASA_ETH_P_IPV6 0x86dd
#define CASA_TCP_ESTABLISHED 1
#define CASA_TCP_SYN_SENT 2
#define CASA_TCP_LISTEN 10
#define CASA_NS_PER_SECOND 1000000000ull
#define CASA_LOOPBACK_IFINDEX 1 /* lo is 1 in every network namespace */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
  const char *name;
  __u64 id;
};

struct cgroup_root {
  int hierarchy_id;
};

struct cgroup {
  struct kernfs_node *kn;
  struct cgroup_root *root;
};

struct user_namespace {
  int level; /* 0: the first one, the host's */
};

struct net {
  struct user_namespace *user_ns; /* who owns it */
};

typedef struct {
  struct net *net;
} possible_net_t;

struct sock_common {
  possible_net_t skc_net;
};

/* sk_protocol was a bit-field before 5.6; all kernels in reach have a u16. */
struct sock {
  struct sock_common __sk_common;
  __u16 sk_protocol;
};

struct sk_buff {
  unsigned char *head;
  __u32 end; /* an offset, as on every 64-bit kernel */
};

struct skb_shared_info {
  __u8 flags; /* SKBFL_* */
};

struct seq_file;

struct bpf_iter_meta {
  struct seq_file *seq;
  __u64 session_id;
  __u64 seq_num;
};

struct bpf_map;

#pragma clang attribute pop

#endif
