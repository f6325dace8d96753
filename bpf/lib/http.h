/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * An LLM endpoint on port 80: HTTP/1.x in clear text, each request of a connection held to the endpoint's name by its Host header.
 * Strict where servers differ: what could be read in two ways (a bare line feed, a folded line, a length and chunks, an absolute target)
 * is refused, or the second reading would carry a request for somebody else. Bodies are passed over by their length.
 */
#ifndef CASA_BPF_HTTP_H
#define CASA_BPF_HTTP_H

#include "hello.h"

enum casa_http_phase {
  CASA_HTTP_METHOD,
  CASA_HTTP_TARGET,
  CASA_HTTP_VERSION,
  CASA_HTTP_LINE,  /* the line feed behind the request line or a header */
  CASA_HTTP_NAME,  /* of a header, from the start of its line */
  CASA_HTTP_SPACE, /* before a value */
  CASA_HTTP_VALUE,
  CASA_HTTP_HEAD_END, /* the line feed of the empty line */
  CASA_HTTP_BODY,
  CASA_HTTP_CHUNK_SIZE,
  CASA_HTTP_CHUNK_EXTENSION,
  CASA_HTTP_CHUNK_LINE,
  CASA_HTTP_CHUNK_BODY,
  CASA_HTTP_CHUNK_CR,
  CASA_HTTP_CHUNK_LF,
  CASA_HTTP_TRAILER_START,
  CASA_HTTP_TRAILER,
  CASA_HTTP_TRAILER_LINE,
  CASA_HTTP_TRAILER_END,
};

enum casa_http_header { CASA_HTTP_OTHER, CASA_HTTP_HOST, CASA_HTTP_LENGTH, CASA_HTTP_ENCODING, CASA_HTTP_UPGRADE };

#define CASA_HTTP_HAS_HOST 1
#define CASA_HTTP_HAS_LENGTH 2
#define CASA_HTTP_CHUNKED 4
#define CASA_HTTP_1_0 8
#define CASA_HTTP_ASKED 16 /* a request for the endpoint has left: now the server may speak */
#define CASA_HTTP_OF_CONNECTION CASA_HTTP_ASKED

#define CASA_HTTP_STEPS 512 /* bytes of heads read at once; then the program calls itself */
#define CASA_HTTP_NAME_MAX 18
#define CASA_HTTP_BODY_MAX 0x7fffffffu

static __always_inline int casa_is_token(casa_u8 c) {
  return casa_is_alnum(c) || c == '!' || (c >= '#' && c <= '\'') || c == '*' || c == '+' || c == '-' || c == '.' ||
         (c >= '^' && c <= '`') || c == '|' || c == '~';
}

static __always_inline int casa_http_field_is(const struct casa_stream *s, const char *word, casa_u32 length) {
  if (s->have != length)
    return 0;
  int same = 1;
  for (casa_u32 i = 0; i < length; i++)
    same &= s->field[i] == (casa_u8)word[i];
  return same;
}

/* A header's name is there. */
static __always_inline int casa_http_name(struct casa_stream *s) {
  s->part = CASA_HTTP_OTHER;
  if (casa_http_field_is(s, "host", 4))
    s->part = CASA_HTTP_HOST;
  else if (casa_http_field_is(s, "content-length", 14))
    s->part = CASA_HTTP_LENGTH;
  else if (casa_http_field_is(s, "transfer-encoding", 17))
    s->part = CASA_HTTP_ENCODING;
  else if (casa_http_field_is(s, "upgrade", 7))
    return CASA_REASON_NOT_HTTP; /* what comes behind it would be another protocol */
  s->have = 0;
  casa_u8 seen = s->part == CASA_HTTP_HOST       ? CASA_HTTP_HAS_HOST
                 : s->part == CASA_HTTP_LENGTH   ? CASA_HTTP_HAS_LENGTH
                 : s->part == CASA_HTTP_ENCODING ? CASA_HTTP_CHUNKED
                                                 : 0;
  if (s->flags & seen)
    return CASA_REASON_NOT_HTTP; /* twice: which one counts? */
  s->flags |= seen;
  s->phase = CASA_HTTP_SPACE;
  return CASA_READ_ON;
}

