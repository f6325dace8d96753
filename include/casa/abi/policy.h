/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Keys and values of the maps that hold a compiled generation.
 *
 * Generations. casa_config.gen is the generation in force. Every value carries two payloads: `cur` counts from
 * generation `since` on, `prev` before it. A reader under generation g takes  g >= since ? cur : prev . So the daemon
 * writes the next generation's entries beside the present one's (since = g + 1, prev = what is in force), then one store
 * to casa_config.gen switches all maps at once, and only what became absent is deleted afterwards. A payload of zero
 * means "no entry".
 *
 * Byte order: identities and ports are host order; addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d.
 */
#ifndef CASA_ABI_POLICY_H
#define CASA_ABI_POLICY_H

#include "limits.h"
#include "types.h"

/*
 * casa_config: array, one entry, mapped into the daemon, so that the switch of generations is one store. Read on every
 * packet; reader_idle is cleared by whoever wakes the reader.
 */
struct casa_config {
  casa_u32 gen;         /* generation in force; 0 = none yet: nothing is managed */
  casa_u32 reader_idle; /* 1: the daemon sleeps on the ring without a timer; wake it */
  casa_u32 level_min;   /* declared cgroups lie at these levels below the cgroup2 mount */
  casa_u32 level_max;
  casa_u32 token_flags; /* CASA_TOKENS_* */
  casa_u32 pad;
  casa_u64 host_netns_cookie; /* of the daemon's network namespace; 0 = not known */
};
CASA_ASSERT_SIZE(struct casa_config, 32);
#define CASA_TOKENS_READ 2   /* there are programs that read requests */
#define CASA_TOKENS_VERIFY 1 /* new tokens are handed to the daemon (casa_raw_ring) */

/* A versioned 32-bit payload. */
struct casa_versioned {
  casa_u32 since;
  casa_u32 cur;
  casa_u32 prev;
};
CASA_ASSERT_SIZE(struct casa_versioned, 12);

/*
 * casa_cgroup: hash. Key: cgroup id (u64). Payload: subject identity of the workload whose cgroup it is.
 * A socket belongs to the workload found first from the root downwards, so a cgroup that an agent makes below its own
 * stays its own. CASA_CGROUP_SLICE marks a MAS slice: the search goes on below it, and what is no declared workload there
 * has the slice's own subject (CASA_SUBJECT_UNDECLARED). Written by the daemon, and by the cgroup_mkdir program from
 * casa_cgpath.
 */
#define CASA_CGROUP_SLICE 0x80000000u

/*
 * casa_cgpath: hash. Key: path of a declared cgroup, as the kernel names it (from the cgroup2 mount, leading slash),
 * padded with zeros. A template unit `name@*.service` is declared as ".../name@". Payload: subject identity.
 */
struct casa_cgpath_key {
  char path[CASA_CGROUP_PATH_MAX];
};
CASA_ASSERT_SIZE(struct casa_cgpath_key, 256);

/*
 * casa_subject: hash. Key: subject identity (u32). Payload: CASA_SUBJECT_* flags. No entry: not managed.
 */
#define CASA_SUBJECT_MANAGED 1       /* always set */
#define CASA_SUBJECT_AUDIT 2         /* pass what would be denied, as verdict AUDIT */
#define CASA_SUBJECT_EXEMPT 4        /* enforcement: disabled */
#define CASA_SUBJECT_NO_POLICY 8     /* in a MAS namespace, no policy names it */
#define CASA_SUBJECT_INVALID 16      /* its policy does not validate: deny all */
#define CASA_SUBJECT_UNDECLARED 32   /* a cgroup of a MAS slice that is no declared workload */
#define CASA_SUBJECT_TOKEN_DROP 64   /* tokens.exfiltration: drop */
#define CASA_SUBJECT_TOKEN_VALID 128 /* tokens.requireValidSignature: drop */
#define CASA_SUBJECT_POD 256         /* its instances are Pods, each with a network namespace that kubelet had made */
#define CASA_SUBJECT_ISTIO 512       /* Istio's proxy is in its Pods: what it calls is redirected to the proxy */

