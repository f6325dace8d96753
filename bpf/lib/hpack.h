/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * HPACK (RFC 7541), one byte at a time, as far as requests' authorization, :path and :method need it. Of the dynamic table only this is kept:
 * each insertion's number and name, and the newest values of those three. An index stands for an insertion by its number (the newest is
 * 62), so that evictions need not be followed; but an entry that is larger than the table is not inserted, so sizes must be known. Other
 * values are passed over by their length. test/inspect builds this file for user space.
 */
#ifndef CASA_BPF_HPACK_H
#define CASA_BPF_HPACK_H

#include "casa/abi/token.h"
#include "huffman_table.h"
#include "kernel.h"

enum casa_h2_field { CASA_H2_OTHER, CASA_H2_AUTHORIZATION, CASA_H2_PATH, CASA_H2_METHOD };

/* What came of a byte: in bits 0 to 15 up to two symbols of a value, the first one lowest, and in this order: */
#define CASA_H2_BEGIN 0x10000u /* a value of h->field begins */
#define CASA_H2_ONE 0x20000u   /* one symbol of it */
#define CASA_H2_TWO 0x40000u   /* two */
#define CASA_H2_END 0x80000u   /* it is whole; with CASA_H2_KEEP it can be referred to: keep it in h->slot */
#define CASA_H2_KEEP 0x100000u
#define CASA_H2_AGAIN 0x200000u  /* a value of h->field that is known: that in h->slot, or a static one */
#define CASA_H2_BLOCK 0x400000u  /* the header block is whole */
#define CASA_H2_UNREAD 0x800000u /* reading ends; bits 0 to 7: enum casa_unread */

/* h->slot, beside places in h->kept */
#define CASA_H2_STATIC 0x80 /* and an index into the static table */
#define CASA_H2_GONE 0x40   /* it was not kept long enough */

enum casa_hpack_phase {
  CASA_HPACK_FIRST, /* byte of a field's representation */
  CASA_HPACK_INDEX,
  CASA_HPACK_NAME_LENGTH,
  CASA_HPACK_NAME_LENGTH_ON,
  CASA_HPACK_NAME,
  CASA_HPACK_VALUE_LENGTH,
  CASA_HPACK_VALUE_LENGTH_ON,
  CASA_HPACK_VALUE,
};

enum casa_hpack_form { CASA_HPACK_INDEXED, CASA_HPACK_INSERT, CASA_HPACK_TABLE_SIZE, CASA_HPACK_LITERAL };

#define CASA_HPACK_TABLE 4096 /* bytes: what a connection starts with */
#define CASA_HPACK_ENTRY 32   /* what an entry counts beside its name and value */
#define CASA_HPACK_DYNAMIC 62
#define CASA_HPACK_STRING_MAX (1 << 24) /* no length overflows */
#define CASA_HPACK_LONG 63
#define CASA_HPACK_PADDING 8 /* places below it may stand at the end of a string */
#define CASA_HPACK_NAMES 7   /* all that a name can be, before its first letter */
#define CASA_HPACK_UPPER 0x80

/* As casa_h2.names: the lengths of the static table's names, from 1, and which they are. */
#define A (CASA_H2_AUTHORIZATION << 6 | 13)
#define P (CASA_H2_PATH << 6 | 5)
#define M (CASA_H2_METHOD << 6 | 7)
static const casa_u8 casa_hpack_static[64] = {
    0,  10, M,  M, P,  P,  7, 7,  7,  7,  7,  7,  7,  7,  7,  14, //
    15, 15, 13, 6, 27, 3,  5, A,  13, 19, 16, 16, 14, 16, 13, 12, //
    6,  4,  4,  6, 7,  4,  4, 8,  17, 13, 8,  19, 13, 4,  8,  12, //
    18, 19, 5,  7, 7,  11, 6, 10, 25, 17, 10, 4,  3,  16,         //
};
#undef A
#undef P
#undef M

static const char casa_hpack_names[3][16] = {"authorization", ":path", ":method"};

