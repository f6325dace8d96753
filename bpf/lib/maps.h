/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps, one declaration for all objects: each is pinned by name, so that objects loaded apart share them and a
 * restarted daemon finds them. Keys and values: casa/abi/policy.h.
 */
#ifndef CASA_BPF_MAPS_H
#define CASA_BPF_MAPS_H

#include "casa/abi/event.h"
#include "casa/abi/limits.h"
#include "casa/abi/policy.h"
#include "casa/abi/stats.h"
#include "kernel.h"

#define CASA_PINNED __uint(pinning, LIBBPF_PIN_BY_NAME)

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, casa_u32);
  __type(value, struct casa_config);
  CASA_PINNED;
} casa_config SEC(".maps");

/* Preallocated: the cgroup_mkdir program inserts, and must not depend on free memory. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_CGROUPS);
  __type(key, casa_u64);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_cgroup SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_CGROUPS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_cgpath_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_cgpath SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_SUBJECTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, casa_u32);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_subject SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_POLICY);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_policy_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_policy SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_ADDRESSES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_addr_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_addr SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, CASA_MAX_PREFIXES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_lpm_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_lpm SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
  __type(key, int);
  __type(value, struct casa_sk);
  CASA_PINNED;
} casa_sk SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_UDP_FLOWS);
  __type(key, struct casa_udp_key);
  __type(value, struct casa_sk);
  CASA_PINNED;
} casa_udp SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_RESOLVERS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_resolver_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_resolver SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_NAMES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct casa_name_key);
  __type(value, struct casa_versioned);
  CASA_PINNED;
} casa_name SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_LEARNT);
  __type(key, struct casa_learnt_key);
  __type(value, struct casa_learnt);
  CASA_PINNED;
} casa_learnt SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_QUERIES);
  __type(key, struct casa_query_key);
  __type(value, casa_u64);
  CASA_PINNED;
} casa_query SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct casa_stream);
  CASA_PINNED;
} casa_stream SEC(".maps");

/* Two, since a program belongs to the hook that it is loaded for. Pinned, or they would be emptied with their last descriptor. */
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, CASA_LOOK_COUNT);
  __type(key, casa_u32);
  __type(value, casa_u32);
  CASA_PINNED;
} casa_look_out SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, CASA_LOOK_COUNT);
  __type(key, casa_u32);
  __type(value, casa_u32);
  CASA_PINNED;
} casa_look_in SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_UDP_ASKED);
  __type(key, struct casa_asked_key);
  __type(value, struct casa_asked);
  CASA_PINNED;
} casa_udp_asked SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_OWN_CALLS);
  __type(key, struct casa_own_call_key);
  __type(value, casa_u64);
  CASA_PINNED;
} casa_own_call SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_DENIALS);
  __type(key, struct casa_denial_key);
  __type(value, struct casa_denial);
  CASA_PINNED;
} casa_denial SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, CASA_RING_BYTES);
  CASA_PINNED;
} casa_ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, CASA_STAT_COUNT);
  __type(key, casa_u32);
  __type(value, casa_u64);
  CASA_PINNED;
} casa_stat SEC(".maps");

/* `size` is a constant, a multiple of 8. */
static __always_inline void casa_clear(void *to, casa_u32 size) {
  casa_u64 zero = casa_zero();
  for (casa_u32 i = 0; i < size; i += sizeof(zero))
    __builtin_memcpy((casa_u8 *)to + i, &zero, sizeof(zero));
}

static __always_inline void casa_count(casa_u32 index) {
  casa_u64 *counter = bpf_map_lookup_elem(&casa_stat, &index);
  if (counter)
    (*counter)++;
}

/* NULL only if the array map is broken, which the verifier cannot rule out; callers let unmanaged traffic live. */
static __always_inline struct casa_config *casa_get_config(void) {
  casa_u32 zero = 0;
  return bpf_map_lookup_elem(&casa_config, &zero);
}

static __always_inline casa_u32 casa_in_force(const struct casa_versioned *v, casa_u32 gen) {
  if (!v)
    return 0;
  return gen >= v->since ? v->cur : v->prev;
}

#endif