/* One byte of a value. */
static __always_inline int casa_http_value(struct casa_stream *s, casa_u8 c) {
  casa_u32 have = s->have;
  if (s->part == CASA_HTTP_HOST) {
    if (have >= CASA_NAME_LEN - 2)
      return CASA_REASON_HOST_MISMATCH;
    asm volatile("" : "+r"(have));
    if (have < CASA_NAME_LEN - 2)
      s->key.name[1 + have] = c;
  } else if (s->part == CASA_HTTP_LENGTH) {
    if (c < '0' || c > '9' || s->left > CASA_HTTP_BODY_MAX / 10 - 1)
      return CASA_REASON_NOT_HTTP;
    s->left = s->left * 10 + (c - '0');
  } else if (s->part == CASA_HTTP_ENCODING) {
    const char chunked[8] = "chunked";
    if (have >= 7 || (c | 0x20) != (casa_u8)chunked[have & 7])
      return CASA_REASON_NOT_HTTP;
  }
  s->have = have + 1;
  return CASA_READ_ON;
}

/* A value is there. */
static __always_inline int casa_http_value_end(struct casa_stream *s) {
  casa_u32 have = s->have;
  if (s->part == CASA_HTTP_HOST) {
    s->name_length = have;
    if (have > 3 && have < CASA_NAME_LEN - 1) {
      casa_u32 port = have - 2; /* where ":80" begins, behind the first byte of the key */
      asm volatile("" : "+r"(port));
      if (port < CASA_NAME_LEN - 3 && s->key.name[port] == ':' && s->key.name[port + 1] == '8' &&
          s->key.name[port + 2] == '0') {
        s->key.name[port] = s->key.name[port + 1] = s->key.name[port + 2] = 0;
        s->name_length = have - 3;
      }
    }
  } else if ((s->part == CASA_HTTP_LENGTH && !have) || (s->part == CASA_HTTP_ENCODING && have != 7)) {
    return CASA_REASON_NOT_HTTP;
  }
  s->phase = CASA_HTTP_LINE;
  return CASA_READ_ON;
}

static __always_inline int casa_http_request_line(struct casa_stream *s, casa_u8 c) {
  switch (s->phase) {
  case CASA_HTTP_METHOD:
    if (c == ' ' && s->have) {
      if (casa_http_field_is(s, "CONNECT", 7))
        return CASA_REASON_NOT_HTTP;
      s->have = 0;
      s->phase = CASA_HTTP_TARGET;
      return CASA_READ_ON;
    }
    if (c < 'A' || c > 'Z' || s->have >= 16)
      return CASA_REASON_NOT_HTTP;
    s->field[s->have & 15] = c;
    s->have++;
    return CASA_READ_ON;
  case CASA_HTTP_TARGET:
    if (!s->have && c != '/' && c != '*')
      return CASA_REASON_NOT_HTTP; /* an absolute target would win over Host */
    if (c == ' ') {
      s->have = 0;
      s->phase = CASA_HTTP_VERSION;
      return CASA_READ_ON;
    }
    s->have = 1;
    return c > ' ' && c != 0x7f ? CASA_READ_ON : CASA_REASON_NOT_HTTP;
  default: { /* CASA_HTTP_VERSION */
    const char version[8] = "HTTP/1.";
    casa_u32 have = s->have;
    if (have == 8 && c == '\r') {
      s->phase = CASA_HTTP_LINE;
      return CASA_READ_ON;
    }
    if (have == 7 ? c != '0' && c != '1' : have > 7 || c != (casa_u8)version[have & 7])
      return CASA_REASON_NOT_HTTP;
    if (have == 7 && c == '0')
      s->flags |= CASA_HTTP_1_0;
    s->have = have + 1;
    return CASA_READ_ON;
  }
  }
}

/* A whole head is there; CASA_READ_DONE: it is to be compared with the endpoint. */
static __always_inline int casa_http_head(struct casa_stream *s) {
  if (!(s->flags & CASA_HTTP_HAS_HOST))
    return CASA_REASON_HOST_MISSING;
  if (s->flags & CASA_HTTP_CHUNKED && s->flags & (CASA_HTTP_HAS_LENGTH | CASA_HTTP_1_0))
    return CASA_REASON_NOT_HTTP;
  return CASA_READ_DONE;
}

