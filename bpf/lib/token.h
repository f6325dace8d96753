/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a request says of itself, as its reader finds it, byte by byte: method, path, bearer token. The token is hashed and its shape
 * looked at; nothing keeps it. Readers: lib/http1.h, lib/h2.h. Knows no packets: what has to be told is left in `want`.
 */
#ifndef CASA_BPF_TOKEN_H
#define CASA_BPF_TOKEN_H

#include "http1_table.h"
#include "kernel.h"
#include "sha256.h"

#define CASA_REQUEST_LENGTH 1  /* Content-Length was read */
#define CASA_REQUEST_CHUNKED 2 /* Transfer-Encoding: chunked */
#define CASA_REQUEST_HTTP10 4
#define CASA_REQUEST_HTTP2 8    /* the preface's version */
#define CASA_REQUEST_UPGRADE 16 /* of the connection: somebody asked for another protocol */
#define CASA_REQUEST_AUTH 32    /* an Authorization header was read */
#define CASA_REQUEST_TOKEN 64   /* a token was read, or is being read */
#define CASA_REQUEST_SECOND 128 /* it is in a second Authorization header */

/* What the reader must do next that it cannot do by itself. */
enum casa_want {
  CASA_WANT_NOTHING = 0,
  CASA_WANT_TOKEN = 1,     /* a token begins with the next byte */
  CASA_WANT_TOKEN_END = 2, /* the token is over: hash it, tell it */
  CASA_WANT_HEAD_END = 3,  /* the head is over */
  CASA_WANT_BODY = 4,      /* bytes to pass over: `left`; the next head, or line of a chunk, begins behind them */
  CASA_WANT_H2 = 5,        /* the rest of the connection is HTTP/2 */
  CASA_WANT_AMBIGUOUS = 6,
  CASA_WANT_FOREIGN = 7,
  CASA_WANT_TRUNCATED = 8,
};

#define CASA_JSON_STRING 1
#define CASA_JSON_ESCAPE 2
#define CASA_JSON_VALUE 4 /* behind a colon of the outermost object */
#define CASA_JSON_ALG 8   /* the key before it is `alg` */
#define CASA_JSON_SEEN 16
#define CASA_JSON_NONE 32
#define CASA_JSON_ODD 64 /* the present string has an escape that hides a character */
#define CASA_JSON_BROKEN 128
#define CASA_JSON_BEGUN 256

#define CASA_SHAPE_BROKEN 1 /* a character that is not of base64url, or an empty part */

/* A secret of this load of the programs: nobody can make two tokens that look the same to it. Set by the loader. */
const volatile casa_u64 casa_print_key[2] = {0, 0};

__noinline int casa_method_byte(struct casa_request *r, casa_u32 byte) {
  if (!r)
    return 0;
  casa_u32 at = r->method_length;
  asm volatile("" : "+r"(at));
  if (at < CASA_METHOD_LEN) {
    r->method[at] = byte;
    r->method_length = at + 1;
  }
  return 0;
}

/* The present segment of the path becomes a '*', whatever of it was told. */
static __always_inline void casa_hide_segment(struct casa_request *r, casa_u32 segment) {
  for (casa_u32 i = 0; i < CASA_PATH_SEGMENT_MAX; i++) {
    casa_u32 place = segment + i;
    asm volatile("" : "+r"(place));
    if (place < CASA_PATH_LEN)
      r->path[place] = i ? 0 : '*';
  }
  r->path_length = segment + 1;
}

/*
 * The path of a target, without its query (the reader leaves that out), or its host and scheme. A long segment becomes a '*': a name is
 * not that long, and what is may be a secret; so does one that would be cut, since nobody can tell how long it is.
 */
