/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads UTF-8 out of bytes that may be anything. See utf8.h. */
#include "base/utf8.h"

/*
 * Table 3-7 of the Unicode standard: only the second byte has a range of its own, which is what
 * keeps out overlong forms, surrogates and what is beyond U+10FFFF.
 */
size_t utf8__next(struct bytes view, uint32_t *ret_code_point)
{
	uint8_t first = view.data[0];
	uint8_t low = 0x80, high = 0xbf;
	uint32_t code_point;
	size_t size;

	*ret_code_point = UTF8_INVALID;
	if (first < 0x80) {
		*ret_code_point = first;
		return 1;
	}
	if (first < 0xc2 || first > 0xf4)
		return 1;
	if (first < 0xe0) {
		size = 2;
		code_point = first & 0x1f;
	} else if (first < 0xf0) {
		size = 3;
		code_point = first & 0x0f;
	} else {
		size = 4;
		code_point = first & 0x07;
	}
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;

	for (size_t i = 1; i < size; i++) {
		if (i >= view.size || view.data[i] < low || view.data[i] > high)
			return i;
		code_point = code_point << 6 | (view.data[i] & 0x3f);
		low = 0x80;
		high = 0xbf;
	}
	*ret_code_point = code_point;
	return size;
}
