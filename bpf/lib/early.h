/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Requests that come to a listener before there is a socket for their connection: with a SYN (TCP Fast Open), or with the segment that ends the
 * handshake (TCP_DEFER_ACCEPT, a lost ACK). They are read into a table by the connection's ends (casa_early), and the accepted socket goes on
 * from there.
 */
#ifndef CASA_BPF_EARLY_H
#define CASA_BPF_EARLY_H

#include "http1.h"
#include "sighting.h"

static __always_inline void casa_early_key_of(const struct casa_looked *l, struct casa_early_key *key) {
  __builtin_memset(key, 0, sizeof(*key));
  __builtin_memcpy(key->local, l->local, 16);
  __builtin_memcpy(key->remote, l->remote, 16);
  key->local_port = l->local_port;
  key->remote_port = l->remote_port;
}

/* What came to a listener, from the connection's first byte on; 0 when this is not that, or is not read. */
static __always_inline struct casa_request *casa_early_of(struct __sk_buff *skb, const struct casa_looked *l,
                                                          const struct casa_sk *state) {
  casa_u32 start = casa_begin_of(l), first = state->read_to + 1, zero = 0;
  casa_u8 byte = 0;
  /* Only the last SYN is remembered; another caller's may have come in between. */
  if (!l->length || !casa_same_address(state->remote, l->remote) || state->remote_port != l->remote_port)
    return 0;
  struct casa_early_key key;
  casa_early_key_of(l, &key);
  struct casa_request *r = bpf_map_lookup_elem(&casa_early, &key);
  if (r && r->flow == (CASA_EARLY_FLOW | first))
    return r->want ? 0 : r;
  if (start != first || bpf_skb_load_bytes(skb, l->at, &byte, 1) || casa_is_foreign(byte))
    return 0;
  struct casa_request *blank = bpf_map_lookup_elem(&casa_blank, &zero);
  if (!blank || bpf_map_update_elem(&casa_early, &key, blank, BPF_ANY)) {
    casa_count(CASA_STAT_FAIL_REQUEST);
    return 0;
  }
  r = bpf_map_lookup_elem(&casa_early, &key);
  if (!r)
    return 0;
  r->flow = CASA_EARLY_FLOW | first;
  r->next = first;
  r->state = CASA_H1_START;
  r->told = CASA_APP_HTTP1; /* told when there is a connection that speaks it */
  return r;
}

/* A connection whose first bytes went to the listener goes on from what was read there, if that is all that came. */
static __always_inline struct casa_request *casa_take_early(struct __sk_buff *skb, const struct casa_looked *l,
                                                            const struct casa_sk *state) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  struct bpf_tcp_sock *tcp = sk ? bpf_tcp_sock(sk) : 0;
  struct casa_early_key key;
  casa_early_key_of(l, &key);
  struct casa_request *early = bpf_map_lookup_elem(&casa_early, &key);
  if (!sk || !tcp || !early || early->want || early->refused || early->next != tcp->rcv_nxt)
    return 0;
  struct casa_request *r = bpf_sk_storage_get(&casa_request, sk, early, BPF_SK_STORAGE_GET_F_CREATE);
  if (!r)
    return 0;
  bpf_map_delete_elem(&casa_early, &key);
  r->flow = state->start_ns;
  r->busy = 0;
  r->told = CASA_APP_UNKNOWN;
  if (r->number)
    casa_tell_app(skb, r, CASA_APP_HTTP1);
  return r;
}

/*
 * What came to a listener is read. There is no connection yet to end: what may not go on is dropped, each time that it comes. Returns as
 * casa_requests does.
 */
static __always_inline int casa_pass_early(struct casa_request *r, int read) {
  if (read == CASA_READ_MORE)
    return 1;
  if (read == CASA_READ_ON)
    return -1;
  if (read == CASA_READ_GAP || read == CASA_READ_HELD)
    return 0;
  int stops = r->rules & (CASA_RULE_NO_TOKEN | CASA_RULE_VALID) && read >> 16 != CASA_UNREAD_OPAQUE;
  casa_token_wipe(r);
  if (read < CASA_READ_LOST || stops) {
    r->refused = read < CASA_READ_LOST ? read : CASA_REASON_HTTP_UNREADABLE;
    return 0;
  }
  r->want = CASA_WANT_TRUNCATED;
  return 1;
}

#endif
