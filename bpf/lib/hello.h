/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The first bytes of a connection to an LLM endpoint: a TLS ClientHello that names the endpoint. Read as it comes, in any segmentation:
 * one field at a time, gathered in the socket's storage, or passed over by its length, so that a hello of any size costs about the
 * same. The socket's lock lets only one CPU send for a connection at a time. The fuzz target is built from this file.
 */
#ifndef CASA_BPF_HELLO_H
#define CASA_BPF_HELLO_H

#include "look.h"

enum casa_hello_phase {
  CASA_HELLO_RECORD,    /* type, version, length */
  CASA_HELLO_HANDSHAKE, /* type, length */
  CASA_HELLO_RANDOM,    /* version and random: passed over */
  CASA_HELLO_SESSION_LENGTH,
  CASA_HELLO_SESSION,
  CASA_HELLO_CIPHERS_LENGTH,
  CASA_HELLO_CIPHERS,
  CASA_HELLO_COMPRESSION_LENGTH,
  CASA_HELLO_COMPRESSION,
  CASA_HELLO_EXTENSIONS_LENGTH,
  CASA_HELLO_EXTENSION,      /* type, length */
  CASA_HELLO_EXTENSION_BODY, /* passed over */
  CASA_HELLO_NAME_HEADER,    /* list length, type, name length */
  CASA_HELLO_NAME,
};

#define CASA_HELLO_HAS_NAME 1
#define CASA_HELLO_HAS_ECH 2

#define CASA_HELLO_STEPS 128 /* fields in one segment: about twice as many as any client's extensions */
#define CASA_TLS_HANDSHAKE 22
#define CASA_TLS_RECORD_HEADER 5
#define CASA_TLS_CLIENT_HELLO 1
#define CASA_TLS_RECORD_MAX 16384
#define CASA_TLS_SERVER_NAME 0
#define CASA_TLS_ECH 0xfe0d
#define CASA_TLS_ESNI 0xffce /* the drafts before it */

static __always_inline casa_u32 casa_field16(const struct casa_stream *s, casa_u32 at) {
  return (casa_u32)s->field[at] << 8 | s->field[at + 1];
}

/* The next field of the hello is `size` bytes long. */
static __always_inline int casa_hello_next(struct casa_stream *s, casa_u8 phase, casa_u32 size) {
  if (size > s->hello_left)
    return CASA_REASON_NOT_TLS;
  s->hello_left -= size;
  s->left = size;
  s->phase = phase;
  return CASA_READ_ON;
}

static __always_inline int casa_hello_extension(struct casa_stream *s) {
  casa_u32 type = casa_field16(s, 0), length = casa_field16(s, 2);
  if (length > s->hello_left)
    return CASA_REASON_NOT_TLS;
  if (type == CASA_TLS_ECH || type == CASA_TLS_ESNI)
    s->flags |= CASA_HELLO_HAS_ECH;
  if (type != CASA_TLS_SERVER_NAME)
    return casa_hello_next(s, CASA_HELLO_EXTENSION_BODY, length);
  if (s->flags & CASA_HELLO_HAS_NAME) /* two of them: the server might take the other */
    return CASA_REASON_SNI_MISMATCH;
  if (length < 6)
    return CASA_REASON_SNI_MISSING;
  s->part = length;
  return casa_hello_next(s, CASA_HELLO_NAME_HEADER, 5);
}

/* Exactly one host name, and nothing else in the extension. */
static __always_inline int casa_hello_name(struct casa_stream *s) {
  casa_u32 length = casa_field16(s, 3);
  if (casa_field16(s, 0) != length + 3 || s->field[2] || s->part != length + 5)
    return CASA_REASON_SNI_MISMATCH;
  if (length < 1 || length > CASA_NAME_LEN - 3)
    return CASA_REASON_SNI_MISMATCH;
  s->flags |= CASA_HELLO_HAS_NAME;
  s->name_length = length;
  return casa_hello_next(s, CASA_HELLO_NAME, length);
}

