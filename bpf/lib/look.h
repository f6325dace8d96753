/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs share that look at what is sent: they run behind casa_egress and casa_ingress, by a tail call, for packets of a
 * conversation that is allowed so far (CASA_SK_LOOK). Whatever fails here ends in a drop with a reason: a conversation that cannot
 * be looked at must not go on.
 */
#ifndef CASA_BPF_LOOK_H
#define CASA_BPF_LOOK_H

#include "tcp.h"

#include <bpf/bpf_core_read.h>

/*
 * A byte of a label in lower case; 0 for what may not stand in a name that a policy can have: such a name nobody needs, and a dot inside a
 * label stays apart. Global: one way for the verifier in loops over names.
 */
__noinline casa_u32 casa_fold_byte(casa_u32 byte) {
  casa_u8 c = byte;
  if (!casa_is_alnum(c) && c != '-' && c != '_')
    return 0;
  return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* A packet that is looked at, and whose it is. */
struct casa_looked {
  casa_u64 cookie;
  casa_u8 local[16];
  casa_u8 remote[16];
  casa_u16 local_port;
  casa_u16 remote_port;
  casa_u32 sequence; /* TCP */
  casa_u32 gen;
  casa_u32 subject;
  casa_u32 at;      /* where the part begins that nobody has looked at yet */
  casa_u32 length;  /* of that part */
  casa_u32 name_at; /* where a name stands that a denial is to tell; 0 = none */
  casa_u8 protocol;
  casa_u8 tcp_flags;
  casa_u8 audit;
  casa_u8 host_netns; /* the socket is in the host's own network namespace */
};

/* The sequence number of the segment's first byte: a SYN has one of its own. */
static __always_inline casa_u32 casa_begin_of(const struct casa_looked *l) {
  return l->tcp_flags & CASA_TCP_SYN ? l->sequence + 1 : l->sequence;
}

static __always_inline struct casa_sk *casa_state_of(struct __sk_buff *skb) {
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 0;
  sk = bpf_sk_fullsock(sk);
  return sk ? bpf_sk_storage_get(&casa_sk, sk, 0, 0) : 0;
}

/* Describes the packet; 0 when it cannot be told whose it is. */
static __noinline int casa_look_at(struct __sk_buff *skb, casa_u8 hook, struct casa_looked *l) {
  struct casa_config *config = casa_get_config();
  struct casa_sk *state = casa_state_of(skb);
  if (!config || !state || !l)
    return 0;
  struct casa_packet p;
  casa_parse_packet(skb, hook, &p);
  __builtin_memcpy(l->local, p.local, 16);
  __builtin_memcpy(l->remote, p.remote, 16);
  l->local_port = p.local_port;
  l->remote_port = p.remote_port;
  l->sequence = p.sequence;
  l->protocol = p.protocol;
  l->tcp_flags = p.tcp_flags;
  l->name_at = 0;
  l->gen = config->gen;
  l->subject = state->subject;
  l->cookie = bpf_get_socket_cookie(skb);
  l->host_netns = (state->flags & CASA_SK_HOST_NETNS) != 0;
  l->audit = (casa_subject_flags(l->subject, l->gen) & CASA_SUBJECT_AUDIT) != 0;
  l->at = p.payload;
  l->length = skb->len > l->at ? skb->len - l->at : 0;
  return l->subject && !p.error;
}

/*
 * Tells that this packet is refused (in audit mode: would be), with the name that it is about: `text` if that is given, else what stands
 * at l->name_at. Returns 1 when it may pass all the same.
 */
static __noinline int casa_refuse_looked(struct __sk_buff *skb, struct casa_looked *l, casa_u8 reason,
                                         const struct casa_stream *text) {
  struct casa_sk *state = casa_state_of(skb);
  if (!l || !state)
    return 0;
  struct casa_sk note = {};
  note.cookie = l->cookie;
  note.subject = l->subject;
  note.gen = l->gen;
  note.peer = l->protocol == IPPROTO_TCP ? state->peer : CASA_ID_DNS;
  note.pid = state->pid;
  note.denied_second = l->protocol == IPPROTO_TCP ? state->denied_second : 0;
  __builtin_memcpy(note.comm, state->comm, CASA_COMM_LEN);
  __builtin_memcpy(note.local, l->local, 16);
  __builtin_memcpy(note.remote, l->remote, 16);
  note.local_port = l->local_port;
  note.remote_port = l->remote_port;
  note.direction = CASA_EGRESS;
  note.verdict = l->audit ? CASA_AUDIT : CASA_DENIED;
  note.reason = reason;
  casa_u8 flags = l->protocol == IPPROTO_TCP && !l->audit ? CASA_EVENT_ESTABLISHED : 0;
  casa_u64 now = bpf_ktime_get_ns();
  casa_u32 count = casa_count_denial(&note, l->protocol, &flags, now);
  if (l->protocol == IPPROTO_TCP)
    state->denied_second = note.denied_second;
  if (!count)
    return l->audit;
  struct casa_named_event *e = bpf_ringbuf_reserve(&casa_ring, sizeof(*e), 0);
  if (!e) {
    casa_count(CASA_STAT_EVENTS_LOST);
    return l->audit;
  }
  casa_count(CASA_STAT_EVENTS);
  casa_fill_event(&e->event, &note, CASA_EVENT_DENIED, l->protocol);
  e->event.time_ns = now;
  e->event.start_ns = now;
  e->event.count = count;
  e->event.flags = flags;
  __builtin_memset(&e->name_form, 0, sizeof(*e) - sizeof(e->event));
  if (text) {
    e->name_form = CASA_NAME_TEXT;
    __builtin_memcpy(e->name, text->key.name, CASA_NAME_LEN);
  } else if (l->name_at && l->name_at < skb->len) {
    casa_u64 n = casa_length(skb->len - l->name_at, CASA_NAME_LEN - 1);
    if (n && !bpf_skb_load_bytes(skb, l->name_at, e->name, n))
      e->name_form = CASA_NAME_WIRE;
  }
  bpf_ringbuf_submit(e, casa_wake_flags());
  return l->audit;
}

/*
 * The program that should look is not there, or cannot be called: nothing passes unseen that a policy wants to be looked at. Requests are
 * read to be told, so they may go on; unless tokens are to be stopped. Global, as casa_answer is.
 */
__noinline int casa_cannot_look(struct __sk_buff *skb, casa_u32 hook, casa_u32 next) {
  struct casa_looked l;
  casa_count(CASA_STAT_FAIL_LOOK);
  if (!casa_look_at(skb, hook, &l))
    return 0;
  if (next == CASA_LOOK + CASA_LOOK_REQUESTS &&
      !(casa_subject_flags(l.subject, l.gen) & (CASA_SUBJECT_TOKEN_DROP | CASA_SUBJECT_TOKEN_VALID)))
    return 1;
  casa_refuse_looked(skb, &l, CASA_REASON_FAULT, 0);
  return 0;
}

/* Pages of a TCP segment that its sender can still write to (MSG_ZEROCOPY, sendfile, splice): every flag that there is says so. */
static __always_inline int casa_is_shared(struct __sk_buff *skb) {
  const struct sk_buff *kernel_skb = (const struct sk_buff *)skb; /* what the context is a view of */
  casa_u8 *head = 0, flags = 0;
  casa_u32 end = 0;
  if (bpf_core_read(&head, sizeof(head), &kernel_skb->head) || bpf_core_read(&end, sizeof(end), &kernel_skb->end))
    return 1;
  const struct skb_shared_info *info = (const struct skb_shared_info *)(head + end);
  return bpf_core_read(&flags, sizeof(flags), &info->flags) || flags;
}

/* Would the other end read something else than what stands here now? It leaves an urgent byte out, and a page may change. */
static __always_inline int casa_reads_otherwise(struct __sk_buff *skb, const struct casa_looked *l) {
  return l->tcp_flags & CASA_TCP_URG || (l->length && casa_is_shared(skb));
}

/* A datagram that lies whole in the kernel's own memory; its flags do not tell what splice() put in. */
static __always_inline int casa_is_copied(struct __sk_buff *skb) { return skb->data_end - skb->data == skb->len; }

/*
 * A SYN begins anew: the socket may have had a connection before, and what was read or refused of that one is not this one's. Sent again
 * it begins nothing: it may have carried data the first time (TCP Fast Open).
 */
static __always_inline void casa_begin_stream(const struct casa_looked *l, struct casa_stream *stream) {
  casa_u32 first = l->sequence + 1;
  if (!(l->tcp_flags & CASA_TCP_SYN) || (stream->started && stream->first == first))
    return;
  __builtin_memset(stream, 0, sizeof(*stream));
  stream->first = first;
  stream->next = first;
  stream->started = 1;
}

/*
 * The part of a TCP segment that nobody has looked at yet: l->at and l->length. Returns 0 when there is none: bytes sent again pass as
 * they are, they were looked at before. -1: a gap, bytes are missing in between; what the socket sends again will fill it.
 */
static __always_inline int casa_fresh_bytes(struct casa_looked *l, const struct casa_stream *stream) {
  casa_u32 sequence = casa_begin_of(l);
  casa_u32 seen = stream->next - sequence;
  if (seen >> 31)
    return l->length ? -1 : 0;
  if (seen >= l->length)
    return 0;
  l->at += seen;
  l->length -= seen;
  return 1;
}

/* What reading a stream leads to; a reason otherwise. */
#define CASA_READ_MORE 0 /* all is read that is there: so far so good */
#define CASA_READ_DONE 1 /* a whole is there, to be judged */
#define CASA_READ_ON 2   /* there is more to read */
#define CASA_READ_GAP -1 /* bytes before these never left: they will be sent again, and so will these */

static __always_inline struct casa_stream *casa_stream_of(struct __sk_buff *skb, casa_u32 flags) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  return sk ? bpf_sk_storage_get(&casa_stream, sk, 0, flags) : 0;
}

