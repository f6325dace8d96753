/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A Pod that calls its own Service and is led back to itself. kube-proxy gives such a SYN the node's address, or the Pod would answer
 * itself; what it leaves alone is the SYN's number and its timestamp, 64 bits that the Pod's kernel chose and nobody outside the Pod and the
 * node's own network gets to see. So a SYN that left for the Pod's own Service is written down, and one that comes back as the
 * node's is the Pod's own if it stands there. Only for Services behind which nobody else is, who would see the SYN too (the mark beside
 * struct casa_policy_key); without the timestamp nothing is written down.
 */
#ifndef CASA_BPF_OWN_CALL_H
#define CASA_BPF_OWN_CALL_H

#include "peer.h"

/* Everything of the key that the packet itself says, as at a SYN. Returns 0 when the packet cannot be read. */
static __always_inline int casa_own_call_of(struct __sk_buff *skb, casa_u32 local_at_source,
                                            struct casa_own_call_key *key) {
  casa_u32 v4, tcp = 40;
  casa_clear(key, sizeof(*key));
  if (skb->protocol == bpf_htons(CASA_ETH_P_IP)) {
    tcp = 20;
    if (bpf_skb_load_bytes(skb, local_at_source ? 12 : 16, &v4, sizeof(v4)))
      return 0;
    casa_put_v4(key->address, v4);
  } else if (bpf_skb_load_bytes(skb, local_at_source ? 8 : 24, key->address, sizeof(key->address))) {
    return 0;
  }
  return !bpf_skb_load_bytes(skb, tcp + 4, &key->sequence, sizeof(key->sequence));
}

/* The timestamp of a SYN, where Linux puts it: behind the segment size and, in one word, whether SACK is permitted. */
static __always_inline int casa_take_timestamp(struct __sk_buff *skb, struct casa_own_call_key *key) {
  casa_u32 tcp = skb->protocol == bpf_htons(CASA_ETH_P_IP) ? 20 : 40;
  casa_u8 at, option[8];
  if (bpf_skb_load_bytes(skb, tcp + 12, &at, 1) || at >> 4 < 8 ||
      bpf_skb_load_bytes(skb, tcp + 24, option, sizeof(option)) || option[2] != 8 || option[3] != 10)
    return 0;
  __builtin_memcpy(&key->timestamp, option + 4, 4);
  return 1;
}

/* A SYN of `subject` leaves for `port` of `service`. Global, with numbers only: see casa_answer. */
__noinline int casa_note_own_call(struct __sk_buff *skb, casa_u32 subject, casa_u32 service, casa_u32 port,
                                  casa_u32 gen) {
  struct casa_policy_key mark = {
      .subject = subject, .peer = service, .port = (casa_u16)port, .direction = CASA_INGRESS};
  struct casa_own_call_key key;
  if (!casa_policy_payload(&mark, gen) || !casa_own_call_of(skb, 1, &key) || !casa_take_timestamp(skb, &key))
    return 0;
  key.subject = subject;
  casa_u64 now = bpf_ktime_get_ns();
  if (bpf_map_update_elem(&casa_own_call, &key, &now, BPF_ANY))
    casa_count(CASA_STAT_FAIL_OWN_CALL_INSERT);
  return 0;
}

static __always_inline int casa_is_under_way(const struct casa_own_call_key *key) {
  casa_u64 *left = bpf_map_lookup_elem(&casa_own_call, key);
  return left && bpf_ktime_get_ns() - *left <= CASA_OWN_CALL_SECONDS * CASA_NS_PER_SECOND;
}

/*
 * Is this packet, which came in from one of the node's addresses, of a call of `subject` to itself? A SYN is once; what follows it, as far as
 * nothing else is known of the connection, has the next number. Global, with numbers only: see casa_answer.
 */
__noinline int casa_is_own_call(struct __sk_buff *skb, casa_u32 subject, casa_u32 port, casa_u32 is_syn) {
  struct casa_own_call_key key;
  if (!casa_own_call_of(skb, 0, &key))
    return 0;
  key.subject = subject;
  if (is_syn) {
    if (!casa_take_timestamp(skb, &key) || !casa_is_under_way(&key) || bpf_map_delete_elem(&casa_own_call, &key))
      return 0;
  } else {
    key.sequence = bpf_htonl(bpf_ntohl(key.sequence) - 1);
  }
  key.timestamp = 0;
  key.port = (casa_u16)port;
  key.stage = CASA_OWN_CALL_BACK;
  if (!is_syn)
    return casa_is_under_way(&key);
  casa_u64 now = bpf_ktime_get_ns();
  if (bpf_map_update_elem(&casa_own_call, &key, &now, BPF_ANY))
    casa_count(CASA_STAT_FAIL_OWN_CALL_INSERT);
  return 1;
}

/* Of a connection that is known to be the workload's own: its remote end looks like the node's all the same. */
static __always_inline int casa_was_own_call(casa_u32 subject, casa_u32 known, casa_u32 found, casa_u8 direction) {
  return direction == CASA_INGRESS && found == CASA_ID_HOST && known && known == subject;
}

#endif
