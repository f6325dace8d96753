// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A declared cgroup is under enforcement from the mkdir() that makes it, before its first process can run, and with the
 * daemon dead as well: its path is looked up in casa_cgpath and its id entered into casa_cgroup here, in the kernel.
 */
#include "lib/emit.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void casa_tell_cgroup(casa_u64 id, casa_u32 subject, casa_u8 flags) {
  struct casa_event *e = casa_reserve_event();
  if (!e)
    return;
  __builtin_memset(e, 0, sizeof(*e));
  e->time_ns = bpf_ktime_get_ns();
  e->cookie = id;
  e->subject = subject;
  e->kind = CASA_EVENT_CGROUP;
  e->flags = flags;
  bpf_ringbuf_submit(e, casa_wake_flags());
}

#define CASA_CGROUP_NAME_MAX 128

/* ".../name@instance.service" becomes ".../name@"; returns 0 when the last component has no '@'. */
static __always_inline int casa_cut_instance(struct cgroup *cgroup, const char *path, long path_length,
                                             struct casa_cgpath_key *key) {
  const char *name = BPF_CORE_READ(cgroup, kn, name);
  long length = bpf_probe_read_kernel_str(key->path, CASA_CGROUP_NAME_MAX, name);
  if (length <= 0)
    return 0;
  for (casa_u32 i = 0; i < CASA_CGROUP_NAME_MAX; i++) {
    if (!key->path[i])
      return 0;
    if (key->path[i] == '@') {
      casa_u32 keep = (casa_u32)(path_length - length) + i + 1;
      __builtin_memset(key, 0, sizeof(*key));
      asm volatile("" : "+r"(keep));
      if (keep >= CASA_CGROUP_PATH_MAX)
        return 0;
      return bpf_probe_read_kernel(key->path, keep, path) == 0;
    }
  }
  return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(casa_cgmkdir, struct cgroup *cgroup, const char *path) {
  struct casa_cgpath_key key = {};
  if (cgroup->root->hierarchy_id != 0) /* 0 is the cgroup2 hierarchy */
    return 0;
  long length = bpf_probe_read_kernel_str(key.path, sizeof(key.path), path);
  if (length < 0)
    return 0;
  struct casa_versioned *declared = bpf_map_lookup_elem(&casa_cgpath, &key);
  if (!declared && casa_cut_instance(cgroup, path, length, &key))
    declared = bpf_map_lookup_elem(&casa_cgpath, &key);
  if (!declared)
    return 0;
  casa_u64 id = cgroup->kn->id;
  struct casa_versioned entry = *declared;
  /* What cannot be entered is not silently free: inside a MAS slice it is undeclared, and the count raises an alarm. */
  if (bpf_map_update_elem(&casa_cgroup, &id, &entry, BPF_ANY))
    casa_count(CASA_STAT_FAIL_CGROUP_INSERT);
  casa_tell_cgroup(id, entry.cur & ~CASA_CGROUP_SLICE, 0);
  return 0;
}

/* Sockets may outlive their cgroup; they keep the subject that their storage holds. */
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(casa_cgrmdir, struct cgroup *cgroup, const char *path) {
  casa_u64 id = cgroup->kn->id;
  if (cgroup->root->hierarchy_id != 0 || !bpf_map_lookup_elem(&casa_cgroup, &id))
    return 0;
  bpf_map_delete_elem(&casa_cgroup, &id);
  casa_tell_cgroup(id, 0, CASA_EVENT_CGROUP_GONE);
  return 0;
}
