/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tries what a kernel offers, with programs that do nothing: what a version number or a file in
 * /sys promises may be forbidden. Each returns 0, or -errno when it cannot be done.
 */
#ifndef TLSTRACE_TRIAL_H
#define TLSTRACE_TRIAL_H

#include <linux/bpf.h>

/*
 * Loads a program that does nothing, of a type, for an attach type, on the kernel function of a BTF
 * id (0: none). Its fd, to be closed, or -errno.
 */
int trial__load(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id);

/* Loads a program for a probe. */
int trial__program(void);

/* Makes a ring buffer (5.8+). */
int trial__ring_buffer(void);

/* Finds the kernel's own types. */
int trial__btf(void);

/* Attaches to a raw tracepoint, e.g. "sched_process_exec". */
int trial__raw_tracepoint(const char *name);

/* Attaches to the return of a kernel function by its BTF type (fexit). */
int trial__fexit(const char *function);

/* Attaches to the entry of a kernel function by a kprobe. */
int trial__kprobe(const char *function);

/* Whether there are uprobes; the trial is emulation__try(). */
int trial__uprobe(void);

/* uprobe_multi links (6.6+). */
int trial__uprobe_multi(void);

/* Whether uprobes' programs can call a helper. */
int trial__helper(enum bpf_func_id id);

#endif
