/* SPDX-License-Identifier: BSD-2-Clause */
/* A growing byte buffer with a maximum. See buf.h. */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_CAPACITY_BYTES 256

void buf__init(struct buf *buf, size_t max_bytes)
{
	*buf = (struct buf){.max = max_bytes};
}

void buf__free(struct buf *buf)
{
	if (!buf)
		return;
	free(buf->data);
	buf__init(buf, buf->max);
}

int buf__reserve(struct buf *buf, size_t more)
{
	size_t capacity = buf->capacity ? buf->capacity : FIRST_CAPACITY_BYTES;
	size_t need;
	uint8_t *data;

	if (more > buf->max - buf->size)
		return -ENOSPC;
	need = buf->size + more;
	if (need <= buf->capacity)
		return 0;
	while (capacity < need)
		capacity *= 2;
	if (capacity > buf->max)
		capacity = buf->max;
	data = realloc(buf->data, capacity);
	if (!data)
		return -ENOMEM;
	buf->data = data;
	buf->capacity = capacity;
	return 0;
}

int buf__append_growing(struct buf *buf, struct bytes bytes)
{
	int err = buf__reserve(buf, bytes.size);

	if (err)
		return err;
	memcpy(buf->data + buf->size, bytes.data, bytes.size);
	buf->size += bytes.size;
	return 0;
}

int buf__printf(struct buf *buf, const char *format, ...)
{
	char small[256];
	char *text = small;
	va_list args;
	int size, err;

	va_start(args, format);
	size = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	if (size < 0)
		return -EINVAL;
	if ((size_t)size >= sizeof(small)) {
		text = malloc((size_t)size + 1);
		if (!text)
			return -ENOMEM;
		va_start(args, format);
		vsnprintf(text, (size_t)size + 1, format, args);
		va_end(args);
	}
	err = buf__append(buf, bytes__of(text, (size_t)size));
	if (text != small)
		free(text);
	return err;
}