__noinline int casa_path_byte(struct casa_request *r, casa_u32 byte) {
  if (!r)
    return 0;
  casa_u8 c = byte;
  casa_u32 at = r->path_length, segment = r->segment;
  if (at > CASA_PATH_LEN || segment >= CASA_PATH_LEN)
    return 0;
  if (!at) {
    if (c != '/') {
      r->segment = 1;
      return 0;
    }
    r->slashes++;
    if (r->segment && r->slashes < 3) /* http://host/path: the third one is the path's */
      return 0;
    r->path[0] = '/';
    r->path_length = r->segment = 1;
    return 0;
  }
  if (c == '/') {
    r->segment = at + 1;
  } else if (at - segment >= CASA_PATH_SEGMENT_MAX || at == CASA_PATH_LEN) {
    casa_hide_segment(r, segment); /* and nothing more of it is told */
    return 0;
  }
  if (c != '/' && at == segment + 1 && r->path[(segment < CASA_PATH_LEN ? segment : 0)] == '*')
    return 0;
  asm volatile("" : "+r"(at));
  if (at < CASA_PATH_LEN) {
    r->path[at] = c;
    r->path_length = at + 1;
  }
  return 0;
}

/* A request begins: nothing of the one before it counts for it. */
__noinline int casa_request_begin(struct casa_request *r, casa_u32 number) {
  if (!r)
    return 0;
  r->number = number;
  r->flags &= CASA_REQUEST_UPGRADE;
  r->head = 0;
  r->left = 0;
  r->method_length = r->path_length = r->segment = r->slashes = 0;
  __builtin_memset(r->method, 0, CASA_METHOD_LEN);
  __builtin_memset(r->path, 0, CASA_PATH_LEN);
  return 0;
}

static __always_inline int casa_json_string_ends(struct casa_request *r, casa_u16 json) {
  json &= ~CASA_JSON_STRING;
  int odd = (json & CASA_JSON_ODD) != 0;
  if (r->depth == 1 && !(json & CASA_JSON_VALUE)) {
    int alg = r->string == 3 && r->word == ('a' << 16 | 'l' << 8 | 'g');
    json = alg || odd ? json | CASA_JSON_ALG : json & ~CASA_JSON_ALG;
  } else if (r->depth == 1 && json & CASA_JSON_ALG) {
    json |= CASA_JSON_SEEN;
    /* In whatever case: libraries have taken nOnE. An escaped character is there to hide something. */
    if (odd || (r->string == 4 && (r->word | 0x20202020) == 0x6e6f6e65))
      json |= CASA_JSON_NONE;
  }
  return json & ~CASA_JSON_ODD;
}

/* One byte of a JWT's header: is it an object, does it name `alg`, and is that `none`? */
__noinline int casa_json_byte(struct casa_request *r, casa_u32 byte) {
  if (!r)
    return 0;
  casa_u8 c = byte;
  casa_u16 json = r->json;
  if (json & CASA_JSON_STRING) {
    if (!(json & CASA_JSON_ESCAPE) && c == '"') {
      r->json = casa_json_string_ends(r, json);
      return 0;
    }
    if (!(json & CASA_JSON_ESCAPE) && c == '\\') {
      r->json = json | CASA_JSON_ESCAPE;
      return 0;
    }
    if (json & CASA_JSON_ESCAPE && c != '/')
      json |= CASA_JSON_ODD;
    r->json = json & ~CASA_JSON_ESCAPE;
    r->word = r->word << 8 | c;
    if (r->string < 0xffff)
      r->string++;
    return 0;
  }
  if (!(json & CASA_JSON_BEGUN) && c != '{' && c != ' ' && c != '\t' && c != '\r' && c != '\n')
    json |= CASA_JSON_BROKEN;
  if (c == '"') {
    json |= CASA_JSON_STRING;
    r->string = 0;
    r->word = 0;
  } else if (c == '{' || c == '[') {
    json |= CASA_JSON_BEGUN;
    r->depth++;
  } else if (c == '}' || c == ']') {
    r->depth--;
  } else if (c == ':' && r->depth == 1) {
    json |= CASA_JSON_VALUE;
  } else if (c == ',' && r->depth == 1) {
    json &= ~(CASA_JSON_VALUE | CASA_JSON_ALG);
  }
  r->json = json;
  return 0;
}