/*
 * casa_policy: hash. What a subject may do. Looked up in this order, first hit decides, none denies:
 *   1. (subject, peer, direction, protocol, port)   the rule for that port
 *   2. (subject, peer, direction, protocol, 0)      a rule for any port
 * port: the destination's port (ingress: the subject's own). (subject, peer, direction, 0, 0) is a mark for the reason of
 * a denial only: the peer is named by some rule. (subject, Service, INGRESS, 0, port) is a mark that permits nothing either:
 * behind that port of the Service, which the subject may call, are Pods of the subject alone (casa_own_call). Payload: bits 0-7 enum casa_reason (an allow reason; CASA_REASON_NONE for
 * the mark), bits 8-31 rule number (index into the daemon's rule table, starting at 1).
 */
struct casa_policy_key {
  casa_u32 subject;
  casa_u32 peer;
  casa_u16 port;
  casa_u8 protocol;
  casa_u8 direction; /* enum casa_direction */
};
CASA_ASSERT_SIZE(struct casa_policy_key, 12);
#define CASA_POLICY_PAYLOAD(reason, rule) (((casa_u32)(rule) << 8) | (reason))
#define CASA_MAX_RULES ((1u << 24) - 1)

/*
 * casa_addr: hash, exact addresses. Asked before casa_lpm, for peers that are not sockets of this host.
 * Payload: identity; CASA_ADDR_HERE marks a Pod of this node that is under enforcement.
 */
struct casa_addr_key {
  casa_u8 address[16];
};
CASA_ASSERT_SIZE(struct casa_addr_key, 16);
#define CASA_ADDR_HERE 0x80000000u

/*
 * casa_lpm: LPM trie, CIDRs that policies name. prefix_bits counts in the 128-bit form (an IPv4 /8 is 104). Payload:
 * identity. No match: CASA_ID_WORLD.
 */
struct casa_lpm_key {
  casa_u32 prefix_bits;
  casa_u8 address[16];
};
CASA_ASSERT_SIZE(struct casa_lpm_key, 20);

/*
 * casa_sk: socket storage, cloned from a listener to the connections it accepts. Kernel-written; the daemon reads it
 * through the sweep only.
 */
struct casa_sk {
  casa_u64 cookie;  /* of the socket that `verdict` is about; 0 = no verdict yet */
  casa_u64 created; /* cookie of the socket at socket(); a clone's own differs: it was accepted, direction is ingress */
  casa_u64 start_ns;
  casa_u64 tx_bytes, rx_bytes;
  casa_u32 tx_packets, rx_packets;
  casa_u32 gen;         /* generation of `verdict`; 0 = none */
  casa_u32 subject_gen; /* generation of `subject`; 0 = never looked up */
  casa_u32 subject;     /* last subject found; CASA_ID_NONE = not managed */
  casa_u32 peer;
  casa_u32 rule;
  casa_u32 pid; /* who made the socket, or last called connect()/sendto() on it */
  casa_u32 peer_pid;
  casa_u32 denied_second; /* when the daemon was last asked to end this connection */
  casa_u32 used_jiffies;  /* CASA_SK_NAMED: when the learnt address was last marked as in use */
  casa_u32 read_to;       /* CASA_SK_REQUESTS: TCP sequence number up to which the caller's bytes need no reading */
  casa_u8 verdict;        /* enum casa_verdict */
  casa_u8 reason;
  casa_u8 direction;
  casa_u8 flags; /* CASA_SK_* */
  casa_u16 local_port;
  casa_u16 remote_port;
  casa_u8 local[16];
  casa_u8 remote[16];
  char comm[CASA_COMM_LEN];
  char peer_comm[CASA_COMM_LEN];
};
CASA_ASSERT_SIZE(struct casa_sk, 160);
#define CASA_SK_STARTED 1   /* FLOW_START was sent for the present cookie */
#define CASA_SK_SAME_HOST 2 /* the peer was found by its socket, no address was asked */
#define CASA_SK_LOOK 4    /* what is sent is still to be looked at: packets go through casa_look_out and casa_look_in */
#define CASA_SK_NAMED 8   /* the peer is known by a DNS name that its address was learnt for */
#define CASA_SK_PROVEN 16 /* the first bytes named that peer: nothing is looked at any more */
#define CASA_SK_HOST_NETNS 32 /* made in the host's own network namespace */
#define CASA_SK_ASKED 64      /* a UDP socket: somebody's conversation was let in */
#define CASA_SK_REQUESTS 128  /* TCP: what the caller sends is read, past read_to: requests, and tokens in them */

