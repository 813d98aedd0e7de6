/* SPDX-License-Identifier: BSD-2-Clause */
/* The libraries that an executable will load at its start. */
#ifndef TLSTRACE_CLOSURE_H
#define TLSTRACE_CLOSURE_H

/* Takes the path of a library. */
typedef void library_fn(void *context, const char *path);

/*
 * Asks the executable's dynamic linker, `interpreter`, which libraries it would load for it, as
 * ldd does, with an empty environment; the executable itself is not run. Calls `fn` for each. 0;
 * -ENOTSUP when the linker is not glibc's, which alone can be asked, or could be somebody else's
 * than root's program; another -errno, or -ECHILD when the linker did not like the file.
 */
int closure__each_library(const char *interpreter, const char *executable, library_fn *fn,
			  void *context);

#endif
