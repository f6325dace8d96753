/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Requests in the clear text that a process hands to its TLS library, or gets from it: read by the same table and into the same sinks as
 * those in packets (lib/http1.h, lib/token.h), out of the process's own memory. It only looks: there is no verdict, and whoever
 * changes the memory meanwhile only changes what is told of himself.
 */
#ifndef CASA_BPF_TLS_OBSERVER_H
#define CASA_BPF_TLS_OBSERVER_H

#include "tls_h2.h"

/* Hashes the token's bytes of this call, from r->token_at to `end`. -1: they cannot be read (swapped out, unmapped). */
__noinline int casa_tls_hash(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  for (casa_u32 i = 0; i < CASA_TOKEN_MAX / CASA_SHA256_BLOCK + 2; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->token_at, have = r->hashed & (CASA_SHA256_BLOCK - 1);
    if (at >= end)
      break;
    casa_u32 n = end - at < CASA_SHA256_BLOCK - have ? end - at : CASA_SHA256_BLOCK - have;
    casa_u64 length = casa_length(n, CASA_SHA256_BLOCK);
    asm volatile("" : "+r"(have));
    have &= CASA_SHA256_BLOCK - 1;
    if (!length || bpf_probe_read_user((casa_u8 *)r->sha.w + have, length, (const void *)(c->from + at)))
      return -1;
    r->token_at = at + length;
    casa_hash_added(r, length);
  }
  return 0;
}

/* The token that ends at `end` in this call. */
__noinline int casa_tls_token_ends(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u64 print = casa_print_end(r);
  casa_u32 known = r->known_length == r->length && r->known_print == print;
  if (!known) {
    if (casa_tls_hash(c, end))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    casa_token_end(r, print);
  }
  casa_token_wipe(r); /* a known one may have been hashed in part */
  casa_tls_tell_token(c, known);
  r->scheme = 0;
  return CASA_READ_ON;
}

/* The next bytes of a token: `n` of them stand in the chunk. */
__noinline int casa_tls_token(struct casa_tls_conn *c, casa_u32 n) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u32 taken = casa_scan_token(r, n);
  r->at += taken;
  r->head += taken;
  if (r->length > CASA_TOKEN_MAX)
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  return taken >= n ? CASA_READ_ON : casa_tls_token_ends(c, r->at);
}

/* What the reader left in r->want. CASA_READ_ON, or CASA_READ_LOST and more. */
__noinline int casa_tls_wants(struct casa_tls_conn *c) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u8 want = r->want;
  r->want = CASA_WANT_NOTHING;
  switch (want) {
  case CASA_WANT_TOKEN:
    casa_tls_tell_app(c, CASA_APP_HTTP1);
    casa_token_begin(r);
    r->scheme = 1;
    r->token_at = r->at;
    return CASA_READ_ON;
  case CASA_WANT_HEAD_END:
    casa_tls_tell_app(c, CASA_APP_HTTP1);
    casa_tls_head_ends(c);
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_BODY:
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_AMBIGUOUS:
    return CASA_READ_LOST | CASA_UNREAD_AMBIGUOUS << 16;
  case CASA_WANT_H2:
    return casa_tls_h2_begins(c);
  case CASA_WANT_FOREIGN:
    return CASA_READ_LOST |
           (r->told != CASA_APP_HTTP1 || r->flags & CASA_REQUEST_UPGRADE ? CASA_UNREAD_OPAQUE : CASA_UNREAD_TRUNCATED)
               << 16;
  default:
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  }
}

