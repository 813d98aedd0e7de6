/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads UTF-8 out of bytes that may be anything. Does no I/O and keeps nothing. */
#ifndef TLSTRACE_UTF8_H
#define TLSTRACE_UTF8_H

#include "base/bytes.h"

#define UTF8_INVALID UINT32_MAX

/*
 * The first code point of `view`, which must not be empty; returns its size in bytes. Where there
 * is none, *ret_code_point is UTF8_INVALID and the size that of the maximal subpart (Unicode 15,
 * 3.9, "U+FFFD Substitution of Maximal Subparts"), at least 1.
 */
size_t utf8__next(struct bytes view, uint32_t *ret_code_point);

#endif