static __always_inline casa_u32 casa_h2_unread(casa_u8 why) { return CASA_H2_UNREAD | why; }

/* One more byte of an integer: 1 when it is whole, 0 when not, -1 when it is longer than anybody needs. */
static __always_inline int casa_hpack_integer(struct casa_h2 *h, casa_u8 byte) {
  casa_u32 shift = h->shift;
  if (shift > 28)
    return -1;
  casa_u64 number = h->number + ((casa_u64)(byte & 0x7f) << shift);
  if (number >> 32)
    return -1;
  h->number = number;
  h->shift = shift + 7;
  return !(byte & 0x80);
}

/* The first byte of one: 1 when it is whole with that. */
static __always_inline int casa_hpack_begin_integer(struct casa_h2 *h, casa_u8 byte, casa_u8 mask) {
  h->number = byte & mask;
  h->shift = 0;
  return h->number < mask;
}

/* The field's value is over. Into the table it goes only if it fits. */
static __always_inline casa_u32 casa_hpack_value_end(struct casa_h2 *h) {
  casa_u32 out = h->field ? CASA_H2_END : 0;
  h->field_phase = CASA_HPACK_FIRST;
  h->passing = 0;
  if (h->form != CASA_HPACK_INSERT)
    return out;
  casa_u32 size = h->value_length + CASA_HPACK_ENTRY;
  if (size + h->name_length > h->table_size)
    return out;
  if (h->name_long && size + h->longest > h->table_size)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED); /* it may or may not have gone in */
  if (!h->name_long && h->name_length > h->longest)
    h->longest = h->name_length;
  casa_u32 number = h->insertions, slot;
  h->names[casa_place(number, CASA_H2_NAMES)] =
      h->field << 6 | (h->name_length < CASA_HPACK_LONG ? h->name_length : CASA_HPACK_LONG);
  h->insertions = number + 1;
  if (!h->field)
    return 0;
  if (h->field == CASA_H2_AUTHORIZATION)
    slot = h->next_token++ & (CASA_H2_TOKENS - 1);
  else if (h->field == CASA_H2_PATH)
    slot = CASA_H2_TOKENS + (h->next_path++ & (CASA_H2_PATHS - 1));
  else
    slot = CASA_H2_TOKENS + CASA_H2_PATHS + (h->next_method++ & (CASA_H2_METHODS - 1));
  h->kept[casa_place(slot, CASA_H2_KEPT)] = number + 1;
  h->slot = slot;
  return out | CASA_H2_KEEP;
}

/* Passes over what the frame has of a string; the rest is in the next one. */
static __always_inline casa_u32 casa_hpack_pass(struct casa_h2 *h) {
  casa_u32 n = h->string_left < h->frame_left ? h->string_left : h->frame_left;
  h->passing = 1;
  h->string_left -= n;
  h->frame_left -= n;
  h->skip += n;
  if (h->string_left)
    return 0;
  if (h->field_phase == CASA_HPACK_VALUE)
    return casa_hpack_value_end(h);
  h->passing = 0;
  h->field_phase = CASA_HPACK_VALUE_LENGTH;
  return 0;
}

/* A name is over: which is it? One with an upper-case letter must not be; a reader that takes it all the same sees another field. */
static __always_inline casa_u32 casa_hpack_name_end(struct casa_h2 *h) {
  casa_u32 length = h->name_length;
  h->field_phase = CASA_HPACK_VALUE_LENGTH;
  if (h->match & 1 && length == 13)
    h->field = CASA_H2_AUTHORIZATION;
  else if (h->match & 2 && length == 5)
    h->field = CASA_H2_PATH;
  else if (h->match & 4 && length == 7)
    h->field = CASA_H2_METHOD;
  return h->field && h->match & CASA_HPACK_UPPER ? casa_h2_unread(CASA_UNREAD_AMBIGUOUS) : 0;
}

