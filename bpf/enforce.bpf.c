// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The enforcement programs, attached once at the enforcement root. They assume nothing of the daemon: all they need is in
 * pinned maps, and they go on when it is gone. A process outside every declared cgroup ("the host") is let alone.
 */
#include "lib/connect.h"
#include "lib/look.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("cgroup/sock_create")
int casa_create(struct bpf_sock *ctx) {
  struct casa_config *config = casa_get_config();
  if (!config || !config->gen)
    return 1;
  casa_u32 subject = casa_subject_of_task();
  struct casa_sk *state = bpf_sk_storage_get(&casa_sk, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (state) {
    state->subject = subject;
    state->subject_gen = config->gen;
    state->created = bpf_get_socket_cookie(ctx);
    if (config->host_netns_cookie && bpf_get_netns_cookie(ctx) == config->host_netns_cookie)
      state->flags |= CASA_SK_HOST_NETNS;
    casa_note_process(state);
  } else {
    casa_count(CASA_STAT_FAIL_SK_STORAGE);
  }
  if (!subject)
    return 1;
  casa_u32 type = ctx->type, protocol = ctx->protocol;
  casa_u8 reason = CASA_REASON_FAULT;
  if ((type == CASA_SOCK_STREAM && protocol == IPPROTO_TCP) || (type == CASA_SOCK_DGRAM && protocol == IPPROTO_UDP)) {
    if (state)
      return 1;
  } else {
    reason = type == CASA_SOCK_RAW ? CASA_REASON_RAW_SOCKET : CASA_REASON_PROTOCOL_NOT_ALLOWED;
  }
  casa_u32 flags = casa_subject_flags(subject, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  struct casa_sk note = {
      .subject = subject,
      .peer = CASA_ID_WORLD,
      .direction = CASA_EGRESS,
      .gen = config->gen,
      .verdict = (flags & CASA_SUBJECT_AUDIT) ? CASA_AUDIT : CASA_DENIED,
      .reason = reason,
  };
  casa_note_process(&note);
  /* IPPROTO_MPTCP (262) does not fit the 8-bit protocol of a packet: it is TCP on the wire. */
  casa_emit_denial(&note, protocol > 255 ? IPPROTO_TCP : protocol, 0);
  return note.verdict != CASA_DENIED;
}

SEC("cgroup/sock_release")
int casa_release(struct bpf_sock *ctx) {
  struct casa_sk *state = bpf_sk_storage_get(&casa_sk, ctx, 0, 0);
  if (!state || !(state->flags & CASA_SK_STARTED))
    return 1;
  state->flags &= ~CASA_SK_STARTED;
  casa_emit_flow(state, CASA_EVENT_FLOW_END, ctx->protocol);
  return 1;
}

static __always_inline int casa_call4(struct bpf_sock_addr *ctx, casa_u8 is_connect) {
  struct casa_call call = {};
  casa_map_v4(call.remote, ctx->user_ip4);
  return casa_call(ctx, &call, is_connect) ? 1 : 0;
}

static __always_inline int casa_call6(struct bpf_sock_addr *ctx, casa_u8 is_connect) {
  struct casa_call call = {};
  casa_u32 remote[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
  __builtin_memcpy(call.remote, remote, sizeof(remote));
  return casa_call(ctx, &call, is_connect) ? 1 : 0;
}

SEC("cgroup/connect4")
int casa_connect4(struct bpf_sock_addr *ctx) { return casa_call4(ctx, 1); }

SEC("cgroup/connect6")
int casa_connect6(struct bpf_sock_addr *ctx) { return casa_call6(ctx, 1); }

SEC("cgroup/sendmsg4")
int casa_sendmsg4(struct bpf_sock_addr *ctx) { return casa_call4(ctx, 0); }

SEC("cgroup/sendmsg6")
int casa_sendmsg6(struct bpf_sock_addr *ctx) { return casa_call6(ctx, 0); }

/* Neither TCP nor UDP: sockets older than the policy, since sock_create refuses them. */
static __noinline int casa_other_slow(struct __sk_buff *skb, casa_u32 type, casa_u32 protocol, casa_u8 hook,
                                      const struct casa_config *config) {
  if (!config)
    return 0;
  casa_u32 subject = casa_subject_of_packet(skb);
  if (!subject)
    return 1;
  casa_u32 flags = casa_subject_flags(subject, config->gen);
  if (!casa_is_enforced(flags))
    return 1;
  struct casa_packet p;
  casa_parse_packet(skb, hook, &p);
  struct casa_sk note = {
      .subject = subject,
      .gen = config->gen,
      .direction = hook,
      .verdict = (flags & CASA_SUBJECT_AUDIT) ? CASA_AUDIT : CASA_DENIED,
      .reason = type == CASA_SOCK_RAW ? CASA_REASON_RAW_SOCKET : CASA_REASON_PROTOCOL_NOT_ALLOWED,
  };
  casa_note_packet(&note, &p);
  note.peer = casa_identity_of_address(p.remote, config->gen);
  casa_emit_denial(&note, protocol > 255 ? p.protocol : protocol, 0);
  return note.verdict != CASA_DENIED;
}

/*
 * A packet of a conversation with a peer that a DNS name told, or whose bytes are looked at. A flow that goes on keeps the address that
 * it uses; 1,024 jiffies are between one and ten seconds, and cost nothing to tell.
 */
#define CASA_USED_JIFFIES 1024
static __noinline int casa_named_packet(struct __sk_buff *skb, struct casa_sk *state, casa_u8 hook) {
  if (!state)
    return CASA_DROP;
  casa_u32 now = (casa_u32)bpf_jiffies64();
  if (state->flags & CASA_SK_NAMED && now - state->used_jiffies >= CASA_USED_JIFFIES) {
    state->used_jiffies = now;
    casa_keep_learnt(state);
  }
  return state->flags & CASA_SK_LOOK ? casa_look_of(state->reason, state->remote_port) : casa_read_of(skb, state, hook);
}

/* The bench overrides these two: BPF_PROG_TEST_RUN's socket has neither type nor protocol. */
#ifndef CASA_IS_TCP
#define CASA_IS_TCP(type, protocol) ((type) == CASA_SOCK_STREAM && (protocol) == IPPROTO_TCP)
#define CASA_IS_UDP(type, protocol) ((type) == CASA_SOCK_DGRAM && (protocol) == IPPROTO_UDP)
#endif

/* A header that the per-socket verdict covers: no IPv4 options, no IPv6 extension headers (lib/packet.h says why). */
static __always_inline int casa_is_plain(struct __sk_buff *skb) {
  casa_u8 *data = (casa_u8 *)(long)skb->data, *end = (casa_u8 *)(long)skb->data_end;
  if (data + 40 > end)
    return 0;
  if (data[0] == 0x45)
    return 1;
  if ((data[0] & 0xf0) != 0x60)
    return 0;
  return data[6] == IPPROTO_TCP || (data + 48 <= end && casa_is_jumbo(data, data + 40));
}

/* CASA_DROP, CASA_PASS or CASA_LOOK and more. */
static __always_inline int casa_packet_passes(struct __sk_buff *skb, casa_u8 hook) {
  struct casa_config *config = casa_get_config();
  if (!config || !config->gen)
    return 1;
  struct bpf_sock *sk = skb->sk;
  if (!sk)
    return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk)
    return 1;
  struct casa_sk *state = bpf_sk_storage_get(&casa_sk, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!state)
    casa_count(CASA_STAT_FAIL_SK_STORAGE);
  else if (state->subject_gen == config->gen && !state->subject)
    return 1;
  casa_u32 type = sk->type, protocol = sk->protocol;
  if (CASA_IS_TCP(type, protocol)) {
    /*
     * Not while it listens: a listener has no verdict of its own. Not before its SYN is answered: a SYN sent again may
     * meet somebody else. The two directions count in fields of their own; a race between CPUs costs a count, no verdict.
     */
    casa_u32 tcp_state = sk->state;
    if (state && state->gen == config->gen && state->cookie && tcp_state != CASA_TCP_LISTEN &&
        tcp_state != CASA_TCP_SYN_SENT && (hook == CASA_INGRESS || casa_is_plain(skb))) {
      casa_account(state, hook, skb->len);
      if (state->flags & (CASA_SK_LOOK | CASA_SK_NAMED))
        return casa_named_packet(skb, state, hook);
      return casa_read_of(skb, state, hook);
    }
    return casa_tcp_slow(skb, state, tcp_state, hook, config);
  }
  if (CASA_IS_UDP(type, protocol))
    return casa_udp_slow(skb, state, hook, config);
  return casa_other_slow(skb, type, protocol, hook, config);
}

static __always_inline int casa_no_look(struct __sk_buff *skb, casa_u8 hook, casa_u32 next) {
  int passes = casa_cannot_look(skb, hook, next);
  asm volatile("" : "+r"(passes)); /* the compiler knows that it is 0 or 1, the verifier does not */
  return passes ? CASA_PASS : CASA_DROP;
}

SEC("cgroup_skb/egress")
int casa_egress(struct __sk_buff *skb) {
  casa_u32 next = casa_packet_passes(skb, CASA_EGRESS);
  if (next < CASA_LOOK)
    return next;
  bpf_tail_call(skb, &casa_look_out, next - CASA_LOOK);
  return casa_no_look(skb, CASA_EGRESS, next);
}

SEC("cgroup_skb/ingress")
int casa_ingress(struct __sk_buff *skb) {
  casa_u32 next = casa_packet_passes(skb, CASA_INGRESS);
  if (next < CASA_LOOK)
    return next;
  bpf_tail_call(skb, &casa_look_in, next - CASA_LOOK);
  return casa_no_look(skb, CASA_INGRESS, next);
}
