/* SPDX-License-Identifier: BSD-2-Clause */
/* Closes what takes the kernel a grace period to close, while the program goes on. */
#ifndef TLSTRACE_CLOSING_H
#define TLSTRACE_CLOSING_H

/*
 * Closes `fd`, in a thread where there can be one. The process does not end before it is closed.
 * What forks meanwhile may have to do the closing itself, so a process that must not be late had
 * better be forked before.
 */
void closing__begin(int fd);

#endif
