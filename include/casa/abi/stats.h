/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * casa_stat: per-CPU array of u64 counters, index = enum casa_stat. They survive the daemon (pinned). Denials by reason
 * stand at CASA_STAT_REASON_BASE + reason.
 */
#ifndef CASA_ABI_STATS_H
#define CASA_ABI_STATS_H

#include "types.h"

/* X(NAME, jsonName): events made and lost add up to what happened; every helper failure has its place. */
#define CASA_STATS(X)                                                                                                  \
  X(EVENTS, "events")                                                                                                  \
  X(EVENTS_LOST, "eventsLost")                                                                                         \
  X(DENIED, "attemptsDenied")                                                                                          \
  X(AUDITED, "attemptsAudited")                                                                                        \
  X(FLOWS, "flowsStarted")                                                                                             \
  X(SLOW_PATH, "verdictsMade")                                                                                         \
  X(FAIL_SK_STORAGE, "failuresSocketStorage")                                                                          \
  X(FAIL_UDP_INSERT, "failuresUdpInsert")                                                                              \
  X(FAIL_CGROUP_INSERT, "failuresCgroupInsert")                                                                        \
  X(FAIL_DENIAL_INSERT, "failuresDenialInsert")                                                                        \
  X(FAIL_PACKET_LOAD, "failuresPacketLoad")                                                                            \
  X(FAIL_LEARNT_INSERT, "failuresLearntInsert")                                                                        \
  X(FAIL_QUERY_INSERT, "failuresQueryInsert")                                                                          \
  X(FAIL_LOOK, "failuresLook")                                                                                         \
  X(DNS_QUERIES, "dnsQueries")                                                                                         \
  X(DNS_ANSWERS, "dnsAnswers")                                                                                         \
  X(DNS_LEARNT, "dnsAddressesLearnt")                                                                                  \
  X(DNS_UNLEARNABLE, "dnsAddressesNotLearnt")                                                                          \
  X(NAMES_PROVEN, "serverNamesProven")                                                                                 \
  X(REQUESTS, "requestsRead")                                                                                          \
  X(TOKENS_SEEN, "tokensSeen")                                                                                         \
  X(TOKENS_HASHED, "tokensHashed")                                                                                     \
  X(FAIL_REQUEST, "failuresRequestStorage")                                                                            \
  X(FAIL_RAW_TOKEN, "failuresTokenHandOver")                                                                           \
  X(ROOT_REPLACEMENTS, "rootReplacements") /* counted by the daemon; here, so that it survives it */                   \
  X(FAIL_OWN_CALL_INSERT, "failuresOwnCallInsert")

enum casa_stat {
#define CASA_STAT_ENUM(name, json) CASA_STAT_##name,
  CASA_STATS(CASA_STAT_ENUM)
#undef CASA_STAT_ENUM
      CASA_STAT_NAMED,
};
#define CASA_STAT_REASON_BASE 32
#define CASA_STAT_COUNT (CASA_STAT_REASON_BASE + CASA_REASON_COUNT)

#endif
