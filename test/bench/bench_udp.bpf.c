// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The enforcement programs, taking the test run's socket for UDP. */
#define CASA_IS_TCP(type, protocol) 0
#define CASA_IS_UDP(type, protocol) 1
#include "enforce.bpf.c"
