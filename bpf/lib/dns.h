/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * DNS messages. A query may leave only if it asks, and says, nothing but a name that the workload's policy needs; an answer comes in
 * only if its socket asked for it, and teaches the addresses of names that are peers, before the socket can read it. Functions that
 * take a message are global: the verifier walks them once, and knows nothing of what their arguments' memory holds, which keeps it
 * from telling one round of a loop from another. The fuzz target is built from this file.
 */
#ifndef CASA_BPF_DNS_H
#define CASA_BPF_DNS_H

#include "look.h"

#define CASA_DNS_HEADER 12
#define CASA_DNS_TYPE_A 1
#define CASA_DNS_TYPE_PTR 12
#define CASA_DNS_TYPE_AAAA 28
#define CASA_DNS_TYPE_OPT 41
#define CASA_DNS_CLASS_IN 1
#define CASA_DNS_OPTION_COOKIE 10
#define CASA_DNS_LABEL_MAX 63
#define CASA_NAME_ROUND 128   /* a power of two below CASA_NAME_LEN */
#define CASA_DNS_NAME_MAX 255 /* as on the wire */
/* A name, its type and class, and an EDNS record with a cookie: no query needs more. */
#define CASA_DNS_QUERY_MAX (CASA_DNS_HEADER + CASA_DNS_NAME_MAX + 4 + 11 + 4 + 40)
/* Steps of the walk over an answer's records: one for each record, one for each label of an owner's name that is written out. */
#define CASA_DNS_STEPS 160

/* One message in a packet, and what was found in it. */
struct casa_dns_message {
  struct casa_looked l;
  casa_u32 at; /* of the message in the packet */
  casa_u32 length;
  casa_u32 name;        /* payload of casa_name for the question's name; 0 = not needed by the policy */
  casa_u32 name_length; /* on the wire, with the final zero */
  casa_u32 label_left;  /* of the label being read */
  casa_u32 records_at;  /* behind the question, in the packet */
  casa_u32 left;        /* records still to walk */
  casa_u32 learn;       /* 1: the walk enters addresses */
  casa_u16 id;
  casa_u16 type;
  casa_u16 flags;
  casa_u16 counts[4]; /* questions, answers, authorities, additional records */
};

static __always_inline casa_u16 casa_be16(const casa_u8 *b) { return (casa_u16)(b[0] << 8 | b[1]); }

/*
 * Reads the question's name into `key` as casa_name has it; m->name_length is its length on the wire. Returns 0 when there is no whole
 * name, -1 when it is one that no policy can need.
 */
__noinline int casa_read_name(struct __sk_buff *skb, struct casa_dns_message *m, struct casa_name_key *key) {
  if (!m || !key)
    return 0;
  casa_u64 n = casa_length(m->length - CASA_DNS_HEADER, CASA_NAME_LEN - 1);
  if (!n)
    return 0;
  __builtin_memset(key->name, 0, CASA_NAME_LEN);
  if (bpf_skb_load_bytes(skb, m->at + CASA_DNS_HEADER, key->name, n))
    return 0;
  m->name_length = 0;
  m->label_left = 0;
  for (casa_u32 i = 0; i < CASA_NAME_LEN; i++) {
    casa_u8 c = key->name[i];
    if (i >= n)
      return n == CASA_NAME_LEN - 1 ? -1 : 0;
    if (!m->label_left) {
      if (!c) {
        m->name_length = i + 1;
        break;
      }
      if (c > CASA_DNS_LABEL_MAX)
        return 0;
      m->label_left = c;
      key->name[i] = '.';
    } else {
      m->label_left--;
      c = casa_fold_byte(c);
      if (!c)
        return -1;
      key->name[i] = c;
    }
  }
  /* Asked for anew in each round: what one round learns of it would make the next ones ways of their own for the verifier. */
  for (casa_u32 i = 0; i < CASA_NAME_LEN; i++)
    if (i >= *(volatile casa_u32 *)&m->name_length)
      key->name[i] = 0;
  return 1;
}

/* Header: m->id, flags, counts. Returns 0 when this is no message with one question. */
__noinline int casa_read_header(struct __sk_buff *skb, struct casa_dns_message *m) {
  casa_u8 header[CASA_DNS_HEADER];
  if (!m || m->length < CASA_DNS_HEADER + 5 || bpf_skb_load_bytes(skb, m->at, header, sizeof(header)))
    return 0;
  m->id = casa_be16(header);
  m->flags = casa_be16(header + 2);
  for (casa_u32 i = 0; i < 4; i++)
    m->counts[i] = casa_be16(header + 4 + 2 * i);
  return m->counts[0] == 1;
}

