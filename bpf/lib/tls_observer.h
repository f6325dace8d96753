/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Requests in the clear text that a process hands to its TLS library, or gets from it: read by the same table and into the same sinks as
 * those in packets (lib/http1.h, lib/token.h), out of the process's own memory. It only looks: there is no verdict, and whoever
 * changes the memory meanwhile only changes what is told of himself.
 */
#ifndef CASA_BPF_TLS_OBSERVER_H
#define CASA_BPF_TLS_OBSERVER_H

#include "casa/abi/tls.h"
#include "request.h"

/*
 * By process and by the library's own pointer. Freeing the connection removes it; what a process left behind when it died is the oldest some
 * day, and until then nobody has that number and, addresses being random, that pointer.
 */
struct casa_tls_key {
  casa_u64 connection;
  casa_u32 pid;
  casa_u32 pad;
};

#define CASA_TLS_WRITE 1
#define CASA_TLS_READ 2

struct casa_tls_conn {
  struct casa_request request;
  casa_u64 from;    /* where the bytes of the present call begin, in the process's memory */
  casa_u8 side;     /* CASA_TLS_WRITE or _READ: where the requests are; 0: not known yet */
  casa_u8 not_side; /* sides that began with something else */
  casa_u8 over;     /* not read any more */
  casa_u8 pad[5];
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_TLS_CONNECTIONS);
  __type(key, struct casa_tls_key);
  __type(value, struct casa_tls_conn);
} casa_tls_conn SEC(".maps");

/* What a connection begins with: zeros, which are too many for the stack. Nobody writes it. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, casa_u32);
  __type(value, struct casa_tls_conn);
} casa_tls_blank SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_TLS_SUBJECTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, casa_u32);
  __type(value, casa_u32);
} casa_tls_wanted SEC(".maps");

/* The cgroup that makes the running task a workload's. As casa_instance_of_packet. */
__noinline casa_u64 casa_instance_of_task(void) {
  const struct casa_config *config = casa_get_config();
  if (!config)
    return 0;
  CASA_WALK(bpf_get_current_ancestor_cgroup_id(level), instance);
}

/* The running task's workload, if somebody wants one of `kinds` observed in it; else 0. */
static __always_inline casa_u32 casa_tls_observed(casa_u32 kinds) {
  casa_u32 subject = casa_subject_of_task();
  if (!subject)
    return 0;
  casa_u32 *wanted = bpf_map_lookup_elem(&casa_tls_wanted, &subject);
  return wanted && *wanted & kinds ? subject : 0;
}

/* As casa_tell_request. No socket is known: no peer, no addresses. No verdict either. */
__noinline int casa_tls_tell(struct casa_tls_conn *c, casa_u32 kind, casa_u32 what) {
  if (!c)
    return 0;
  const struct casa_config *config = casa_get_config();
  casa_u32 subject = casa_subject_of_task();
  casa_u64 instance = casa_instance_of_task();
  struct casa_request *r = &c->request;
  struct casa_token_event *e = bpf_ringbuf_reserve(&casa_ring, sizeof(*e), 0);
  if (!e) {
    casa_count(CASA_STAT_EVENTS_LOST);
    return 0;
  }
  casa_count(CASA_STAT_EVENTS);
  __builtin_memset(e, 0, sizeof(*e));
  e->event.time_ns = e->event.start_ns = bpf_ktime_get_ns();
  e->event.subject = subject;
  e->event.gen = config ? config->gen : 0;
  e->event.pid = bpf_get_current_pid_tgid() >> 32;
  e->event.count = 1;
  e->event.kind = kind;
  e->event.verdict = CASA_NO_VERDICT;
  e->event.direction = c->side == CASA_TLS_READ ? CASA_INGRESS : CASA_EGRESS;
  e->event.protocol = IPPROTO_TCP;
  bpf_get_current_comm(e->event.comm, CASA_COMM_LEN);
  e->instance = instance;
  e->via = CASA_VIA_TLS;
  casa_fill_request(e, r, kind, what);
  bpf_ringbuf_submit(e, casa_wake_flags());
  return 0;
}

static __always_inline void casa_tls_tell_app(struct casa_tls_conn *c, casa_u32 app) {
  if (c->request.told == app)
    return;
  c->request.told = app;
  casa_tls_tell(c, CASA_EVENT_APP, app);
}