/*
 * casa_udp: LRU hash, conversations of managed UDP sockets, one per remote end. A reply is allowed because its
 * conversation is here.
 */
struct casa_udp_key { /* value: struct casa_sk */
  casa_u64 cookie;
  casa_u8 remote[16];
  casa_u16 remote_port;
  casa_u16 pad;
  casa_u32 pad2;
};
CASA_ASSERT_SIZE(struct casa_udp_key, 32);

/*
 * casa_own_call: LRU hash. SYNs that a Pod sent to its own Service, as its policy says it may. One that kube-proxy leads back to that Pod
 * comes with the node's address and another port, as it comes from a process of the node; but its number and timestamp, which only the
 * Pod's kernel chose, are those that are here. Value: CLOCK_MONOTONIC nanoseconds of the SYN.
 */
struct casa_own_call_key {
  casa_u32 subject;
  casa_u8 address[16]; /* the Pod's own */
  casa_u32 sequence;   /* of the SYN */
  casa_u32 timestamp;  /* of the SYN: its TCP option; CASA_OWN_CALL_BACK: 0 */
  casa_u16 port;       /* CASA_OWN_CALL_BACK: from which it came back */
  casa_u16 stage;      /* CASA_OWN_CALL_* */
};
CASA_ASSERT_SIZE(struct casa_own_call_key, 32);
#define CASA_OWN_CALL_LEFT 0 /* lets one SYN in */
#define CASA_OWN_CALL_BACK 1 /* it came in: what follows it from that port is the same call */

/*
 * casa_resolver: hash. Key: a trusted resolver. Payload: 1. Asked before casa_addr: such a peer is CASA_ID_DNS, if it is on
 * this host only when no workload holds the port.
 */
struct casa_resolver_key {
  casa_u8 address[16];
  casa_u16 port;
  casa_u16 pad;
};
CASA_ASSERT_SIZE(struct casa_resolver_key, 20);

/*
 * casa_name: hash. Which names a workload needs. Key: subject and the name, lower case, a dot before each label (".api.example"),
 * padded with zeros. Payload: CASA_NAME_LEARN and the identity of a name whose addresses its answers teach; or CASA_NAME_ASK, a
 * name that may be asked for and teaches nothing; or CASA_NAME_REVERSE, the name of an address (PTR).
 */
struct casa_name_key {
  casa_u32 subject;
  char name[CASA_NAME_LEN];
};
CASA_ASSERT_SIZE(struct casa_name_key, 196);
#define CASA_NAME_LEARN 0x80000000u
#define CASA_NAME_ASK 1
#define CASA_NAME_REVERSE 2

/*
 * casa_learnt: LRU hash. Which names of its policy a workload's address stands for, learnt from DNS answers. Of no generation: it
 * permits nothing by itself, casa_policy speaks of the name's identity. Written by the kernel, and for the daemon's own look-ups by
 * casa_learn.
 */
struct casa_learnt_key {
  casa_u32 subject;
  casa_u8 address[16];
};
CASA_ASSERT_SIZE(struct casa_learnt_key, 20);
struct casa_learnt_slot {
  casa_u32 identity; /* of the name; 0 = free */
  casa_u32 expires;  /* CLOCK_MONOTONIC seconds; past it new connections find nothing, those that there are stay */
  casa_u32 sources;  /* CASA_LEARNT_* */
};
#define CASA_LEARNT_ANSWER 1   /* an answer to the workload itself */
#define CASA_LEARNT_RESOLVER 2 /* the daemon's own resolver */
struct casa_learnt {
  struct casa_learnt_slot slots[CASA_LEARNT_SLOTS];
};
CASA_ASSERT_SIZE(struct casa_learnt, 48);