/* A field is there: what does it say, and what comes next? Global: each field is one way for the verifier, whichever it is. */
__noinline int casa_hello_field(struct casa_stream *s) {
  casa_u32 length;
  if (!s)
    return CASA_REASON_FAULT;
  switch (s->phase) {
  case CASA_HELLO_RECORD:
    length = casa_field16(s, 3);
    if (s->field[0] != CASA_TLS_HANDSHAKE || s->field[1] != 3 || length < 4 || length > CASA_TLS_RECORD_MAX)
      return CASA_REASON_NOT_TLS;
    s->hello_left = length;
    return casa_hello_next(s, CASA_HELLO_HANDSHAKE, 4);
  case CASA_HELLO_HANDSHAKE:
    /* The hello is all of the record: one that is spread over several is made to be hard to read. */
    if (s->field[0] != CASA_TLS_CLIENT_HELLO || s->field[1] || casa_field16(s, 2) != s->hello_left)
      return CASA_REASON_NOT_TLS;
    return casa_hello_next(s, CASA_HELLO_RANDOM, 34);
  case CASA_HELLO_RANDOM:
    return casa_hello_next(s, CASA_HELLO_SESSION_LENGTH, 1);
  case CASA_HELLO_SESSION_LENGTH:
    return casa_hello_next(s, CASA_HELLO_SESSION, s->field[0]);
  case CASA_HELLO_SESSION:
    return casa_hello_next(s, CASA_HELLO_CIPHERS_LENGTH, 2);
  case CASA_HELLO_CIPHERS_LENGTH:
    return casa_hello_next(s, CASA_HELLO_CIPHERS, casa_field16(s, 0));
  case CASA_HELLO_CIPHERS:
    return casa_hello_next(s, CASA_HELLO_COMPRESSION_LENGTH, 1);
  case CASA_HELLO_COMPRESSION_LENGTH:
    return casa_hello_next(s, CASA_HELLO_COMPRESSION, s->field[0]);
  case CASA_HELLO_COMPRESSION:
    return s->hello_left ? casa_hello_next(s, CASA_HELLO_EXTENSIONS_LENGTH, 2) : CASA_READ_DONE;
  case CASA_HELLO_EXTENSION:
    return casa_hello_extension(s);
  case CASA_HELLO_NAME_HEADER:
    return casa_hello_name(s);
  case CASA_HELLO_EXTENSIONS_LENGTH:
    if (casa_field16(s, 0) != s->hello_left)
      return CASA_REASON_NOT_TLS;
  }
  return s->hello_left ? casa_hello_next(s, CASA_HELLO_EXTENSION, 4) : CASA_READ_DONE;
}

static __always_inline int casa_hello_passes_over(casa_u8 phase) {
  return phase == CASA_HELLO_RANDOM || phase == CASA_HELLO_SESSION || phase == CASA_HELLO_CIPHERS ||
         phase == CASA_HELLO_COMPRESSION || phase == CASA_HELLO_EXTENSION_BODY;
}

/* Takes what the packet has of the present field: `n` bytes at `at`. Global, as casa_hello_field is. */
__noinline int casa_hello_gather(struct __sk_buff *skb, struct casa_stream *s, casa_u32 at, casa_u32 n) {
  if (!s)
    return -1;
  casa_u32 have = s->have;
  if (s->phase == CASA_HELLO_NAME) {
    casa_u64 length = casa_length(n, CASA_NAME_LEN - 1);
    asm volatile("" : "+r"(have));
    if (!length || have > CASA_NAME_LEN - 1)
      return -1;
    return bpf_skb_load_bytes(skb, at, (casa_u8 *)s->key.name + 1 + have, length);
  }
  casa_u64 length = casa_length(n, 7);
  have &= 7;
  return length ? bpf_skb_load_bytes(skb, at, s->field + have, length) : -1;
}

