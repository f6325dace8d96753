/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Requests in packets: what a caller sends is read from the connection's first byte on (casa_request), tokens are hashed and told, and
 * where a policy says so a token is stopped. One side of a connection reads: the caller's, if that is a workload of this host, else the
 * one that is called. The other direction is not read.
 */
#ifndef CASA_BPF_REQUEST_H
#define CASA_BPF_REQUEST_H

#include "early.h"
#include "h2_request.h"
#include "http1.h"

#define CASA_READ_AHEAD_MAX (1u << 29)
/* Seconds. Not so many packets: one that a program drops is sent again with each write, and after 0.2 s, and twice as long each time. */
#define CASA_PENDING_MAX 50
#define CASA_GAPS_MAX 512 /* segments that may come too early, one after the other, before the reading is given up */

/* Hashes the token's bytes of this packet, from r->token_at to `end`. */
__noinline int casa_hash_packet(struct __sk_buff *skb, struct casa_request *r, casa_u32 end) {
  if (!r)
    return 0;
  for (casa_u32 i = 0; i < CASA_TOKEN_MAX / CASA_SHA256_BLOCK + 2; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->token_at, have = r->hashed & (CASA_SHA256_BLOCK - 1);
    if (at >= end)
      break;
    casa_u32 n = end - at < CASA_SHA256_BLOCK - have ? end - at : CASA_SHA256_BLOCK - have;
    casa_u64 length = casa_length(n, CASA_SHA256_BLOCK);
    asm volatile("" : "+r"(have));
    have &= CASA_SHA256_BLOCK - 1;
    if (!length || bpf_skb_load_bytes(skb, at, (casa_u8 *)r->sha.w + have, length))
      return -1;
    r->token_at = at + length;
    casa_hash_added(r, length);
  }
  return 0;
}

/* The token's bytes of this packet, up to `end`, which is not its last one. Nobody comes back to them. */
static __always_inline void casa_token_part(struct __sk_buff *skb, struct casa_request *r, casa_u32 end) {
  if (!(r->rules & CASA_RULE_EARLY)) /* a listener is nobody's place to gather */
    casa_gather_token(skb, r->token_at, end, !r->hashed);
  casa_hash_packet(skb, r, end);
}

/* The token that ends at `end` in this packet. */
__noinline int casa_token_ends(struct __sk_buff *skb, struct casa_request *r, casa_u32 end) {
  if (!r)
    return CASA_REASON_FAULT;
  casa_u32 from = r->token_at;
  casa_u64 print = casa_print_end(r);
  int known = r->known_length == r->length && r->known_print == print;
  if (!known) {
    if (casa_hash_packet(skb, r, end))
      return CASA_REASON_FAULT;
    casa_token_end(r, print);
    casa_count(CASA_STAT_TOKENS_HASHED);
  }
  casa_hand_over(skb, r, from, end);
  casa_token_wipe(r); /* a known one may have been hashed in part, where it came in several packets */
  return casa_judge_token(skb, r, known);
}

/* What the reader left in r->want. CASA_READ_ON, CASA_READ_LOST and more, or the reason of a refusal. */
__noinline int casa_request_wants(struct __sk_buff *skb, struct casa_request *r) {
  if (!r)
    return CASA_REASON_FAULT;
  casa_u8 want = r->want;
  r->want = CASA_WANT_NOTHING;
  switch (want) {
  case CASA_WANT_TOKEN:
    casa_tell_app(skb, r, CASA_APP_HTTP1);
    casa_token_begin(r);
    r->scheme = 1;
    r->token_at = r->at;
    return CASA_READ_ON;
  case CASA_WANT_HEAD_END:
    casa_tell_app(skb, r, CASA_APP_HTTP1);
    casa_head_ends(skb, r);
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_BODY:
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_AMBIGUOUS:
    return CASA_READ_LOST | CASA_UNREAD_AMBIGUOUS << 16;
  case CASA_WANT_H2:
    return r->rules & CASA_RULE_EARLY ? CASA_READ_LOST | CASA_UNREAD_START << 16 : casa_h2_begins(skb, r);
  case CASA_WANT_FOREIGN:
    /* Out of step, if it spoke HTTP and nobody asked for another protocol. */
    return CASA_READ_LOST |
           (r->told != CASA_APP_HTTP1 || r->flags & CASA_REQUEST_UPGRADE ? CASA_UNREAD_OPAQUE : CASA_UNREAD_TRUNCATED)
               << 16;
  default:
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  }
}

