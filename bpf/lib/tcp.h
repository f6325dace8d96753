/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of TCP sockets. One verdict a socket, made once a generation and kept in its storage; only verdicts that let
 * pass are kept. At a listener each SYN is judged by who sent it; the verdict waits in the listener's storage, from which
 * the accepted socket is cloned, and serves it if it is about the same remote end (two handshakes at once on two CPUs can
 * overwrite one another: then the accepted socket is judged at its first packet).
 */
#ifndef CASA_BPF_TCP_H
#define CASA_BPF_TCP_H

#include "emit.h"
#include "own_call.h"
#include "peer.h"

/* The subject of a socket, looked up once a generation. One that had a workload keeps it when its cgroup is gone. */
static __always_inline casa_u32 casa_refresh_subject(struct __sk_buff *skb, struct casa_sk *state,
                                                     const struct casa_config *config) {
  if (state && state->subject_gen == config->gen)
    return state->subject;
  casa_u32 subject = casa_subject_of_packet(skb);
  if (!state)
    return subject;
  if (state->subject && state->subject != subject && casa_subject_flags(state->subject, config->gen) &&
      (!subject || (casa_subject_flags(subject, config->gen) & CASA_SUBJECT_UNDECLARED)))
    subject = state->subject;
  state->subject = subject;
  state->subject_gen = config->gen;
  return subject;
}

/* A socket older than the programs: it was accepted if somebody listens on its local port, else it called. */
static __noinline int casa_direction_of_old_socket(struct __sk_buff *skb, const struct casa_packet *p) {
  if (!p)
    return CASA_EGRESS;
  /* No connection matches a caller without a port: only a listener is found. */
  struct bpf_sock *listener = casa_find_socket(skb, p->protocol, p->remote, 0, p->local, p->local_port);
  if (!listener)
    return CASA_EGRESS;
  casa_u32 listens = listener->state == CASA_TCP_LISTEN;
  bpf_sk_release(listener);
  return listens ? CASA_INGRESS : CASA_EGRESS;
}

/*
 * What becomes of a packet: dropped, passed, or passed on to a program that looks at what is sent; then CASA_LOOK plus its place
 * (enum casa_look).
 */
#define CASA_DROP 0
#define CASA_PASS 1
#define CASA_LOOK 2

/* Which program looks at the packets of a conversation that is marked CASA_SK_LOOK. */
static __always_inline casa_u32 casa_look_of(casa_u8 reason, casa_u16 remote_port) {
  if (reason == CASA_REASON_BASELINE_DNS)
    return CASA_LOOK + CASA_LOOK_DNS;
  return CASA_LOOK + (remote_port == CASA_HTTP_PORT ? CASA_LOOK_HTTP : CASA_LOOK_TLS);
}

/* After a verdict: must something be looked at? What a conversation has proven once, it need not prove again. */
static __always_inline void casa_mark_look(struct casa_sk *note) {
  int look =
      note->verdict == CASA_ALLOWED && (note->reason == CASA_REASON_BASELINE_DNS ||
                                        (note->reason == CASA_REASON_LLM_ALLOWED && !(note->flags & CASA_SK_PROVEN)));
  if (look)
    note->flags |= CASA_SK_LOOK;
  else
    note->flags &= ~CASA_SK_LOOK;
}

#define CASA_NO_SYN (1u << 30) /* bytes: no first byte is so far behind casa_sk.read_to */

/*
 * Is what the caller of this conversation sends read for tokens? Once on a host, where it leaves (also where the callee knows the caller,
 * a Pod of this node, by its address); what comes from elsewhere, where it comes in. Not DNS, nor what is held to be TLS to a name.
 */
static __always_inline int casa_is_read(const struct casa_sk *note, const struct casa_config *config) {
  int is_tls = note->reason == CASA_REASON_LLM_ALLOWED && note->remote_port != CASA_HTTP_PORT;
  if (!(config->token_flags & CASA_TOKENS_READ) || note->reason == CASA_REASON_BASELINE_DNS || is_tls)
    return 0;
  if (note->direction == CASA_EGRESS)
    return 1;
  if (note->flags & CASA_SK_SAME_HOST)
    return !casa_is_enforced(casa_subject_flags(note->peer, config->gen));
  casa_u32 remote = casa_in_force(bpf_map_lookup_elem(&casa_addr, note->remote), config->gen);
  return !(remote & CASA_ADDR_HERE) && !casa_was_own_call(note->subject, note->peer, remote, note->direction);
}

