/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tokens on their way to the daemon, which checks their signatures: only while it asks for them (CASA_TOKENS_VERIFY), only JWTs, and each
 * only until something is known of it. A token that comes in several packets, or coded (HTTP/2), is gathered beside its socket. What was handed over is
 * overwritten: here at once, in the ring by casa_wipe, since the ring is mapped read-only into the daemon.
 */
#ifndef CASA_BPF_RAW_H
#define CASA_BPF_RAW_H

#include "casa/abi/token.h"
#include "maps.h"
#include "sighting.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, CASA_RAW_RING_BYTES);
  CASA_PINNED;
} casa_raw_ring SEC(".maps");

/* `token.length` is what is gathered so far. */
struct casa_gathered {
  struct casa_raw_token token;
  char room[CASA_TOKEN_MAX]; /* for a read that the verifier can bound */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct casa_gathered);
  CASA_PINNED;
} casa_gathered SEC(".maps");

static __always_inline int casa_wants_raw(void) {
  const struct casa_config *config = casa_get_config();
  return config && config->token_flags & CASA_TOKENS_VERIFY;
}

/* Is the known token one for the daemon to check: a JWT of which nothing is known? */
__noinline int casa_is_unchecked(struct casa_request *r) {
  if (!r || !casa_wants_raw() || (r->known_flags & 0xf) != CASA_TOKEN_JWT)
    return 0;
  struct casa_token_key key;
  __builtin_memcpy(key.sha256, r->known_sha256, CASA_SHA256_LEN);
  return !bpf_map_lookup_elem(&casa_token, &key);
}

/* From 1 to CASA_TOKEN_MAX, 0 for none; as casa_length, which bounds shorter things. */
static __always_inline casa_u64 casa_raw_length(casa_u64 n) {
  if (!n || n > CASA_TOKEN_MAX)
    return 0;
  n--;
  asm volatile("" : "+r"(n));
  n = (n & (CASA_TOKEN_MAX - 1)) + 1;
  asm volatile("" : "+r"(n));
  return n;
}

static __always_inline struct casa_gathered *casa_gathered_of(struct __sk_buff *skb, casa_u64 flags) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  return sk ? bpf_sk_storage_get(&casa_gathered, sk, 0, flags) : 0;
}

static __always_inline int casa_gather(struct __sk_buff *skb, struct casa_gathered *g, casa_u32 from, casa_u32 end) {
  casa_u64 n = casa_raw_length(end - from), have = g->token.length;
  if (!n || have + n > CASA_TOKEN_MAX)
    return -1;
  asm volatile("" : "+r"(have));
  have &= CASA_TOKEN_MAX - 1;
  if (bpf_skb_load_bytes(skb, from, g->token.token + have, n))
    return -1;
  g->token.length += n;
  return 0;
}

/* The bytes of an unfinished token that this packet has, `from` to `end`. `first`: the token begins there. */
__noinline int casa_gather_token(struct __sk_buff *skb, casa_u32 from, casa_u32 end, casa_u32 first) {
  if (!casa_wants_raw() || from == end)
    return 0;
  struct casa_gathered *g = casa_gathered_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
  if (!g) {
    casa_count(CASA_STAT_FAIL_RAW_TOKEN);
    return 0;
  }
  if (first)
    g->token.length = 0;
  return casa_gather(skb, g, from, end);
}

/* A function of its own, since the callers' stacks are full. */
static __noinline int casa_wipe_token(struct casa_raw_token *raw) {
  if (!raw)
    return 0;
  casa_u64 *words = (casa_u64 *)raw->token;
  for (casa_u32 i = 0; i < CASA_TOKEN_MAX / 8; i++)
    *(volatile casa_u64 *)&words[i] = 0; /* or the compiler calls memset */
  return 0;
}

static __always_inline void casa_give_gathered(struct __sk_buff *skb, struct casa_gathered *g,
                                               const struct casa_request *r, casa_u32 from, casa_u32 end,
                                               casa_u32 length) {
  if (from != end)
    casa_gather(skb, g, from, end);
  __builtin_memcpy(g->token.sha256, r->known_sha256, CASA_SHA256_LEN);
  if (length && (g->token.length != length || bpf_ringbuf_output(&casa_raw_ring, &g->token, sizeof(g->token), 0)))
    casa_count(CASA_STAT_FAIL_RAW_TOKEN);
  casa_wipe_token(&g->token);
  g->token.length = 0;
}

/*
 * The known token ends at `end`; those of its bytes that stand at `from` are not gathered yet (of HTTP/2 all are: 0 and 0). Also what nobody
 * wants is wiped. The daemon hashes what it gets: what is not the token has no consequence.
 */
__noinline int casa_hand_over(struct __sk_buff *skb, struct casa_request *r, casa_u32 from, casa_u32 end) {
  if (!r || !casa_wants_raw())
    return 0;
  casa_u32 length = casa_is_unchecked(r) ? r->known_length : 0;
  struct casa_gathered *g = casa_gathered_of(skb, 0);
  if (g && g->token.length) {
    casa_give_gathered(skb, g, r, from, end, length);
    return 0;
  }
  casa_u64 n = casa_raw_length(length);
  if (!n || end < length)
    return 0;
  struct casa_raw_token *raw = bpf_ringbuf_reserve(&casa_raw_ring, sizeof(*raw), 0);
  if (!raw) {
    casa_count(CASA_STAT_FAIL_RAW_TOKEN);
    return 0;
  }
  __builtin_memcpy(raw->sha256, r->known_sha256, CASA_SHA256_LEN);
  raw->length = length;
  raw->pad = 0;
  if (bpf_skb_load_bytes(skb, end - length, raw->token, n))
    bpf_ringbuf_discard(raw, BPF_RB_NO_WAKEUP);
  else
    bpf_ringbuf_submit(raw, 0);
  return 0;
}

/* Overwrites one record's room in the ring. Returns 1 when there is no more. */
static __always_inline int casa_wipe_ring(void) {
  struct casa_raw_token *raw = bpf_ringbuf_reserve(&casa_raw_ring, sizeof(*raw), 0);
  if (!raw)
    return 1;
  casa_u64 *head = (casa_u64 *)raw;
  for (casa_u32 i = 0; i < (sizeof(*raw) - CASA_TOKEN_MAX) / 8; i++)
    *(volatile casa_u64 *)&head[i] = 0;
  casa_wipe_token(raw);
  bpf_ringbuf_discard(raw, BPF_RB_NO_WAKEUP);
  return 0;
}

#endif
