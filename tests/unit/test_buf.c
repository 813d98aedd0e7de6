/* SPDX-License-Identifier: BSD-2-Clause */
/* Views and buffers: bounds, maxima, and failing allocations. */
#include "base/buf.h"
#include "failing_alloc.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static void expect_view(struct bytes view, const char *expected)
{
	cr_assert(bytes__equal(view, bytes__str(expected)), "%.*s is not %s", (int)view.size,
		  (const char *)view.data, expected);
}

Test(bytes, at_stays_inside)
{
	struct bytes view = bytes__str("abcd");

	cr_assert_eq(bytes__at(view, 0, 4), view.data);
	cr_assert_eq(bytes__at(view, 4, 0), view.data + 4);
	cr_assert_eq(bytes__at(view, 1, 3), view.data + 1);
	cr_assert_null(bytes__at(view, 1, 4));
	cr_assert_null(bytes__at(view, 5, 0));
	cr_assert_null(bytes__at(view, SIZE_MAX, 2));
	cr_assert_null(bytes__at(view, 2, SIZE_MAX));
}

Test(bytes, parts)
{
	struct bytes view = bytes__str("abcd");

	expect_view(bytes__from(view, 1), "bcd");
	expect_view(bytes__from(view, 4), "");
	expect_view(bytes__from(view, 9), "");
	expect_view(bytes__first(view, 2), "ab");
	expect_view(bytes__first(view, 9), "abcd");
}

Test(bytes, find_and_compare)
{
	struct bytes view = bytes__str("a:b:c");

	cr_assert_eq(bytes__find(view, ':'), 1);
	cr_assert_eq(bytes__find(bytes__from(view, 2), ':'), 1);
	cr_assert_eq(bytes__find(view, 'x'), view.size);
	cr_assert_eq(bytes__find(bytes__of(NULL, 0), 'x'), 0);
	cr_assert(bytes__equal(bytes__of(NULL, 0), bytes__str("")));
	cr_assert_not(bytes__equal(bytes__str("a"), bytes__str("ab")));
	cr_assert(bytes__equal_nocase(bytes__str("Content-Length"), bytes__str("content-lenGTH")));
	/* '@' and '`' differ by the bit that makes letters lower case. */
	cr_assert_not(bytes__equal_nocase(bytes__str("@["), bytes__str("`{")));
	cr_assert_not(bytes__equal_nocase(bytes__str("a"), bytes__str("ab")));
}

Test(bytes, trim)
{
	expect_view(bytes__trim(bytes__str(" \t a b\t ")), "a b");
	expect_view(bytes__trim(bytes__str(" \t ")), "");
	expect_view(bytes__trim(bytes__of(NULL, 0)), "");
	expect_view(bytes__trim(bytes__str("\ra")), "\ra");
}

Test(buf, appends)
{
	struct buf buf;

	buf__init(&buf, 100000);
	cr_assert_null(buf.data);
	cr_assert_eq(buf__append(&buf, bytes__of(NULL, 0)), 0);
	cr_assert_null(buf.data);
	for (int i = 0; i < 50000; i++)
		cr_assert_eq(buf__append_byte(&buf, (uint8_t)i), 0);
	cr_assert_eq(buf__append_str(&buf, "tail"), 0);
	cr_assert_eq(buf.size, 50004);
	for (int i = 0; i < 50000; i++)
		cr_assert_eq(buf.data[i], (uint8_t)i);
	expect_view(bytes__from(buf__view(&buf), 50000), "tail");
	buf__clear(&buf);
	cr_assert_eq(buf.size, 0);
	cr_assert_not_null(buf.data);
	buf__free(&buf);
	cr_assert_null(buf.data);
	cr_assert_eq(buf__append_str(&buf, "again"), 0);
	expect_view(buf__view(&buf), "again");
	buf__free(&buf);
	buf__free(NULL);
}

Test(buf, has_a_maximum)
{
	static const size_t maxima[] = {0, 1, 255, 256, 257, 1000};

	for (size_t i = 0; i < sizeof(maxima) / sizeof(maxima[0]); i++) {
		struct buf buf;

		buf__init(&buf, maxima[i]);
		for (size_t n = 0; n < maxima[i]; n++)
			cr_assert_eq(buf__append_byte(&buf, 'x'), 0);
		cr_assert_eq(buf__append_byte(&buf, 'x'), -ENOSPC);
		cr_assert_eq(buf.size, maxima[i]);
		cr_assert_leq(buf.capacity, maxima[i]);
		buf__free(&buf);
	}
}

Test(buf, all_or_nothing)
{
	struct buf buf;

	buf__init(&buf, 4);
	cr_assert_eq(buf__append_str(&buf, "abc"), 0);
	cr_assert_eq(buf__append_str(&buf, "de"), -ENOSPC);
	cr_assert_eq(buf__append(&buf, bytes__of("x", SIZE_MAX)), -ENOSPC);
	expect_view(buf__view(&buf), "abc");
	buf__free(&buf);
}

Test(buf, printf)
{
	char *long_text = malloc(1001);
	struct buf buf;

	memset(long_text, 'x', 1000);
	long_text[1000] = 0;
	buf__init(&buf, 2000);
	cr_assert_eq(buf__printf(&buf, "%d-%s", 42, "a"), 0);
	expect_view(buf__view(&buf), "42-a");
	cr_assert_eq(buf__printf(&buf, "%s", long_text), 0);
	cr_assert_eq(buf.size, 1004);
	cr_assert_eq(buf__printf(&buf, "%s", long_text), -ENOSPC);
	cr_assert_eq(buf.size, 1004);
	buf__free(&buf);
	free(long_text);
}

Test(buf, no_memory)
{
	struct buf buf;
	int err;

	buf__init(&buf, 1000);
	failing_alloc__arm(0);
	err = buf__append_str(&buf, "a");
	cr_assert(failing_alloc__disarm());
	cr_assert_eq(err, -ENOMEM);
	cr_assert_eq(buf__append_str(&buf, "a"), 0);
	for (int i = 1; i < 256; i++)
		cr_assert_eq(buf__append_byte(&buf, 'a'), 0);
	failing_alloc__arm(0);
	err = buf__append_byte(&buf, 'b');
	cr_assert(failing_alloc__disarm());
	cr_assert_eq(err, -ENOMEM);
	cr_assert_eq(buf.size, 256);
	buf__free(&buf);
}
