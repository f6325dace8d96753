// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * For tests: the enforcement programs on a kernel where no map takes a row, and (if casa_no_storage) no socket gets storage.
 * BPF_PROG_TEST_RUN's socket has neither type nor protocol: casa_tcp says which it is taken for.
 */
#include "lib/maps.h"

const volatile int casa_no_storage = 0;
const volatile int casa_tcp = 0;

#define CASA_IS_TCP(type, protocol) (casa_tcp)
#define CASA_IS_UDP(type, protocol) (!casa_tcp)
#define bpf_map_update_elem(map, key, value, flags) ((void)(map), (void)(key), (void)(value), -7)
#define bpf_sk_storage_get(map, sk, value, flags) \
  (casa_no_storage ? (void*)0 : bpf_sk_storage_get(map, sk, value, flags))

#include "enforce.bpf.c"
