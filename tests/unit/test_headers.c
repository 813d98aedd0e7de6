/* SPDX-License-Identifier: BSD-2-Clause */
/* Header fields: what is kept, found, folded and left out. */
#include "exchange/exchange.h"
#include "failing_alloc.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static struct headers headers;

static void setup(void)
{
	headers__init(&headers);
}

static void teardown(void)
{
	headers__free(&headers);
}

TestSuite(headers, .init = setup, .fini = teardown);

static int add(const char *name, const char *value)
{
	return headers__add(&headers, bytes__str(name), bytes__str(value));
}

static void expect_field(size_t index, const char *name, const char *value)
{
	cr_assert(bytes__equal(headers__name(&headers, index), bytes__str(name)));
	cr_assert(bytes__equal(headers__value(&headers, index), bytes__str(value)));
}

Test(headers, keeps_order_and_case)
{
	cr_assert_eq(add("Set-Cookie", "a=1"), 0);
	cr_assert_eq(add("X-Empty", ""), 0);
	cr_assert_eq(add("set-cookie", "b=2"), 0);
	cr_assert_eq(headers.count, 3);
	expect_field(0, "Set-Cookie", "a=1");
	expect_field(1, "X-Empty", "");
	expect_field(2, "set-cookie", "b=2");
	cr_assert_not(headers.truncated);
}

Test(headers, finds_without_case)
{
	cr_assert_eq(headers__find(&headers, "a", 0), 0);
	cr_assert_eq(add("Set-Cookie", "a=1"), 0);
	cr_assert_eq(add("Host", "h"), 0);
	cr_assert_eq(add("SET-COOKIE", "b=2"), 0);
	cr_assert_eq(headers__find(&headers, "set-cookie", 0), 0);
	cr_assert_eq(headers__find(&headers, "set-cookie", 1), 2);
	cr_assert_eq(headers__find(&headers, "set-cookie", 3), 3);
	cr_assert_eq(headers__find(&headers, "set-cooki", 0), 3);
}

Test(headers, extends_the_last_value)
{
	cr_assert_eq(headers__extend_last(&headers, bytes__str("x")), -EINVAL);
	cr_assert_eq(add("A", "1"), 0);
	cr_assert_eq(add("B", "2"), 0);
	cr_assert_eq(headers__extend_last(&headers, bytes__str(" 3")), 0);
	expect_field(0, "A", "1");
	expect_field(1, "B", "2 3");
}

Test(headers, text_has_a_maximum)
{
	uint8_t *big = calloc(1, HEADERS_MAX_BYTES);

	cr_assert_eq(add("A", "1"), 0);
	cr_assert_eq(headers__add(&headers, bytes__str("B"), bytes__of(big, HEADERS_MAX_BYTES - 2)),
		     -ENOSPC);
	cr_assert(headers.truncated);
	cr_assert_eq(headers.count, 1);
	cr_assert_eq(headers.text.size, 2);
	cr_assert_eq(headers__add(&headers, bytes__str("B"), bytes__of(big, HEADERS_MAX_BYTES - 3)),
		     0);
	cr_assert_eq(headers__extend_last(&headers, bytes__str("x")), -ENOSPC);
	cr_assert_eq(headers__value(&headers, 1).size, HEADERS_MAX_BYTES - 3);
	free(big);
}

Test(headers, fields_have_a_maximum)
{
	for (size_t i = 0; i < HEADERS_MAX_FIELDS; i++)
		cr_assert_eq(add("a", ""), 0);
	cr_assert_not(headers.truncated);
	cr_assert_eq(add("a", ""), -ENOSPC);
	cr_assert(headers.truncated);
	cr_assert_eq(headers.count, HEADERS_MAX_FIELDS);
}

Test(headers, no_memory_changes_nothing)
{
	for (unsigned int nth = 0; nth < 2; nth++) {
		headers__free(&headers);
		failing_alloc__arm(nth);
		cr_assert_eq(add("A", "1"), -ENOMEM);
		cr_assert(failing_alloc__disarm());
		cr_assert_eq(headers.count, 0);
		cr_assert_eq(headers.text.size, 0);
		cr_assert_not(headers.truncated);
		cr_assert_eq(add("A", "1"), 0);
		expect_field(0, "A", "1");
	}
}
