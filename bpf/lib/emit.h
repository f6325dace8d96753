/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the daemon. The ring's reader looks every 10 ms, so a producer wakes it only when much waits, or when it said that
 * it sleeps (waking costs about 17 us, a record 30 ns). A full ring loses the record and counts it; the verdict stands.
 */
#ifndef CASA_BPF_EMIT_H
#define CASA_BPF_EMIT_H

#include "decide.h"
#include "packet.h"

#define CASA_RING_RECORD (sizeof(struct casa_named_event) + 8) /* the longest, with the ring's own header */

static __always_inline casa_u64 casa_wake_flags(void) {
  struct casa_config *config = casa_get_config();
  if (config && config->reader_idle) {
    config->reader_idle = 0;
    return BPF_RB_FORCE_WAKEUP;
  }
  /* Once, when the mark is passed: every further wakeup would only cost. One that gets lost is made up for by the timer. */
  casa_u64 waiting = bpf_ringbuf_query(&casa_ring, BPF_RB_AVAIL_DATA);
  return waiting >= CASA_RING_WAKE_BYTES && waiting < CASA_RING_WAKE_BYTES + CASA_RING_RECORD ? BPF_RB_FORCE_WAKEUP
                                                                                              : BPF_RB_NO_WAKEUP;
}

/*
 * One test of the record only: verifiers before 6.3 do not know that a reserved record is not NULL, and take a second test
 * of it for a way that loses it.
 */
static __always_inline struct casa_event *casa_reserve_event(void) {
  struct casa_event *e = bpf_ringbuf_reserve(&casa_ring, sizeof(*e), 0);
  if (!e) {
    casa_count(CASA_STAT_EVENTS_LOST);
    return 0;
  }
  casa_count(CASA_STAT_EVENTS);
  return e;
}

/* Who, to whom and with which verdict: what every record about a conversation says. The rest is zero. */
static __always_inline void casa_fill_event(struct casa_event *e, const struct casa_sk *s, casa_u8 kind,
                                            casa_u8 protocol) {
  __builtin_memset(e, 0, sizeof(*e));
  e->kind = kind;
  e->protocol = protocol;
  e->cookie = s->cookie;
  e->subject = s->subject;
  e->peer = s->peer;
  e->gen = s->gen;
  e->pid = s->pid;
  e->peer_pid = s->peer_pid;
  __builtin_memcpy(e->local, s->local, 16);
  __builtin_memcpy(e->remote, s->remote, 16);
  e->local_port = s->local_port;
  e->remote_port = s->remote_port;
  e->verdict = s->verdict;
  e->reason = s->reason;
  e->direction = s->direction;
  __builtin_memcpy(e->comm, s->comm, CASA_COMM_LEN);
  __builtin_memcpy(e->peer_comm, s->peer_comm, CASA_COMM_LEN);
}

/* News of the conversation that `s` describes. `protocol` is not in struct casa_sk, a map is per protocol. */
static __noinline int casa_emit_flow(const struct casa_sk *s, casa_u8 kind, casa_u8 protocol) {
  if (!s)
    return 0;
  struct casa_event *e = casa_reserve_event();
  if (!e)
    return 0;
  casa_fill_event(e, s, kind, protocol);
  e->time_ns = kind == CASA_EVENT_FLOW_START ? s->start_ns : bpf_ktime_get_ns();
  e->start_ns = s->start_ns;
  e->tx_bytes = s->tx_bytes;
  e->rx_bytes = s->rx_bytes;
  e->tx_packets = s->tx_packets;
  e->rx_packets = s->rx_packets;
  e->rule = s->rule;
  e->count = 1;
  bpf_ringbuf_submit(e, casa_wake_flags());
  return 0;
}

/*
 * Counts a refused attempt, described by `s` (verdict DENIED or AUDIT). The first of its key in a second is told at once, the
 * others are added up and told with the next one, or found by the daemon, which reads the totals. Returns the attempts of the key so
 * far if this one is to be told, else 0; in `flags`, CASA_EVENT_* of the record.
 */
static __always_inline casa_u32 casa_count_denial(struct casa_sk *s, casa_u8 protocol, casa_u8 *flags, casa_u64 now) {
  if (!s || !flags)
    return 0;
  casa_u32 reason_counter = CASA_STAT_REASON_BASE + (s->reason & (CASA_REASON_COUNT - 1));
  casa_count(s->verdict == CASA_DENIED ? CASA_STAT_DENIED : CASA_STAT_AUDITED);
  casa_count(reason_counter);
  struct casa_denial_key key = {
      .subject = s->subject,
      .peer = s->peer,
      .port = s->direction == CASA_EGRESS ? s->remote_port : s->local_port,
      .protocol = protocol,
      .direction = s->direction,
      .reason = s->reason,
  };
  casa_u32 second = (casa_u32)(now / CASA_NS_PER_SECOND);
  /* A connection to be ended is told apart from the others, once a second. */
  if (s->denied_second == second)
    *flags &= ~CASA_EVENT_ESTABLISHED;
  if (*flags & CASA_EVENT_ESTABLISHED)
    s->denied_second = second;
  struct casa_denial *known = bpf_map_lookup_elem(&casa_denial, &key);
  if (!known) {
    struct casa_denial fresh = {.second = second, .total = 1};
    if (!bpf_map_update_elem(&casa_denial, &key, &fresh, BPF_NOEXIST))
      return 1;
    known = bpf_map_lookup_elem(&casa_denial, &key); /* another CPU was first: its entry counts this one too */
    if (!known) {
      casa_count(CASA_STAT_FAIL_DENIAL_INSERT);
      return 1;
    }
  }
  __sync_fetch_and_add(&known->total, 1);
  if (known->second == second && !(*flags & CASA_EVENT_ESTABLISHED))
    return 0;
  known->second = second;
  return known->total;
}

static __noinline int casa_emit_denial(struct casa_sk *s, casa_u8 protocol, casa_u8 flags) {
  casa_u64 now = bpf_ktime_get_ns();
  if (!s)
    return 0;
  casa_u32 count = casa_count_denial(s, protocol, &flags, now);
  if (!count)
    return 0;
  struct casa_event *e = casa_reserve_event();
  if (!e)
    return 0;
  casa_fill_event(e, s, CASA_EVENT_DENIED, protocol);
  e->time_ns = now;
  e->start_ns = now;
  e->count = count;
  e->flags = flags;
  bpf_ringbuf_submit(e, casa_wake_flags());
  return 0;
}

#endif
