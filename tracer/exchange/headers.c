/* SPDX-License-Identifier: BSD-2-Clause */
/* Header fields: text in one buffer, and where each name and value is in it. See exchange.h. */
#include "exchange/exchange.h"

#include <errno.h>
#include <stdlib.h>

void headers__init(struct headers *headers)
{
	*headers = (struct headers){0};
	buf__init(&headers->text, HEADERS_MAX_BYTES);
}

void headers__free(struct headers *headers)
{
	buf__free(&headers->text);
	free(headers->fields);
	headers__init(headers);
}

static int headers__reserve(struct headers *headers)
{
	size_t capacity = headers->capacity ? headers->capacity * 2 : 16;
	struct field *fields;

	if (headers->count < headers->capacity)
		return 0;
	if (headers->count >= HEADERS_MAX_FIELDS)
		return -ENOSPC;
	fields = realloc(headers->fields, capacity * sizeof(*fields));
	if (!fields)
		return -ENOMEM;
	headers->fields = fields;
	headers->capacity = capacity;
	return 0;
}

int headers__add(struct headers *headers, struct bytes name, struct bytes value)
{
	size_t start = headers->text.size;
	int err = headers__reserve(headers);

	if (!err)
		err = buf__append(&headers->text, name);
	if (!err)
		err = buf__append(&headers->text, value);
	if (err) {
		headers->text.size = start;
		if (err == -ENOSPC)
			headers->truncated = true;
		return err;
	}
	headers->fields[headers->count++] = (struct field){
		.name_offset = (uint32_t)start,
		.name_size = (uint32_t)name.size,
		.value_offset = (uint32_t)(start + name.size),
		.value_size = (uint32_t)value.size,
	};
	return 0;
}

int headers__extend_last(struct headers *headers, struct bytes more)
{
	int err;

	if (!headers->count)
		return -EINVAL;
	err = buf__append(&headers->text, more);
	if (err == -ENOSPC)
		headers->truncated = true;
	if (!err)
		headers->fields[headers->count - 1].value_size += (uint32_t)more.size;
	return err;
}

struct bytes headers__name(const struct headers *headers, size_t index)
{
	const struct field *field = &headers->fields[index];

	return bytes__of(headers->text.data + field->name_offset, field->name_size);
}

struct bytes headers__value(const struct headers *headers, size_t index)
{
	const struct field *field = &headers->fields[index];

	return bytes__of(headers->text.data + field->value_offset, field->value_size);
}

size_t headers__find(const struct headers *headers, const char *name, size_t from)
{
	struct bytes wanted = bytes__str(name);

	for (; from < headers->count; from++)
		if (bytes__equal_nocase(headers__name(headers, from), wanted))
			return from;
	return headers->count;
}
