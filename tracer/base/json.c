/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes JSON into a buffer. See json.h. */
#include "base/json.h"
#include "base/decimal.h"
#include "base/utf8.h"

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
	uint8_t *to = json__room(json, size);

	if (to && size)
		memcpy(to, data, size);
}

/* Bytes that go into a string as they are; DEL is escaped for the sake of terminals. */
static const bool plain[256] = {
	[' ' ... '"' - 1] = true,
	['"' + 1 ... '\\' - 1] = true,
	['\\' + 1 ... '~'] = true,
};

/* How many bytes at the start of `text` are plain. */
static size_t plain_size(struct bytes text)
{
	const uint8_t *data = text.data;
	size_t size = 0;

	for (; text.size - size >= 4; size += 4, data += 4)
		if (!(plain[data[0]] & plain[data[1]] & plain[data[2]] & plain[data[3]]))
			break;
	while (size < text.size && plain[text.data[size]])
		size++;
	return size;
}

static void json__escaped(struct json *json, uint32_t control)
{
	static const char letters[] = "btn\0fr"; /* of 0x08 to 0x0d; 0x0b has none */
	static const char digits[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', digits[control >> 4], digits[control & 0xf]};
	size_t size = 2;

	if (control == '"' || control == '\\')
		text[1] = (char)control;
	else if (control >= 0x08 && control <= 0x0d && control != 0x0b)
		text[1] = letters[control - 0x08];
	else
		size = sizeof(text);
	json__raw(json, text, size);
}

/* Writes the first code point of `text`, which is not plain; its size. */
static size_t json__unplain(struct json *json, struct bytes text)
{
	uint32_t code_point;
	size_t size = utf8__next(text, &code_point);

	if (code_point == UTF8_INVALID)
		json__raw(json, "\xef\xbf\xbd", 3); /* U+FFFD */
	else if (code_point < 0xa0)		    /* C1 controls too: terminals act on them */
		json__escaped(json, code_point);
	else
		json__raw(json, text.data, size);
	return size;
}

void json__quoted(struct json *json, struct bytes value)
{
	size_t size = plain_size(value);
	uint8_t *to;

	if (size == value.size) {
		to = json__room(json, size + 2);
		if (!to)
			return;
		to[0] = '"';
		if (size)
			memcpy(to + 1, value.data, size);
		to[size + 1] = '"';
		return;
	}
	json__byte(json, '"');
	while (size < value.size && !json->err) {
		json__raw(json, value.data, size);
		value = bytes__from(value, size);
		value = bytes__from(value, json__unplain(json, value));
		size = plain_size(value);
	}
	json__raw(json, value.data, size);
	json__byte(json, '"');
}

void json__key(struct json *json, struct bytes name)
{
	json__before(json, NULL);
	json__quoted(json, name);
	json__byte(json, ':');
	json->comma = false;
}

void json__digits(struct json *json, uint64_t value)
{
	char text[DECIMAL_MAX_DIGITS], *end = text + sizeof(text);
	char *start = decimal__write(end, value, 1);

	json__raw(json, start, (size_t)(end - start));
}

void json__thousandths(struct json *json, uint64_t value)
{
	char text[DECIMAL_MAX_DIGITS + 4], *end = text + sizeof(text);
	char *start = decimal__write(end, value % 1000, 3);

	*--start = '.';
	start = decimal__write(start, value / 1000, 1);
	json__raw(json, start, (size_t)(end - start));
}

void json__literal(struct json *json, struct bytes literal)
{
	json__raw(json, literal.data, literal.size);
}
