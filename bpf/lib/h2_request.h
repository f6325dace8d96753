/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * HTTP/2 in packets: the part of request.h that is for connections whose preface was read.
 */
#ifndef CASA_BPF_H2_REQUEST_H
#define CASA_BPF_H2_REQUEST_H

#include "h2_read.h"
#include "raw.h"

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct casa_h2);
  CASA_PINNED;
} casa_h2 SEC(".maps");

#define CASA_H2_HEAD_OF_PREFACE 18 /* what looks like an HTTP/1 head: `PRI * HTTP/2.0` and an empty line */

static __always_inline struct casa_h2 *casa_h2_of(struct __sk_buff *skb, casa_u32 flags) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  return sk ? bpf_sk_storage_get(&casa_h2, sk, 0, flags) : 0;
}

/* The rest of the connection is HTTP/2. */
static __always_inline int casa_h2_begins(struct __sk_buff *skb, struct casa_request *r) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  if (!sk || !r)
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  bpf_sk_storage_delete(&casa_h2, sk); /* of a connection that the socket had before */
  struct casa_h2 *h = casa_h2_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
  if (!h) {
    casa_count(CASA_STAT_FAIL_REQUEST);
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  }
  casa_h2_begin(h, CASA_H2_HEAD_OF_PREFACE);
  r->scheme = 0;
  r->left = 0;
  casa_tell_app(skb, r, CASA_APP_HTTP2);
  return CASA_READ_ON;
}

#define CASA_H2_PRINT_STEP 248 /* bytes of a value at once: words */
#define CASA_H2_PRINT_STEPS 40 /* a longer value is no token's */

__noinline int casa_h2_print_chunk(struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  for (casa_u32 i = 0; i < CASA_H2_PRINT_STEP; i += 8) {
    if (i >= n)
      break;
    casa_u64 word = casa_word_at(r->chunk + i);
    casa_print_word(r, n - i < 8 ? word & ((1ull << ((n - i) * 8)) - 1) : word);
  }
  return 0;
}

/* All `n` bytes went into the print. */
static __always_inline casa_u64 casa_h2_print_ends(struct casa_request *r, casa_u32 n) {
  r->tail = 0;
  r->length = n;
  casa_u64 print = casa_print_end(r);
  r->length = 0;
  return print;
}

/* Does the value that begins stand whole before `end`, and is it short enough to be recognised? */
static __always_inline int casa_h2_is_whole(const struct casa_h2 *h, casa_u32 at, casa_u32 end) {
  casa_u32 n = h->string_left;
  return at < end && n <= end - at && n <= h->frame_left && n <= CASA_H2_PRINT_STEP * CASA_H2_PRINT_STEPS;
}

/* Is the value with this print, of `n` bytes, the last one? */
static __always_inline int casa_h2_is_last(struct casa_h2 *h, casa_u64 print, casa_u32 n) {
  h->print = print;
  h->print_length = n << 1 | (h->huffman & 1);
  return print && print == h->known_print && h->print_length == h->known_length;
}

/* The print of the `n` bytes at r->at; 0 when they cannot be read. */
__noinline casa_u64 casa_h2_print(struct __sk_buff *skb, struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  casa_u32 end = r->at + n;
  casa_print_begin(r);
  r->token_at = r->at;
  for (casa_u32 i = 0; i < CASA_H2_PRINT_STEPS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->token_at;
    if (at >= end)
      break;
    casa_u64 length = casa_length(end - at < CASA_H2_PRINT_STEP ? end - at : CASA_H2_PRINT_STEP, CASA_H2_PRINT_STEP);
    if (!length || bpf_skb_load_bytes(skb, at, r->chunk, length))
      return 0;
    r->token_at = at + length;
    casa_h2_print_chunk(r, length);
  }
  return casa_h2_print_ends(r, n);
}

/*
 * Most clients send the same token in every request, the same bytes each time: when all of them stand in this packet, and have the last
 * one's print, it is that one. Returns CASA_H2_WANT_*; 0: the value is to be read, also where somebody is still to check it.
 */
__noinline int casa_h2_recognise(struct __sk_buff *skb, struct casa_h2 *h, struct casa_request *r, casa_u32 end) {
  if (!h || !r)
    return 0;
  casa_u32 n = h->string_left;
  if (!casa_h2_is_whole(h, r->at, end) || !casa_h2_is_last(h, casa_h2_print(skb, r, n), n) || casa_is_unchecked(r))
    return 0;
  return casa_h2_take_known(h, r);
}

