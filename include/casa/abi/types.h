/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The words both sides share: identities, directions, verdicts, reasons. The reasons are a closed list; the same word
 * stands in the kernel, the API, the metrics and docs/reasons.md (a test compares them).
 */
#ifndef CASA_ABI_TYPES_H
#define CASA_ABI_TYPES_H

#ifdef __cplusplus
#include <cstdint>
typedef std::uint8_t casa_u8;
typedef std::uint16_t casa_u16;
typedef std::uint32_t casa_u32;
typedef std::int32_t casa_s32;
typedef std::uint64_t casa_u64;
#define CASA_ASSERT_SIZE(type, size) static_assert(sizeof(type) == (size), #type " must be " #size " bytes")
#else
typedef unsigned char casa_u8;
typedef unsigned short casa_u16;
typedef unsigned int casa_u32;
typedef int casa_s32;
typedef unsigned long long casa_u64;
#define CASA_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " must be " #size " bytes")
#endif

/* Identities. Numbers below CASA_ID_FIRST are fixed; the daemon gives out the others and never reuses one while it or its
 * pins live. Identity 0 is "none": as a subject, a process that casad does not manage. */
enum casa_identity {
  CASA_ID_NONE = 0,
  CASA_ID_HOST = 1,    /* a process of this host outside every workload, or one of the host's own addresses */
  CASA_ID_WORLD = 2,   /* an address that nothing is known about, outside this host */
  CASA_ID_NOBODY = 3,  /* this host, but no socket listens there (the kernel would answer "connection refused") */
  CASA_ID_UNKNOWN = 4, /* this host, but the peer's socket cannot be found */
  CASA_ID_DNS = 5,     /* a trusted resolver, at the port that it is trusted for */
  CASA_ID_FIRST = 256,
};

enum casa_direction {
  CASA_EGRESS = 0,
  CASA_INGRESS = 1,
};

enum casa_verdict {
  CASA_NO_VERDICT = 0,
  CASA_ALLOWED = 1,
  CASA_DENIED = 2,
  CASA_AUDIT = 3, /* would have been denied; passed because the workload is in audit mode */
};

/* X(number, NAME, word): number is ABI, word is what people read. Allow reasons below 32, deny reasons from 32. */
#define CASA_REASONS(X)                                                                                                \
  X(0, NONE, "none")                                                                                                   \
  X(1, ENDPOINT_ALLOWED, "endpoint_allowed")                                                                           \
  X(2, SOURCE_ALLOWED, "source_allowed")                                                                               \
  X(3, MAS_DEFAULT, "mas_default")                                                                                     \
  X(4, BASELINE_LOOPBACK, "baseline_loopback")                                                                         \
  X(5, CONNECTION_REFUSED, "connection_refused")                                                                       \
  X(6, LLM_ALLOWED, "llm_allowed")                                                                                     \
  X(7, BASELINE_DNS, "baseline_dns")                                                                                   \
  X(8, BASELINE_PROBE, "baseline_probe")                                                                               \
  X(9, BASELINE_ISTIO, "baseline_istio")                                                                               \
  X(32, NO_POLICY, "no_policy")                                                                                        \
  X(33, POLICY_INVALID, "policy_invalid")                                                                              \
  X(34, PEER_NOT_ALLOWED, "peer_not_allowed")                                                                          \
  X(35, PORT_NOT_ALLOWED, "port_not_allowed")                                                                          \
  X(36, EXTERNAL_NOT_ALLOWED, "external_not_allowed")                                                                  \
  X(37, SOURCE_NOT_ALLOWED, "source_not_allowed")                                                                      \
  X(38, NO_LISTENER, "no_listener")                                                                                    \
  X(39, PEER_UNKNOWN, "peer_unknown")                                                                                  \
  X(40, PROTOCOL_NOT_ALLOWED, "protocol_not_allowed")                                                                  \
  X(41, RAW_SOCKET, "raw_socket")                                                                                      \
  X(42, IP_OPTIONS, "ip_options")                                                                                      \
  X(43, UNDECLARED_CGROUP, "undeclared_cgroup")                                                                        \
  X(44, MALFORMED_PACKET, "malformed_packet")                                                                          \
  X(45, MAP_FULL, "map_full")                                                                                          \
  X(46, FAULT, "fault")                                                                                                \
  X(47, DNS_NAME_NOT_ALLOWED, "dns_name_not_allowed")                                                                  \
  X(48, DNS_TYPE_NOT_ALLOWED, "dns_type_not_allowed")                                                                  \
  X(49, DNS_MALFORMED, "dns_malformed")                                                                                \
  X(50, DNS_NOT_WHOLE, "dns_not_whole")                                                                                \
  X(51, DNS_ANSWER_UNEXPECTED, "dns_answer_unexpected")                                                                \
  X(52, RESOLVER_NOT_TRUSTED, "resolver_not_trusted")                                                                  \
  X(53, UDP_NOT_ALLOWED, "udp_not_allowed")                                                                            \
  X(54, NOT_TLS, "not_tls")                                                                                            \
  X(55, SNI_MISSING, "sni_missing")                                                                                    \
  X(56, SNI_MISMATCH, "sni_mismatch")                                                                                  \
  X(57, ECH_NOT_ALLOWED, "ech_not_allowed")                                                                            \
  X(58, NOT_HTTP, "not_http")                                                                                          \
  X(59, HOST_MISSING, "host_missing")                                                                                  \
  X(60, HOST_MISMATCH, "host_mismatch")                                                                                \
  X(61, TOKEN_UNEXPECTED_DESTINATION, "token_unexpected_destination")                                                  \
  X(62, TOKEN_INVALID_SIGNATURE, "token_invalid_signature")                                                            \
  X(63, HTTP_UNREADABLE, "http_unreadable")

enum casa_reason {
#define CASA_REASON_ENUM(number, name, word) CASA_REASON_##name = number,
  CASA_REASONS(CASA_REASON_ENUM)
#undef CASA_REASON_ENUM
};
#define CASA_REASON_FIRST_DENY 32
#define CASA_REASON_COUNT 64

#endif