/* What the daemon hands to the casa_learn program. */
struct casa_learn_call {
  struct casa_learnt_key key;
  casa_u32 identity;
  casa_u32 ttl; /* seconds */
  casa_u32 sources;
};
CASA_ASSERT_SIZE(struct casa_learn_call, 32);

/* casa_query: LRU hash. A DNS query that waits for its answer; value: CLOCK_MONOTONIC nanoseconds of the question. */
struct casa_query_key {
  casa_u64 cookie;
  casa_u8 remote[16];
  casa_u32 name; /* payload of casa_name */
  casa_u16 remote_port;
  casa_u16 id;
  casa_u16 type;
  casa_u16 pad;
  casa_u32 pad2;
};
CASA_ASSERT_SIZE(struct casa_query_key, 40);

/*
 * casa_stream: socket storage. What has been read of a TCP stream whose first bytes are looked at; gone once they are known.
 * `name` stands first so that it is the key of casa_name as it is, and has room behind it for a read that the verifier can bound.
 */
struct casa_stream {
  struct casa_name_key key;
  casa_u8 room[CASA_NAME_LEN];
  casa_u32 first;      /* TCP sequence number of the SYN: another one begins another conversation */
  casa_u32 next;       /* of the first byte not read yet */
  casa_u32 at;         /* where the reading stands in the present packet */
  casa_u32 left;       /* bytes of the present field, or of a body, that are still to come */
  casa_u32 hello_left; /* TLS: of the ClientHello */
  casa_u32 part;       /* TLS: length of the present extension; HTTP: which header */
  casa_u16 name_length;
  casa_u16 have;     /* bytes gathered of the present field */
  casa_u8 field[32]; /* the present field; longer than any, so that a read can be bounded */
  casa_u8 phase;
  casa_u8 flags;
  casa_u8 refused; /* enum casa_reason: the stream is over */
  casa_u8 started; /* the SYN was seen */
};
CASA_ASSERT_SIZE(struct casa_stream, 452);

/* Programs that look at what is sent, by their place in casa_look_out and casa_look_in. */
enum casa_look {
  CASA_LOOK_DNS = 0,
  CASA_LOOK_TLS = 1,
  CASA_LOOK_HTTP = 2,
  CASA_LOOK_REQUESTS = 3,
  CASA_LOOK_COUNT = 4,
};
/*
 * casa_udp_asked: LRU hash. Which conversations came in last, for each pair of workloads. casa_udp is one for all, so a
 * flood of one workload's conversations can push out another's; a pair has one row here whatever it does, and an agent
 * cannot make identities.
 */
struct casa_asked_key {
  casa_u32 subject;
  casa_u32 peer;
};
CASA_ASSERT_SIZE(struct casa_asked_key, 8);
struct casa_asked {
  casa_u32 next; /* the place in `who` that is written next, modulo CASA_UDP_ASKERS */
  casa_u32 pad;
  struct casa_udp_key who[CASA_UDP_ASKERS]; /* cookie 0: nobody yet */
};
CASA_ASSERT_SIZE(struct casa_asked, 8 + 32 * CASA_UDP_ASKERS);

/*
 * casa_denial: LRU hash, denials being added up: one event per key and second.
 */
struct casa_denial {
  casa_u32 second; /* CLOCK_MONOTONIC seconds of the last event of this key */
  casa_u32 total;  /* attempts since the entry was made; the daemon tells news by the difference */
};
CASA_ASSERT_SIZE(struct casa_denial, 8);

struct casa_denial_key {
  casa_u32 subject;
  casa_u32 peer;
  casa_u16 port;
  casa_u8 protocol;
  casa_u8 direction;
  casa_u8 reason;
  casa_u8 pad[3];
};
CASA_ASSERT_SIZE(struct casa_denial_key, 16);

#endif
