// The reader of HTTP/2 of bpf/lib/h2.h, and what h2_read.h makes of it, for C and C++.
#pragma once

#include "casa/abi/token.h"

#ifdef __cplusplus
extern "C" {
#endif

void h2_begin(struct casa_h2* h);
int h2_known(struct casa_h2* h, struct casa_request* r);
casa_u32 casa_h2_byte(struct casa_h2* h, casa_u32 byte);
int casa_h2_read_into(struct casa_h2* h, struct casa_request* r, struct casa_raw_token* raw, casa_u32 n);

int casa_request_begin(struct casa_request* r, casa_u32 number);
int casa_method_byte(struct casa_request* r, casa_u32 byte);
int casa_path_byte(struct casa_request* r, casa_u32 byte);
int casa_auth_begin(struct casa_request* r);
int casa_auth_byte(struct casa_request* r, casa_u32 byte);
int casa_auth_end(struct casa_request* r);

#ifdef __cplusplus
}
#endif
