// bpf/inspect.bpf.c and bpf/requests.bpf.c themselves, compiled for user space: no line of the parsers is written twice. What the kernel gives
// them stands in bpf/ here and in machine.cpp. They share their maps, as they do by their pins.
#include "../../bpf/inspect.bpf.c"
#define LICENSE LICENSE_OF_REQUESTS
#include "../../bpf/requests.bpf.c"

#include "h2.h"
#include "programs.h"

const struct casa_user_maps casa_user_maps = {
    .config = &casa_config,
    .subject = &casa_subject,
    .policy = &casa_policy,
    .name = &casa_name,
    .learnt = &casa_learnt,
    .query = &casa_query,
    .denial = &casa_denial,
    .stat = &casa_stat,
    .sk = &casa_sk,
    .stream = &casa_stream,
    .cgroup = &casa_cgroup,
    .request = &casa_request,
    .token = &casa_token,
    .token_path = &casa_token_path,
};

void h2_begin(struct casa_h2* h) { casa_h2_begin(h, 0); }
int h2_known(struct casa_h2* h, struct casa_request* r) { return casa_h2_take_known(h, r); }
