// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Probes on the functions of TLS libraries that take and give clear text, and news of the processes in which they are. Put on by the
 * daemon, by the file's inode, while a workload is observed and a process of it maps the file (datapath/tls_probes.h). Every process
 * of this host that calls such a function comes by here: one that is not observed leaves after two look-ups.
 */
#include "lib/tls_observer.h"

#include <linux/ptrace.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct signal_struct {
  struct {
    int counter;
  } live;
};
struct task_struct {
  int pid;
  int tgid;
  struct signal_struct *signal;
};
#pragma clang attribute pop

/* A call that has not returned. How much was sent is known only then: a write that would block is called again with the same bytes. */
struct casa_tls_call {
  casa_u64 connection;
  casa_u64 from;
  casa_u64 count_at;
  casa_u64 what; /* the probe's cookie */
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_TLS_CALLS);
  __type(key, casa_u64); /* thread */
  __type(value, struct casa_tls_call);
} casa_tls_call SEC(".maps");

SEC("uprobe")
int casa_ssl_call(struct pt_regs *ctx) {
  casa_u64 what = bpf_get_attach_cookie(ctx), thread = bpf_get_current_pid_tgid();
  if (!casa_tls_observed(what & CASA_TLS_KINDS))
    return 0;
  struct casa_tls_call call = {
      .connection = PT_REGS_PARM1(ctx),
      .from = PT_REGS_PARM2(ctx),
      .count_at = PT_REGS_PARM4(ctx),
      .what = what,
  };
  bpf_map_update_elem(&casa_tls_call, &thread, &call, BPF_ANY);
  return 0;
}

SEC("uretprobe")
int casa_ssl_return(struct pt_regs *ctx) {
  casa_u64 thread = bpf_get_current_pid_tgid(), n = 0;
  struct casa_tls_call *known = bpf_map_lookup_elem(&casa_tls_call, &thread);
  if (!known)
    return 0;
  struct casa_tls_call call = *known;
  bpf_map_delete_elem(&casa_tls_call, &thread);
  int result = PT_REGS_RC(ctx);
  if (result <= 0)
    return 0;
  n = result;
  if (call.what & CASA_TLS_COUNTS && bpf_probe_read_user(&n, sizeof(n), (const void *)call.count_at))
    return 0;
  casa_tls_bytes(call.connection, call.from, n, call.what & CASA_TLS_READS ? CASA_TLS_READ : CASA_TLS_WRITE);
  return 0;
}

/* SSL_free, SSL_clear: the next connection may have the same pointer. */
SEC("uprobe")
int casa_ssl_free(struct pt_regs *ctx) {
  casa_tls_forget(PT_REGS_PARM1(ctx));
  return 0;
}

/*
 * Go passes arguments in registers of its own (1.17 and later): the receiver, then the slice's pointer and length; results too; and the
 * goroutine has one. The probes stand behind the functions' check of the stack, which a call may pass more than once (observe/go_code.h).
 */
#if defined(__TARGET_ARCH_x86)
#define CASA_GO_ROUTINE(ctx) ((ctx)->r14)
#define CASA_GO_1(ctx) ((ctx)->rax)
#define CASA_GO_2(ctx) ((ctx)->rbx)
#define CASA_GO_3(ctx) ((ctx)->rcx)
#elif defined(__TARGET_ARCH_arm64)
#define CASA_GO_ROUTINE(ctx) (((struct user_pt_regs *)(ctx))->regs[28])
#define CASA_GO_1(ctx) (((struct user_pt_regs *)(ctx))->regs[0])
#define CASA_GO_2(ctx) (((struct user_pt_regs *)(ctx))->regs[1])
#define CASA_GO_3(ctx) (((struct user_pt_regs *)(ctx))->regs[2])
#else
#error "which registers has Go's calling convention on this machine?"
#endif

/* crypto/tls.(*Conn).Write. It is not called again with bytes that went out, so that the call tells enough. */
SEC("uprobe")
int casa_go_write(struct pt_regs *ctx) {
  if (!casa_tls_observed(CASA_TLS_GO))
    return 0;
  casa_tls_bytes(CASA_GO_1(ctx), CASA_GO_2(ctx), CASA_GO_3(ctx), CASA_TLS_WRITE);
  return 0;
}

/* A Read that has not returned. */
struct casa_go_call {
  casa_u64 connection;
  casa_u64 into;     /* the buffer; on the goroutine's stack: less the stack's upper end */
  casa_u64 on_stack; /* 1: it is */
};

/* By goroutine and process: a goroutine may go on on another thread. A Read that ends in a panic stays until its goroutine's next. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, CASA_MAX_GO_READS);
  __type(key, struct casa_tls_key);
  __type(value, struct casa_go_call);
} casa_go_call SEC(".maps");

/* What every goroutine's descriptor begins with. */
struct casa_go_stack {
  casa_u64 low;
  casa_u64 high;
};

