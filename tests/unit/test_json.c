/* SPDX-License-Identifier: BSD-2-Clause */
/* The JSON writer: escapes, bytes that are no UTF-8, commas, and running out of memory. */
#include "base/json.h"
#include "base/utf8.h"
#include "failing_alloc.h"
#include "json_check.h"

#include <criterion/criterion.h>
#include <errno.h>

#define TEXT(literal) bytes__of(literal, sizeof(literal) - 1)
#define REPLACED      "\xef\xbf\xbd"

struct string_case {
	struct bytes value;
	const char *expected; /* without the quotes */
};

static void expect_string(struct bytes value, const char *expected)
{
	struct buf out;
	struct json json;

	buf__init(&out, 4096);
	json = json__begin(&out);
	json__string(&json, NULL, value);
	cr_assert_eq(json__end(&json), 0);
	cr_expect(json_check__valid(buf__view(&out)), "%s", expected);
	cr_assert_eq(buf__append_byte(&out, 0), 0);
	cr_assert_geq(out.size, 3u);
	out.data[out.size - 2] = 0;
	cr_expect_str_eq((char *)out.data + 1, expected);
	buf__free(&out);
}

Test(json, strings)
{
	const struct string_case cases[] = {
		{TEXT(""), ""},
		{TEXT("plain / text'"), "plain / text'"},
		{TEXT("a\"b\\c"), "a\\\"b\\\\c"},
		{TEXT("\b\t\n\v\f\r"), "\\b\\t\\n\\u000b\\f\\r"},
		{TEXT("\0\x01\x1f\x7f"), "\\u0000\\u0001\\u001f\\u007f"},
		{TEXT("\xc2\x80\xc2\x9f\xc2\xa0"), "\\u0080\\u009f\xc2\xa0"},
		{TEXT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
		 "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
		{TEXT("\xee\x80\x80\xf4\x8f\xbf\xbf"), "\xee\x80\x80\xf4\x8f\xbf\xbf"},
		/* Unicode 15, tables 3-8 to 3-11. */
		{TEXT("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
		 REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED "A"},
		{TEXT("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
		 REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED REPLACED "A"},
		{TEXT("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
		 REPLACED REPLACED REPLACED REPLACED REPLACED "A" REPLACED REPLACED "B"},
		{TEXT("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"),
		 REPLACED REPLACED REPLACED REPLACED "A"},
		{TEXT("\xe2\x82"), REPLACED},
		{TEXT("\xf0\x9f\x98"), REPLACED},
		{TEXT("x\xc3"), "x" REPLACED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_string(cases[i].value, cases[i].expected);
}

/* Every pair of bytes comes out as valid JSON: the checker's decoder is the C library's. */
Test(json, all_pairs_of_bytes)
{
	struct buf out;

	buf__init(&out, 4096);
	for (unsigned int pair = 0; pair < 0x10000; pair++) {
		uint8_t value[] = {'x', (uint8_t)(pair >> 8), (uint8_t)pair, 'y'};
		struct json json = json__begin(&out);

		buf__clear(&out);
		json__string(&json, NULL, bytes__of(value, sizeof(value)));
		cr_assert_eq(json__end(&json), 0);
		cr_assert(json_check__valid(buf__view(&out)), "%04x", pair);
	}
	buf__free(&out);
}

Test(json, code_points)
{
	uint32_t code_point;

	cr_expect_eq(utf8__next(TEXT("\xf0\x9f\x98\x80"), &code_point), 4);
	cr_expect_eq(code_point, 0x1f600);
	cr_expect_eq(utf8__next(TEXT("\xe2\x80\xae"), &code_point), 3);
	cr_expect_eq(code_point, 0x202e);
}

static int write_document(struct buf *out)
{
	struct json json = json__begin(out);

	json__object(&json, NULL);
	json__string(&json, "text", bytes__str("a\nb"));
	json__uint(&json, "max", UINT64_MAX);
	json__bool(&json, "yes", true);
	json__bool(&json, "no", false);
	json__ms(&json, "ms", 1234567);
	json__ms(&json, "zero_ms", 999);
	json__object(&json, "empty");
	json__object_end(&json);
	json__array(&json, "list");
	json__uint(&json, NULL, 1);
	json__object(&json, NULL);
	json__object_end(&json);
	json__array(&json, NULL);
	json__array_end(&json);
	json__array_end(&json);
	json__key(&json, bytes__str("k\"1"));
	json__uint(&json, NULL, 1);
	json__key(&json, bytes__str("k2"));
	json__array(&json, NULL);
	json__array_end(&json);
	json__object_end(&json);
	return json__end(&json);
}

static const char document[] =
	"{\"text\":\"a\\nb\",\"max\":18446744073709551615,\"yes\":true,\"no\":false,\"ms\":1.234,"
	"\"zero_ms\":0.000,\"empty\":{},\"list\":[1,{},[]],\"k\\\"1\":1,\"k2\":[]}";

Test(json, document)
{
	struct buf out;

	buf__init(&out, 4096);
	cr_assert_eq(write_document(&out), 0);
	cr_expect(bytes__equal(buf__view(&out), bytes__str(document)), "%.*s", (int)out.size,
		  (const char *)out.data);
	cr_expect(json_check__valid(buf__view(&out)));
	buf__free(&out);
}

Test(json, full_buffer_fails_for_good)
{
	for (size_t max = 0; max < sizeof(document) - 1; max++) {
		struct buf out;

		buf__init(&out, max);
		cr_expect_eq(write_document(&out), -ENOSPC);
		cr_expect_leq(out.size, max);
		buf__free(&out);
	}
}

Test(json, allocation_failures)
{
	bool failed = true;

	for (unsigned int nth = 0; failed; nth++) {
		struct buf out;
		int err;

		buf__init(&out, 4096);
		failing_alloc__arm(nth);
		err = write_document(&out);
		failed = failing_alloc__disarm();
		cr_expect_eq(err, failed ? -ENOMEM : 0);
		buf__free(&out);
	}
}