/* Do the characters behind `at` spell `word`, and end there? */
static __always_inline int casa_name_ends(const struct casa_name_key *name, casa_u32 at, const char *word,
                                          casa_u32 length) {
  int same = 1;
  for (casa_u32 i = 0; i <= length; i++)
    same &= name->name[(at + i) & (CASA_NAME_ROUND - 1)] == (i < length ? word[i] : 0);
  return same;
}

/* ".4.3.2.1.in-addr.arpa" and ".f.e...0.ip6.arpa" into out->address; 0 when it is neither. Lengths that DNS allows are all below 128. */
__noinline int casa_read_reverse(const struct casa_name_key *name, struct casa_learnt_key *out) {
  if (!name || !out)
    return 0;
  casa_u32 octets = 0, value = 0;
  __builtin_memset(out->address, 0, 16);
  if (casa_name_ends(name, 64, ".ip6.arpa", 9)) {
    for (casa_u32 i = 0; i < 32; i++) {
      int nibble = casa_hex(name->name[2 * i + 1]);
      if (nibble < 0 || name->name[2 * i] != '.')
        return 0;
      out->address[15 - i / 2] |= i & 1 ? nibble << 4 : nibble;
    }
    return 1;
  }
  out->address[10] = out->address[11] = 0xff;
  for (casa_u32 i = 1; i <= 16; i++) {
    casa_u8 c = name->name[i];
    if (c != '.') {
      if (c < '0' || c > '9' || value > 25)
        return 0;
      value = value * 10 + (c - '0');
      continue;
    }
    if (value > 255)
      return 0;
    out->address[15 - (octets & 3)] = value;
    value = 0;
    if (++octets == 4)
      return casa_name_ends(name, i, ".in-addr.arpa", 13);
  }
  return 0;
}

/* The reverse name of an address that the workload learnt for a name of its policy. */
static __always_inline int casa_is_learnt_reverse(const struct casa_name_key *name) {
  struct casa_learnt_key key = {.subject = name->subject};
  return casa_read_reverse(name, &key) && bpf_map_lookup_elem(&casa_learnt, &key) != 0;
}

/* m->name, and behind the name m->type and m->records_at. As casa_read_name; also 0 for another class than the internet's. */
__noinline int casa_read_question(struct __sk_buff *skb, struct casa_dns_message *m) {
  if (!m)
    return 0;
  struct casa_name_key key = {}; /* older 6.1 kernels hand no memory to a function that was never written */
  int read = casa_read_name(skb, m, &key);
  m->name = 0;
  if (read != 1)
    return read;
  key.subject = m->l.subject;
  m->name = casa_in_force(bpf_map_lookup_elem(&casa_name, &key), m->l.gen);
  casa_u8 question[4];
  casa_u32 end = CASA_DNS_HEADER + m->name_length + sizeof(question);
  if (end > m->length || bpf_skb_load_bytes(skb, m->at + end - sizeof(question), question, sizeof(question)))
    return 0;
  m->type = casa_be16(question);
  m->records_at = m->at + end;
  if (!m->name && m->type == CASA_DNS_TYPE_PTR && casa_is_learnt_reverse(&key))
    m->name = CASA_NAME_REVERSE;
  return casa_be16(question + 2) == CASA_DNS_CLASS_IN;
}

/* The one record that a query may carry: EDNS 0 without options, or with a cookie for the resolver. Returns its length or 0. */
static __always_inline casa_u32 casa_edns_length(struct __sk_buff *skb, const struct casa_dns_message *m) {
  casa_u8 record[15] = {};
  if (bpf_skb_load_bytes(skb, m->records_at, record, 11) || record[0] || casa_be16(record + 1) != CASA_DNS_TYPE_OPT)
    return 0;
  /* Extended code, version, flags: zero, but for DNSSEC OK. Bits that nobody needs would leave unseen. */
  if (record[5] || record[6] || record[7] & 0x7f || record[8])
    return 0;
  casa_u32 length = casa_be16(record + 9);
  if (!length)
    return 11;
  if (length < 12 || length > 44 || bpf_skb_load_bytes(skb, m->records_at + 11, record + 11, 4))
    return 0;
  casa_u32 option = casa_be16(record + 13);
  return casa_be16(record + 11) == CASA_DNS_OPTION_COOKIE && option + 4 == length ? 11 + length : 0;
}

