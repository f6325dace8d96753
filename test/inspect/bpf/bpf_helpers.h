/*
 * Stands in for libbpf's header of this name where bpf/ is compiled for user space (../inspect.c): the helpers are functions of
 * ../machine.cpp, and a map is told to them with the sizes that its declaration has.
 */
#pragma once

#include <asm/byteorder.h>
#include <linux/bpf.h>
#include <linux/types.h>

#ifndef __cplusplus
#define SEC(name)
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) __typeof__(val)* name

/* CO-RE is a matter of the BPF target; the pragma of kernel.h needs an attribute all the same. */
#define preserve_access_index annotate("core")
#endif

enum libbpf_pin_type { LIBBPF_PIN_NONE, LIBBPF_PIN_BY_NAME };

struct casa_user_map {
  const void* at;
  __u32 type, entries, key_size, value_size;
};
#define CASA_USER_MAP(map)                                                                                      \
  ((struct casa_user_map){(map), sizeof(*(map)->type) / sizeof(int), sizeof(*(map)->max_entries) / sizeof(int), \
                          sizeof(*(map)->key), sizeof(*(map)->value)})

void* casa_user_lookup(struct casa_user_map map, const void* key);
int casa_user_update(struct casa_user_map map, const void* key, const void* value, __u64 flags);
int casa_user_delete(struct casa_user_map map, const void* key);
void* casa_user_storage(const void* map, __u32 value_size, struct bpf_sock* sk, __u64 flags);
#define bpf_map_lookup_elem(map, key) casa_user_lookup(CASA_USER_MAP(map), key)
#define bpf_map_update_elem(map, key, value, flags) casa_user_update(CASA_USER_MAP(map), key, value, flags)
#define bpf_map_delete_elem(map, key) casa_user_delete(CASA_USER_MAP(map), key)
#define bpf_sk_storage_get(map, sk, initial, flags) casa_user_storage(map, sizeof(*(map)->value), sk, flags)

long bpf_sk_storage_delete(const void* map, struct bpf_sock* sk);
long bpf_skb_load_bytes(const struct __sk_buff* skb, __u32 offset, void* to, __u32 length);
__u64 bpf_ktime_get_ns(void);
__u64 bpf_get_socket_cookie(void* ctx);
struct bpf_sock* bpf_sk_fullsock(struct bpf_sock* sk);
void* bpf_ringbuf_reserve(const void* ring, __u64 size, __u64 flags);
void bpf_ringbuf_submit(void* record, __u64 flags);
/* Of tokens that are handed over, which none is here. */
void bpf_ringbuf_discard(void* record, __u64 flags);
long bpf_ringbuf_output(const void* ring, void* data, __u64 size, __u64 flags);
__u64 bpf_ringbuf_query(const void* ring, __u64 flags);
long bpf_tail_call(void* ctx, const void* programs, __u32 index);
struct bpf_tcp_sock* bpf_tcp_sock_of(struct bpf_sock* sk); /* in C++ a function would hide the struct */
#define bpf_tcp_sock(sk) bpf_tcp_sock_of(sk)

/* The rooms before inspection ask these; on the ways that it takes nobody does, and one that is called ends the run. */
__u64 bpf_skb_ancestor_cgroup_id(struct __sk_buff* skb, int level);
__u64 bpf_sk_ancestor_cgroup_id(struct bpf_sock* sk, int level);
__u64 bpf_get_current_ancestor_cgroup_id(int level);
struct bpf_sock* bpf_sk_lookup_tcp(void* ctx, struct bpf_sock_tuple* tuple, __u32 size, __u64 netns, __u64 flags);
struct bpf_sock* bpf_sk_lookup_udp(void* ctx, struct bpf_sock_tuple* tuple, __u32 size, __u64 netns, __u64 flags);
long bpf_sk_release(struct bpf_sock* sk);
