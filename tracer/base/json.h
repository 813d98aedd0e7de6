/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes JSON into a buffer. Own code, because the log line writer is on the hot path and must
 * replace bytes that are not UTF-8 by U+FFFD, which packaged writers refuse or pass through.
 * A buffer that runs full or out of memory makes the writer fail for good: check json__end once.
 */
#ifndef TLSTRACE_JSON_H
#define TLSTRACE_JSON_H

#include "base/buf.h"

struct json {
	struct buf *out;
	int err;
	bool comma; /* a value stands before the next one in its container */
};

/* A writer that appends to `out`. */
struct json json__begin(struct buf *out);

/* 0, or the first error: -ENOMEM, -ENOSPC. */
int json__end(const struct json *json);

/* A member name from captured bytes, escaped as a string is; a value must follow. */
void json__key(struct json *json, struct bytes name);

/* The values themselves, without what stands before them. */
void json__quoted(struct json *json, struct bytes value);
void json__digits(struct json *json, uint64_t value);
void json__thousandths(struct json *json, uint64_t value);
void json__literal(struct json *json, struct bytes literal);

/*
 * From here on it is inline: names are literals, and what of known size goes to where there is room
 * takes a few instructions. A line is made of a hundred such pieces.
 */

/* Room for `size` bytes, which the caller writes; NULL when there is none. */
static inline uint8_t *json__room(struct json *json, size_t size)
{
	struct buf *out = json->out;

	if (!json->err && size > out->capacity - out->size)
		json->err = buf__reserve(out, size);
	if (json->err)
		return NULL;
	out->size += size;
	return out->data + out->size - size;
}

static inline void json__byte(struct json *json, char byte)
{
	uint8_t *to = json__room(json, 1);

	if (to)
		*to = (uint8_t)byte;
}

/* What stands before a value: a comma where one is due, and the member's name. */
static inline void json__before(struct json *json, const char *name)
{
	size_t size = name ? strlen(name) : 0;
	uint8_t *to;

	if (json->comma)
		json__byte(json, ',');
	json->comma = true;
	to = name ? json__room(json, size + 3) : NULL;
	if (!to)
		return;
	to[0] = '"';
	memcpy(to + 1, name, size);
	to[1 + size] = '"';
	to[2 + size] = ':';
}

/* `name` is ASCII that needs no escaping; NULL for an element of an array or the top value. */
static inline void json__object(struct json *json, const char *name)
{
	json__before(json, name);
	json__byte(json, '{');
	json->comma = false;
}

static inline void json__object_end(struct json *json)
{
	json__byte(json, '}');
	json->comma = true;
}

static inline void json__array(struct json *json, const char *name)
{
	json__before(json, name);
	json__byte(json, '[');
	json->comma = false;
}

static inline void json__array_end(struct json *json)
{
	json__byte(json, ']');
	json->comma = true;
}

static inline void json__string(struct json *json, const char *name, struct bytes value)
{
	json__before(json, name);
	json__quoted(json, value);
}

static inline void json__uint(struct json *json, const char *name, uint64_t value)
{
	json__before(json, name);
	json__digits(json, value);
}

static inline void json__bool(struct json *json, const char *name, bool value)
{
	json__before(json, name);
	json__literal(json, bytes__str(value ? "true" : "false"));
}

/* Milliseconds with microsecond digits, from nanoseconds (1234567 -> 1.234). */
static inline void json__ms(struct json *json, const char *name, uint64_t value_ns)
{
	json__before(json, name);
	json__thousandths(json, value_ns / 1000);
}

#endif