static __always_inline int casa_type_fits(casa_u32 name, casa_u16 type) {
  if (name == CASA_NAME_REVERSE)
    return type == CASA_DNS_TYPE_PTR;
  return type == CASA_DNS_TYPE_A || type == CASA_DNS_TYPE_AAAA;
}

static __always_inline void casa_make_query_key(struct casa_query_key *key, const struct casa_dns_message *m) {
  __builtin_memset(key, 0, sizeof(*key));
  key->cookie = m->l.cookie;
  /*
   * In the host's network namespace a Service's address becomes a Pod's on the way out, after this program, and on the way in the Pod's
   * becomes the Service's, before it: there any trusted resolver may answer.
   */
  if (!m->l.host_netns)
    __builtin_memcpy(key->remote, m->l.remote, 16);
  key->name = m->name;
  key->remote_port = m->l.remote_port;
  key->id = m->id;
  key->type = m->type;
}

#define CASA_DNS_RESPONSE 0x8000
#define CASA_DNS_OPCODE 0x7800
#define CASA_DNS_TRUNCATED 0x0200
#define CASA_DNS_QUERY_FLAGS 0x0130 /* recursion desired, authentic data, checking disabled: all that a query may set */
#define CASA_DNS_RCODE 0x000f

/* Without the note its answer would be refused: better that the query fails at once. */
__noinline int casa_note_query(const struct casa_dns_message *m) {
  if (!m)
    return CASA_REASON_FAULT;
  struct casa_query_key key;
  casa_make_query_key(&key, m);
  casa_u64 now = bpf_ktime_get_ns();
  casa_count(CASA_STAT_DNS_QUERIES);
  if (!bpf_map_update_elem(&casa_query, &key, &now, BPF_ANY))
    return CASA_REASON_NONE;
  casa_count(CASA_STAT_FAIL_QUERY_INSERT);
  return CASA_REASON_FAULT;
}

/* A query that wants to leave. Returns CASA_REASON_NONE and notes that it waits for its answer, or why it may not. */
__noinline int casa_check_query(struct __sk_buff *skb, struct casa_dns_message *m) {
  if (!m)
    return CASA_REASON_FAULT;
  if (!casa_read_header(skb, m))
    return CASA_REASON_DNS_MALFORMED;
  int read = casa_read_question(skb, m);
  if (read < 0)
    return CASA_REASON_DNS_NAME_NOT_ALLOWED;
  if (!read || m->flags & ~CASA_DNS_QUERY_FLAGS || m->counts[1] || m->counts[2] || m->counts[3] > 1)
    return CASA_REASON_DNS_MALFORMED;
  if (!m->name)
    return CASA_REASON_DNS_NAME_NOT_ALLOWED;
  casa_u32 end = m->records_at;
  if (m->counts[3]) {
    casa_u32 edns = casa_edns_length(skb, m);
    if (!edns)
      return CASA_REASON_DNS_MALFORMED;
    end += edns;
  }
  /* To the byte: what stands behind would leave unseen. */
  if (end != m->at + m->length)
    return CASA_REASON_DNS_MALFORMED;
  if (!casa_type_fits(m->name, m->type))
    return CASA_REASON_DNS_TYPE_NOT_ALLOWED;
  return casa_note_query(m);
}

/*
 * What no name may stand for: this host, everybody, nobody, and the link (cloud metadata services live there). A name that says so is
 * rebinding.
 */
static __always_inline int casa_is_learnable(const casa_u8 *a) {
  if (casa_is_v4(a)) {
    if (a[12] == 0 || a[12] == 127 || a[12] >= 224)
      return 0;
    return !(a[12] == 169 && a[13] == 254);
  }
  if (a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80))
    return 0;
  casa_u32 w[4];
  __builtin_memcpy(w, a, 16);
  return w[0] || w[1] || w[2] || bpf_ntohl(w[3]) > 1;
}

