/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of UDP sockets. A socket can talk to many, so the verdict belongs to (socket, remote end), in casa_udp. A reply
 * passes because its conversation is there, with the direction of its first packet.
 */
#ifndef CASA_BPF_UDP_H
#define CASA_BPF_UDP_H

#include "tcp.h"

static __always_inline void casa_make_udp_key(struct casa_udp_key *key, casa_u64 cookie, const casa_u8 *remote,
                                              casa_u16 remote_port) {
  __builtin_memset(key, 0, sizeof(*key));
  key->cookie = cookie;
  __builtin_memcpy(key->remote, remote, 16);
  key->remote_port = remote_port;
}

static __always_inline void casa_account(struct casa_sk *s, casa_u8 hook, casa_u32 bytes) {
  if (hook == CASA_EGRESS) {
    s->tx_bytes += bytes;
    s->tx_packets++;
  } else {
    s->rx_bytes += bytes;
    s->rx_packets++;
  }
}

/* Returns CASA_DROP, CASA_PASS or CASA_LOOK and more. */
static __noinline int casa_udp_slow(struct __sk_buff *skb, struct casa_sk *state, casa_u8 hook,
                                    const struct casa_config *config) {
  if (!config)
    return 0;
  casa_u32 subject = casa_refresh_subject(skb, state, config);
  if (!subject)
    return 1;
  casa_u32 flags = casa_subject_flags(subject, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  struct casa_packet p;
  casa_parse_packet(skb, hook, &p);
  /* A workload that speaks with a trusted resolver's own address and port would teach others what it likes. */
  if (!p.error && hook == CASA_EGRESS && p.local_port == CASA_DNS_PORT &&
      casa_is_resolver(p.local, p.local_port, config->gen))
    p.error = CASA_REASON_RESOLVER_NOT_TRUSTED;
  if (!state && !p.error)
    p.error = CASA_REASON_FAULT; /* as in casa_tcp_slow */
  struct casa_udp_key key;
  casa_make_udp_key(&key, bpf_get_socket_cookie(skb), p.remote, p.remote_port);
  struct casa_sk *known = p.error ? 0 : bpf_map_lookup_elem(&casa_udp, &key);
  /* A peer elsewhere does not answer over this host's loopback. */
  if (known && hook == CASA_INGRESS && skb->ifindex == CASA_LOOPBACK_IFINDEX && !(known->flags & CASA_SK_SAME_HOST))
    known = 0;
  /* On this host it is judged by who has the port now, not by who had it. */
  if (known && known->gen == config->gen && !(known->flags & CASA_SK_SAME_HOST)) {
    casa_account(known, hook, skb->len);
    return known->flags & CASA_SK_LOOK ? CASA_LOOK + CASA_LOOK_DNS : CASA_PASS;
  }
  struct casa_sk note;
  if (known)
    note = *known;
  else
    casa_clear(&note, sizeof(note));
  if (!known && state) {
    note.pid = state->pid;
    __builtin_memcpy(note.comm, state->comm, CASA_COMM_LEN);
  }
  casa_u8 old_verdict = note.verdict, old_reason = note.reason;
  note.subject = subject;
  casa_note_packet(&note, &p);
  if (!known)
    note.direction = hook;
  p.known = note.peer;
  casa_judge(skb, &p, flags, config, &note);
  /* The conversation may have made room for others (casa_udp forgets): what a peer that may be called says is its answer. */
  if (note.verdict == CASA_DENIED && !known && hook == CASA_INGRESS && !p.error) {
    casa_u8 reason = note.reason;
    note.direction = CASA_EGRESS;
    casa_judge(skb, &p, flags, config, &note);
    if (note.verdict == CASA_DENIED) {
      note.direction = CASA_INGRESS;
      note.reason = reason;
    }
  }
  if (note.verdict == CASA_DENIED) {
    if (known)
      bpf_map_delete_elem(&casa_udp, &key);
    casa_emit_denial(&note, p.error == CASA_REASON_PROTOCOL_NOT_ALLOWED ? p.protocol : IPPROTO_UDP, 0);
    return 0;
  }
  /* Its own workload's sockets: no conversation is kept, so that talking to itself costs nobody else theirs. */
  if (note.peer == CASA_ID_NOBODY || note.reason == CASA_REASON_BASELINE_LOOPBACK)
    return 1;
  casa_mark_look(&note);
  if (!known) {
    if (bpf_map_update_elem(&casa_udp, &key, &note, BPF_ANY)) {
      casa_count(CASA_STAT_FAIL_UDP_INSERT);
      /* Its answer would be refused, and for a wrong reason. An answer to what this socket opens needs no memory: above. */
      if (note.direction == CASA_INGRESS) {
        note.verdict = (flags & CASA_SUBJECT_AUDIT) ? CASA_AUDIT : CASA_DENIED;
        note.reason = CASA_REASON_MAP_FULL;
        casa_emit_denial(&note, IPPROTO_UDP, 0);
        return note.verdict != CASA_DENIED;
      }
    }
    known = bpf_map_lookup_elem(&casa_udp, &key);
  }
  if (!(note.flags & CASA_SK_STARTED) || note.verdict != old_verdict || note.reason != old_reason)
    casa_start_flow(&note, key.cookie, IPPROTO_UDP);
  casa_account(&note, hook, skb->len);
  if (known)
    *known = note;
  if (state) {
    state->flags |= CASA_SK_STARTED;
    state->cookie = key.cookie;
  }
  return note.flags & CASA_SK_LOOK ? CASA_LOOK + CASA_LOOK_DNS : CASA_PASS;
}

#endif
