/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which instructions the running kernel emulates under a uprobe, found by trying and without
 * timing: a child of ours runs each with a uprobe on it; if the kernel had to single-step it, the
 * child's memory has an `[uprobes]` mapping from then on (xol_add_vma() in
 * kernel/events/uprobes.c).
 */
#ifndef TLSTRACE_EMULATION_H
#define TLSTRACE_EMULATION_H

#include <stdbool.h>

#include "placement.h"

/*
 * 0, or -errno when it cannot be tried (without the privilege, or without uprobe_multi links, whose
 * one removal does not take long): emulated__default() is then the best guess. An instruction that
 * could not be tried counts as not emulated. Forks: to be called before there are threads (but
 * that it leaves one behind, which closes what was tried with).
 */
int emulation__try(struct emulated *ret_emulated);

/* The instructions of a class on this machine, for people; NULL when it has none of them. */
const char *emulation__class_name(enum instruction_class class);

/*
 * Whether a process confined by seccomp lives through a uretprobe: kernels 6.11 to 6.13 return from
 * one by a system call that a filter kills for (systemd issue 34615). Tried on a child of ours; the
 * same is to be said of forking.
 */
bool uretprobe__is_safe(void);

#endif
