/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections of TLS libraries as their observers know them, which workloads are observed, and what is told. Readers of the clear text are
 * tls_observer.h and tls_h2.h.
 */
#ifndef CASA_BPF_TLS_SIGHTING_H
#define CASA_BPF_TLS_SIGHTING_H

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
  struct casa_h2 h2; /* when request.told is CASA_APP_HTTP2 */
  casa_u64 from;     /* where the bytes of the present call begin, in the process's memory */
  casa_u8 side;      /* CASA_TLS_WRITE or _READ: where the requests are; 0: not known yet */
  casa_u8 not_side;  /* sides that began with something else */
  casa_u8 over;      /* not read any more */
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

/* A token is known. `known`: it was recognised, not hashed. */
static __always_inline void casa_tls_tell_token(struct casa_tls_conn *c, casa_u32 known) {
  struct casa_request *r = &c->request;
  if (!known)
    casa_count(CASA_STAT_TOKENS_HASHED);
  casa_signature_of(r);
  casa_count(CASA_STAT_TOKENS_SEEN);
  casa_tls_tell(c, CASA_EVENT_TOKEN, (r->known_flags & 0xf) | casa_sighting_flags(r, known) << 8);
}

/* As casa_head_ends. */
static __always_inline void casa_tls_head_ends(struct casa_tls_conn *c) {
  struct casa_request *r = &c->request;
  casa_count(CASA_STAT_REQUESTS);
  if (!(r->flags & CASA_REQUEST_TOKEN) && casa_is_post(r) && casa_is_token_path(r))
    casa_tls_tell(c, CASA_EVENT_TOKEN, CASA_TOKEN_NONE);
  r->method_length = 0;
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

#endif
