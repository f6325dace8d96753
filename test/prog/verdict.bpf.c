// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * For tests: answers a question with the verdict that the enforcement programs use. The question is the packet, and so
 * is the answer (SEC("syscall") would be simpler, but such programs may not use an LPM trie).
 */
#include "lib/decide.h"
#include "lib/peer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct casa_verdict_call {
  struct casa_question question;
  struct casa_decision decision;
  casa_u8 address[16];
  casa_u32 identity; /* of the address */
  casa_u32 pad;
};

SEC("tc")
int casa_ask(struct __sk_buff* skb) {
  struct casa_verdict_call call;
  if (bpf_skb_load_bytes(skb, 14, &call, sizeof(call))) return -1;
  struct casa_question question = call.question;
  struct casa_decision decision = {};
  question.subject_flags = casa_subject_flags(question.subject, question.gen);
  casa_decide(&question, &decision);
  call.identity = casa_identity_of_address(call.address, question.gen);
  call.decision = decision;
  return bpf_skb_store_bytes(skb, 14, &call, sizeof(call), 0) ? -1 : 1;
}