/*
 * crypto/tls.(*Conn).Read. Where its bytes are is known here, how many they are when it returns. A uretprobe would put an address onto the
 * stack, which Go moves and looks through; so there is a probe on each of its instructions that return. When a stack moves, all that is on it
 * keeps its distance from the upper end.
 */
SEC("uprobe")
int casa_go_read(struct pt_regs *ctx) {
  if (!casa_tls_observed(CASA_TLS_GO))
    return 0;
  casa_u32 pid = bpf_get_current_pid_tgid() >> 32;
  struct casa_tls_key connection = {.connection = CASA_GO_1(ctx), .pid = pid};
  struct casa_tls_conn *c = bpf_map_lookup_elem(&casa_tls_conn, &connection);
  if (c && (c->over || c->side == CASA_TLS_WRITE))
    return 0;
  struct casa_tls_key routine = {.connection = CASA_GO_ROUTINE(ctx), .pid = pid};
  struct casa_go_call read = {.connection = connection.connection, .into = CASA_GO_2(ctx)};
  struct casa_go_stack stack;
  if (bpf_probe_read_user(&stack, sizeof(stack), (const void *)routine.connection))
    return 0;
  if (read.into >= stack.low && read.into < stack.high) {
    read.into -= stack.high;
    read.on_stack = 1;
  }
  bpf_map_update_elem(&casa_go_call, &routine, &read, BPF_ANY);
  return 0;
}

/* An instruction of Read that returns: the first result is how many bytes. There may be an error beside them. */
SEC("uprobe")
int casa_go_return(struct pt_regs *ctx) {
  struct casa_tls_key routine = {.connection = CASA_GO_ROUTINE(ctx), .pid = bpf_get_current_pid_tgid() >> 32};
  struct casa_go_call *known = bpf_map_lookup_elem(&casa_go_call, &routine);
  if (!known)
    return 0;
  struct casa_go_call read = *known;
  bpf_map_delete_elem(&casa_go_call, &routine);
  casa_u64 n = CASA_GO_1(ctx);
  struct casa_go_stack stack = {};
  if (read.on_stack && bpf_probe_read_user(&stack, sizeof(stack), (const void *)routine.connection))
    return 0;
  casa_tls_bytes(read.connection, read.into + stack.high, n, CASA_TLS_READ);
  return 0;
}

/* crypto/tls.(*Conn).Close */
SEC("uprobe")
int casa_go_close(struct pt_regs *ctx) {
  casa_tls_forget(CASA_GO_1(ctx));
  return 0;
}

static __always_inline void casa_tell_process(casa_u32 pid, casa_u32 news) {
  casa_u32 subject = casa_tls_observed(CASA_TLS_KINDS);
  if (!subject)
    return;
  casa_u64 instance = casa_instance_of_task();
  struct casa_event *e = casa_reserve_event();
  if (!e)
    return;
  __builtin_memset(e, 0, sizeof(*e));
  e->time_ns = bpf_ktime_get_ns();
  e->cookie = instance;
  e->subject = subject;
  e->pid = pid;
  e->kind = CASA_EVENT_PROCESS;
  e->flags = news;
  e->count = 1;
  bpf_get_current_comm(e->comm, CASA_COMM_LEN);
  bpf_ringbuf_submit(e, casa_wake_flags());
}

/*
 * _dl_debug_state: the dynamic linker calls it for debuggers whenever files were mapped or unmapped, before the program runs and at each
 * dlopen(). That is how a library that is loaded late is found without looking again and again.
 */
SEC("uprobe")
int casa_ld_state(struct pt_regs *ctx) {
  casa_tell_process(bpf_get_current_pid_tgid() >> 32, CASA_PROCESS_LIBRARY);
  return 0;
}

SEC("raw_tp/sched_process_exec")
int casa_proc_exec(struct bpf_raw_tracepoint_args *ctx) {
  casa_tell_process(bpf_get_current_pid_tgid() >> 32, CASA_PROCESS_EXEC);
  return 0;
}

SEC("raw_tp/sched_process_fork")
int casa_proc_fork(struct bpf_raw_tracepoint_args *ctx) {
  struct task_struct *child = (struct task_struct *)ctx->args[1];
  int pid = BPF_CORE_READ(child, pid), tgid = BPF_CORE_READ(child, tgid);
  if (pid == tgid)
    casa_tell_process(pid, CASA_PROCESS_FORK);
  return 0;
}

/* The last thread of a process. */
SEC("raw_tp/sched_process_exit")
int casa_proc_exit(struct bpf_raw_tracepoint_args *ctx) {
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  if (!BPF_CORE_READ(task, signal, live.counter))
    casa_tell_process(bpf_get_current_pid_tgid() >> 32, CASA_PROCESS_EXIT);
  return 0;
}
