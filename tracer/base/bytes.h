/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A view of bytes that somebody else owns, and the bounds-checked reader through which all
 * captured or read input goes. Nothing here allocates or fails for another reason than bounds.
 */
#ifndef TLSTRACE_BYTES_H
#define TLSTRACE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *data;
	size_t size;
};

static inline struct bytes bytes__of(const void *data, size_t size)
{
	return (struct bytes){.data = data, .size = size};
}

/* The view of a terminated string, without its terminator. */
static inline struct bytes bytes__str(const char *str)
{
	return bytes__of(str, strlen(str));
}

/*
 * `size` bytes at `offset`, or NULL when they are not all inside the view. Offsets come from
 * hostile input: the comparison cannot overflow.
 */
static inline const void *bytes__at(struct bytes view, size_t offset, size_t size)
{
	if (offset > view.size || size > view.size - offset)
		return NULL;
	return view.data + offset;
}

/* The view from `offset` on; empty when `offset` is past the end. */
static inline struct bytes bytes__from(struct bytes view, size_t offset)
{
	if (offset > view.size)
		offset = view.size;
	return bytes__of(view.data + offset, view.size - offset);
}

/* The first `size` bytes, or all when there are fewer. */
static inline struct bytes bytes__first(struct bytes view, size_t size)
{
	return bytes__of(view.data, size < view.size ? size : view.size);
}

static inline bool bytes__equal(struct bytes a, struct bytes b)
{
	return a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size));
}

static inline uint8_t ascii__lower(uint8_t c)
{
	return (uint8_t)(c | ((uint8_t)(c - 'A') < 26) << 5);
}

/* Equality of ASCII text, letters compared without case. */
static inline bool bytes__equal_nocase(struct bytes a, struct bytes b)
{
	if (a.size != b.size)
		return false;
	for (size_t i = 0; i < a.size; i++)
		if (ascii__lower(a.data[i]) != ascii__lower(b.data[i]))
			return false;
	return true;
}

/* Index of `byte`, or view.size when it does not occur. */
static inline size_t bytes__find(struct bytes view, uint8_t byte)
{
	const void *hit = view.size ? memchr(view.data, byte, view.size) : NULL;

	return hit ? (size_t)((const uint8_t *)hit - view.data) : view.size;
}

/* The view without the spaces and tabs (HTTP's OWS, RFC 9110 5.6.3) at both ends. */
static inline struct bytes bytes__trim(struct bytes view)
{
	while (view.size && (view.data[0] == ' ' || view.data[0] == '\t')) {
		view.data++;
		view.size--;
	}
	while (view.size && (view.data[view.size - 1] == ' ' || view.data[view.size - 1] == '\t'))
		view.size--;
	return view;
}

#endif
