/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sizes that the kernel side and the daemon must agree on. Map sizes here are defaults: the daemon may load with others
 * (config `limits`), and then reads the real size back from the map. A change of any key or value layout, or of the
 * meaning of a field, increments CASA_ABI_VERSION: pins live in a directory named after it.
 */
#ifndef CASA_ABI_LIMITS_H
#define CASA_ABI_LIMITS_H

#define CASA_ABI_VERSION 3

#define CASA_MAX_CGROUP_LEVEL 16 /* a declared cgroup may be this deep below the cgroup2 mount */
#define CASA_CGROUP_PATH_MAX 256 /* bytes with the final NUL, below the cgroup2 mount */

#define CASA_MAX_CGROUPS 65536     /* casa_cgroup, casa_cgpath: declared cgroups alive at once */
#define CASA_MAX_SUBJECTS 65536    /* casa_subject: workloads */
#define CASA_MAX_POLICY 524288     /* casa_policy: (subject, peer, port) entries */
#define CASA_MAX_ADDRESSES 262144  /* casa_addr: exact addresses */
#define CASA_MAX_PREFIXES 65536    /* casa_lpm: CIDRs */
#define CASA_MAX_NAMES 262144      /* casa_name: (workload, DNS name) */
#define CASA_MAX_RESOLVERS 256     /* casa_resolver */
#define CASA_MAX_LEARNT 65536      /* casa_learnt: (workload, address) that a DNS answer gave */
#define CASA_MAX_QUERIES 65536     /* casa_query: DNS queries that wait for their answer */
#define CASA_MAX_UDP_FLOWS 32768   /* casa_udp: conversations of UDP sockets */
#define CASA_MAX_UDP_ASKED 4096    /* casa_udp_asked: pairs of a workload and somebody who asks it by UDP */
#define CASA_UDP_ASKERS 32         /* conversations remembered of a pair; a power of two */
#define CASA_MAX_OWN_CALLS 4096    /* casa_own_call: SYNs of Pods to their own Services, under way */
#define CASA_MAX_TOKENS 65536      /* casa_token: tokens that the daemon found something about */
#define CASA_MAX_EARLY 1024        /* casa_early: handshakes under way that brought data */
#define CASA_MAX_TOKEN_PATHS 64    /* casa_token_path */
#define CASA_MAX_DENIALS 16384     /* casa_denial: (workload, peer, port, reason) being aggregated */
#define CASA_RING_BYTES (4 << 20)  /* casa_ring */
#define CASA_RING_WAKE_BYTES 65536 /* wake the reader at once when this much waits */

#define CASA_COMM_LEN 16
/*
 * A DNS name that a policy can need: 189 characters, the dot in front, zeros behind. DNS would allow 253; a program's stack, on which the
 * name of a query has to lie, does not, and nobody's LLM is called that.
 */
#define CASA_NAME_LEN 192

#define CASA_SHA256_LEN 32
#define CASA_TOKEN_MAX 8192           /* bytes of a token that is hashed */
#define CASA_RAW_RING_BYTES (1 << 19) /* casa_raw_ring: 63 tokens */
#define CASA_HEAD_MAX 65536           /* bytes of a request's head */
#define CASA_CHUNK 256                /* bytes of a packet that are read at once */
#define CASA_METHOD_LEN 16
#define CASA_PATH_LEN 80
#define CASA_PATH_SEGMENT_MAX 24 /* characters of one segment of a path that are told */
#define CASA_PATH_SEGMENT_LEN 32

#define CASA_LEARNT_SECONDS_MIN 30 /* however short its TTL, a learnt address serves this long */
#define CASA_LEARNT_SECONDS_MAX 86400
#define CASA_LEARNT_IN_USE_SECONDS 60 /* a flow that uses a learnt address keeps it at least this long */
#define CASA_LEARNT_SLOTS 4           /* names of one workload that may share one address */
#define CASA_QUERY_SECONDS 30         /* an answer that comes later is nobody's */
#define CASA_OWN_CALL_SECONDS 3       /* a SYN that left longer ago does not come back any more */

#endif
