/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * HTTP/2 in clear text, what a client sends: the preface, and frames of which only header blocks are read (hpack.h). Everything else is
 * passed over by its length: a body costs nothing. One byte at a time, so that any segmentation is the same.
 */
#ifndef CASA_BPF_H2_H
#define CASA_BPF_H2_H

#include "hpack.h"

enum casa_h2_phase { CASA_H2_PREFACE, CASA_H2_FRAME, CASA_H2_PAD_LENGTH, CASA_H2_FRAGMENT };

enum casa_h2_type { CASA_H2_HEADERS = 1, CASA_H2_PUSH_PROMISE = 5, CASA_H2_CONTINUATION = 9 };

#define CASA_H2_END_HEADERS 4
#define CASA_H2_PADDED 8
#define CASA_H2_PRIORITY 32
#define CASA_H2_PRIORITY_LEN 5
#define CASA_H2_FRAME_HEADER 9
#define CASA_H2_PREFACE_LEN 24

static const char casa_h2_preface[32] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* A connection's first byte comes, or its preface is known up to `have`. The rest is zero. */
static __always_inline void casa_h2_begin(struct casa_h2 *h, casa_u8 have) {
  h->table_size = CASA_HPACK_TABLE;
  h->have = have < CASA_H2_PREFACE_LEN ? have : 0;
  h->phase = have < CASA_H2_PREFACE_LEN ? CASA_H2_PREFACE : CASA_H2_FRAME;
}

/* A fragment of a header block is over. */
static __always_inline casa_u32 casa_h2_fragment_end(struct casa_h2 *h) {
  h->skip += h->padding;
  h->padding = 0;
  h->phase = CASA_H2_FRAME;
  h->in_block = !(h->flags & CASA_H2_END_HEADERS);
  if (h->in_block)
    return 0;
  /* A field that is not whole where its block is. */
  return h->field_phase == CASA_HPACK_FIRST ? CASA_H2_BLOCK : casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
}

/* The value that begins is one that is known: it is passed over. All of it stands in the present frame. */
static __always_inline casa_u32 casa_h2_pass_value(struct casa_h2 *h) {
  casa_u32 n = h->string_left;
  h->string_left = 0;
  h->frame_left -= n;
  h->skip += n;
  h->value_length = h->known_value;
  casa_u32 out = casa_hpack_value_end(h);
  return out & CASA_H2_UNREAD || h->frame_left ? out : out | casa_h2_fragment_end(h);
}

/* A fragment begins: `length` bytes with the padding, and with the priority if there is one. */
static __always_inline casa_u32 casa_h2_fragment(struct casa_h2 *h, casa_u32 length) {
  casa_u32 priority = h->type == CASA_H2_HEADERS && h->flags & CASA_H2_PRIORITY ? CASA_H2_PRIORITY_LEN : 0, out = 0;
  if (length < priority + h->padding)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  h->skip += priority;
  h->frame_left = length - priority - h->padding;
  h->phase = CASA_H2_FRAGMENT;
  if (h->passing && h->frame_left)
    out = casa_hpack_pass(h);
  return out & CASA_H2_UNREAD || h->frame_left ? out : out | casa_h2_fragment_end(h);
}

/* A frame's header is there. */
static __always_inline casa_u32 casa_h2_frame(struct casa_h2 *h) {
  casa_u32 length = h->frame_left;
  h->have = 0;
  h->frame_stream &= 0x7fffffff;
  if (h->in_block || h->type == CASA_H2_CONTINUATION) {
    if (!h->in_block || h->type != CASA_H2_CONTINUATION || h->frame_stream != h->stream)
      return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
    return casa_h2_fragment(h, length);
  }
  if (h->type == CASA_H2_PUSH_PROMISE)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  if (h->type != CASA_H2_HEADERS) {
    h->skip = length;
    return 0;
  }
  if (!h->frame_stream)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  h->stream = h->frame_stream;
  h->begun = 0;
  if (!(h->flags & CASA_H2_PADDED))
    return casa_h2_fragment(h, length);
  h->phase = CASA_H2_PAD_LENGTH;
  return length ? 0 : casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
}

static __always_inline casa_u32 casa_h2_frame_header(struct casa_h2 *h, casa_u8 byte) {
  casa_u8 have = h->have;
  h->have = have + 1;
  if (have < 3)
    h->frame_left = (have ? h->frame_left << 8 : 0) | byte;
  else if (have == 3)
    h->type = byte;
  else if (have == 4)
    h->flags = byte;
  else
    h->frame_stream = (have > 5 ? h->frame_stream << 8 : 0) | byte;
  return have + 1 == CASA_H2_FRAME_HEADER ? casa_h2_frame(h) : 0;
}

/* The next byte that is not passed over (h->skip). Returns what came of it: CASA_H2_* of hpack.h. */
__noinline casa_u32 casa_h2_byte(struct casa_h2 *h, casa_u32 octet) {
  casa_u8 byte = octet;
  if (!h)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  if (h->phase == CASA_H2_FRAGMENT) {
    h->frame_left--;
    casa_u32 out = casa_hpack_byte(h, byte);
    return out & CASA_H2_UNREAD || h->frame_left ? out : out | casa_h2_fragment_end(h);
  }
  if (h->phase == CASA_H2_FRAME)
    return casa_h2_frame_header(h, byte);
  if (h->phase == CASA_H2_PAD_LENGTH) {
    h->padding = byte;
    return casa_h2_fragment(h, h->frame_left - 1);
  }
  if (byte != (casa_u8)casa_h2_preface[casa_place(h->have, 32)])
    return casa_h2_unread(CASA_UNREAD_OPAQUE);
  h->have++;
  if (h->have == CASA_H2_PREFACE_LEN) {
    h->have = 0;
    h->phase = CASA_H2_FRAME;
  }
  return 0;
}

#endif
