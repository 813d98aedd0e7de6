/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks JSON strictly, by recursive descent. See json_check.h. */
#include "json_check.h"

#include <stdlib.h>
#include <wchar.h>
#include <locale.h>

#define DEPTH_MAX 32

struct check {
	const uint8_t *pos;
	const uint8_t *end;
	unsigned int depth;
};

static bool check__value(struct check *check);

static bool check__byte(struct check *check, uint8_t byte)
{
	if (check->pos == check->end || *check->pos != byte)
		return false;
	check->pos++;
	return true;
}

static bool check__word(struct check *check, const char *word)
{
	for (; *word; word++)
		if (!check__byte(check, (uint8_t)*word))
			return false;
	return true;
}

static size_t check__digits(struct check *check)
{
	const uint8_t *start = check->pos;

	while (check->pos < check->end && *check->pos >= '0' && *check->pos <= '9')
		check->pos++;
	return (size_t)(check->pos - start);
}

static bool check__number(struct check *check)
{
	bool zero;

	check__byte(check, '-');
	zero = check->pos < check->end && *check->pos == '0';
	switch (check__digits(check)) {
	case 0:
		return false;
	case 1:
		break;
	default:
		if (zero)
			return false;
	}
	return !check__byte(check, '.') || check__digits(check) > 0;
}

/* One character above ASCII, by the C library's decoder. */
static bool check__multibyte(struct check *check)
{
	mbstate_t state = {0};
	wchar_t character;
	size_t size = mbrtowc(&character, (const char *)check->pos,
			      (size_t)(check->end - check->pos), &state);

	if (size == (size_t)-1 || size == (size_t)-2 || size < 2)
		return false;
	check->pos += size;
	return true;
}

static bool check__escape(struct check *check)
{
	uint8_t c;

	if (check->pos == check->end)
		return false;
	c = *check->pos++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c);
	for (int i = 0; i < 4; i++) {
		if (check->pos == check->end || !*check->pos ||
		    !strchr("0123456789abcdefABCDEF", *check->pos))
			return false;
		check->pos++;
	}
	return true;
}

static bool check__string(struct check *check)
{
	if (!check__byte(check, '"'))
		return false;
	while (check->pos < check->end) {
		uint8_t c = *check->pos;

		if (c == '"') {
			check->pos++;
			return true;
		}
		if (c < 0x20)
			return false;
		if (c == '\\') {
			check->pos++;
			if (!check__escape(check))
				return false;
		} else if (c >= 0x80) {
			if (!check__multibyte(check))
				return false;
		} else {
			check->pos++;
		}
	}
	return false;
}

static bool check__members(struct check *check, uint8_t close, bool named)
{
	check->pos++;
	if (check__byte(check, close))
		return true;
	do {
		if (named && (!check__string(check) || !check__byte(check, ':')))
			return false;
		if (!check__value(check))
			return false;
	} while (check__byte(check, ','));
	return check__byte(check, close);
}

static bool check__value(struct check *check)
{
	bool valid = false;

	if (check->pos == check->end || ++check->depth > DEPTH_MAX)
		return false;
	switch (*check->pos) {
	case '{':
		valid = check__members(check, '}', true);
		break;
	case '[':
		valid = check__members(check, ']', false);
		break;
	case '"':
		valid = check__string(check);
		break;
	case 't':
		valid = check__word(check, "true");
		break;
	case 'f':
		valid = check__word(check, "false");
		break;
	case 'n':
		valid = check__word(check, "null");
		break;
	default:
		valid = check__number(check);
	}
	check->depth--;
	return valid;
}

bool json_check__valid(struct bytes text)
{
	struct check check = {.pos = text.data, .end = text.data + text.size};

	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		abort(); /* without it every character would be invalid */
	return check__value(&check) && check.pos == check.end;
}
