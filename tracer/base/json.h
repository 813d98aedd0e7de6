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

/* `name` is ASCII that needs no escaping; NULL for an element of an array or the top value. */
void json__object(struct json *json, const char *name);
void json__object_end(struct json *json);
void json__array(struct json *json, const char *name);
void json__array_end(struct json *json);
void json__string(struct json *json, const char *name, struct bytes value);
void json__uint(struct json *json, const char *name, uint64_t value);
void json__bool(struct json *json, const char *name, bool value);

/* Milliseconds with microsecond digits, from nanoseconds (1234567 -> 1.234). */
void json__ms(struct json *json, const char *name, uint64_t value_ns);

/* A member name from captured bytes, escaped as a string is; a value must follow. */
void json__key(struct json *json, struct bytes name);

#endif
