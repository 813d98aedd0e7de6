/* SPDX-License-Identifier: BSD-2-Clause */
/* What a process is that somebody wants traced or explained, read from /proc; attaches nothing. */
#ifndef TLSTRACE_TARGET_H
#define TLSTRACE_TARGET_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "symbols.h"

/*
 * Whether a PID that the user gave, of a process or a thread, is a process that can have TLS code:
 * 0 with the process's id, or a message and the exit status 1 when it is gone, a kernel thread or
 * tlstrace itself. Needs no privilege.
 */
int target__check(pid_t pid, pid_t *ret_group);

/* The path of a process's executable. False with errno, ENOENT when it is gone or has none. */
bool target__executable(pid_t pid, char ret_path[PATH_MAX]);

/* The running children of a process, at most `max`. How many; 0 where the kernel lists none. */
size_t target__children(pid_t pid, size_t max, pid_t ret_children[]);

/*
 * Whether the file is a dynamic loader, by its name, and the file offset of the function that it
 * calls when it has mapped files, for debuggers (_dl_debug_state); 0: it has no such symbol.
 */
bool target__is_loader(const struct mapped_file *mapped, struct elf_file *elf,
		       uint64_t *ret_offset);

#endif
