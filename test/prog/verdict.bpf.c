// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * For tests: answers one question after the other with the verdict that the enforcement programs use.
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

SEC("syscall")
int casa_ask(struct casa_verdict_call *call) {
  struct casa_question question = call->question;
  struct casa_decision decision = {};
  casa_u8 address[16];
  __builtin_memcpy(address, call->address, 16);
  question.subject_flags = casa_subject_flags(question.subject, question.gen);
  casa_decide(&question, &decision);
  call->identity = casa_identity_of_address(address, question.gen);
  call->decision = decision;
  return 0;
}
