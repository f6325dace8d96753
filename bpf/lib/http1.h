/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The reader of HTTP/1.0 and 1.1 requests: one step of the table (bpf/gen/http1.py) for each byte that means something, by words over those
 * that do not, and by their length over bodies. Holds its place in the connection's storage, so that any segmentation reads the same.
 * Where two servers would read two things it stops and says so.
 */
#ifndef CASA_BPF_HTTP1_H
#define CASA_BPF_HTTP1_H

#include "token.h"

#define CASA_BODY_MAX (1ull << 56)

/* The head is over: is there a body, and where does the next request begin? */
static __always_inline int casa_h1_head_ends(struct casa_request *r) {
  casa_u8 flags = r->flags;
  int is_connect = r->method_length == 7 && r->method[0] == 'C' && r->method[1] == 'O' && r->method[2] == 'N' &&
                   r->method[3] == 'N' && r->method[4] == 'E' && r->method[5] == 'C' && r->method[6] == 'T';
  if (flags & CASA_REQUEST_HTTP2) {
    int is_preface = r->method_length == 3 && r->method[0] == 'P' && r->method[1] == 'R' && r->method[2] == 'I';
    return is_preface && !(flags & (CASA_REQUEST_LENGTH | CASA_REQUEST_CHUNKED | CASA_REQUEST_AUTH))
               ? CASA_WANT_H2
               : CASA_WANT_FOREIGN;
  }
  if (flags & CASA_REQUEST_CHUNKED && flags & (CASA_REQUEST_LENGTH | CASA_REQUEST_HTTP10))
    return CASA_WANT_AMBIGUOUS;
  if (is_connect) {
    if (flags & (CASA_REQUEST_CHUNKED | CASA_REQUEST_LENGTH))
      return CASA_WANT_AMBIGUOUS;
    r->flags |= CASA_REQUEST_UPGRADE;
  }
  if (flags & CASA_REQUEST_CHUNKED) {
    r->state = CASA_H1_CHUNK_START;
    r->left = 0;
  }
  return CASA_WANT_HEAD_END;
}

static __always_inline int casa_h1_digit(struct casa_request *r, casa_u32 base, casa_u32 digit) {
  if (r->left > CASA_BODY_MAX / 16)
    return CASA_WANT_AMBIGUOUS;
  r->left = r->left * base + digit;
  return CASA_WANT_NOTHING;
}

/* What a step of the table asks for. r->state is the state after it. CASA_WANT_*. */
__noinline int casa_h1_do(struct casa_request *r, casa_u32 action, casa_u32 byte) {
  if (!r)
    return CASA_WANT_TRUNCATED;
  casa_u8 flags = r->flags;
  switch (action) {
  case CASA_H1_DO_METHOD:
    if (!r->method_length) {
      casa_u32 head = r->head; /* empty lines before it count */
      casa_request_begin(r, r->number + 1);
      r->head = head;
    }
    casa_method_byte(r, byte);
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_PATH:
    casa_path_byte(r, byte);
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_HTTP10:
    r->flags = flags | CASA_REQUEST_HTTP10;
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_HTTP2:
    r->flags = flags | CASA_REQUEST_HTTP2;
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_UPGRADE:
    r->flags = flags | CASA_REQUEST_UPGRADE;
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_AUTHORIZATION:
    if (flags & CASA_REQUEST_AUTH)
      flags |= CASA_REQUEST_SECOND;
    r->flags = flags | CASA_REQUEST_AUTH;
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_TOKEN:
    return CASA_WANT_TOKEN;
  case CASA_H1_DO_LENGTH:
    r->flags = flags | CASA_REQUEST_LENGTH;
    return flags & CASA_REQUEST_LENGTH ? CASA_WANT_AMBIGUOUS : CASA_WANT_NOTHING;
  case CASA_H1_DO_ENCODING: /* CHUNKED follows, or AMBIGUOUS */
    return flags & CASA_REQUEST_CHUNKED ? CASA_WANT_AMBIGUOUS : CASA_WANT_NOTHING;
  case CASA_H1_DO_LENGTH_DIGIT:
    return casa_h1_digit(r, 10, byte - '0');
  case CASA_H1_DO_CHUNKED:
    r->flags = flags | CASA_REQUEST_CHUNKED;
    return CASA_WANT_NOTHING;
  case CASA_H1_DO_CHUNK_DIGIT:
    return casa_h1_digit(r, 16, casa_hex(byte));
  case CASA_H1_DO_HEAD_END:
    return casa_h1_head_ends(r);
  case CASA_H1_DO_CHUNK:
    if (!r->left)
      r->state = CASA_H1_TRAILER;
    return r->left ? CASA_WANT_BODY : CASA_WANT_NOTHING;
  case CASA_H1_DO_MESSAGE_END:
    r->method_length = 0;
    return CASA_WANT_BODY; /* of no bytes */
  case CASA_H1_DO_FOREIGN:
    return CASA_WANT_FOREIGN;
  case CASA_H1_DO_AMBIGUOUS:
    return CASA_WANT_AMBIGUOUS;
  default:
    return CASA_WANT_NOTHING;
  }
}

