/* SPDX-License-Identifier: BSD-2-Clause */
/* What this kernel and these privileges allow, found by trying. */
#ifndef TLSTRACE_CHECK_H
#define TLSTRACE_CHECK_H

/* Prints a line per feature and what follows from it to stdout. The exit status: 0, or 3 when
 * tracing is not possible. */
int check__run(void);

#endif