/* Reads `end` bytes at c->from. CASA_READ_MORE: all is read; CASA_READ_ON: there is more than one call reads; CASA_READ_LOST and more. */
__noinline int casa_tls_requests(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  for (casa_u32 i = 0; i < CASA_REQUEST_ROUNDS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->at;
    if (at >= end)
      return CASA_READ_MORE;
    casa_u32 n = end - at;
    if (r->left && (r->state == CASA_H1_START || r->state == CASA_H1_CHUNK_END)) {
      n = r->left < n ? r->left : n;
      r->left -= n;
      r->at = at + n;
      continue;
    }
    casa_u64 length = casa_length(n < CASA_CHUNK - 1 ? n : CASA_CHUNK - 1, CASA_CHUNK - 1);
    if (!length || bpf_probe_read_user(r->chunk, length, (const void *)(c->from + at)))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    int next;
    if (r->scheme) {
      next = casa_tls_token(c, length);
    } else {
      casa_u32 taken = casa_h1_read_chunk(r, length);
      r->at = at + taken;
      r->head += taken;
      if (r->head + (r->want == CASA_WANT_TOKEN) > CASA_HEAD_MAX)
        return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
      next = r->want ? casa_tls_wants(c) : CASA_READ_ON;
      if (r->told == CASA_APP_HTTP2) /* the rest is casa_tls_h2's */
        return next;
    }
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

/*
 * Whether this side's first byte can be a request's decides whether the requests are here: a client writes them, a server reads them. A
 * server of HTTP/2 may speak before its client, with a frame. Asked before the lock: both sides of a connection may be used at once.
 */
static __always_inline int casa_tls_is_side(struct casa_tls_conn *c, casa_u64 from, casa_u32 side) {
  casa_u8 byte = 0;
  if (c->side)
    return c->side == side;
  if (c->not_side & side || bpf_probe_read_user(&byte, 1, (const void *)from))
    return 0;
  if (casa_h1_table[CASA_H1_START << CASA_H1_CLASS_BITS | (casa_h1_class[byte] & 63)] >> 8 != CASA_H1_DO_FOREIGN)
    return 1;
  c->not_side |= side;
  return 0;
}

/* Nothing more is read of this connection, and nothing is kept of a token that was under way. */
static __always_inline void casa_tls_over(struct casa_tls_conn *c, casa_u32 unread) {
  c->over = 1;
  casa_token_wipe(&c->request);
  casa_tls_tell(c, CASA_EVENT_APP, (c->request.told ? c->request.told : CASA_APP_OTHER) | unread << 8);
}

/* The connection is not read any more, or, if all that was read is the beginning of an answer, not on this side. */
static __always_inline void casa_tls_lost(struct casa_tls_conn *c, casa_u32 unread) {
  struct casa_request *r = &c->request;
  if (unread != CASA_UNREAD_OPAQUE || r->told) {
    casa_tls_over(c, unread);
    return;
  }
  c->not_side |= c->side;
  c->side = 0;
  casa_clear(r, sizeof(*r));
}

static __always_inline void casa_tls_take(struct casa_tls_conn *c, casa_u32 n) {
  struct casa_request *r = &c->request;
  r->at = r->token_at = 0;
  int read = r->told == CASA_APP_HTTP2 ? CASA_READ_ON : casa_tls_requests(c, n);
  if (read == CASA_READ_ON && r->told == CASA_APP_HTTP2)
    read = casa_tls_h2(c, n); /* in HTTP/2 a token is hashed as it is decoded */
  else if (read == CASA_READ_MORE && r->scheme && casa_tls_hash(c, n))
    read = CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  if (read != CASA_READ_MORE)
    casa_tls_lost(c, read == CASA_READ_ON ? CASA_UNREAD_TRUNCATED : read >> 16);
}

/* `n` bytes at `from` went out, or came in, on a connection of a workload that is observed. */
static __always_inline void casa_tls_bytes(casa_u64 connection, casa_u64 from, casa_u64 n, casa_u32 side) {
  struct casa_tls_conn *c = n ? casa_tls_connection(connection) : 0;
  if (!c || c->over)
    return;
  struct casa_request *r = &c->request;
  if (casa_tls_is_side(c, from, side)) {
    /* The library's rule is one thread at a time. Of who breaks it these bytes would be missing, so he is not read any more. */
    if (__sync_lock_test_and_set(&r->busy, 1)) {
      casa_tls_over(c, CASA_UNREAD_TRUNCATED);
      return;
    }
    if (!c->side) {
      c->side = side;
      r->state = CASA_H1_START;
    }
    c->from = from;
    if (n >> 31)
      casa_tls_lost(c, CASA_UNREAD_TRUNCATED);
    else if (c->side == side)
      casa_tls_take(c, n);
    __builtin_memset(r->chunk, 0, sizeof(r->chunk));
    r->busy = 0;
  }
  if (c->not_side == (CASA_TLS_WRITE | CASA_TLS_READ) && !c->over)
    casa_tls_over(c, CASA_UNREAD_OPAQUE);
}

#endif