/* The next bytes of a token: `n` of them stand in the chunk. */
__noinline int casa_read_token(struct __sk_buff *skb, struct casa_request *r, casa_u32 n) {
  if (!r)
    return CASA_REASON_FAULT;
  casa_u32 taken = casa_scan_token(r, n);
  r->at += taken;
  r->head += taken;
  if (r->length > CASA_TOKEN_MAX)
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  if (taken >= n)
    return CASA_READ_ON;
  int reason = casa_token_ends(skb, r, r->at);
  r->scheme = 0;
  return reason ? reason : CASA_READ_ON;
}

/*
 * Reads from r->at up to `end`. CASA_READ_MORE: all is read; CASA_READ_ON: there is more than one call reads; CASA_READ_LOST and more; or the
 * reason why the connection is over.
 */
__noinline int casa_read_requests(struct __sk_buff *skb, struct casa_request *r, casa_u32 end) {
  if (!r)
    return CASA_REASON_FAULT;
  for (casa_u32 i = 0; i < CASA_REQUEST_ROUNDS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->at;
    if (at >= end)
      return CASA_READ_MORE;
    casa_u32 n = end - at;
    int in_body = r->left && (r->state == CASA_H1_START || r->state == CASA_H1_CHUNK_END);
    if (in_body) {
      n = r->left < n ? r->left : n;
      r->left -= n;
      r->at = at + n;
      continue;
    }
    casa_u64 length = casa_length(n < CASA_CHUNK - 1 ? n : CASA_CHUNK - 1, CASA_CHUNK - 1);
    if (!length || bpf_skb_load_bytes(skb, at, r->chunk, length))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    int next;
    if (r->scheme) {
      next = casa_read_token(skb, r, length);
    } else {
      casa_u32 taken = casa_h1_read_chunk(r, length);
      r->at = at + taken;
      r->head += taken;
      /* Asked first, so that the same byte is the first too many however the packets are cut. */
      if (r->head + (r->want == CASA_WANT_TOKEN) > CASA_HEAD_MAX)
        return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
      next = r->want ? casa_request_wants(skb, r) : CASA_READ_ON;
      if (r->told == CASA_APP_HTTP2) /* the rest is casa_read_h2's */
        return next;
    }
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

/* What this connection's tokens are held to. In audit mode nothing is stopped. */
static __always_inline casa_u8 casa_token_rules(const struct casa_sk *state, const struct casa_looked *l) {
  casa_u32 flags = casa_subject_flags(l->subject, l->gen);
  casa_u8 rules = state->direction == CASA_INGRESS ? CASA_RULE_INGRESS : 0;
  if (state->verdict != CASA_ALLOWED || flags & CASA_SUBJECT_AUDIT)
    return rules;
  /* What is called may demand valid tokens too; this is the only place where they are read. */
  casa_u32 both = flags | casa_subject_flags(state->peer, l->gen);
  if (both & CASA_SUBJECT_TOKEN_VALID)
    rules |= CASA_RULE_VALID;
  if (flags & CASA_SUBJECT_TOKEN_DROP && state->direction == CASA_EGRESS && state->reason == CASA_REASON_LLM_ALLOWED)
    rules |= CASA_RULE_NO_TOKEN;
  return rules;
}

/*
 * Where the caller's first byte stands, if this packet is the first that brings any; the packet that is asked about has some. Returns 0
 * when nobody can tell: bytes went before it.
 */
static __always_inline int casa_first_byte(struct __sk_buff *skb, const struct casa_looked *l,
                                           const struct casa_sk *state, casa_u8 hook, casa_u32 *first) {
  if (hook == CASA_INGRESS) {
    struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
    struct bpf_tcp_sock *tcp = sk ? bpf_tcp_sock(sk) : 0;
    if (!tcp)
      return 0;
    *first = tcp->rcv_nxt;
    return !tcp->bytes_received;
  }
  if (l->tcp_flags & CASA_TCP_SYN) { /* TCP Fast Open */
    *first = l->sequence + 1;
    return 1;
  }
  /* Behind the SYN. With TCP_REPAIR a socket can go on in another one's connection, and would be read from the middle of it on. */
  *first = state->read_to + 1;
  return l->sequence == *first;
}

static __always_inline void casa_forget_requests(struct bpf_sock *sk) {
  bpf_sk_storage_delete(&casa_request, sk);
  bpf_sk_storage_delete(&casa_h2, sk);
  bpf_sk_storage_delete(&casa_gathered, sk);
}

/*
 * Did bytes come in that nobody saw here? Those of a SYN (TCP Fast Open), or of the segment that ends the handshake, go to the listener.
 */
static __always_inline int casa_went_unseen(struct bpf_sock *sk, casa_u8 hook) {
  struct bpf_tcp_sock *tcp = sk && hook == CASA_INGRESS ? bpf_tcp_sock(sk) : 0;
  return tcp && tcp->bytes_received;
}

/* The connection is not read any more. */
static __always_inline void casa_end_reading(struct __sk_buff *skb, struct casa_sk *state) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  state->flags &= ~CASA_SK_REQUESTS;
  if (sk)
    casa_forget_requests(sk);
}

static __always_inline void casa_leave_unread(struct __sk_buff *skb, struct casa_sk *state, casa_u32 app,
                                              casa_u32 unread) {
  casa_tell_request(skb, 0, CASA_EVENT_APP, app | unread << 8, 0);
  casa_end_reading(skb, state);
}

/* What a connection spoke that is not read any more. */
static __always_inline casa_u32 casa_app_of(const struct casa_request *r, casa_u32 unread) {
  if (r->told)
    return r->told;
  return unread == CASA_UNREAD_OPAQUE ? CASA_APP_OTHER : r->number ? CASA_APP_HTTP1 : CASA_APP_UNKNOWN;
}

/* Nothing of this connection can be read. Where tokens are to be stopped it does not go on: an agent can bring that about (optmem). */
static __noinline int casa_cannot_read(struct __sk_buff *skb, struct casa_looked *l, casa_u32 unread) {
  struct casa_sk *state = casa_state_of(skb);
  if (!state || !l)
    return 0;
  if (!(casa_token_rules(state, l) & (CASA_RULE_NO_TOKEN | CASA_RULE_VALID))) {
    casa_leave_unread(skb, state, CASA_APP_UNKNOWN, unread);
    return 0;
  }
  if (!(l->tcp_flags & CASA_TCP_RST) || l->length) {
    l->name_at = 0;
    casa_refuse_looked(skb, l, CASA_REASON_HTTP_UNREADABLE, 0);
    return 1;
  }
  return 0;
}

#define CASA_TLS_FIRST 0x14 /* of the record types */
#define CASA_TLS_LAST 0x17

/* The storage of a connection whose first bytes these are, if they can be a request's; the connection is left unread otherwise. */
static __always_inline struct casa_request *casa_begin_requests(struct __sk_buff *skb, struct casa_looked *l,
                                                                casa_u8 hook, struct casa_sk *state, int *refused) {
  casa_u32 first = 0;
  casa_u8 byte = 0;
  if (!casa_first_byte(skb, l, state, hook, &first)) {
    struct casa_request *taken = hook == CASA_INGRESS ? casa_take_early(skb, l, state) : 0;
    if (taken)
      return taken;
    *refused = casa_cannot_read(skb, l, CASA_UNREAD_START);
    return 0;
  }
  casa_u32 start = casa_begin_of(l);
  if (start == first && !bpf_skb_load_bytes(skb, l->at, &byte, 1) && casa_is_foreign(byte)) {
    casa_leave_unread(skb, state, byte >= CASA_TLS_FIRST && byte <= CASA_TLS_LAST ? CASA_APP_TLS : CASA_APP_OTHER,
                      CASA_UNREAD_OPAQUE);
    return 0;
  }
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  struct casa_request *r = sk ? bpf_sk_storage_get(&casa_request, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
  if (!r) {
    casa_count(CASA_STAT_FAIL_REQUEST);
    *refused = casa_cannot_read(skb, l, CASA_UNREAD_TRUNCATED);
    return 0;
  }
  r->flow = state->start_ns;
  r->next = first;
  r->state = CASA_H1_START;
  return r;
}

/* A connection that is refused stays refused; its reset may pass, so that the other end learns. */
static __always_inline int casa_refuse_request(struct __sk_buff *skb, struct casa_looked *l, struct casa_request *r,
                                               int reason) {
  if (l->tcp_flags & CASA_TCP_RST && !l->length)
    return 1;
  r->refused = reason;
  casa_token_wipe(r);
  casa_refuse_looked(skb, l, reason, 0);
  return 0;
}

/*
 * All of this packet is read. What is left of a body lies behind it: nothing is read there. Once from each place: of a FIN that comes again and
 * again each would lead on, until what is really next seems to be far behind.
 */
static __always_inline void casa_read_ahead(struct casa_sk *state, const struct casa_looked *l,
                                            struct casa_request *r) {
  if (r->next == casa_begin_of(l) + l->length && r->left &&
      (r->state == CASA_H1_START || r->state == CASA_H1_CHUNK_END)) {
    casa_u32 ahead = r->left < CASA_READ_AHEAD_MAX ? r->left : CASA_READ_AHEAD_MAX;
    r->next += ahead;
    r->left -= ahead;
  }
  state->read_to = r->next;
}

/* The packet ends inside a token: its bytes of this packet are hashed now, since nobody comes back to them. */
static __always_inline int casa_token_goes_on(struct __sk_buff *skb, struct casa_looked *l, struct casa_request *r,
                                              casa_u32 end) {
  if (r->rules & CASA_RULE_NO_TOKEN) {
    casa_tell_request(skb, r, CASA_EVENT_TOKEN, CASA_TOKEN_UNHASHED, CASA_REASON_TOKEN_UNEXPECTED_DESTINATION);
    return CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  }
  if (l->tcp_flags & CASA_TCP_FIN) {
    r->scheme = 0;
    return casa_token_ends(skb, r, end);
  }
  casa_token_part(skb, r, end);
  return CASA_READ_MORE;
}

/* Is the token that packets are held back for verified by now? CASA_READ_ON, CASA_READ_HELD or a reason. */
static __always_inline int casa_pending(struct casa_request *r) {
  casa_u32 signature = casa_signature_of(r);
  if (signature == CASA_SIGNATURE_VALID) {
    r->pending = 0;
    return CASA_READ_ON;
  }
  if (signature != CASA_SIGNATURE_UNVERIFIED || (casa_u16)(casa_second() - r->pending_since) >= CASA_PENDING_MAX)
    return CASA_REASON_TOKEN_INVALID_SIGNATURE;
  return CASA_READ_HELD;
}

/* Reads the packet as far as nobody has read it. CASA_READ_*, CASA_READ_LOST and more, or a reason. */
static __always_inline int casa_read_packet(struct __sk_buff *skb, struct casa_looked *l, struct casa_request *r) {
  casa_u32 start = casa_begin_of(l), seen = r->next - start;
  if (r->refused)
    return r->refused;
  if (r->pending) {
    /* Of those behind what is held back any number may be under way: only its own coming again counts. */
    if (l->length && seen >> 31)
      return CASA_READ_HELD;
    int held = seen < l->length ? casa_pending(r) : CASA_READ_MORE;
    if (held != CASA_READ_ON)
      return held;
  }
  if (seen >> 31) {
    if (!l->length)
      return CASA_READ_MORE;
    return ++r->gaps > CASA_GAPS_MAX ? CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16 : CASA_READ_GAP;
  }
  r->gaps = 0;
  /* The other end leaves an urgent byte out, so it reads something else from here on. */
  if (l->tcp_flags & CASA_TCP_URG && l->length)
    return CASA_READ_LOST | CASA_UNREAD_AMBIGUOUS << 16;
  casa_u32 end = l->at + l->length;
  /* Where a token can be stopped, its page must not change behind our back; a body's may. */
  int in_body = r->left >= l->length - seen && (r->state == CASA_H1_START || r->state == CASA_H1_CHUNK_END);
  if (r->rules & (CASA_RULE_NO_TOKEN | CASA_RULE_VALID) && seen < l->length && !in_body && casa_is_shared(skb))
    return CASA_READ_LOST | CASA_UNREAD_AMBIGUOUS << 16;
  int is_over = l->tcp_flags & CASA_TCP_FIN && seen == l->length; /* the FIN's own place is reached */
  if (seen >= l->length && !is_over) /* sent again: read before. A body goes on behind what was passed over. */
    return CASA_READ_MORE;
  casa_u32 begin = l->at + seen;
  r->at = r->token_at = begin;
  int is_h2 = r->told == CASA_APP_HTTP2;
  int read = is_h2 ? casa_read_h2(skb, r, end) : casa_read_requests(skb, r, end);
  r->next += r->at - begin;
  if (is_h2)
    return read;
  if (read == CASA_READ_MORE && r->scheme)
    return casa_token_goes_on(skb, l, r, end);
  if (read == CASA_READ_ON && r->scheme)
    casa_token_part(skb, r, r->at);
  return read;
}

/* Returns 1 (pass), 0 (drop), or -1: the packet is longer than one call reads. */
static __always_inline int casa_requests(struct __sk_buff *skb, casa_u8 hook) {
  struct casa_looked l;
  struct casa_sk *state = casa_state_of(skb);
  if (!state || !casa_look_at(skb, hook, &l)) {
    casa_count(CASA_STAT_FAIL_LOOK);
    return 1; /* the verdict stands, and was made without this */
  }
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  int early = sk && hook == CASA_INGRESS && sk->state == CASA_TCP_LISTEN;
  if (!early && !(state->flags & CASA_SK_REQUESTS))
    return 1;
  struct casa_request *r = early ? casa_early_of(skb, &l, state) : sk ? bpf_sk_storage_get(&casa_request, sk, 0, 0) : 0;
  if (!early && r && r->flow != state->start_ns) {
    casa_forget_requests(sk);
    r = 0;
  }
  if (!r) {
    if (early || (!l.length && !casa_went_unseen(sk, hook)))
      return 1;
    int refused = 0;
    r = casa_begin_requests(skb, &l, hook, state, &refused);
    if (!r)
      return !refused;
  }
  /* Packets that come in are not sorted by a lock yet: two CPUs can have one of the same connection each. It is sent again. */
  if (__sync_lock_test_and_set(&r->busy, 1))
    return 0;
  r->rules = casa_token_rules(state, &l) | (early ? CASA_RULE_EARLY : 0);
  int read = casa_read_packet(skb, &l, r);
  __builtin_memset(r->chunk, 0, sizeof(r->chunk));
  r->busy = 0;
  if (early)
    return casa_pass_early(r, read);
  if (read == CASA_READ_MORE) {
    casa_read_ahead(state, &l, r);
    return 1;
  }
  if (read == CASA_READ_ON)
    return -1;
  if (read == CASA_READ_GAP || read == CASA_READ_HELD)
    return 0;
  if (read < CASA_READ_LOST)
    return casa_refuse_request(skb, &l, r, read);
  if (r->rules & (CASA_RULE_NO_TOKEN | CASA_RULE_VALID) && read >> 16 != CASA_UNREAD_OPAQUE)
    return casa_refuse_request(skb, &l, r, CASA_REASON_HTTP_UNREADABLE);
  casa_leave_unread(skb, state, casa_app_of(r, read >> 16), read >> 16);
  return 1;
}

#endif
