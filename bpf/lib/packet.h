/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The part of a packet that a verdict needs. Fragments do not occur here: egress comes before fragmentation, ingress after
 * reassembly. IPv4 options and IPv6 extension headers can carry a route of their own (loose source route, routing
 * header), so a managed socket may not use any.
 */
#ifndef CASA_BPF_PACKET_H
#define CASA_BPF_PACKET_H

#include "maps.h"

struct casa_packet {
  casa_u8 local[16];
  casa_u8 remote[16];
  casa_u16 local_port;
  casa_u16 remote_port;
  casa_u8 protocol;
  casa_u8 tcp_flags;
  casa_u8 direction; /* of the conversation, once it is known */
  casa_u8 error;     /* enum casa_reason, CASA_REASON_NONE when well formed */
  casa_u8 hook;      /* which way the packet goes */
  casa_u16 payload;  /* where the transport's payload begins in the packet */
  casa_u32 known;    /* casa_judge: the peer of this conversation as found before, CASA_ID_NONE for a new one */
  casa_u64 caller;   /* casa_judge's answer: cookie of the peer's socket on this host, 0 when it is not known */
  casa_u32 sequence; /* TCP */
  casa_u32 expected; /* TCP: the acknowledgement, the sequence number of the next byte of the other direction */
};

#define CASA_TCP_FIN 0x01
#define CASA_TCP_SYN 0x02
#define CASA_TCP_RST 0x04
#define CASA_TCP_ACK 0x10
#define CASA_TCP_URG 0x20

/* Into 16 cleared bytes. */
static __always_inline void casa_put_v4(casa_u8 *to, casa_u32 address) {
  to[10] = 0xff;
  to[11] = 0xff;
  __builtin_memcpy(to + 12, &address, 4);
}

static __always_inline void casa_map_v4(casa_u8 *to, casa_u32 address) {
  __builtin_memset(to, 0, 10);
  casa_put_v4(to, address);
}

/*
 * A TCP segment above 64 KiB that the kernel hands itself over IPv6 (GSO, "BIG TCP"): payload length 0 and a hop-by-hop
 * header with the jumbo option alone, `h` points to it. It routes nothing, and a device cuts it before it is on a wire.
 */
#define CASA_IPV6_JUMBO 194
static __always_inline int casa_is_jumbo(const casa_u8 *ip, const casa_u8 *h) {
  return !ip[4] && !ip[5] && !ip[6] && h[0] == IPPROTO_TCP && !h[1] && h[2] == CASA_IPV6_JUMBO && h[3] == 4;
}

/* Offset of the transport header, or a negative number with p->error set. */
static __always_inline int casa_parse_ip(struct __sk_buff *skb, casa_u8 direction, struct casa_packet *p) {
  casa_u8 header[40];
  if (skb->protocol == bpf_htons(CASA_ETH_P_IP)) {
    casa_u32 address;
    if (bpf_skb_load_bytes(skb, 0, header, 20) || (header[0] >> 4) != 4) {
      p->error = CASA_REASON_MALFORMED_PACKET;
      return -1;
    }
    p->protocol = header[9];
    __builtin_memcpy(&address, header + 12, 4);
    casa_put_v4(direction == CASA_EGRESS ? p->local : p->remote, address);
    __builtin_memcpy(&address, header + 16, 4);
    casa_put_v4(direction == CASA_EGRESS ? p->remote : p->local, address);
    if (header[0] != 0x45) {
      p->error = CASA_REASON_IP_OPTIONS;
      return -1;
    }
    return 20;
  }
  if (skb->protocol != bpf_htons(CASA_ETH_P_IPV6) || bpf_skb_load_bytes(skb, 0, header, 40)) {
    p->error = CASA_REASON_MALFORMED_PACKET;
    return -1;
  }
  p->protocol = header[6];
  __builtin_memcpy(direction == CASA_EGRESS ? p->local : p->remote, header + 8, 16);
  __builtin_memcpy(direction == CASA_EGRESS ? p->remote : p->local, header + 24, 16);
  if (p->protocol == 0) {
    casa_u8 hop[8];
    if (!bpf_skb_load_bytes(skb, 40, hop, sizeof(hop)) && casa_is_jumbo(header, hop)) {
      p->protocol = IPPROTO_TCP;
      return 48;
    }
  }
  switch (p->protocol) {
  case 0:   /* hop-by-hop */
  case 43:  /* routing */
  case 44:  /* fragment */
  case 60:  /* destination options */
  case 135: /* mobility */
    p->error = CASA_REASON_IP_OPTIONS;
    return -1;
  }
  return 40;
}

static __noinline int casa_parse_packet(struct __sk_buff *skb, casa_u8 direction, struct casa_packet *p) {
  if (!p)
    return 0;
  casa_clear(p, sizeof(*p));
  p->hook = direction;
  int offset = casa_parse_ip(skb, direction, p);
  if (offset < 0)
    return 0;
  if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP) {
    p->error = CASA_REASON_PROTOCOL_NOT_ALLOWED;
    return 0;
  }
  casa_u8 transport[14] = {};
  if (bpf_skb_load_bytes(skb, offset, transport, p->protocol == IPPROTO_TCP ? 14 : 8)) {
    casa_count(CASA_STAT_FAIL_PACKET_LOAD);
    p->error = CASA_REASON_MALFORMED_PACKET;
    return 0;
  }
  casa_u16 from = (casa_u16)(transport[0] << 8 | transport[1]), to = (casa_u16)(transport[2] << 8 | transport[3]);
  p->local_port = direction == CASA_EGRESS ? from : to;
  p->remote_port = direction == CASA_EGRESS ? to : from;
  p->tcp_flags = transport[13];
  p->payload = (casa_u16)offset + (p->protocol == IPPROTO_TCP ? (transport[12] >> 4) * 4 : 8);
  p->sequence = (casa_u32)transport[4] << 24 | transport[5] << 16 | transport[6] << 8 | transport[7];
  p->expected = (casa_u32)transport[8] << 24 | transport[9] << 16 | transport[10] << 8 | transport[11];
  return 0;
}

static __always_inline int casa_same_address(const casa_u8 *a, const casa_u8 *b) {
  return __builtin_memcmp(a, b, 16) == 0;
}

static __always_inline int casa_is_v4(const casa_u8 *a) {
  casa_u32 w0, w1, w2;
  __builtin_memcpy(&w0, a, 4);
  __builtin_memcpy(&w1, a + 4, 4);
  __builtin_memcpy(&w2, a + 8, 4);
  return w0 == 0 && w1 == 0 && w2 == bpf_htonl(0xffff);
}

static __always_inline int casa_is_loopback(const casa_u8 *a) {
  casa_u32 w[4];
  __builtin_memcpy(w, a, 16);
  if (w[0] || w[1])
    return 0;
  if (w[2] == bpf_htonl(0xffff))
    return a[12] == 127;
  return w[2] == 0 && w[3] == bpf_htonl(1);
}

#endif
