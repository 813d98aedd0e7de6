/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes JSON into a buffer. See json.h. */
#include "base/json.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

struct json json__begin(struct buf *out)
{
	return (struct json){.out = out};
}

int json__end(const struct json *json)
{
	return json->err;
}

static void json__raw(struct json *json, const void *data, size_t size)
{
	if (!json->err)
		json->err = buf__append(json->out, bytes__of(data, size));
}

/* What stands before a value: a comma where one is due, and the member's name. */
static void json__before(struct json *json, const char *name)
{
	if (json->comma)
		json__raw(json, ",", 1);
	json->comma = true;
	if (!name)
		return;
	json__raw(json, "\"", 1);
	json__raw(json, name, strlen(name));
	json__raw(json, "\":", 2);
}

void json__object(struct json *json, const char *name)
{
	json__before(json, name);
	json__raw(json, "{", 1);
	json->comma = false;
}

void json__object_end(struct json *json)
{
	json__raw(json, "}", 1);
	json->comma = true;
}

void json__array(struct json *json, const char *name)
{
	json__before(json, name);
	json__raw(json, "[", 1);
	json->comma = false;
}

void json__array_end(struct json *json)
{
	json__raw(json, "]", 1);
	json->comma = true;
}

/* Bytes that go into a string as they are; DEL is escaped for the sake of terminals. */
static bool json__is_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void json__escaped(struct json *json, uint32_t control)
{
	static const char letters[] = "btn\0fr"; /* of 0x08 to 0x0d; 0x0b has none */
	char text[8];
	int size;

	if (control == '"' || control == '\\')
		size = snprintf(text, sizeof(text), "\\%c", (char)control);
	else if (control >= 0x08 && control <= 0x0d && control != 0x0b)
		size = snprintf(text, sizeof(text), "\\%c", letters[control - 0x08]);
	else
		size = snprintf(text, sizeof(text), "\\u%04" PRIx32, control);
	json__raw(json, text, (size_t)size);
}

static void json__quoted(struct json *json, struct bytes value)
{
	size_t pos = 0;

	json__raw(json, "\"", 1);
	while (pos < value.size && !json->err) {
		size_t start = pos;
		uint32_t code_point;
		size_t size;

		while (pos < value.size && json__is_plain(value.data[pos]))
			pos++;
		if (pos > start) {
			json__raw(json, value.data + start, pos - start);
			continue;
		}
		size = utf8__next(bytes__from(value, pos), &code_point);
		if (code_point == UTF8_INVALID)
			json__raw(json, "\xef\xbf\xbd", 3); /* U+FFFD */
		else if (code_point < 0xa0) /* C1 controls too: terminals act on them */
			json__escaped(json, code_point);
		else
			json__raw(json, value.data + pos, size);
		pos += size;
	}
	json__raw(json, "\"", 1);
}

void json__string(struct json *json, const char *name, struct bytes value)
{
	json__before(json, name);
	json__quoted(json, value);
}

void json__key(struct json *json, struct bytes name)
{
	json__before(json, NULL);
	json__quoted(json, name);
	json__raw(json, ":", 1);
	json->comma = false;
}

void json__uint(struct json *json, const char *name, uint64_t value)
{
	char text[24];
	int size = snprintf(text, sizeof(text), "%" PRIu64, value);

	json__before(json, name);
	json__raw(json, text, (size_t)size);
}

void json__bool(struct json *json, const char *name, bool value)
{
	json__before(json, name);
	json__raw(json, value ? "true" : "false", value ? 4 : 5);
}

void json__ms(struct json *json, const char *name, uint64_t value_ns)
{
	uint64_t us = value_ns / 1000;
	char text[32];
	int size = snprintf(text, sizeof(text), "%" PRIu64 ".%03" PRIu64, us / 1000, us % 1000);

	json__before(json, name);
	json__raw(json, text, (size_t)size);
}