/* Looks at the first `n` bytes of the block that goes into the hash next. */
__noinline int casa_look_at_block(struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  const casa_u8 *block = (const casa_u8 *)r->sha.w;
  for (casa_u32 i = 0; i < CASA_SHA256_BLOCK; i++) {
    if (i >= n)
      break;
    casa_u32 value = casa_base64url[block[i]];
    if (value >= 64) {
      if (value != 64 || (!r->part && r->dots < 2))
        r->shape |= CASA_SHAPE_BROKEN;
      r->part = 0;
      if (r->dots < 255)
        r->dots++;
      continue;
    }
    r->part = 1;
    if (r->dots)
      continue;
    casa_u32 bits = r->bits << 6 | value, count = r->bit_count + 6;
    r->bits = bits;
    if (count >= 8) {
      count -= 8;
      casa_json_byte(r, bits >> (count & 7) & 0xff);
    }
    r->bit_count = count;
  }
  return 0;
}

static __always_inline void casa_print_begin(struct casa_request *r) {
  /* SipHash's initial state. */
  r->print[0] = casa_print_key[0] ^ 0x736f6d6570736575ull;
  r->print[1] = casa_print_key[1] ^ 0x646f72616e646f6dull;
  r->print[2] = casa_print_key[0] ^ 0x6c7967656e657261ull;
  r->print[3] = casa_print_key[1] ^ 0x7465646279746573ull;
}

__noinline int casa_token_begin(struct casa_request *r) {
  if (!r)
    return 0;
  casa_sha256_begin(&r->sha);
  __builtin_memset(r->sha.w, 0, sizeof(r->sha.w));
  casa_print_begin(r);
  r->tail = 0;
  r->length = r->hashed = 0;
  r->bits = r->bit_count = r->json = r->depth = r->dots = r->part = r->shape = 0;
  r->flags |= CASA_REQUEST_TOKEN;
  return 0;
}

#define CASA_SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define CASA_SIP_ROUND                                                                                                 \
  a += b;                                                                                                              \
  b = CASA_SIP_ROTATE(b, 13) ^ a;                                                                                      \
  a = CASA_SIP_ROTATE(a, 32);                                                                                          \
  c += d;                                                                                                              \
  d = CASA_SIP_ROTATE(d, 16) ^ c;                                                                                      \
  a += d;                                                                                                              \
  d = CASA_SIP_ROTATE(d, 21) ^ a;                                                                                      \
  c += b;                                                                                                              \
  b = CASA_SIP_ROTATE(b, 17) ^ c;                                                                                      \
  c = CASA_SIP_ROTATE(c, 32);

/* SipHash-1-3: one round for each word. */
#define CASA_SIP_WORD(w)                                                                                               \
  d ^= (w);                                                                                                            \
  CASA_SIP_ROUND a ^= (w);

static __always_inline void casa_print_word(struct casa_request *r, casa_u64 word) {
  casa_u64 a = r->print[0], b = r->print[1], c = r->print[2], d = r->print[3];
  CASA_SIP_WORD(word)
  r->print[0] = a;
  r->print[1] = b;
  r->print[2] = c;
  r->print[3] = d;
}

/* Four words at once: what is read of a token is read for the sake of its print mostly. */
static __always_inline void casa_print_words(struct casa_request *r, casa_u64 w0, casa_u64 w1, casa_u64 w2,
                                             casa_u64 w3) {
  casa_u64 a = r->print[0], b = r->print[1], c = r->print[2], d = r->print[3];
  CASA_SIP_WORD(w0)
  CASA_SIP_WORD(w1)
  CASA_SIP_WORD(w2)
  CASA_SIP_WORD(w3)
  r->print[0] = a;
  r->print[1] = b;
  r->print[2] = c;
  r->print[3] = d;
}

__noinline casa_u64 casa_print_end(struct casa_request *r) {
  if (!r)
    return 0;
  casa_print_word(r, r->tail | (casa_u64)r->length << 56);
  casa_u64 a = r->print[0], b = r->print[1], c = r->print[2] ^ 0xff, d = r->print[3];
  CASA_SIP_ROUND CASA_SIP_ROUND CASA_SIP_ROUND return a ^ b ^ c ^ d;
}

