/*
 * Stands in for libbpf's header of this name where bpf/ is compiled for user space (../inspect.c).
 */
#pragma once

#include <asm/byteorder.h>

#define bpf_htons(x) __cpu_to_be16(x)
#define bpf_ntohs(x) __be16_to_cpu(x)
#define bpf_htonl(x) __cpu_to_be32(x)
#define bpf_ntohl(x) __be32_to_cpu(x)