/* A conversation begins. */
static __always_inline void casa_mark_requests(struct casa_sk *note, const struct casa_packet *p,
                                               const struct casa_config *config) {
  if (!casa_is_read(note, config))
    return;
  note->flags |= CASA_SK_REQUESTS;
  note->read_to = p->hook == note->direction ? p->sequence : p->expected;
  /*
   * Nobody can tell which byte is the first: of a caller without a SYN (older than the programs, or TCP_REPAIR), and of what comes in, where
   * this segment may have overtaken others. The reading itself asks the socket (casa_first_byte); nothing may pass here before it did.
   */
  if (note->direction == CASA_INGRESS || !(p->tcp_flags & CASA_TCP_SYN))
    note->read_to -= CASA_NO_SYN;
}

/* What becomes of a packet whose sender's bytes are read: nothing is to be read in one without any, nor before read_to. */
static __always_inline casa_u32 casa_read_of(struct __sk_buff *skb, const struct casa_sk *state, casa_u8 hook) {
  if (!(state->flags & CASA_SK_REQUESTS) || hook != state->direction)
    return CASA_PASS;
  casa_u8 *data = (casa_u8 *)(long)skb->data, *end = (casa_u8 *)(long)skb->data_end, *tcp = data + 20;
  casa_u32 header = 20;
  if (data + 40 > end)
    return CASA_LOOK + CASA_LOOK_REQUESTS;
  if (data[0] != 0x45) {
    tcp = data + 40;
    header = 40;
    if ((data[0] & 0xf0) != 0x60 || data[6] != IPPROTO_TCP || data + 60 > end)
      return CASA_LOOK + CASA_LOOK_REQUESTS;
  }
  casa_u32 sequence = (casa_u32)tcp[4] << 24 | tcp[5] << 16 | tcp[6] << 8 | tcp[7];
  casa_u32 headers = header + (tcp[12] >> 4) * 4;
  casa_u32 length = skb->len > headers ? skb->len - headers : 0;
  /* A FIN may end a token; an urgent byte puts a body out of step. */
  if (!(tcp[13] & (CASA_TCP_FIN | CASA_TCP_URG)) && (!length || (casa_s32)(sequence + length - state->read_to) <= 0))
    return CASA_PASS;
  return CASA_LOOK + CASA_LOOK_REQUESTS;
}

static __always_inline void casa_note_packet(struct casa_sk *note, const struct casa_packet *p) {
  __builtin_memcpy(note->local, p->local, 16);
  __builtin_memcpy(note->remote, p->remote, 16);
  note->local_port = p->local_port;
  note->remote_port = p->remote_port;
}

/* Does what seems to be a call of the node's come from this workload itself? A SYN proves it anew, whatever came from there before. */
static __always_inline int casa_is_own(struct __sk_buff *skb, const struct casa_packet *p, const struct casa_sk *note) {
  if (p->protocol != IPPROTO_TCP || note->direction != CASA_INGRESS || note->peer != CASA_ID_HOST ||
      note->flags & CASA_SK_SAME_HOST)
    return 0;
  int is_syn = p->tcp_flags & CASA_TCP_SYN;
  if (!is_syn && casa_was_own_call(note->subject, p->known, note->peer, note->direction))
    return 1;
  return p->hook == CASA_INGRESS && casa_is_own_call(skb, note->subject, p->remote_port, is_syn);
}

/* Decides for note->subject and note->direction; fills the verdict and the peer. */
static __noinline int casa_judge(struct __sk_buff *skb, struct casa_packet *p, casa_u32 flags,
                                 const struct casa_config *config, struct casa_sk *note) {
  if (!p || !config || !note)
    return 0;
  casa_count(CASA_STAT_SLOW_PATH);
  note->gen = config->gen;
  if (p->error) {
    note->peer = CASA_ID_WORLD;
    note->rule = 0;
    note->reason = p->error;
    note->verdict = casa_refusal(flags);
    return 0;
  }
  p->direction = note->direction;
  casa_find_peer(skb, p, config, note);
  casa_u32 port = note->direction == CASA_EGRESS ? p->remote_port : p->local_port;
  casa_u32 call = CASA_CALL(port, p->protocol, note->direction, note->flags & CASA_SK_SAME_HOST);
  casa_u64 answer = casa_answer(config->gen, note->subject, flags, note->peer, call);
  if (CASA_VERDICT_OF(answer) != CASA_ALLOWED && casa_is_own(skb, p, note)) {
    note->peer = note->subject;
    answer = casa_answer(config->gen, note->subject, flags, note->peer, call);
  }
  note->verdict = CASA_VERDICT_OF(answer);
  note->reason = CASA_REASON_OF(answer);
  note->rule = CASA_RULE_OF(answer);
  return 0;
}