/* Returns 0, or -1 when there was no room. */
static __always_inline int casa_enter_learnt(const struct casa_learnt_key *key, casa_u32 identity, casa_u32 expires,
                                             casa_u32 sources) {
  struct casa_learnt *learnt = bpf_map_lookup_elem(&casa_learnt, key);
  if (!learnt) {
    struct casa_learnt fresh = {};
    fresh.slots[0].identity = identity;
    fresh.slots[0].expires = expires;
    fresh.slots[0].sources = sources;
    if (!bpf_map_update_elem(&casa_learnt, key, &fresh, BPF_NOEXIST))
      return 0;
    learnt = bpf_map_lookup_elem(&casa_learnt, key); /* another CPU was faster */
    if (!learnt)
      return -1;
  }
  casa_u32 place = 0, oldest = 0xffffffff;
  for (casa_u32 i = 0; i < CASA_LEARNT_SLOTS; i++) {
    casa_u32 rank = learnt->slots[i].identity ? learnt->slots[i].expires : 0;
    if (learnt->slots[i].identity == identity) {
      if (learnt->slots[i].expires < expires)
        learnt->slots[i].expires = expires;
      learnt->slots[i].sources |= sources;
      return 0;
    }
    if (rank < oldest) {
      oldest = rank;
      place = i;
    }
  }
  place &= CASA_LEARNT_SLOTS - 1;
  learnt->slots[place].expires = expires;
  learnt->slots[place].sources = sources;
  learnt->slots[place].identity = identity;
  return 0;
}

__noinline int casa_learn_address(const struct casa_learn_call *call) {
  if (!call)
    return -1;
  struct casa_learnt_key key = call->key;
  if (!casa_is_learnable(key.address)) {
    casa_count(CASA_STAT_DNS_UNLEARNABLE);
    return -1;
  }
  casa_u32 ttl = call->ttl;
  if (ttl < CASA_LEARNT_SECONDS_MIN)
    ttl = CASA_LEARNT_SECONDS_MIN;
  if (ttl > CASA_LEARNT_SECONDS_MAX)
    ttl = CASA_LEARNT_SECONDS_MAX;
  if (casa_enter_learnt(&key, call->identity, casa_now_seconds() + ttl, call->sources)) {
    casa_count(CASA_STAT_FAIL_LEARNT_INSERT);
    return -1;
  }
  casa_count(CASA_STAT_DNS_LEARNT);
  return 0;
}

static __always_inline void casa_learn_record(struct __sk_buff *skb, const struct casa_dns_message *m, casa_u32 at,
                                              casa_u32 length, casa_u32 ttl) {
  struct casa_learn_call call = {.ttl = ttl, .sources = CASA_LEARNT_ANSWER};
  call.key.subject = m->l.subject;
  call.identity = m->name & ~CASA_NAME_LEARN;
  if (length == 16) {
    if (bpf_skb_load_bytes(skb, at, call.key.address, 16))
      return;
  } else {
    casa_u8 v4[4];
    if (bpf_skb_load_bytes(skb, at, v4, 4))
      return;
    call.key.address[10] = call.key.address[11] = 0xff;
    __builtin_memcpy(call.key.address + 12, v4, 4);
  }
  casa_learn_address(&call);
}

/*
 * Walks the answer section from m->records_at. Owners' names are passed over: a resolver that is trusted answers the question that was
 * asked, through whatever chain of aliases. Returns 1 when every record lies inside the message.
 */
__noinline int casa_walk_answers(struct __sk_buff *skb, struct casa_dns_message *m) {
  if (!m)
    return 0;
  casa_u32 end = m->at + m->length;
  m->left = m->counts[1];
  for (casa_u32 i = 0; i < CASA_DNS_STEPS; i++) {
    casa_u32 at = *(volatile casa_u32 *)&m->records_at;
    if (!m->left)
      return 1;
    casa_u8 c;
    if (at >= end || bpf_skb_load_bytes(skb, at, &c, 1))
      return 0;
    if (c && c <= CASA_DNS_LABEL_MAX) {
      m->records_at = at + 1 + c;
      continue;
    }
    if (c && c < 0xc0)
      return 0;
    at += c ? 2 : 1; /* a pointer ends a name: nobody follows it, so it cannot lead in a circle */
    casa_u8 record[10];
    if (at + sizeof(record) > end || bpf_skb_load_bytes(skb, at, record, sizeof(record)))
      return 0;
    at += sizeof(record);
    casa_u32 type = casa_be16(record), length = casa_be16(record + 8);
    if (at + length > end)
      return 0;
    if (casa_be16(record + 2) == CASA_DNS_CLASS_IN && (type == CASA_DNS_TYPE_A || type == CASA_DNS_TYPE_AAAA)) {
      if (length != (type == CASA_DNS_TYPE_A ? 4 : 16))
        return 0;
      if (m->learn)
        casa_learn_record(skb, m, at, length, (casa_u32)record[4] << 24 | record[5] << 16 | record[6] << 8 | record[7]);
    }
    m->records_at = at + length;
    m->left--;
  }
  /* More records than anybody needs: those that were walked are good. */
  return 1;
}