static __always_inline void casa_hpack_name_symbol(struct casa_h2 *h, casa_u8 c) {
  casa_u32 at = h->name_length++;
  casa_u64 place = casa_place(at, 16);
  casa_u8 match = h->match;
  if (c >= 'A' && c <= 'Z') {
    c |= 0x20;
    match |= CASA_HPACK_UPPER;
  }
  if (at > 15)
    match = 0;
  for (casa_u32 i = 0; i < 3; i++)
    if ((casa_u8)casa_hpack_names[i][place] != c)
      match &= ~(1u << i);
  h->match = match;
}

/*
 * A string's length is there. A value that nobody asks for is not decoded, unless whether its entry goes into the table hangs on its exact
 * length: a symbol has 5 to 30 bits.
 */
static __always_inline casa_u32 casa_hpack_string(struct casa_h2 *h) {
  casa_u32 left = h->number;
  if (left > CASA_HPACK_STRING_MAX)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  h->string_left = left;
  h->place = 0;
  if (h->field_phase <= CASA_HPACK_NAME) {
    h->field_phase = CASA_HPACK_NAME;
    return left ? 0 : casa_hpack_name_end(h);
  }
  h->field_phase = CASA_HPACK_VALUE;
  h->value_length = 0;
  if (h->field) {
    casa_u8 seen = 1u << h->field;
    if (h->field != CASA_H2_AUTHORIZATION && h->begun & seen)
      return casa_h2_unread(CASA_UNREAD_AMBIGUOUS); /* two paths: which one counts? */
    h->begun |= seen;
    return left ? CASA_H2_BEGIN : CASA_H2_BEGIN | casa_hpack_value_end(h);
  }
  if (!h->huffman || h->form != CASA_HPACK_INSERT) {
    h->value_length = left;
    return casa_hpack_pass(h);
  }
  casa_u32 bits = left * 8, rest = h->name_length + CASA_HPACK_ENTRY;
  casa_u32 most = bits / 5, least = bits > 7 ? (bits - 7) / 30 : 0;
  if (rest + most <= h->table_size && !h->name_long)
    h->value_length = most;
  else if (rest + least > h->table_size)
    h->value_length = least;
  else
    return left ? 0 : casa_hpack_value_end(h);
  return casa_hpack_pass(h);
}

/* What is known of the name that an index stands for, and of its value. -1: nobody is. */
static __always_inline int casa_hpack_look_up(struct casa_h2 *h, casa_u32 index) {
  if (index < CASA_HPACK_DYNAMIC) {
    h->slot = CASA_H2_STATIC | (index & 63);
    return casa_hpack_static[casa_place(index, 64)];
  }
  casa_u32 back = index - CASA_HPACK_DYNAMIC, number = h->insertions - back;
  if (back >= h->insertions)
    return -1;
  h->slot = CASA_H2_GONE;
  for (casa_u32 i = 0; i < CASA_H2_KEPT; i++)
    if (h->kept[i] == number)
      h->slot = i;
  return h->names[casa_place(number - 1, CASA_H2_NAMES)];
}

/* A representation's index is there. */
__noinline casa_u32 casa_hpack_index(struct casa_h2 *h) {
  if (!h)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  casa_u32 index = h->number;
  h->field_phase = CASA_HPACK_FIRST;
  h->field = CASA_H2_OTHER;
  h->name_long = 0;
  if (h->form == CASA_HPACK_TABLE_SIZE) {
    h->table_size = index;
    return 0;
  }
  if (!index) {
    h->name_length = 0;
    h->match = CASA_HPACK_NAMES;
    h->field_phase = CASA_HPACK_NAME_LENGTH;
    return h->form == CASA_HPACK_INDEXED ? casa_h2_unread(CASA_UNREAD_AMBIGUOUS) : 0;
  }
  int known = casa_hpack_look_up(h, index);
  if (known < 0)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  if (index >= CASA_HPACK_DYNAMIC + CASA_H2_NAMES)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  h->field = (casa_u32)known >> 6;
  h->name_length = known & 63;
  h->name_long = h->name_length == CASA_HPACK_LONG;
  if (h->form != CASA_HPACK_INDEXED) {
    h->field_phase = CASA_HPACK_VALUE_LENGTH;
    return 0;
  }
  if (!h->field)
    return 0;
  casa_u8 seen = 1u << h->field;
  if (h->field != CASA_H2_AUTHORIZATION && h->begun & seen)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  h->begun |= seen;
  if (h->field == CASA_H2_AUTHORIZATION && h->slot == CASA_H2_GONE)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  return CASA_H2_AGAIN;
}

