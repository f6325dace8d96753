/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which workload a socket, a packet or the running task belongs to: the ancestors of its cgroup are asked from the root
 * downwards. The first declared workload wins; below a MAS slice without one, the slice's "undeclared" subject.
 */
#ifndef CASA_BPF_SUBJECT_H
#define CASA_BPF_SUBJECT_H

#include "maps.h"

/*
 * One step down: `found` as it is after the cgroup `id`, and CASA_SETTLED when there is nothing to look for below it. Global
 * for the verifier's sake (see casa_answer): each round of a walk is one straight way for it.
 */
#define CASA_SETTLED (1ull << 32)
__noinline casa_u64 casa_subject_step(casa_u64 id, casa_u32 gen, casa_u32 found) {
  if (!id)
    return CASA_SETTLED | found;
  casa_u32 payload = casa_in_force(bpf_map_lookup_elem(&casa_cgroup, &id), gen);
  if (!payload)
    return found;
  found = payload & ~CASA_CGROUP_SLICE;
  return (payload & CASA_CGROUP_SLICE) ? found : CASA_SETTLED | found;
}

/* `answer`: (casa_u32)found, the subject; or instance, the id of the cgroup that made it so. */
#define CASA_WALK(ancestor_id, answer)                                                                                 \
  casa_u64 found = 0, instance __attribute__((unused)) = 0;                                                            \
  for (casa_u32 i = 0; i < CASA_MAX_CGROUP_LEVEL; i++) {                                                               \
    casa_u32 level = config->level_min + i;                                                                            \
    if (level > config->level_max)                                                                                     \
      break;                                                                                                           \
    casa_u64 id = ancestor_id, before = (casa_u32)found;                                                               \
    found = casa_subject_step(id, config->gen, (casa_u32)found);                                                       \
    if ((casa_u32)found != before)                                                                                     \
      instance = id;                                                                                                   \
    if (found & CASA_SETTLED)                                                                                          \
      break;                                                                                                           \
  }                                                                                                                    \
  return answer

__noinline casa_u32 casa_subject_of_packet(struct __sk_buff *skb) {
  const struct casa_config *config = casa_get_config();
  if (!config)
    return 0;
  CASA_WALK(bpf_skb_ancestor_cgroup_id(skb, level), (casa_u32)found);
}

static __always_inline casa_u32 casa_subject_of_socket(struct bpf_sock *sk, const struct casa_config *config) {
  CASA_WALK(bpf_sk_ancestor_cgroup_id(sk, level), (casa_u32)found);
}

__noinline casa_u32 casa_subject_of_task(void) {
  const struct casa_config *config = casa_get_config();
  if (!config)
    return 0;
  CASA_WALK(bpf_get_current_ancestor_cgroup_id(level), (casa_u32)found);
}

static __always_inline casa_u32 casa_subject_flags(casa_u32 subject, casa_u32 gen) {
  return casa_in_force(bpf_map_lookup_elem(&casa_subject, &subject), gen);
}

/* A subject without flags is only known by name (somebody's peer), not held to a policy. */
static __always_inline int casa_is_enforced(casa_u32 flags) {
  return (flags & CASA_SUBJECT_MANAGED) && !(flags & CASA_SUBJECT_EXEMPT);
}

#endif
