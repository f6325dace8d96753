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
  casa_u8 sha256[CASA_SHA256_LEN] __attribute__((aligned(8))); /* or BPF copies it byte by byte */
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
 * casa_request: socket storage. How far the requests of one connection have been read, and the token that is being read. Of a token it
 * holds at most the bytes that are not hashed yet (less than 64), and 256 bytes of the packet that is being read; both are cleared when
 * that is done.
 */
struct casa_sha256 {
  casa_u32 h[8];
  casa_u32 w[32]; /* the present block, and room behind it for a read that the verifier can bound */
};
struct casa_request {
  struct casa_sha256 sha;
  casa_u64 print[4];    /* SipHash of the token so far, with a key of this load of the programs */
  casa_u64 tail;        /* of its last word */
  casa_u64 known_print; /* of the last token that was hashed on this connection */
  casa_u64 flow;        /* its start_ns: a socket can have one connection after the other */
  casa_u8 known_sha256[CASA_SHA256_LEN];
  casa_u64 left;   /* bytes of a body, or of a chunk, to pass over; or its size as far as it is read */
  casa_u32 next;   /* TCP sequence number of the first byte not read yet */
  casa_u32 at;     /* where the reading stands in the present packet */
  casa_u32 head;   /* bytes of the present head */
  casa_u32 number; /* of the present request on its connection, from 1 */
  casa_u32 length; /* of the present token, as far as it is read */
  casa_u32 hashed; /* bytes of it that went into `sha` */
  casa_u32 known_length;
  casa_u32 token_at; /* where its bytes begin in the present packet that are not hashed */
  casa_u32 bits;     /* base64url: bits that do not make a byte yet */
  casa_u32 place;    /* in the chunk; kept here for the verifier's sake: what is read from memory is any number to it */
  casa_u32 busy;     /* somebody reads */
  casa_u32 word;     /* JSON: the last four characters of the present string */
  casa_u16 string;   /* JSON: its length */
  casa_u16 gaps;     /* segments that came too early, one after the other */
  casa_u16 json;     /* CASA_JSON_* */
  casa_u8 depth;     /* JSON */
  casa_u8 bit_count;
  casa_u8 dots;
  casa_u8 part;        /* of the token between dots: 1 when it has a character */
  casa_u8 shape;       /* CASA_SHAPE_* */
  casa_u8 known_flags; /* shape and flags of the known token */
  casa_u8 state;       /* http1_table.h */
  casa_u8 scheme;      /* HTTP/1: 1 inside a token; HTTP/2: characters of `bearer ` that were read */
  casa_u8 flags;       /* CASA_REQUEST_* */
  casa_u8 told;        /* enum casa_app that was told */
  casa_u8 want;        /* enum casa_want */
  casa_u8 rules;       /* CASA_RULE_* */
  casa_u8 refused;     /* enum casa_reason: the connection is over */
  casa_u8 method_length;
  casa_u8 path_length;
  casa_u8 segment;   /* where the present segment of the path begins */
  casa_u8 slashes;   /* of a target that does not begin with one */
  casa_u8 signature; /* enum casa_signature, of the known token */
  casa_u8 pending;   /* packets are held back because it is not verified yet */
  casa_u8 room;
  casa_u16 pending_since; /* CLOCK_MONOTONIC seconds */
  char method[CASA_METHOD_LEN];
  char path[CASA_PATH_LEN];
  casa_u8 chunk[CASA_CHUNK + 8];
};
CASA_ASSERT_SIZE(struct casa_request, 696);

/*
 * casa_early: LRU hash of struct casa_request. What came to a listener before there was a socket for it: with a SYN (TCP Fast Open), or with
 * the segment that ends the handshake (TCP_DEFER_ACCEPT, a lost ACK). The connection goes on from there. `flow` is the sequence number
 * of its first byte, with bit 32 set; `want` is set when it is not read any more.
 */
struct casa_early_key {
  casa_u8 local[16];
  casa_u8 remote[16];
  casa_u16 local_port;
  casa_u16 remote_port;
  casa_u32 pad;
};
CASA_ASSERT_SIZE(struct casa_early_key, 40);
#define CASA_EARLY_FLOW (1ull << 32)