static __always_inline int casa_is_token_byte(casa_u8 c) {
  return c > ' ' && c < 0x7f && c != ',' && c != ';' && c != '"';
}

/* Puts one byte of a token to those that are read; 0 when it does not belong to one. */
__noinline int casa_token_byte(struct casa_request *r, casa_u32 byte) {
  if (!r || !casa_is_token_byte(byte))
    return 0;
  casa_u32 place = r->length & 7;
  r->tail |= (casa_u64)(casa_u8)byte << (place * 8);
  if (place == 7) {
    casa_print_word(r, r->tail);
    r->tail = 0;
  }
  r->length++;
  return 1;
}

#define CASA_BYTES(c) (0x0101010101010101ull * (c))
#define CASA_HAS_ZERO(w) (((w) - CASA_BYTES(1)) & ~(w) & CASA_BYTES(0x80))
#define CASA_HAS_BYTE(w, c) CASA_HAS_ZERO((w) ^ CASA_BYTES(c))
#define CASA_HAS_LESS(w, c) (((w) - CASA_BYTES(c)) & ~(w) & CASA_BYTES(0x80))

/* Is one of these eight bytes no token's? */
static __always_inline casa_u64 casa_ends_token(casa_u64 w) {
  return (w & CASA_BYTES(0x80)) | CASA_HAS_LESS(w, 0x21) | CASA_HAS_BYTE(w, 0x7f) | CASA_HAS_BYTE(w, ',') |
         CASA_HAS_BYTE(w, ';') | CASA_HAS_BYTE(w, '"');
}

/* Eight bytes wherever they stand. Machines that BPF runs on can do that; its compiler would read them one by one. */
static __always_inline casa_u64 casa_word_at(const casa_u8 *p) {
#ifdef __bpf__
  return *(const casa_u64 *)p;
#else
  casa_u64 w;
  __builtin_memcpy(&w, p, sizeof(w));
  return w;
#endif
}

/*
 * The token goes on at place `i` of the chunk, which has `n` bytes: how many of them are taken in this step; 0 when it is over there. By words of
 * the token where it can be, so that the same token makes the same print however it is cut.
 */
__noinline casa_u32 casa_token_step(struct casa_request *r, casa_u32 i, casa_u32 n) {
  if (!r || i >= CASA_CHUNK)
    return 0;
  if (!(r->length & 7) && i + 8 <= n) {
    casa_u64 w = casa_word_at(r->chunk + i), place = i;
    asm volatile("" : "+r"(place)); /* bounded apart, for the verifier */
    if (i + 32 <= n && place <= CASA_CHUNK - 32) {
      const casa_u8 *at = r->chunk + place;
      casa_u64 w1 = casa_word_at(at + 8), w2 = casa_word_at(at + 16), w3 = casa_word_at(at + 24);
      if (!(casa_ends_token(w) | casa_ends_token(w1) | casa_ends_token(w2) | casa_ends_token(w3))) {
        casa_print_words(r, w, w1, w2, w3);
        r->length += 32;
        return 32;
      }
    }
    if (!casa_ends_token(w)) {
      casa_print_word(r, w);
      r->length += 8;
      return 8;
    }
  }
  return casa_token_byte(r, r->chunk[i]);
}

/* How many of the first `n` bytes of the chunk are the token's; fewer than `n`: it is over there. */
__noinline int casa_scan_token(struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  r->place = 0;
  for (casa_u32 k = 0; k < CASA_CHUNK / 8 + 16; k++) {
    casa_u32 i = *(volatile casa_u32 *)&r->place;
    casa_u32 taken = i < n ? casa_token_step(r, i, n) : 0;
    if (!taken)
      break;
    r->place = i + taken;
  }
  return r->place;
}

/* `n` bytes, at most 64, were put behind those of the block. */
__noinline int casa_hash_added(struct casa_request *r, casa_u32 n) {
  if (!r)
    return 0;
  casa_u32 have = (r->hashed & (CASA_SHA256_BLOCK - 1)) + n;
  r->hashed += n;
  if (have < CASA_SHA256_BLOCK)
    return 0;
  casa_look_at_block(r, CASA_SHA256_BLOCK);
  return casa_sha256_block(&r->sha);
}

