/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From HTTP/2 header blocks (h2.h) to requests (token.h): what was decoded is told as HTTP/1's would be, and values that went into the
 * dynamic table are kept with the connection, so that a reference to one is as good as the value. Knows no packets: what has to be told is
 * left in `want`.
 */
#ifndef CASA_BPF_H2_READ_H
#define CASA_BPF_H2_READ_H

#include "h2.h"
#include "token.h"

#define CASA_H2_WANT_TOKEN 1   /* r->known_* is the token of this request */
#define CASA_H2_WANT_KNOWN 2   /* and was hashed before */
#define CASA_H2_WANT_HEAD 4    /* a request is whole */
#define CASA_H2_WANT_UNREAD 8  /* and above it enum casa_unread */
#define CASA_H2_WANT_VALUE 16  /* an authorization's value begins: is it known as it is sent? */
#define CASA_H2_WANT_NUMBER 32 /* the token was named by its number in the dynamic table */

/* One byte of an authorization's value; what is the token's of it is gathered in `raw`, if that is given. */
static __always_inline int casa_h2_auth_byte(struct casa_request *r, struct casa_raw_token *raw, casa_u8 c) {
  casa_u32 at = r->length;
  int want = casa_auth_byte(r, c);
  if (!raw || r->length == at)
    return want;
  if (!at)
    raw->length = 0;
  raw->token[casa_place(at, CASA_TOKEN_MAX)] = c;
  raw->length++;
  return want;
}

/* One symbol of a value. Returns enum casa_want. Inline: the way from the program to a token's JSON has as many calls as there may be. */
static __always_inline int casa_h2_symbol(struct casa_h2 *h, struct casa_request *r, struct casa_raw_token *raw,
                                          casa_u32 symbol) {
  casa_u8 c = symbol;
  if (h->field == CASA_H2_AUTHORIZATION)
    return casa_h2_auth_byte(r, raw, c);
  if (h->field == CASA_H2_METHOD)
    return casa_method_byte(r, c);
  if (c == '?' || c == '#' || c == ';')
    h->query = 1;
  return h->query ? 0 : casa_path_byte(r, c);
}

/* Keeps what was read of a value that went into the dynamic table, in h->slot. */
__noinline int casa_h2_keep(struct casa_h2 *h, struct casa_request *r, casa_u32 token) {
  if (!h || !r)
    return 0;
  casa_u32 slot = h->slot;
  if (h->field == CASA_H2_AUTHORIZATION) {
    struct casa_h2_token *kept = &h->tokens[casa_place(slot, CASA_H2_TOKENS)];
    __builtin_memcpy(kept->sha256, r->known_sha256, CASA_SHA256_LEN);
    kept->length = r->known_length;
    kept->known_flags = token ? r->known_flags : 0;
  } else if (h->field == CASA_H2_PATH) {
    __builtin_memcpy(h->paths[casa_place(slot, CASA_H2_PATHS)], r->path, CASA_PATH_LEN);
  } else {
    __builtin_memcpy(h->methods[casa_place(slot, CASA_H2_METHODS)], r->method, CASA_METHOD_LEN);
  }
  return 0;
}

/* Of the static table, from 2 on. */
static const char casa_h2_static_values[4][CASA_METHOD_LEN] = {"GET", "POST", "/", "/index.html"};

/* Byte `at` of a path or a method that is told again: from the static table, or as it was kept. 0 behind its end. */
__noinline int casa_h2_kept_byte(struct casa_h2 *h, casa_u32 at) {
  if (!h)
    return 0;
  casa_u64 slot = h->slot, place = at;
  asm volatile("" : "+r"(place));
  if (place >= CASA_PATH_LEN)
    return 0;
  if (!(slot & CASA_H2_STATIC) && h->field == CASA_H2_PATH)
    return (casa_u8)h->paths[casa_place(slot, CASA_H2_PATHS)][place];
  if (place >= CASA_METHOD_LEN)
    return 0;
  if (slot & CASA_H2_STATIC)
    return (casa_u8)casa_h2_static_values[casa_place(slot - 2, 4)][place];
  return (casa_u8)h->methods[casa_place(slot, CASA_H2_METHODS)][place];
}

/* A path or a method that is known. One that was not kept long enough is '?'. */
__noinline int casa_h2_text_again(struct casa_h2 *h, struct casa_request *r) {
  if (!h || !r)
    return 0;
  if (h->slot == CASA_H2_GONE) {
    if (h->field == CASA_H2_METHOD)
      return casa_method_byte(r, '?');
    r->path[0] = '?';
    r->path_length = r->segment = 1;
    return 0;
  }
  for (casa_u32 i = 0; i < CASA_PATH_LEN; i++) {
    int c = casa_h2_kept_byte(h, i);
    if (!c)
      break;
    if (h->field == CASA_H2_PATH)
      casa_path_byte(r, c);
    else
      casa_method_byte(r, c);
  }
  return 0;
}