static __always_inline int casa_http_header(struct casa_stream *s, casa_u8 c) {
  switch (s->phase) {
  case CASA_HTTP_NAME:
    if (c == '\r' && !s->have) {
      s->phase = CASA_HTTP_HEAD_END;
      return CASA_READ_ON;
    }
    if (c == ':' && s->have)
      return casa_http_name(s);
    if (!casa_is_token(c))
      return CASA_REASON_NOT_HTTP;
    if (s->have < CASA_HTTP_NAME_MAX) {
      s->field[s->have & 31] = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
      s->have++;
    }
    return CASA_READ_ON;
  case CASA_HTTP_SPACE:
    if (c == ' ' || c == '\t')
      return CASA_READ_ON;
    s->phase = CASA_HTTP_VALUE;
    /* fallthrough */
  default: /* CASA_HTTP_VALUE */
    if (c == '\r')
      return casa_http_value_end(s);
    if ((c < ' ' && c != '\t') || c == 0x7f)
      return CASA_REASON_NOT_HTTP;
    return casa_http_value(s, c);
  }
}

static __always_inline int casa_http_chunk(struct casa_stream *s, casa_u8 c) {
  int digit;
  switch (s->phase) {
  case CASA_HTTP_CHUNK_SIZE:
    digit = casa_hex(c);
    if (digit >= 0) {
      if (s->left > CASA_HTTP_BODY_MAX >> 5)
        return CASA_REASON_NOT_HTTP;
      s->left = s->left << 4 | (casa_u32)digit;
      s->have = 1;
      return CASA_READ_ON;
    }
    if (!s->have || (c != '\r' && c != ';'))
      return CASA_REASON_NOT_HTTP;
    s->phase = c == ';' ? CASA_HTTP_CHUNK_EXTENSION : CASA_HTTP_CHUNK_LINE;
    return CASA_READ_ON;
  case CASA_HTTP_CHUNK_EXTENSION:
    if (c == '\r')
      s->phase = CASA_HTTP_CHUNK_LINE;
    return c >= ' ' || c == '\r' || c == '\t' ? CASA_READ_ON : CASA_REASON_NOT_HTTP;
  case CASA_HTTP_CHUNK_CR:
    s->phase = CASA_HTTP_CHUNK_LF;
    return c == '\r' ? CASA_READ_ON : CASA_REASON_NOT_HTTP;
  case CASA_HTTP_TRAILER_START:
    s->phase = c == '\r' ? CASA_HTTP_TRAILER_END : CASA_HTTP_TRAILER;
    return c == '\r' || casa_is_token(c) ? CASA_READ_ON : CASA_REASON_NOT_HTTP;
  default: /* CASA_HTTP_TRAILER */
    if (c == '\r')
      s->phase = CASA_HTTP_TRAILER_LINE;
    return c >= ' ' || c == '\r' || c == '\t' ? CASA_READ_ON : CASA_REASON_NOT_HTTP;
  }
}

/* The line feed that must come now, and what comes after it. */
static __always_inline int casa_http_line_feed(struct casa_stream *s, casa_u8 c) {
  if (c != '\n')
    return CASA_REASON_NOT_HTTP;
  s->have = 0;
  switch (s->phase) {
  case CASA_HTTP_LINE:
    s->phase = CASA_HTTP_NAME;
    return CASA_READ_ON;
  case CASA_HTTP_HEAD_END:
    return casa_http_head(s);
  case CASA_HTTP_CHUNK_LINE:
    s->phase = s->left ? CASA_HTTP_CHUNK_BODY : CASA_HTTP_TRAILER_START;
    return CASA_READ_ON;
  case CASA_HTTP_CHUNK_LF:
    s->phase = CASA_HTTP_CHUNK_SIZE;
    return CASA_READ_ON;
  case CASA_HTTP_TRAILER_LINE:
    s->phase = CASA_HTTP_TRAILER_START;
    return CASA_READ_ON;
  default: /* CASA_HTTP_TRAILER_END */
    s->phase = CASA_HTTP_METHOD;
    return CASA_READ_ON;
  }
}

