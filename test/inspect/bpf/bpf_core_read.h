/*
 * Stands in for libbpf's header of this name where bpf/ is compiled for user space (../inspect.c). There is no kernel object
 * behind the made packets: whatever is read of one is zero, and a pointer is to such zeros; a byte is casa_user_page_flags.
 */
#pragma once

extern unsigned char casa_user_page_flags; /* of the packet (SKBFL_*) */

static inline int machine_core_read(void* to, unsigned size, const void* from) {
  static const unsigned char zeros[256];
  const void* object = zeros;
  (void)from;
  if (size == 1) __builtin_memcpy(to, &casa_user_page_flags, 1);
  else if (size == sizeof(object)) __builtin_memcpy(to, &object, sizeof(object));
  else __builtin_memset(to, 0, size);
  return 0;
}

#define bpf_core_read(to, size, from) machine_core_read(to, size, from)
#define bpf_probe_read_kernel(to, size, from) machine_core_read(to, size, from)
