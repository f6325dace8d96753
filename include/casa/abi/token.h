/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tokens: what the kernel knows of the bearer tokens that requests carry, and tells. A token itself is in no map and no record of the
 * main ring: only its SHA-256, over the bytes behind `Bearer `. Numbers are host order.
 */
#ifndef CASA_ABI_TOKEN_H
#define CASA_ABI_TOKEN_H

#include "event.h"
#include "limits.h"
#include "types.h"

/* What a connection speaks, from its first bytes. */
enum casa_app {
  CASA_APP_UNKNOWN = 0,
  CASA_APP_HTTP1 = 1,
  CASA_APP_HTTP2 = 2, /* in clear text */
  CASA_APP_TLS = 3,
  CASA_APP_OTHER = 4,
};

/* Who read a request: the packets' programs, or an observer of a TLS library's calls. */
enum casa_via {
  CASA_VIA_WIRE = 0,
  CASA_VIA_TLS = 1,
};

enum casa_token_shape {
  CASA_TOKEN_NONE = 0,   /* a request without a token, to a path of casa_token_path */
  CASA_TOKEN_JWT = 1,    /* three base64url parts, the first a JSON object that names `alg` */
  CASA_TOKEN_OPAQUE = 2, /* any other bearer token */
  CASA_TOKEN_UNHASHED =
      3, /* a bearer token that was stopped, or that nobody could read, before its end: sha256 is zero */
};

#define CASA_TOKEN_ALG_NONE 1  /* its header says that it is not signed */
#define CASA_TOKEN_DUPLICATE 2 /* not the first Authorization header of its request */
#define CASA_TOKEN_KNOWN 4     /* the token before it on this connection: recognised, not hashed again */

/* Why a connection is not read (any more). */
enum casa_unread {
  CASA_UNREAD_NOTHING = 0,
  CASA_UNREAD_START = 1,     /* older than the programs: nobody saw its beginning */
  CASA_UNREAD_OPAQUE = 2,    /* not HTTP in clear text, or not any more (TLS, CONNECT, Upgrade) */
  CASA_UNREAD_TRUNCATED = 3, /* longer than is read (head, token), or out of step */
  CASA_UNREAD_AMBIGUOUS = 4, /* HTTP that two readers would read in two ways */
};

/* What a token's signature is worth, as far as the daemon has checked it. */
enum casa_signature {
  CASA_SIGNATURE_UNVERIFIED = 0,
  CASA_SIGNATURE_VALID = 1,
  CASA_SIGNATURE_INVALID = 2,
  CASA_SIGNATURE_EXPIRED = 3, /* or not valid yet */
  CASA_SIGNATURE_UNKNOWN_KEY = 4,
};

/*
 * A record of the ring with kind CASA_EVENT_TOKEN: one sighting; or CASA_EVENT_APP: what a connection speaks (`app`), or why it is not read
 * (`unread`), and then everything from shape on is zero. `event` says who and to whom, as the flow's own record does; it has no counters.
 * Seen by CASA_VIA_TLS, there is no socket: cookie, peer, addresses and ports are zero.
 */
struct casa_token_event {
  struct casa_event event;
  casa_u64 instance; /* id of the workload's cgroup that the subject's socket is in; 0 when it is not known */
  casa_u8 sha256[CASA_SHA256_LEN];
  casa_u32 length;   /* of the token, bytes */
  casa_u32 request;  /* HTTP/1: number of the request on its connection, from 1; HTTP/2: stream */
  casa_u8 shape;     /* enum casa_token_shape */
  casa_u8 flags;     /* CASA_TOKEN_* */
  casa_u8 app;       /* enum casa_app */
  casa_u8 via;       /* enum casa_via */
  casa_u8 unread;    /* enum casa_unread */
  casa_u8 signature; /* enum casa_signature, as casa_token had it */
  casa_u8 pad[2];
  char method[CASA_METHOD_LEN]; /* padded with zeros; cut when longer */
  /* Without its query; a segment longer than CASA_PATH_SEGMENT_MAX is told as '*', since it may be a secret; cut when longer. */
  char path[CASA_PATH_LEN];
};
CASA_ASSERT_SIZE(struct casa_token_event, 312);

/* casa_token: LRU hash. What the daemon found about a token. Key: its SHA-256. */
struct casa_token_key {
  casa_u8 sha256[CASA_SHA256_LEN];
};
CASA_ASSERT_SIZE(struct casa_token_key, 32);
struct casa_token {
  casa_u32 signature; /* enum casa_signature */
  casa_u32 expires;   /* CLOCK_MONOTONIC seconds from which a VALID one counts as EXPIRED; 0 = never */
};
CASA_ASSERT_SIZE(struct casa_token, 8);

/*
 * casa_token_path: hash. Last segments of paths to which a POST is told also when it carries no token (token endpoints). Of no
 * generation: the daemon writes it when it starts.
 */
struct casa_token_path_key {
  char segment[CASA_PATH_SEGMENT_LEN]; /* padded with zeros */
};
CASA_ASSERT_SIZE(struct casa_token_path_key, 32);

/*
 * A record of casa_raw_ring, which is there only when signatures are checked: the one place where a token leaves the kernel. The reader
 * wipes it.
 */
struct casa_raw_token {
  casa_u8 sha256[CASA_SHA256_LEN];
  casa_u32 length;
  casa_u32 pad;
  char token[CASA_TOKEN_MAX];
};
CASA_ASSERT_SIZE(struct casa_raw_token, 8232);

#endif