/* Hashes the token's bytes of this call, from r->token_at to `end`. -1: they cannot be read (swapped out, unmapped). */
__noinline int casa_tls_hash(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  for (casa_u32 i = 0; i < CASA_TOKEN_MAX / CASA_SHA256_BLOCK + 2; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->token_at, have = r->hashed & (CASA_SHA256_BLOCK - 1);
    if (at >= end)
      break;
    casa_u32 n = end - at < CASA_SHA256_BLOCK - have ? end - at : CASA_SHA256_BLOCK - have;
    casa_u64 length = casa_length(n, CASA_SHA256_BLOCK);
    asm volatile("" : "+r"(have));
    have &= CASA_SHA256_BLOCK - 1;
    if (!length || bpf_probe_read_user((casa_u8 *)r->sha.w + have, length, (const void *)(c->from + at)))
      return -1;
    r->token_at = at + length;
    casa_hash_added(r, length);
  }
  return 0;
}

/* The token that ends at `end` in this call. */
__noinline int casa_tls_token_ends(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u64 print = casa_print_end(r);
  casa_u32 known = r->known_length == r->length && r->known_print == print;
  if (!known) {
    if (casa_tls_hash(c, end))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    casa_token_end(r, print);
    casa_count(CASA_STAT_TOKENS_HASHED);
  }
  casa_token_wipe(r); /* a known one may have been hashed in part */
  casa_signature_of(r);
  casa_count(CASA_STAT_TOKENS_SEEN);
  casa_tls_tell(c, CASA_EVENT_TOKEN, (r->known_flags & 0xf) | casa_sighting_flags(r, known) << 8);
  r->scheme = 0;
  return CASA_READ_ON;
}

/* The next bytes of a token: `n` of them stand in the chunk. */
__noinline int casa_tls_token(struct casa_tls_conn *c, casa_u32 n) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u32 taken = casa_scan_token(r, n);
  r->at += taken;
  r->head += taken;
  if (r->length > CASA_TOKEN_MAX)
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  return taken >= n ? CASA_READ_ON : casa_tls_token_ends(c, r->at);
}

/* What the reader left in r->want. CASA_READ_ON, or CASA_READ_LOST and more. */
__noinline int casa_tls_wants(struct casa_tls_conn *c) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  casa_u8 want = r->want;
  r->want = CASA_WANT_NOTHING;
  switch (want) {
  case CASA_WANT_TOKEN:
    casa_tls_tell_app(c, CASA_APP_HTTP1);
    casa_token_begin(r);
    r->scheme = 1;
    r->token_at = r->at;
    return CASA_READ_ON;
  case CASA_WANT_HEAD_END:
    casa_tls_tell_app(c, CASA_APP_HTTP1);
    casa_count(CASA_STAT_REQUESTS);
    if (!(r->flags & CASA_REQUEST_TOKEN) && casa_is_post(r) && casa_is_token_path(r))
      casa_tls_tell(c, CASA_EVENT_TOKEN, CASA_TOKEN_NONE);
    r->method_length = 0;
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_BODY:
    r->head = 0;
    return CASA_READ_ON;
  case CASA_WANT_AMBIGUOUS:
    return CASA_READ_LOST | CASA_UNREAD_AMBIGUOUS << 16;
  case CASA_WANT_H2: /* from r->at on, the rest of the preface and frames: here a reader of HTTP/2 would begin */
    r->told = CASA_APP_HTTP2;
    return CASA_READ_LOST | CASA_UNREAD_OPAQUE << 16;
  case CASA_WANT_FOREIGN:
    return CASA_READ_LOST |
           (r->told != CASA_APP_HTTP1 || r->flags & CASA_REQUEST_UPGRADE ? CASA_UNREAD_OPAQUE : CASA_UNREAD_TRUNCATED)
               << 16;
  default:
    return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
  }
}

/* Reads `end` bytes at c->from. CASA_READ_MORE: all is read; CASA_READ_ON: there is more than one call reads; CASA_READ_LOST and more. */
__noinline int casa_tls_requests(struct casa_tls_conn *c, casa_u32 end) {
  if (!c)
    return 0;
  struct casa_request *r = &c->request;
  for (casa_u32 i = 0; i < CASA_REQUEST_ROUNDS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&r->at;
    if (at >= end)
      return CASA_READ_MORE;
    casa_u32 n = end - at;
    if (r->left && (r->state == CASA_H1_START || r->state == CASA_H1_CHUNK_END)) {
      n = r->left < n ? r->left : n;
      r->left -= n;
      r->at = at + n;
      continue;
    }
    casa_u64 length = casa_length(n < CASA_CHUNK - 1 ? n : CASA_CHUNK - 1, CASA_CHUNK - 1);
    if (!length || bpf_probe_read_user(r->chunk, length, (const void *)(c->from + at)))
      return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    int next;
    if (r->scheme) {
      next = casa_tls_token(c, length);
    } else {
      casa_u32 taken = casa_h1_read_chunk(r, length);
      r->at = at + taken;
      r->head += taken;
      if (r->head + (r->want == CASA_WANT_TOKEN) > CASA_HEAD_MAX)
        return CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
      next = r->want ? casa_tls_wants(c) : CASA_READ_ON;
    }
    if (next != CASA_READ_ON)
      return next;
  }
  return CASA_READ_ON;
}

