/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which workload a socket, a packet or the running task belongs to: the ancestors of its cgroup are asked from the root
 * downwards. The first declared workload wins; below a MAS slice without one, the slice's "undeclared" subject.
 */
#ifndef CASA_BPF_SUBJECT_H
#define CASA_BPF_SUBJECT_H

#include "maps.h"

/* 1: `id` settles it; *found holds what is known so far. */
static __always_inline int casa_subject_step(casa_u64 id, casa_u32 gen, casa_u32 *found) {
  casa_u32 payload = casa_in_force(bpf_map_lookup_elem(&casa_cgroup, &id), gen);
  if (!payload)
    return 0;
  *found = payload & ~CASA_CGROUP_SLICE;
  return !(payload & CASA_CGROUP_SLICE);
}

#define CASA_WALK(ancestor_id)                                                                                         \
  casa_u32 found = casa_forget(0, config);                                                                             \
  for (casa_u32 i = 0; i < CASA_MAX_CGROUP_LEVEL; i++) {                                                               \
    casa_u32 level = config->level_min + i;                                                                            \
    if (level > config->level_max)                                                                                     \
      break;                                                                                                           \
    casa_u64 id = (ancestor_id);                                                                                       \
    if (!id)                                                                                                           \
      break;                                                                                                           \
    if (casa_subject_step(id, config->gen, &found))                                                                    \
      break;                                                                                                           \
  }                                                                                                                    \
  return found

/* Global: walked by the verifier once (5.10 takes no pointers there, so it looks for the configuration itself). */
__noinline casa_u32 casa_subject_of_packet(struct __sk_buff *skb) {
  struct casa_config *config = casa_get_config();
  if (!config)
    return 0;
  CASA_WALK(bpf_skb_ancestor_cgroup_id(skb, level));
}

static __always_inline casa_u32 casa_subject_of_socket(struct bpf_sock *sk, const struct casa_config *config) {
  CASA_WALK(bpf_sk_ancestor_cgroup_id(sk, level));
}

static __noinline casa_u32 casa_subject_of_task(const struct casa_config *config) {
  if (!config)
    return 0;
  CASA_WALK(bpf_get_current_ancestor_cgroup_id(level));
}

static __always_inline casa_u32 casa_subject_flags(casa_u32 subject, casa_u32 gen) {
  return casa_in_force(bpf_map_lookup_elem(&casa_subject, &subject), gen);
}

/* A subject without flags is only known by name (somebody's peer), not held to a policy. */
static __always_inline int casa_is_enforced(casa_u32 flags) {
  return (flags & CASA_SUBJECT_MANAGED) && !(flags & CASA_SUBJECT_EXEMPT);
}

#endif