/* The first news of a conversation, or of a changed verdict on it. */
static __always_inline void casa_start_flow(struct casa_sk *note, casa_u64 cookie, casa_u8 protocol) {
  if (!(note->flags & CASA_SK_STARTED)) {
    note->cookie = cookie;
    note->start_ns = bpf_ktime_get_ns();
    note->flags |= CASA_SK_STARTED;
    casa_count(CASA_STAT_FLOWS);
  }
  if (note->verdict == CASA_AUDIT) {
    casa_u32 counter = CASA_STAT_REASON_BASE + (note->reason & (CASA_REASON_COUNT - 1));
    casa_count(CASA_STAT_AUDITED);
    casa_count(counter);
  }
  casa_emit_flow(note, CASA_EVENT_FLOW_START, protocol);
}

static __always_inline void casa_end_conversation(struct casa_sk *state) {
  if (state->flags & CASA_SK_STARTED)
    casa_emit_flow(state, CASA_EVENT_FLOW_END, IPPROTO_TCP);
  state->flags &= ~(CASA_SK_STARTED | CASA_SK_LOOK | CASA_SK_NAMED | CASA_SK_PROVEN | CASA_SK_REQUESTS);
  state->tx_bytes = state->rx_bytes = 0;
  state->tx_packets = state->rx_packets = 0;
  state->cookie = 0;
  state->gen = 0;
  state->verdict = CASA_NO_VERDICT;
}

/*
 * What another host answers to a SYN that this generation let out: the same question again, since only an address was asked.
 * On this host the peer's socket is asked again.
 */
static __always_inline int casa_answers(struct __sk_buff *skb, const struct casa_sk *state, const struct casa_packet *p,
                                        casa_u64 cookie, const struct casa_config *config) {
  return state->gen == config->gen && state->cookie == cookie && (state->flags & CASA_SK_STARTED) &&
         !(state->flags & CASA_SK_SAME_HOST) && state->direction == CASA_EGRESS &&
         skb->ifindex != CASA_LOOPBACK_IFINDEX && !p->error && casa_same_address(state->remote, p->remote) &&
         state->remote_port == p->remote_port;
}