/*
 * Is there something to read in this segment (CASA_READ_ON), or what becomes of it? `unseen`: of a stream whose beginning nobody saw;
 * `broken`: of bytes that the other end may read otherwise, CASA_REASON_NONE where that does not matter.
 */
static __always_inline int casa_begin_reading(struct __sk_buff *skb, struct casa_looked *l, struct casa_stream *stream,
                                              casa_u8 unseen, casa_u8 broken) {
  casa_begin_stream(l, stream);
  if (stream->refused)
    return stream->refused;
  if (!stream->started)
    return l->length ? unseen : CASA_READ_MORE;
  if (broken && casa_reads_otherwise(skb, l))
    return broken;
  int fresh = casa_fresh_bytes(l, stream);
  if (fresh < 0)
    return CASA_READ_GAP;
  stream->key.subject = l->subject;
  stream->at = l->at;
  return fresh ? CASA_READ_ON : CASA_READ_MORE;
}

/* Nothing of this connection is looked at any more: its first bytes are known; `proven` is 0 when audit mode let others pass. */
static __always_inline void casa_end_look(struct __sk_buff *skb, struct casa_sk *state, casa_u8 proven) {
  state->flags = (state->flags | proven) & ~CASA_SK_LOOK;
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  if (sk)
    bpf_sk_storage_delete(&casa_stream, sk);
}

/* What becomes of a packet that was looked at. A refused connection stays refused; its reset may pass, so that the other end learns. */
static __noinline int casa_settle(struct __sk_buff *skb, struct casa_looked *l, int reason, casa_u32 with_name) {
  struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;
  struct casa_sk *state = casa_state_of(skb);
  if (reason == CASA_REASON_NONE)
    return 1;
  if (!l || !sk || !state)
    return 0;
  if (l->protocol != IPPROTO_TCP)
    return casa_refuse_looked(skb, l, reason, 0);
  if (l->tcp_flags & CASA_TCP_RST && !l->length)
    return 1;
  struct casa_stream *stream = bpf_sk_storage_get(&casa_stream, sk, 0, 0);
  if (stream)
    stream->refused = reason;
  casa_refuse_looked(skb, l, reason, with_name ? stream : 0);
  if (l->audit)
    casa_end_look(skb, state, 0);
  return l->audit;
}

#endif