/* An authorization field whose value is known. Returns CASA_H2_WANT_*. */
static __always_inline int casa_h2_token_again(struct casa_h2 *h, struct casa_request *r) {
  casa_auth_begin(r);
  if (h->slot & CASA_H2_STATIC) /* it has no value there */
    return 0;
  struct casa_h2_token *kept = &h->tokens[casa_place(h->slot, CASA_H2_TOKENS)];
  if (!kept->known_flags)
    return 0;
  __builtin_memcpy(r->known_sha256, kept->sha256, CASA_SHA256_LEN);
  r->known_length = r->length = kept->length;
  r->known_flags = kept->known_flags;
  r->flags |= CASA_REQUEST_TOKEN;
  h->known_print = 0;
  return CASA_H2_WANT_TOKEN | CASA_H2_WANT_KNOWN | CASA_H2_WANT_NUMBER;
}

/* The value that begins is the last one again: neither decoded nor hashed. Returns CASA_H2_WANT_*. */
static __always_inline int casa_h2_take_known(struct casa_h2 *h, struct casa_request *r) {
  casa_u32 out = casa_h2_pass_value(h);
  if (out & CASA_H2_UNREAD)
    return CASA_H2_WANT_UNREAD | (out & 0xff) << 8;
  r->length = r->known_length;
  r->flags |= CASA_REQUEST_TOKEN;
  if (out & CASA_H2_KEEP)
    casa_h2_keep(h, r, 1);
  return CASA_H2_WANT_TOKEN | CASA_H2_WANT_KNOWN | (out & CASA_H2_BLOCK ? CASA_H2_WANT_HEAD : 0);
}

/* The value of a field is whole. */
static __always_inline int casa_h2_value_ends(struct casa_h2 *h, struct casa_request *r, casa_u32 out) {
  int token = h->field == CASA_H2_AUTHORIZATION && casa_auth_end(r) == CASA_WANT_TOKEN_END;
  if (out & CASA_H2_KEEP)
    casa_h2_keep(h, r, token);
  if (token) {
    h->known_print = h->print;
    h->known_length = h->print_length;
    h->known_value = h->value_length;
  }
  h->print = 0;
  return token ? CASA_H2_WANT_TOKEN : 0;
}

/* What came of a byte. Returns CASA_H2_WANT_*. `raw`: as casa_h2_read_into. */
__noinline int casa_h2_take(struct casa_h2 *h, struct casa_request *r, struct casa_raw_token *raw, casa_u32 out) {
  if (!h || !r)
    return CASA_H2_WANT_UNREAD | CASA_UNREAD_TRUNCATED << 8;
  if (out & CASA_H2_UNREAD)
    return CASA_H2_WANT_UNREAD | (out & 0xff) << 8;
  int want = 0;
  if (out & (CASA_H2_BEGIN | CASA_H2_AGAIN) && !(h->begun & 1)) {
    h->begun |= 1; /* with its first field: trailers are a header block too, and no request */
    casa_request_begin(r, h->stream);
  }
  if (out & CASA_H2_BEGIN) {
    h->query = 0;
    h->print = 0;
    if (h->field == CASA_H2_AUTHORIZATION) {
      casa_auth_begin(r);
      want = out & CASA_H2_END ? 0 : CASA_H2_WANT_VALUE;
    }
  }
  if (out & (CASA_H2_ONE | CASA_H2_TWO) && casa_h2_symbol(h, r, raw, out & 0xff))
    return CASA_H2_WANT_UNREAD | CASA_UNREAD_TRUNCATED << 8;
  if (out & CASA_H2_TWO && casa_h2_symbol(h, r, raw, out >> 8 & 0xff))
    return CASA_H2_WANT_UNREAD | CASA_UNREAD_TRUNCATED << 8;
  if (out & CASA_H2_END)
    want = casa_h2_value_ends(h, r, out);
  if (out & CASA_H2_AGAIN) {
    if (h->field == CASA_H2_AUTHORIZATION)
      want = casa_h2_token_again(h, r);
    else
      casa_h2_text_again(h, r);
  }
  return out & CASA_H2_BLOCK && h->begun & 1 ? want | CASA_H2_WANT_HEAD : want;
}

/*
 * Reads the first `n` bytes of the chunk; returns how many it took. It stops early when h->want is set. The present token is gathered in
 * `raw`, which may be null.
 */
__noinline int casa_h2_read_into(struct casa_h2 *h, struct casa_request *r, struct casa_raw_token *raw, casa_u32 n) {
  if (!h || !r)
    return 0;
  r->place = 0;
  for (casa_u32 k = 0; k < CASA_CHUNK; k++) {
    casa_u32 i = *(volatile casa_u32 *)&r->place, skip = *(volatile casa_u32 *)&h->skip;
    if (i >= n)
      break;
    if (skip) {
      casa_u32 passed = n - i < skip ? n - i : skip;
      h->skip = skip - passed;
      r->place = i + passed;
      continue;
    }
    r->place = i + 1;
    casa_u32 out = casa_h2_byte(h, r->chunk[casa_place(i, CASA_CHUNK)]);
    if (!out)
      continue;
    casa_u32 want = casa_h2_take(h, r, raw, out);
    h->want = want;
    if (want)
      break;
  }
  return r->place;
}

/* The same for a reader that hands no tokens over. */
static __always_inline int casa_h2_read_chunk(struct casa_h2 *h, struct casa_request *r, casa_u32 n) {
  return casa_h2_read_into(h, r, 0, n);
}

#endif
