/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A growing byte buffer with a maximum. The maximum is set once; nothing grows past it, whatever
 * the input says.
 */
#ifndef TLSTRACE_BUF_H
#define TLSTRACE_BUF_H

#include "base/bytes.h"

struct buf {
	uint8_t *data;
	size_t size;
	size_t capacity;
	size_t max; /* bytes */
};

/* An empty buffer without memory; it allocates when first written. */
void buf__init(struct buf *buf, size_t max_bytes);

/* Gives the memory back; the buffer is empty and usable afterwards. */
void buf__free(struct buf *buf);

/*
 * Makes room for `more` bytes behind its end. 0, -ENOSPC when that would pass the maximum,
 * -ENOMEM.
 */
int buf__reserve(struct buf *buf, size_t more);

/* buf__append where there is no room yet. */
int buf__append_growing(struct buf *buf, struct bytes bytes);

/*
 * Appends all of `bytes` or nothing. Errors as buf__reserve. `bytes` may not point into the buffer
 * itself. Inline, because most of what is appended is a few bytes and fits.
 */
static inline int buf__append(struct buf *buf, struct bytes bytes)
{
	if (!bytes.size)
		return 0;
	/* No memory is larger than PTRDIFF_MAX, gcc wants it said before a memcpy. */
	if (bytes.size > buf->capacity - buf->size || bytes.size > PTRDIFF_MAX)
		return buf__append_growing(buf, bytes);
	memcpy(buf->data + buf->size, bytes.data, bytes.size);
	buf->size += bytes.size;
	return 0;
}

static inline int buf__append_str(struct buf *buf, const char *str)
{
	return buf__append(buf, bytes__str(str));
}

static inline int buf__append_byte(struct buf *buf, uint8_t byte)
{
	return buf__append(buf, bytes__of(&byte, 1));
}

/* printf into the buffer, under buf__append's contract. */
int buf__printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Empties it; the memory is kept for reuse. */
static inline void buf__clear(struct buf *buf)
{
	buf->size = 0;
}

static inline struct bytes buf__view(const struct buf *buf)
{
	return bytes__of(buf->data, buf->size);
}

#endif
