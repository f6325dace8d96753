/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is told of requests and their tokens, and what becomes of a token: it is judged where it is told. Knows what was read (token.h), not
 * how: readers of packets are request.h and h2_request.h.
 */
#ifndef CASA_BPF_SIGHTING_H
#define CASA_BPF_SIGHTING_H

#include "look.h"
#include "token.h"

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct casa_request);
  CASA_PINNED;
} casa_request SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_TOKENS);
  __type(key, struct casa_token_key);
  __type(value, struct casa_token);
  CASA_PINNED;
} casa_token SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, CASA_MAX_TOKEN_PATHS);
  __type(key, struct casa_token_path_key);
  __type(value, casa_u32);
  CASA_PINNED;
} casa_token_path SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_EARLY);
  __type(key, struct casa_early_key);
  __type(value, struct casa_request);
  CASA_PINNED;
} casa_early SEC(".maps");

/* One that nobody writes: a stack has no room for what a new row of casa_early begins as. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, casa_u32);
  __type(value, struct casa_request);
  CASA_PINNED;
} casa_blank SEC(".maps");

/* What this connection's tokens are held to. */
#define CASA_RULE_NO_TOKEN 1 /* no token may go there */
#define CASA_RULE_VALID 2    /* only tokens that are known to be valid */
#define CASA_RULE_INGRESS 4
#define CASA_RULE_EARLY 8 /* there is no socket for it yet */

#define CASA_REQUEST_ROUNDS 300 /* chunks read at once: more than a head has */

#define CASA_READ_HELD -2  /* until somebody has verified the token */
#define CASA_READ_LOST 256 /* and above it enum casa_unread: this connection is not read any more */

/* The cgroup that made `skb`'s socket a workload's. Global, as casa_subject_of_packet is. */
__noinline casa_u64 casa_instance_of_packet(struct __sk_buff *skb) {
  const struct casa_config *config = casa_get_config();
  if (!config)
    return 0;
  CASA_WALK(bpf_skb_ancestor_cgroup_id(skb, level), instance);
}

/* What a record says of the request itself; `kind` and `what` as for casa_tell_request. `r` may be null for CASA_EVENT_APP. */
static __always_inline void casa_fill_request(struct casa_token_event *e, const struct casa_request *r, casa_u32 kind,
                                              casa_u32 what) {
  if (kind == CASA_EVENT_APP) {
    e->app = what;
    e->unread = what >> 8;
  } else if (r) {
    e->app = r->told;
    e->shape = what;
    e->flags = what >> 8;
    e->request = r->number;
    __builtin_memcpy(e->method, r->method, CASA_METHOD_LEN);
    __builtin_memcpy(e->path, r->path, CASA_PATH_LEN);
    if (e->shape == CASA_TOKEN_JWT || e->shape == CASA_TOKEN_OPAQUE) {
      e->length = r->known_length;
      e->signature = r->signature;
      __builtin_memcpy(e->sha256, r->known_sha256, CASA_SHA256_LEN);
    } else {
      e->length = what & 0xff ? r->length : 0;
    }
  }
}

/*
 * Tells what `r` knows: a token (CASA_EVENT_TOKEN), or of the connection (CASA_EVENT_APP). `what`: for a token its shape, and above it its
 * flags; else enum casa_app, and above it enum casa_unread. `reason`: of a refusal, else 0.
 */
__noinline int casa_tell_request(struct __sk_buff *skb, struct casa_request *r, casa_u32 kind, casa_u32 what,
                                 casa_u32 reason) {
  struct casa_sk *state = casa_state_of(skb);
  if (!state)
    return 0;
  casa_u64 instance = casa_instance_of_packet(skb);
  struct casa_token_event *e = bpf_ringbuf_reserve(&casa_ring, sizeof(*e), 0);
  if (!e) {
    casa_count(CASA_STAT_EVENTS_LOST);
    return 0;
  }
  casa_count(CASA_STAT_EVENTS);
  __builtin_memset((casa_u8 *)e + sizeof(e->event), 0, sizeof(*e) - sizeof(e->event));
  casa_fill_event(&e->event, state, kind, IPPROTO_TCP);
  e->event.time_ns = bpf_ktime_get_ns();
  e->event.start_ns = state->start_ns ? state->start_ns : e->event.time_ns; /* a listener has none */
  e->event.rule = state->rule;
  e->event.count = 1;
  e->instance = instance;
  if (reason) {
    e->event.verdict = CASA_DENIED;
    e->event.reason = reason;
  }
  casa_fill_request(e, r, kind, what);
  bpf_ringbuf_submit(e, casa_wake_flags());
  return 0;
}

