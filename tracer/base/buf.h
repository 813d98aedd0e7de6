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
 * Appends all of `bytes` or nothing. 0, -ENOSPC when that would pass the maximum, -ENOMEM.
 * `bytes` may not point into the buffer itself.
 */
int buf__append(struct buf *buf, struct bytes bytes);

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
