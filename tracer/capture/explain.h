/* SPDX-License-Identifier: BSD-2-Clause */
/* What would be done with one process, without doing it. */
#ifndef TLSTRACE_EXPLAIN_H
#define TLSTRACE_EXPLAIN_H

#include <sys/types.h>

/*
 * Prints to stdout, for people, what was found in a process and what would be attached; where that
 * takes a privilege that is missing, what cannot be told. Attaches nothing to the process. The exit
 * status: 0, or 1 when there is no such process that could be traced. Forks: see emulation.h.
 */
int explain__run(pid_t pid);

#endif