static __always_inline int casa_http_is_line_feed(casa_u8 phase) {
  return phase == CASA_HTTP_LINE || phase == CASA_HTTP_HEAD_END || phase == CASA_HTTP_CHUNK_LINE ||
         phase == CASA_HTTP_CHUNK_LF || phase == CASA_HTTP_TRAILER_LINE || phase == CASA_HTTP_TRAILER_END;
}

/* Global: each byte is one way for the verifier, not one for each thing that it could be. */
__noinline int casa_http_byte(struct casa_stream *s, casa_u32 byte) {
  if (!s)
    return CASA_REASON_FAULT;
  casa_u8 phase = s->phase, c = byte;
  if (casa_http_is_line_feed(phase))
    return casa_http_line_feed(s, c);
  if (phase <= CASA_HTTP_VERSION)
    return casa_http_request_line(s, c);
  return phase <= CASA_HTTP_VALUE ? casa_http_header(s, c) : casa_http_chunk(s, c);
}

/*
 * Reads from stream->at up to `end`. Returns CASA_READ_DONE behind a head, CASA_READ_MORE when all is read, CASA_READ_ON when there is
 * more than one call reads, or why the connection is over.
 */
__noinline int casa_read_http(struct __sk_buff *skb, struct casa_stream *s, casa_u32 end) {
  if (!s)
    return CASA_REASON_FAULT;
  for (casa_u32 i = 0; i < CASA_HTTP_STEPS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&s->at;
    if (at >= end)
      return CASA_READ_MORE;
    if (s->phase == CASA_HTTP_BODY || s->phase == CASA_HTTP_CHUNK_BODY) {
      casa_u32 left = *(volatile casa_u32 *)&s->left, n = end - at < left ? end - at : left;
      s->at = at + n;
      s->left = left - n;
      if (n == left)
        s->phase = s->phase == CASA_HTTP_BODY ? CASA_HTTP_METHOD : CASA_HTTP_CHUNK_CR;
      continue;
    }
    casa_u8 c;
    if (bpf_skb_load_bytes(skb, at, &c, 1))
      return CASA_REASON_FAULT;
    s->at = at + 1;
    int next = casa_http_byte(s, c);
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

/* The head was for the endpoint: its body is next, or another request. */
static __always_inline void casa_http_next(struct casa_stream *s) {
  casa_u8 flags = s->flags;
  s->flags = (flags & CASA_HTTP_OF_CONNECTION) | CASA_HTTP_ASKED;
  s->have = 0;
  s->name_length = 0;
  __builtin_memset(s->key.name, 0, CASA_NAME_LEN);
  if (flags & CASA_HTTP_CHUNKED)
    s->left = 0;
  s->phase = flags & CASA_HTTP_CHUNKED ? CASA_HTTP_CHUNK_SIZE : s->left ? CASA_HTTP_BODY : CASA_HTTP_METHOD;
}

static __always_inline int casa_http_reason(struct __sk_buff *skb, struct casa_looked *l, struct casa_sk *state,
                                            struct casa_stream *s) {
  /* What lies whole in a body is nothing but body, whatever becomes of it (sendfile). */
  int in_body = s->phase == CASA_HTTP_BODY && s->left >= l->length && !(l->tcp_flags & CASA_TCP_URG);
  casa_u8 broken = in_body ? CASA_REASON_NONE : CASA_REASON_NOT_HTTP;
  int begun = casa_begin_reading(skb, l, s, CASA_REASON_HOST_MISSING, broken);
  if (begun != CASA_READ_ON)
    return begun;
  int read = casa_read_http(skb, s, l->at + l->length);
  s->next += s->at - l->at;
  if (read != CASA_READ_DONE)
    return read;
  if (!casa_fold_name(s) || !casa_check_named(l, state, s))
    return CASA_REASON_HOST_MISMATCH;
  casa_count(CASA_STAT_NAMES_PROVEN);
  casa_http_next(s);
  return CASA_READ_ON;
}

#endif
