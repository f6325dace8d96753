/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The observers of TLS libraries (bpf/tls_observer.bpf.c): which workloads are observed, what a probe was put on, and news of their
 * processes. Numbers are host order. Nothing here is pinned: without a daemon nobody observes.
 */
#ifndef CASA_ABI_TLS_H
#define CASA_ABI_TLS_H

#include "types.h"

/* casa_tls_wanted: hash, identity of a workload to which kinds of library are observed in its processes. */
#define CASA_TLS_OPENSSL 1 /* libssl.so */
#define CASA_TLS_NODE 2    /* OpenSSL inside an executable, which exports its functions, as node does */
#define CASA_TLS_GO 4      /* crypto/tls of Go */
#define CASA_TLS_KINDS 7

/* The cookie of a probe: the kind of what it was put on, and what the function does. */
#define CASA_TLS_READS 8   /* it brings bytes of the other end; without it: it sends some */
#define CASA_TLS_COUNTS 16 /* ..._ex: how many it were stands behind the fourth argument, and 1 is success */

/*
 * CASA_EVENT_PROCESS, a struct casa_event: `pid` of a workload that is observed (`subject`; `cookie` is its cgroup's id, 0 at its end) did
 * what `flags` says.
 */
enum casa_process_news {
  CASA_PROCESS_EXEC = 1,
  CASA_PROCESS_FORK = 2,    /* `pid` is the new one */
  CASA_PROCESS_LIBRARY = 3, /* its dynamic linker mapped files, or unmapped some */
  CASA_PROCESS_EXIT = 4,
};

#define CASA_MAX_TLS_SUBJECTS 4096
#define CASA_MAX_TLS_CONNECTIONS 4096 /* LRU: what is forgotten is told as it is found again */
#define CASA_MAX_TLS_CALLS 8192       /* threads that are inside such a function */
#define CASA_MAX_GO_READS 16384       /* goroutines that wait in a Read: one for each connection a server keeps */

#endif