/* Was this asked? Whoever takes the note has the answer: a second one finds nothing. */
__noinline int casa_take_query(const struct casa_dns_message *m) {
  if (!m || !m->name)
    return 0;
  struct casa_query_key key;
  casa_make_query_key(&key, m);
  casa_u64 *asked = bpf_map_lookup_elem(&casa_query, &key);
  if (!asked)
    return 0;
  casa_u64 age = bpf_ktime_get_ns() - *asked;
  return !bpf_map_delete_elem(&casa_query, &key) && age <= CASA_QUERY_SECONDS * CASA_NS_PER_SECOND;
}

/*
 * Is this packet in the network namespace that kubelet had made for a Pod? Who makes one inside a container owns it in a user namespace that
 * is not the first one. What came over lo was sent in the Pod.
 */
static __noinline int casa_in_pods_netns(struct __sk_buff *skb, casa_u32 subject, casa_u32 gen) {
  struct bpf_sock *sk = skb->sk;
  const struct sock *kernel_sk = 0;
  struct net *net = 0;
  struct user_namespace *owner = 0;
  int level = -1;
  if (!sk || skb->ifindex == CASA_LOOPBACK_IFINDEX || !(casa_subject_flags(subject, gen) & CASA_SUBJECT_POD))
    return 0;
  /* As a number: the verifier forbids to add to a socket's address. */
  if (bpf_probe_read_kernel(&kernel_sk, sizeof(kernel_sk), &sk) || !kernel_sk ||
      bpf_core_read(&net, sizeof(net), &kernel_sk->__sk_common.skc_net.net) || !net ||
      bpf_core_read(&owner, sizeof(owner), &net->user_ns) || !owner ||
      bpf_core_read(&level, sizeof(level), &owner->level))
    return 0;
  return level == 0;
}

/* An answer that comes in. Returns CASA_REASON_NONE, or why it may not. */
__noinline int casa_check_answer(struct __sk_buff *skb, struct casa_dns_message *m) {
  if (!m)
    return CASA_REASON_FAULT;
  if (!casa_read_header(skb, m) || (m->flags & (CASA_DNS_RESPONSE | CASA_DNS_OPCODE)) != CASA_DNS_RESPONSE)
    return CASA_REASON_DNS_MALFORMED;
  int read = casa_read_question(skb, m);
  if (!read)
    return CASA_REASON_DNS_MALFORMED;
  if (read < 0 || !casa_take_query(m))
    return CASA_REASON_DNS_ANSWER_UNEXPECTED;
  casa_count(CASA_STAT_DNS_ANSWERS);
  if (m->flags & CASA_DNS_TRUNCATED)
    return CASA_REASON_NONE; /* half an answer teaches nothing; the client asks again by TCP */
  casa_u32 records_at = *(volatile casa_u32 *)&m->records_at;
  m->learn = 0;
  if (!casa_walk_answers(skb, m))
    return CASA_REASON_DNS_MALFORMED;
  if (!(m->name & CASA_NAME_LEARN) || m->flags & CASA_DNS_RCODE)
    return CASA_REASON_NONE;
  /* In a network namespace of its own making an agent could be its own resolver. */
  if (!m->l.host_netns && !casa_in_pods_netns(skb, m->l.subject, m->l.gen)) {
    casa_count(CASA_STAT_DNS_UNLEARNABLE);
    return CASA_REASON_NONE;
  }
  m->records_at = records_at;
  m->learn = 1;
  casa_walk_answers(skb, m);
  return CASA_REASON_NONE;
}

/* The message that stands at m->l.at and is `length` bytes long. */
static __always_inline void casa_begin_message(struct casa_dns_message *m, casa_u32 length) {
  m->at = m->l.at;
  m->length = length;
  m->name = 0;
  m->l.name_at = m->l.at + CASA_DNS_HEADER;
}

#endif
