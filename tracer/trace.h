/* SPDX-License-Identifier: BSD-2-Clause */
/* The two ways to run: a live trace, and the replay of a recording. */
#ifndef TLSTRACE_TRACE_H
#define TLSTRACE_TRACE_H

#include "options.h"

/* Each runs to its end, tells on stderr what goes wrong, and gives the program's exit status. */
int trace__run(const struct options *options);
int replay__run(const struct options *options);

#endif
