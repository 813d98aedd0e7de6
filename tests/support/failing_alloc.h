/* SPDX-License-Identifier: BSD-2-Clause */
/* Makes a chosen allocation fail. The test binary wraps malloc, calloc and realloc (Makefile). */
#ifndef FAILING_ALLOC_H
#define FAILING_ALLOC_H

#include <stdbool.h>

/* From now on the `nth` allocation (0: the next) fails, once. */
void failing_alloc__arm(unsigned int nth);

/* Back to normal; whether the armed failure happened. */
bool failing_alloc__disarm(void);

#endif
