/* SPDX-License-Identifier: BSD-2-Clause */
/* The clock of the records. Not for the library, which takes time from records alone. */
#ifndef TLSTRACE_CLOCK_H
#define TLSTRACE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC. */
static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
