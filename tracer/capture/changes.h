/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tells when files that have probes are written to. A probe belongs to a place in a file; the
 * kernel puts it there whatever the file holds by then, and in the middle of an instruction it is
 * deadly. An executable can be written to only while nobody runs it (ETXTBSY), so there is a moment
 * between what is told here and the first instruction of the new code.
 */
#ifndef TLSTRACE_CHANGES_H
#define TLSTRACE_CHANGES_H

#include <stdbool.h>

/* An inotify descriptor, readable when something has changed. -errno. */
int changes__open(void);

/* From now on a change of the file that `path` opens is told. What names it there, or -errno. */
int changes__watch(int fd, const char *path);

/* The next file that was written to. False when there is none; -1 when some were not told of. */
bool changes__next(int fd, int *ret_watch);

#endif