/* From place `i` of the chunk on: where the first byte stands that is less than `c`, or a word that may have one; `n` when there is none. */
__noinline casa_u32 casa_pass_over(struct casa_request *r, casa_u32 i, casa_u32 n, casa_u32 c) {
  if (!r)
    return n;
  casa_u64 least = CASA_BYTES((casa_u64)(c & 0xff));
  r->place = i;
  for (casa_u32 k = 0; k < CASA_CHUNK / 8 + 1; k++) {
    i = *(volatile casa_u32 *)&r->place;
    asm volatile("" : "+r"(i));
    if (i >= n || i >= CASA_CHUNK)
      return n;
    casa_u64 w = casa_word_at(r->chunk + i);
    casa_u64 less = (w - least) & ~w & CASA_BYTES(0x80);
    if (less) {
      /* The lowest mark is exact, since borrows go upwards: how many bytes are below it? */
      casa_u64 below = (less & -less) - 1;
      i += (casa_u32)(((below & CASA_BYTES(1)) * CASA_BYTES(1)) >> 56) - 1;
      return i < n ? i : n;
    }
    r->place = i + 8;
  }
  return n;
}

/*
 * Reads the first `n` bytes of the chunk; returns how many it took. It stops early when r->want is set. The table's tokens are read by
 * casa_scan_token instead.
 */
__noinline int casa_h1_read_chunk(struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  casa_u32 state = r->state, i = casa_zero();
  for (casa_u32 k = 0; k < CASA_CHUNK; k++) {
    if (i >= n || i >= CASA_CHUNK)
      break;
    if (state == CASA_H1_SKIP || state == CASA_H1_QUERY) {
      i = casa_pass_over(r, i, n, state == CASA_H1_SKIP ? '\r' + 1 : ' ' + 1);
      if (i >= n || i >= CASA_CHUNK)
        break;
    }
    casa_u64 place = i;
    asm volatile("" : "+r"(place)); /* or verifiers before 6.8 know the bound of a copy of it only */
    if (place >= CASA_CHUNK)
      break;
    casa_u32 byte = r->chunk[place];
    casa_u64 row = (casa_u64)state << CASA_H1_CLASS_BITS | casa_h1_class[byte];
    asm volatile("" : "+r"(row)); /* the mask is to stay the last thing that is done to it */
    casa_u32 step = casa_h1_table[row & (CASA_H1_CELLS - 1)];
    state = step & 0xff;
    i++;
    if (!(step >> 8))
      continue;
    r->state = state;
    int want = casa_h1_do(r, step >> 8, byte);
    state = r->state;
    if (want) {
      r->want = want;
      return want == CASA_WANT_TOKEN ? i - 1 : i;
    }
  }
  r->state = state;
  return i;
}

/* Could this be the first byte of a request? */
static __always_inline int casa_is_foreign(casa_u8 byte) {
  return casa_h1_table[CASA_H1_START << CASA_H1_CLASS_BITS | (casa_h1_class[byte] & 63)] >> 8 == CASA_H1_DO_FOREIGN;
}

#endif
