/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel tells the daemon through the one ring (casa_ring). One record type for all kinds of flow news, so that
 * a reader needs no variant; 160 bytes. Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d; ports and all
 * other numbers are host order. Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef CASA_ABI_EVENT_H
#define CASA_ABI_EVENT_H

#include "limits.h"
#include "types.h"

enum casa_event_kind {
  CASA_EVENT_FLOW_START = 1,  /* first verdict other than DENIED of a flow, or a verdict that changed */
  CASA_EVENT_FLOW_END = 2,    /* the socket was closed; counters are final */
  CASA_EVENT_FLOW_UPDATE = 3, /* counters of a live flow (from the sweep, not from the ring) */
  CASA_EVENT_DENIED = 4,      /* `count` attempts of the same key (struct casa_denial_key) by now, this one included */
  CASA_EVENT_CGROUP = 5,      /* a declared cgroup appeared (flags 0) or went (flags 1): `cookie` is its id */
  CASA_EVENT_TOKEN = 6,       /* a struct casa_token_event: a token was seen */
  CASA_EVENT_APP = 7,         /* a struct casa_token_event: what a connection speaks, or why it is not read */
  CASA_EVENT_PROCESS = 8,     /* a process of a workload whose TLS libraries are observed (casa/abi/tls.h) */
};

struct casa_event {
  casa_u64 time_ns;
  casa_u64 cookie;   /* socket cookie: with kind and remote, the flow */
  casa_u64 start_ns; /* when the flow started */
  casa_u64 tx_bytes; /* from the subject to the peer */
  casa_u64 rx_bytes;
  casa_u32 tx_packets;
  casa_u32 rx_packets;
  casa_u32 subject; /* identity of the workload whose rule decided */
  casa_u32 peer;    /* identity */
  casa_u32 rule;    /* index into the generation's rule table, 0 = none */
  casa_u32 gen;
  casa_u32 pid;      /* of the subject's process (thread group); 0 when it is not known */
  casa_u32 peer_pid; /* of the peer's process when it is on this host */
  casa_u32 count;    /* DENIED: attempts of this key so far; else 1 */
  casa_u32 pad0;
  casa_u8 local[16]; /* the subject's side */
  casa_u8 remote[16];
  casa_u16 local_port;
  casa_u16 remote_port;
  casa_u8 kind; /* enum casa_event_kind */
  casa_u8 verdict;
  casa_u8 reason;
  casa_u8 direction;
  casa_u8 protocol; /* IP protocol number */
  casa_u8 flags;    /* CASA_EVENT_* below */
  casa_u16 pad;
  casa_u32 pad2;
  char comm[CASA_COMM_LEN]; /* of the subject's process */
  char peer_comm[CASA_COMM_LEN];
};
CASA_ASSERT_SIZE(struct casa_event, 160);

/* A denial about a name: the name follows its record. The reader tells by the record's length. */
struct casa_named_event {
  struct casa_event event;
  casa_u8 name_form; /* enum casa_name_form */
  casa_u8 pad[7];
  char name[CASA_NAME_LEN];
};
CASA_ASSERT_SIZE(struct casa_named_event, 360);

enum casa_name_form {
  CASA_NAME_NONE = 0,
  CASA_NAME_WIRE = 1, /* a DNS message from its question's name on: labels with their lengths; may be cut or broken */
  CASA_NAME_TEXT = 2, /* as a TLS or HTTP client wrote it, behind one byte that means nothing; ends at a zero */
};

#define CASA_EVENT_ESTABLISHED 1 /* DENIED: the socket was connected: the daemon ends it (SOCK_DESTROY) */
#define CASA_EVENT_PEER_WAITS                                                                                          \
  2 /* DENIED: the peer is on this host and waits for an answer to its SYN: it is ended too,
                                  by its cookie, which stands in `cookie` */
#define CASA_EVENT_CGROUP_GONE 1

#endif