/* One byte of a string. */
__noinline casa_u32 casa_hpack_octet(struct casa_h2 *h, casa_u32 byte) {
  if (!h)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  casa_u32 symbols = byte & 0xff, n = 1;
  if (h->huffman) {
    casa_u32 high = casa_huffman[casa_place((casa_u32)h->place << 4 | symbols >> 4, 4096)];
    casa_u32 low = casa_huffman[casa_place((high & 0xff) << 4 | (symbols & 15), 4096)];
    if ((high | low) & CASA_HUFFMAN_FAIL)
      return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
    h->place = low;
    n = (high & CASA_HUFFMAN_EMIT ? 1 : 0) + (low & CASA_HUFFMAN_EMIT ? 1 : 0);
    symbols = high & CASA_HUFFMAN_EMIT ? (high >> 8 & 0xff) | (low & 0xff00) : low >> 8 & 0xff;
  }
  casa_u32 left = --h->string_left;
  if (!left && h->huffman && h->place >= CASA_HPACK_PADDING)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  if (h->field_phase == CASA_HPACK_VALUE) {
    casa_u32 out = 0;
    h->value_length += n;
    if (h->field && n)
      out = n == 1 ? CASA_H2_ONE | (symbols & 0xff) : CASA_H2_TWO | symbols;
    return left ? out : out | casa_hpack_value_end(h);
  }
  if (n)
    casa_hpack_name_symbol(h, symbols);
  if (n > 1)
    casa_hpack_name_symbol(h, symbols >> 8);
  if (!left)
    return casa_hpack_name_end(h);
  if (h->match & CASA_HPACK_NAMES || (h->huffman && h->form == CASA_HPACK_INSERT))
    return 0;
  h->name_length += left;
  return casa_hpack_pass(h);
}

/* One byte of a header block. Global, as the others: one way for the verifier, whatever the byte is. */
__noinline casa_u32 casa_hpack_byte(struct casa_h2 *h, casa_u32 octet) {
  if (!h)
    return casa_h2_unread(CASA_UNREAD_TRUNCATED);
  casa_u8 byte = octet, phase = h->field_phase;
  if (phase == CASA_HPACK_NAME || phase == CASA_HPACK_VALUE)
    return casa_hpack_octet(h, byte);
  int whole;
  casa_u8 mask = 0x7f;
  switch (phase) {
  case CASA_HPACK_FIRST:
    h->form = CASA_HPACK_INDEXED;
    if (!(byte & 0x80)) {
      h->form = byte & 0x40 ? CASA_HPACK_INSERT : byte & 0x20 ? CASA_HPACK_TABLE_SIZE : CASA_HPACK_LITERAL;
      mask = byte & 0x40 ? 0x3f : byte & 0x20 ? 0x1f : 0x0f;
    }
    h->field_phase = CASA_HPACK_INDEX;
    whole = casa_hpack_begin_integer(h, byte, mask);
    break;
  case CASA_HPACK_NAME_LENGTH:
  case CASA_HPACK_VALUE_LENGTH:
    h->huffman = byte >> 7;
    h->field_phase = phase + 1;
    whole = casa_hpack_begin_integer(h, byte, mask);
    break;
  default:
    whole = casa_hpack_integer(h, byte);
  }
  if (whole < 0)
    return casa_h2_unread(CASA_UNREAD_AMBIGUOUS);
  if (!whole)
    return 0;
  return h->field_phase == CASA_HPACK_INDEX ? casa_hpack_index(h) : casa_hpack_string(h);
}

#endif
