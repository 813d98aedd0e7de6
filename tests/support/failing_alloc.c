/* SPDX-License-Identifier: BSD-2-Clause */
/* Makes a chosen allocation fail. See failing_alloc.h. */
#include "failing_alloc.h"

#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool armed, fired;
static unsigned int left;

void failing_alloc__arm(unsigned int nth)
{
	armed = true;
	fired = false;
	left = nth;
}

bool failing_alloc__disarm(void)
{
	armed = false;
	return fired;
}

static bool fails_now(void)
{
	if (!armed || fired)
		return false;
	if (left--)
		return false;
	fired = true;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails_now() ? NULL : __real_realloc(old, size);
}
