/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers as decimal digits. Own code, because a log line has a dozen numbers and printf takes
 * longer for them than all the rest of the line.
 */
#ifndef TLSTRACE_DECIMAL_H
#define TLSTRACE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/* The digits of UINT64_MAX. */
#define DECIMAL_MAX_DIGITS 20

/*
 * Writes the digits of `value` so that they end in front of `end`, with zeros before them where
 * they are fewer than `width`; returns where they begin. There is room for DECIMAL_MAX_DIGITS, or
 * `width` if that is more. Backwards, because that is how digits are found.
 */
static inline char *decimal__write(char *end, uint64_t value, size_t width)
{
	char *start = end;

	do {
		*--start = (char)('0' + value % 10);
		value /= 10;
	} while (value || (size_t)(end - start) < width);
	return start;
}

#endif
