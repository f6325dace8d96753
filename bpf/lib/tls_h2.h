/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * HTTP/2 in the clear text of a TLS library, from its preface on: what h2_request.h does with packets, done with the bytes of calls. What
 * the reader keeps lies in the connection, and decodes one call after the other, however they cut the frames.
 */
#ifndef CASA_BPF_TLS_H2_H
#define CASA_BPF_TLS_H2_H

#include "tls_sighting.h"

/* The rest of the connection is HTTP/2. */
static __always_inline int casa_tls_h2_begins(struct casa_tls_conn *c) {
  struct casa_request *r = &c->request;
  casa_h2_begin(&c->h2, CASA_H2_HEAD_OF_PREFACE);
  r->scheme = 0;
  r->left = 0;
  casa_tls_tell_app(c, CASA_APP_HTTP2);
  return CASA_READ_ON;
}

/* As casa_h2_print. */
__noinline casa_u64 casa_tls_h2_print(struct casa_tls_conn *c, casa_u32 n) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u32 end = r->at + n;
  casa_print_begin(r);
  r->token_at = r->at;
  for (casa_u32 i = 0; i < CASA_H2_PRINT_STEPS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->token_at;
    if (at >= end)
      break;
    casa_u64 length = casa_length(end - at < CASA_H2_PRINT_STEP ? end - at : CASA_H2_PRINT_STEP, CASA_H2_PRINT_STEP);
    if (!length || bpf_probe_read_user(r->chunk, length, (const void *)(c->from + at)))
      return 0;
    r->token_at = at + length;
    casa_h2_print_chunk(r, length);
  }
  return casa_h2_print_ends(r, n);
}

/* As casa_h2_recognise. */
__noinline int casa_tls_h2_recognise(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_h2 *h = &c->h2;
  casa_u32 n = h->string_left;
  if (!casa_h2_is_whole(h, c->request.at, end) || !casa_h2_is_last(h, casa_tls_h2_print(c, n), n))
    return 0;
  return casa_h2_take_known(h, &c->request);
}

/* Does what the reader left in h->want. CASA_READ_ON, or CASA_READ_LOST and more. */
__noinline int casa_tls_h2_wants(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  casa_u32 want = c->h2.want;
  c->h2.want = 0;
  if (want & CASA_H2_WANT_VALUE)
    want = casa_tls_h2_recognise(c, end);
  if (want & CASA_H2_WANT_UNREAD)
    return CASA_READ_LOST | (want >> 8) << 16;
  if (want & CASA_H2_WANT_TOKEN)
    casa_tls_tell_token(c, want & CASA_H2_WANT_KNOWN ? 1 : 0);
  if (want & CASA_H2_WANT_HEAD)
    casa_tls_head_ends(c);
  return CASA_READ_ON;
}

/* Reads from r->at up to `end`, as casa_tls_requests does. */
__noinline int casa_tls_h2(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  struct casa_h2 *h = &c->h2;
  for (casa_u32 i = 0; i < CASA_REQUEST_ROUNDS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->at, skip = *(volatile casa_u32 *)&h->skip;
    if (at >= end)
      return CASA_READ_MORE;
    casa_u32 n = end - at;
    if (skip) {
      n = skip < n ? skip : n;
      h->skip = skip - n;
      r->at = at + n;
      continue;
    }
    casa_u64 length = casa_length(n < CASA_CHUNK - 1 ? n : CASA_CHUNK - 1, CASA_CHUNK - 1);
    if (!length || bpf_probe_read_user(r->chunk, length, (const void *)(c->from + at)))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    r->at = at + casa_h2_read_chunk(h, r, length);
    int next = h->want ? casa_tls_h2_wants(c, end) : CASA_READ_ON;
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

#endif