/* The token is over and all of it is hashed: what is it? Leaves it as the known one. */
__noinline int casa_token_end(struct casa_request *r, casa_u64 print) {
  if (!r)
    return 0;
  casa_look_at_block(r, r->hashed & (CASA_SHA256_BLOCK - 1));
  casa_sha256_end(&r->sha, r->hashed);
  casa_u16 json = r->json;
  int jwt = r->dots == 2 && !r->shape && json & CASA_JSON_SEEN && !(json & CASA_JSON_BROKEN) && !r->depth;
  casa_u8 flags = jwt ? CASA_TOKEN_JWT : CASA_TOKEN_OPAQUE;
  if (jwt && json & CASA_JSON_NONE)
    flags |= CASA_TOKEN_ALG_NONE << 4;
  for (casa_u32 i = 0; i < 8; i++) {
    casa_u32 word = __builtin_bswap32(r->sha.h[i]);
    __builtin_memcpy(r->known_sha256 + 4 * i, &word, 4);
  }
  r->known_flags = flags;
  r->known_print = print;
  r->known_length = r->length;
  r->bits = r->word = 0;
  r->tail = 0;
  return 0;
}

/* A token is over, or given up: nothing of it stays that is not hashed. */
__noinline int casa_token_wipe(struct casa_request *r) {
  if (!r)
    return 0;
  __builtin_memset(r->sha.w, 0, CASA_SHA256_BLOCK);
  r->tail = 0;
  r->bits = r->word = 0;
  return 0;
}

/* The value of an Authorization field, byte by byte, for a reader that has no packet to go back to (HTTP/2). */
__noinline int casa_auth_begin(struct casa_request *r) {
  if (!r)
    return 0;
  r->scheme = 0;
  r->length = 0;
  if (r->flags & CASA_REQUEST_AUTH)
    r->flags |= CASA_REQUEST_SECOND;
  r->flags |= CASA_REQUEST_AUTH;
  return 0;
}

#define CASA_SCHEME_SPACE 6
#define CASA_SCHEME_TOKEN 7
#define CASA_SCHEME_OVER 8 /* what follows is no token, or the token is over */

/* Takes one byte of it. CASA_WANT_TRUNCATED: longer than a token may be. */
__noinline int casa_auth_byte(struct casa_request *r, casa_u32 byte) {
  if (!r)
    return 0;
  const char bearer[8] = "bearer ";
  casa_u32 scheme = r->scheme;
  casa_u8 c = byte;
  if (scheme >= CASA_SCHEME_OVER)
    return 0;
  if (scheme < CASA_SCHEME_SPACE) {
    r->scheme = (c | 0x20) == (casa_u8)bearer[scheme & 7] ? scheme + 1
                : (!scheme && (c == ' ' || c == '\t'))    ? 0
                                                          : CASA_SCHEME_OVER;
    return 0;
  }
  if (c == ' ' || c == '\t') {
    r->scheme = r->length ? CASA_SCHEME_OVER : CASA_SCHEME_TOKEN;
    return 0;
  }
  if (scheme == CASA_SCHEME_SPACE || !casa_is_token_byte(c)) {
    r->scheme = CASA_SCHEME_OVER;
    return 0;
  }
  if (scheme == CASA_SCHEME_TOKEN) {
    if (!r->length)
      casa_token_begin(r);
    if (r->length >= CASA_TOKEN_MAX)
      return CASA_WANT_TRUNCATED;
    ((casa_u8 *)r->sha.w)[r->length & (CASA_SHA256_BLOCK - 1)] = c;
    r->length++;
    casa_hash_added(r, 1);
  }
  return 0;
}

/* CASA_WANT_TOKEN_END when there was a token: known_* is it. */
__noinline int casa_auth_end(struct casa_request *r) {
  if (!r || !r->length)
    return CASA_WANT_NOTHING;
  casa_token_end(r, 0);
  return CASA_WANT_TOKEN_END;
}

#endif
