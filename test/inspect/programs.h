// The programs and maps of bpf/inspect.bpf.c and bpf/requests.bpf.c, for C and C++.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

struct __sk_buff;

// Addresses: a map is known by where it is declared.
struct casa_user_maps {
  const void *config, *subject, *policy, *name, *learnt, *query, *denial, *stat, *sk, *stream, *cgroup, *request,
      *token, *token_path;
};
extern const struct casa_user_maps casa_user_maps;
extern unsigned char
    casa_user_page_flags; /* of every packet: not zero when its pages are somebody's who can still write to them */

int casa_dns_out(struct __sk_buff* skb);
int casa_dns_in(struct __sk_buff* skb);
int casa_tls_out(struct __sk_buff* skb);
int casa_tls_in(struct __sk_buff* skb);
int casa_req_out(struct __sk_buff* skb);
int casa_req_in(struct __sk_buff* skb);

#ifdef __cplusplus
}
#endif
