// bpf/inspect.bpf.c itself, compiled for user space: no line of the parsers is written twice. What the kernel gives it stands in bpf/
// here and in machine.cpp.
#include "../../bpf/inspect.bpf.c"
#include "../../bpf/lib/h2_read.h"

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
};

void h2_begin(struct casa_h2* h) { casa_h2_begin(h, 0); }