/* Returns CASA_DROP, CASA_PASS or CASA_LOOK and more. */
static __noinline int casa_tcp_slow(struct __sk_buff *skb, struct casa_sk *state, casa_u32 tcp_state, casa_u8 hook,
                                    const struct casa_config *config) {
  if (!config)
    return 0;
  casa_u32 subject = casa_refresh_subject(skb, state, config);
  if (!subject)
    return 1;
  casa_u32 flags = casa_subject_flags(subject, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  /* What a listener sends is the kernel's answer to a SYN that was let in. */
  if (tcp_state == CASA_TCP_LISTEN && hook == CASA_EGRESS)
    return 1;
  struct casa_packet p;
  casa_parse_packet(skb, hook, &p);
  casa_u64 cookie = bpf_get_socket_cookie(skb);
  if (state && tcp_state == CASA_TCP_SYN_SENT && hook == CASA_INGRESS && casa_answers(skb, state, &p, cookie, config)) {
    state->rx_bytes += skb->len;
    state->rx_packets++;
    return state->flags & CASA_SK_LOOK ? casa_look_of(state->reason, state->remote_port) : CASA_PASS;
  }
  /* A socket that was connected before it listened: what is known of that conversation is not the listener's. */
  if (state && tcp_state == CASA_TCP_LISTEN && state->cookie)
    casa_end_conversation(state);
  if (!state && !p.error)
    p.error = CASA_REASON_FAULT; /* a socket that nothing can be remembered of, above all whose it is */
  struct casa_sk note;
  if (state)
    note = *state;
  else
    casa_clear(&note, sizeof(note));
  note.subject = subject;
  /*
   * Decided at connect(), or at the SYN. A SYN to this host is judged again: between connect() and a SYN that the caller
   * holds back (TCP_FASTOPEN_CONNECT) the port may have got another owner.
   */
  int decided = note.gen == config->gen && !note.cookie && note.verdict && !p.error &&
                !(p.tcp_flags & CASA_TCP_SYN && (tcp_state == CASA_TCP_LISTEN || note.flags & CASA_SK_SAME_HOST)) &&
                casa_same_address(note.remote, p.remote) && note.remote_port == p.remote_port;
  casa_u8 old_verdict = note.verdict, old_reason = note.reason;
  /* Something was settled about this remote end before: on this socket, or at the handshake it was cloned from. */
  int settled =
      note.cookie || (note.verdict && casa_same_address(note.remote, p.remote) && note.remote_port == p.remote_port);
  casa_u32 known = settled ? note.peer : CASA_ID_NONE;
  if (!settled)
    note.flags &= ~(CASA_SK_NAMED | CASA_SK_PROVEN);
  casa_note_packet(&note, &p);
  if (!decided) {
    if (tcp_state == CASA_TCP_LISTEN)
      note.direction = CASA_INGRESS;
    else if (note.created)
      note.direction = note.created == cookie ? CASA_EGRESS : CASA_INGRESS;
    else if (!note.cookie)
      note.direction = p.error ? hook : casa_direction_of_old_socket(skb, &p);
    p.known = known;
    casa_judge(skb, &p, flags, config, &note);
    /* Whom to end if this SYN is refused: that socket only, by its cookie. */
    if (tcp_state == CASA_TCP_LISTEN && note.verdict == CASA_DENIED)
      note.cookie = p.caller;
  }
  if (note.verdict == CASA_DENIED) {
    note.gen = 0;
    /* A connection that was allowed and is no more may still be reset: the other end is to learn that it is over. */
    int was_allowed = (note.flags & CASA_SK_STARTED) || old_verdict == CASA_ALLOWED || old_verdict == CASA_AUDIT;
    if ((p.tcp_flags & CASA_TCP_RST) && settled && was_allowed && !p.error)
      return 1;
    if (tcp_state != CASA_TCP_LISTEN)
      note.cookie = cookie;
    casa_u8 flags_out = tcp_state != CASA_TCP_LISTEN ? CASA_EVENT_ESTABLISHED : note.cookie ? CASA_EVENT_PEER_WAITS : 0;
    if (note.reason == CASA_REASON_FAULT)
      flags_out = 0; /* there may be memory for the packet sent again */
    casa_emit_denial(&note, IPPROTO_TCP, flags_out);
    if (tcp_state == CASA_TCP_LISTEN)
      note.cookie = 0;
    if (state)
      *state = note;
    return 0;
  }
  if (tcp_state == CASA_TCP_LISTEN) {
    if (p.tcp_flags & CASA_TCP_SYN)
      note.read_to = p.sequence;
    if (state && !decided)
      *state = note;
    return state && skb->len > p.payload && casa_is_read(&note, config) ? CASA_LOOK + CASA_LOOK_REQUESTS : CASA_PASS;
  }
  if (hook == CASA_EGRESS && tcp_state == CASA_TCP_SYN_SENT && note.verdict == CASA_ALLOWED)
    casa_note_own_call(skb, note.subject, note.peer, note.remote_port, note.gen);
  /* Nobody listens: the kernel refuses by itself, and the next packet, if any, is judged anew. */
  if (note.peer == CASA_ID_NOBODY)
    return 1;
  casa_mark_look(&note);
  if (!(note.flags & CASA_SK_STARTED))
    casa_mark_requests(&note, &p, config);
  if (!(note.flags & CASA_SK_STARTED) || note.verdict != old_verdict || note.reason != old_reason)
    casa_start_flow(&note, cookie, IPPROTO_TCP);
  if (hook == CASA_EGRESS) {
    note.tx_bytes += skb->len;
    note.tx_packets++;
  } else {
    note.rx_bytes += skb->len;
    note.rx_packets++;
  }
  if (state)
    *state = note;
  if (note.flags & CASA_SK_LOOK)
    return casa_look_of(note.reason, note.remote_port);
  return note.flags & CASA_SK_REQUESTS && hook == note.direction ? CASA_LOOK + CASA_LOOK_REQUESTS : CASA_PASS;
}

#endif