/* Is the path's last segment a token endpoint's, so that a POST to it is told also without a token? */
static __always_inline int casa_is_token_path(const struct casa_request *r) {
  struct casa_token_path_key key = {};
  casa_u32 segment = r->segment, end = r->path_length;
  for (casa_u32 i = 0; i < CASA_PATH_SEGMENT_MAX; i++) {
    casa_u32 at = segment + i;
    asm volatile("" : "+r"(at));
    if (at >= end || at >= CASA_PATH_LEN)
      break;
    key.segment[i] = r->path[at];
  }
  return bpf_map_lookup_elem(&casa_token_path, &key) != 0;
}

static __always_inline int casa_is_post(const struct casa_request *r) {
  return r->method_length == 4 && r->method[0] == 'P' && r->method[1] == 'O' && r->method[2] == 'S' &&
         r->method[3] == 'T';
}

/* What the daemon has found about the known token; kept in r->signature. */
static __always_inline casa_u32 casa_signature_of(struct casa_request *r) {
  struct casa_token_key key;
  __builtin_memcpy(key.sha256, r->known_sha256, CASA_SHA256_LEN);
  struct casa_token *found = bpf_map_lookup_elem(&casa_token, &key);
  casa_u32 signature = found ? found->signature : CASA_SIGNATURE_UNVERIFIED;
  if (found && signature == CASA_SIGNATURE_VALID && found->expires &&
      found->expires <= (casa_u32)(bpf_ktime_get_ns() / CASA_NS_PER_SECOND))
    signature = CASA_SIGNATURE_EXPIRED;
  r->signature = signature;
  return signature;
}

/* CASA_TOKEN_* of the known token; `known`: it was recognised, not hashed. */
static __always_inline casa_u32 casa_sighting_flags(const struct casa_request *r, casa_u32 known) {
  casa_u32 flags = r->known_flags >> 4;
  flags |= known ? CASA_TOKEN_KNOWN : 0;
  flags |= r->flags & CASA_REQUEST_SECOND ? CASA_TOKEN_DUPLICATE : 0;
  return flags;
}

static __always_inline casa_u16 casa_second(void) { return bpf_ktime_get_ns() / CASA_NS_PER_SECOND; }

static __always_inline void casa_pending_begins(struct casa_request *r) {
  r->pending = 1;
  r->pending_since = casa_second();
}

#define CASA_KNOWN 1           /* it was recognised */
#define CASA_KNOWN_BY_NUMBER 2 /* it was named by its number in HTTP/2's dynamic table: the token itself is not there */

/* A token is known, and how (CASA_KNOWN*; 0: hashed): tell it, and may it go on? A reason when not. */
__noinline int casa_judge_token(struct __sk_buff *skb, struct casa_request *r, casa_u32 known) {
  if (!r)
    return CASA_REASON_FAULT;
  casa_u32 signature = casa_signature_of(r), what = r->known_flags & 0xf;
  casa_u32 reason = 0;
  if (r->rules & CASA_RULE_NO_TOKEN)
    reason = CASA_REASON_TOKEN_UNEXPECTED_DESTINATION;
  /* Nobody can check an opaque token, nor one that was not sent: neither is waited for. */
  else if (r->rules & CASA_RULE_VALID && signature == CASA_SIGNATURE_UNVERIFIED && what == CASA_TOKEN_JWT &&
           known != CASA_KNOWN_BY_NUMBER)
    casa_pending_begins(r);
  else if (r->rules & CASA_RULE_VALID && signature != CASA_SIGNATURE_VALID)
    reason = CASA_REASON_TOKEN_INVALID_SIGNATURE;
  casa_count(CASA_STAT_TOKENS_SEEN);
  casa_tell_request(skb, r, CASA_EVENT_TOKEN, what | casa_sighting_flags(r, known) << 8, reason);
  return reason ? reason : r->pending ? CASA_READ_HELD : 0;
}

__noinline int casa_tell_app(struct __sk_buff *skb, struct casa_request *r, casa_u32 app) {
  if (!r || r->told == app)
    return 0;
  r->told = app;
  return casa_tell_request(skb, r, CASA_EVENT_APP, app, 0);
}

/* The head of a request is over. */
__noinline int casa_head_ends(struct __sk_buff *skb, struct casa_request *r) {
  if (!r)
    return 0;
  casa_count(CASA_STAT_REQUESTS);
  if (!(r->flags & CASA_REQUEST_TOKEN) && casa_is_post(r) && casa_is_token_path(r))
    casa_tell_request(skb, r, CASA_EVENT_TOKEN, CASA_TOKEN_NONE, 0);
  r->method_length = 0;
  return 0;
}

#endif