/*
 * A record of casa_raw_ring, which is there only when signatures are checked: the one place where a token leaves the kernel. The reader
 * wipes it.
 */
struct casa_raw_token {
  casa_u8 sha256[CASA_SHA256_LEN] __attribute__((aligned(8)));
  casa_u32 length;
  casa_u32 pad;
  char token[CASA_TOKEN_MAX];
};
CASA_ASSERT_SIZE(struct casa_raw_token, 8232);

/*
 * casa_h2: socket storage of a connection that speaks HTTP/2: how far the caller's frames and their header blocks are read (bpf/lib/h2.h),
 * and what later fields can refer to. The kernel's alone; no program but its readers looks into it.
 */
#define CASA_H2_NAMES 256 /* newest insertions into the dynamic table, of which the name is known; powers of two */
#define CASA_H2_TOKENS 8  /* newest of them that are authorization, :path, :method, of which the value is known */
#define CASA_H2_PATHS 4
#define CASA_H2_METHODS 4
#define CASA_H2_KEPT (CASA_H2_TOKENS + CASA_H2_PATHS + CASA_H2_METHODS)

struct casa_h2_token {
  casa_u8 sha256[CASA_SHA256_LEN];
  casa_u32 length;
  casa_u8 known_flags; /* as casa_request has it; 0: no token is in it */
  casa_u8 pad[3];
};
CASA_ASSERT_SIZE(struct casa_h2_token, 40);

struct casa_h2 {
  casa_u64 print;        /* of a token's value as it is being sent; 0: nobody knows */
  casa_u64 known_print;  /* of the one that casa_request.known_* is about */
  casa_u32 print_length; /* of the value as it is sent, and whether it is coded (bit 0) */
  casa_u32 known_length;
  casa_u32 known_value;  /* its length, decoded */
  casa_u32 skip;         /* so many bytes that follow need no reading: the caller passes over them */
  casa_u32 frame_left;   /* of a header block's fragment in the present frame */
  casa_u32 frame_stream; /* stream of the present frame */
  casa_u32 stream;       /* stream of the present header block */
  casa_u32 number;       /* integer being read */
  casa_u32 string_left;  /* of a string, as it is sent */
  casa_u32 name_length;  /* of the present field, decoded; at least, when `name_long` */
  casa_u32 value_length;
  casa_u32 table_size; /* the dynamic table's present maximum */
  casa_u32 insertions; /* into it, so far */
  casa_u32 longest;    /* name that was inserted */
  casa_u8 phase;       /* of frames */
  casa_u8 have;        /* bytes of the preface, or of a frame's header */
  casa_u8 type;
  casa_u8 flags;
  casa_u8 padding;
  casa_u8 in_block; /* a header block goes on in the next frame */
  casa_u8 begun;    /* the present header block is a request's: fields of it were told */
  casa_u8 field_phase;
  casa_u8 form;    /* how the field is represented */
  casa_u8 field;   /* enum casa_h2_field */
  casa_u8 huffman; /* the string is coded */
  casa_u8 place;   /* in the tree of that code */
  casa_u8 shift;   /* of an integer's next bits */
  casa_u8 match;   /* names that the present one can still be; bit 7: with an upper-case letter */
  casa_u8 name_long;
  casa_u8 passing; /* over the string */
  casa_u8 query;   /* of a path, which is not told */
  casa_u8 slot;    /* of `kept`: where to keep a value, or from where to tell it again */
  casa_u8 next_token, next_path, next_method;
  casa_u8 room;
  casa_u16 want;                /* CASA_H2_WANT_*: what the reader cannot do by itself */
  casa_u32 kept[CASA_H2_KEPT];  /* the insertion, from 1, whose value is there: tokens, paths, methods; 0 = free */
  casa_u8 names[CASA_H2_NAMES]; /* of each insertion: field << 6 | the name's length, 63 when it is longer */
  struct casa_h2_token tokens[CASA_H2_TOKENS];
  char paths[CASA_H2_PATHS][CASA_PATH_LEN];
  char methods[CASA_H2_METHODS][CASA_METHOD_LEN];
};

#endif