/* Reads from stream->at up to `end`, positions in the packet. */
__noinline int casa_read_hello(struct __sk_buff *skb, struct casa_stream *s, casa_u32 end) {
  if (!s)
    return CASA_REASON_FAULT;
  for (casa_u32 i = 0; i < CASA_HELLO_STEPS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&s->at, left = *(volatile casa_u32 *)&s->left;
    casa_u32 n = end - at < left ? end - at : left;
    if (n) {
      if (!casa_hello_passes_over(s->phase) && casa_hello_gather(skb, s, at, n))
        return CASA_REASON_NOT_TLS;
      s->have += n;
      s->at = at + n;
      s->left = left - n;
    }
    if (n < left)
      return CASA_READ_MORE;
    s->have = 0;
    int next = casa_hello_field(s);
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_REASON_NOT_TLS;
}

/* The name in lower case, as casa_name has it. 0: no name that a policy can have. */
__noinline int casa_fold_name(struct casa_stream *s) {
  if (!s)
    return 0;
  casa_u32 length = s->name_length;
  for (casa_u32 i = 0; i < CASA_NAME_LEN - 2; i++) {
    casa_u8 c = s->key.name[1 + i];
    if (i >= length)
      break;
    if (c != '.')
      c = casa_fold_byte(c);
    if (!c)
      return 0;
    s->key.name[1 + i] = c;
  }
  s->key.name[0] = '.';
  return 1;
}

/*
 * Is the name in `s` the peer that this connection was allowed for? Several names of a workload can share an address: then the name
 * decides which of them it is, if its rule allows the port.
 */
static __noinline int casa_check_named(const struct casa_looked *l, struct casa_sk *state, struct casa_stream *s) {
  if (!l || !state || !s)
    return 0;
  casa_u32 payload = casa_in_force(bpf_map_lookup_elem(&casa_name, &s->key), l->gen);
  if (!(payload & CASA_NAME_LEARN))
    return 0;
  casa_u32 identity = payload & ~CASA_NAME_LEARN;
  if (identity == state->peer)
    return 1;
  struct casa_learnt_key key = {.subject = l->subject};
  __builtin_memcpy(key.address, l->remote, 16);
  struct casa_learnt *learnt = bpf_map_lookup_elem(&casa_learnt, &key);
  struct casa_policy_key row = {.subject = l->subject,
                                .peer = identity,
                                .port = l->remote_port,
                                .protocol = IPPROTO_TCP,
                                .direction = CASA_EGRESS};
  casa_u32 rule = casa_in_force(bpf_map_lookup_elem(&casa_policy, &row), l->gen);
  if (!learnt || (rule & 0xff) != CASA_REASON_LLM_ALLOWED)
    return 0;
  casa_u32 now = casa_now_seconds(), known = 0;
  for (casa_u32 i = 0; i < CASA_LEARNT_SLOTS; i++)
    known |= learnt->slots[i].identity == identity && learnt->slots[i].expires > now;
  if (!known)
    return 0;
  state->peer = identity;
  state->rule = rule >> 8;
  casa_emit_flow(state, CASA_EVENT_FLOW_START, IPPROTO_TCP);
  return 1;
}

static __always_inline int casa_hello_reason(struct __sk_buff *skb, struct casa_looked *l, struct casa_sk *state,
                                             struct casa_stream *stream) {
  int begun = casa_begin_reading(skb, l, stream, CASA_REASON_SNI_MISSING, CASA_REASON_NOT_TLS);
  if (begun != CASA_READ_ON)
    return begun;
  if (!stream->phase && !stream->have && !stream->left)
    stream->left = CASA_TLS_RECORD_HEADER;
  int read = casa_read_hello(skb, stream, l->at + l->length);
  stream->next += l->length;
  if (read == CASA_READ_MORE)
    return CASA_REASON_NONE;
  if (read != CASA_READ_DONE)
    return read;
  if (stream->flags & CASA_HELLO_HAS_ECH)
    return CASA_REASON_ECH_NOT_ALLOWED;
  if (!(stream->flags & CASA_HELLO_HAS_NAME))
    return CASA_REASON_SNI_MISSING;
  if (!casa_fold_name(stream) || !casa_check_named(l, state, stream))
    return CASA_REASON_SNI_MISMATCH;
  casa_count(CASA_STAT_NAMES_PROVEN);
  casa_end_look(skb, state, CASA_SK_PROVEN);
  return CASA_REASON_NONE;
}

/* What becomes of a segment whose reading led to `reason`; `named`: the one that is about the name that was read. */
static __always_inline int casa_pass_read(struct __sk_buff *skb, struct casa_looked *l, int reason, int named) {
  if (reason == CASA_READ_GAP)
    return 0;
  return casa_settle(skb, l, reason, reason == named) ? 1 : 0;
}

static __always_inline int casa_pin_out(struct __sk_buff *skb) {
  struct casa_looked l;
  struct casa_sk *state = casa_state_of(skb);
  if (!state || !casa_look_at(skb, CASA_EGRESS, &l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 0;
  }
  struct casa_stream *stream = casa_stream_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
  int reason = stream ? casa_hello_reason(skb, &l, state, stream) : CASA_REASON_FAULT;
  return casa_pass_read(skb, &l, reason, CASA_REASON_SNI_MISMATCH);
}

/* Nobody speaks before the client has said whom it calls. */
static __always_inline int casa_pin_in(struct __sk_buff *skb, casa_u8 reason) {
  struct casa_looked l;
  struct casa_sk *state = casa_state_of(skb);
  if (!state || !casa_look_at(skb, CASA_INGRESS, &l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 0;
  }
  if (!l.length || !(state->flags & CASA_SK_LOOK))
    return 1;
  return casa_settle(skb, &l, reason, 0) ? 1 : 0;
}

#endif