static __always_inline struct casa_tls_conn *casa_tls_connection(casa_u64 connection) {
  casa_u32 zero = 0;
  struct casa_tls_key key = {.connection = connection, .pid = bpf_get_current_pid_tgid() >> 32};
  struct casa_tls_conn *c = bpf_map_lookup_elem(&casa_tls_conn, &key);
  if (c)
    return c;
  struct casa_tls_conn *blank = bpf_map_lookup_elem(&casa_tls_blank, &zero);
  if (!blank || bpf_map_update_elem(&casa_tls_conn, &key, blank, BPF_NOEXIST))
    casa_count(CASA_STAT_FAIL_REQUEST);
  return bpf_map_lookup_elem(&casa_tls_conn, &key);
}

static __always_inline void casa_tls_forget(casa_u64 connection) {
  struct casa_tls_key key = {.connection = connection, .pid = bpf_get_current_pid_tgid() >> 32};
  bpf_map_delete_elem(&casa_tls_conn, &key);
}

/*
 * Whether this side's first byte can be a request's decides whether the requests are here: a client writes them, a server reads them. A
 * server of HTTP/2 may speak before its client, with a frame.
 */
static __always_inline int casa_tls_is_side(struct casa_tls_conn *c, casa_u32 side) {
  casa_u8 byte = 0;
  if (c->side)
    return c->side == side;
  if (c->not_side & side || bpf_probe_read_user(&byte, 1, (const void *)c->from))
    return 0;
  if (casa_h1_table[CASA_H1_START << CASA_H1_CLASS_BITS | (casa_h1_class[byte] & 63)] >> 8 == CASA_H1_DO_FOREIGN) {
    c->not_side |= side;
    return 0;
  }
  c->side = side;
  c->request.state = CASA_H1_START;
  return 1;
}

/* The connection is not read any more, or, if all that was read is the beginning of an answer, not on this side. */
static __always_inline void casa_tls_lost(struct casa_tls_conn *c, casa_u32 unread) {
  struct casa_request *r = &c->request;
  if (unread == CASA_UNREAD_OPAQUE && !r->told) {
    c->not_side |= c->side;
    c->side = 0;
    casa_clear(r, sizeof(*r));
    return;
  }
  c->over = 1;
  casa_tls_tell(c, CASA_EVENT_APP, (r->told ? r->told : CASA_APP_OTHER) | unread << 8);
}

/* `n` bytes at `from` went out, or came in, on a connection of a workload that is observed. */
static __always_inline void casa_tls_bytes(casa_u64 connection, casa_u64 from, casa_u64 n, casa_u32 side) {
  struct casa_tls_conn *c = n ? casa_tls_connection(connection) : 0;
  if (!c || c->over)
    return;
  struct casa_request *r = &c->request;
  /* The library's rule is one thread at a time. Of who breaks it these bytes would be missing, so he is not read any more. */
  if (__sync_lock_test_and_set(&r->busy, 1)) {
    c->over = 1;
    casa_tls_tell(c, CASA_EVENT_APP, (r->told ? r->told : CASA_APP_OTHER) | CASA_UNREAD_TRUNCATED << 8);
    return;
  }
  c->from = from;
  if (n >> 31) {
    casa_tls_lost(c, CASA_UNREAD_TRUNCATED);
  } else if (casa_tls_is_side(c, side)) {
    r->at = r->token_at = 0;
    int read = casa_tls_requests(c, n);
    if (read == CASA_READ_MORE && r->scheme && casa_tls_hash(c, n))
      read = CASA_READ_LOST | CASA_UNREAD_TRUNCATED << 16;
    if (read != CASA_READ_MORE)
      casa_tls_lost(c, read == CASA_READ_ON ? CASA_UNREAD_TRUNCATED : read >> 16);
  }
  if (c->not_side == (CASA_TLS_WRITE | CASA_TLS_READ) && !c->over) {
    c->over = 1;
    casa_tls_tell(c, CASA_EVENT_APP, CASA_APP_OTHER | CASA_UNREAD_OPAQUE << 8);
  }
  __builtin_memset(r->chunk, 0, sizeof(r->chunk));
  r->busy = 0;
}

#endif