/* The value of an authorization field begins. Returns CASA_H2_WANT_*. */
static __always_inline casa_u32 casa_h2_value_begins(struct __sk_buff *skb, struct casa_h2 *h, struct casa_request *r,
                                                     casa_u32 end) {
  casa_u32 want = casa_h2_recognise(skb, h, r, end);
  if (!want && casa_wants_raw() && !casa_gathered_of(skb, BPF_SK_STORAGE_GET_F_CREATE))
    casa_count(CASA_STAT_FAIL_RAW_TOKEN);
  return want;
}

/* A token is whole. CASA_READ_ON, CASA_READ_HELD, or the reason of a refusal. */
static __always_inline int casa_h2_token_ends(struct __sk_buff *skb, struct casa_request *r, casa_u32 want) {
  casa_u32 known = want & CASA_H2_WANT_NUMBER ? CASA_KNOWN_BY_NUMBER : want & CASA_H2_WANT_KNOWN ? CASA_KNOWN : 0;
  if (!known) {
    casa_count(CASA_STAT_TOKENS_HASHED);
    casa_hand_over(skb, r, 0, 0);
  }
  int reason = casa_judge_token(skb, r, known);
  return reason ? reason : CASA_READ_ON;
}

/* Does what the reader left in h->want. CASA_READ_ON, CASA_READ_HELD, CASA_READ_LOST and more, or the reason of a refusal. */
__noinline int casa_h2_wants(struct __sk_buff *skb, struct casa_h2 *h, struct casa_request *r, casa_u32 end) {
  if (!h || !r)
    return CASA_REASON_FAULT;
  casa_u32 want = h->want;
  int next = CASA_READ_ON;
  h->want = 0;
  if (want & CASA_H2_WANT_VALUE)
    want = casa_h2_value_begins(skb, h, r, end);
  if (want & CASA_H2_WANT_UNREAD)
    return CASA_READ_LOST | (want >> 8) << 16;
  if (want & CASA_H2_WANT_TOKEN)
    next = casa_h2_token_ends(skb, r, want);
  if (want & CASA_H2_WANT_HEAD)
    casa_head_ends(skb, r);
  return next;
}

/* All of the packet is read. A token that may not go there is stopped before its first part leaves. */
static __always_inline int casa_h2_read_all(struct __sk_buff *skb, struct casa_h2 *h, struct casa_request *r) {
  if (r->rules & CASA_RULE_NO_TOKEN && h->field == CASA_H2_AUTHORIZATION && h->field_phase == CASA_HPACK_VALUE &&
      r->scheme == CASA_SCHEME_TOKEN && r->length) {
    casa_tell_request(skb, r, CASA_EVENT_TOKEN, CASA_TOKEN_UNHASHED, CASA_REASON_TOKEN_UNEXPECTED_DESTINATION);
    return CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  }
  r->left = h->skip; /* casa_read_ahead takes it from there */
  h->skip = 0;
  return CASA_READ_MORE;
}

/* Where the token that is being read is gathered, if it is one and somebody wants it. */
static __always_inline struct casa_raw_token *casa_h2_room(struct __sk_buff *skb, const struct casa_h2 *h) {
  if (h->field != CASA_H2_AUTHORIZATION || h->field_phase != CASA_HPACK_VALUE || !casa_wants_raw())
    return 0;
  struct casa_gathered *g = casa_gathered_of(skb, 0);
  return g ? &g->token : 0;
}

/*
 * The packet is held back because of what was just read. That may be its last byte; so one is left to be read when the packet comes again,
 * which is how it is told from those behind it.
 */
static __always_inline void casa_h2_hold(struct casa_h2 *h, struct casa_request *r) {
  r->at--;
  h->skip++;
}

/* Reads from r->at up to `end`, as casa_read_requests does. */
__noinline int casa_read_h2(struct __sk_buff *skb, struct casa_request *r, casa_u32 end) {
  struct casa_h2 *h = casa_h2_of(skb, 0);
  if (!h || !r)
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  for (casa_u32 i = 0; i < CASA_REQUEST_ROUNDS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->at, skip = *(volatile casa_u32 *)&h->skip;
    if (at >= end)
      return casa_h2_read_all(skb, h, r);
    casa_u32 n = end - at;
    if (skip) {
      n = skip < n ? skip : n;
      h->skip = skip - n;
      r->at = at + n;
      continue;
    }
    casa_u64 length = casa_length(n < CASA_CHUNK - 1 ? n : CASA_CHUNK - 1, CASA_CHUNK - 1);
    if (!length || bpf_skb_load_bytes(skb, at, r->chunk, length))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    r->at = at + casa_h2_read_into(h, r, casa_h2_room(skb, h), length);
    int next = h->want ? casa_h2_wants(skb, h, r, end) : CASA_READ_ON;
    if (next == CASA_READ_HELD)
      casa_h2_hold(h, r);
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

#endif
