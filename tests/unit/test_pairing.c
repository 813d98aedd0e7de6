/* SPDX-License-Identifier: BSD-2-Clause */
/* The pairing's contract: what it hands on, in which order, and why it says so. */
#include "exchange/pairing.h"
#include "failing_alloc.h"

#include <criterion/criterion.h>
#include <errno.h>

struct seen {
	size_t count;
	uint64_t ids[PAIRING_MAX_OPEN + 8];
	enum reason reasons[PAIRING_MAX_OPEN + 8];
};

static struct connection connection;
static struct seen seen;
static struct pairing *pairing;

static bool on_done(void *context, struct exchange *exchange)
{
	struct seen *into = context;

	cr_assert_null(exchange->next);
	cr_assert_eq(exchange->connection, &connection);
	into->ids[into->count] = exchange->id;
	into->reasons[into->count++] = exchange->reason;
	return false;
}

static void setup(void)
{
	seen = (struct seen){0};
	cr_assert_eq(pairing__new(&connection, on_done, &seen, &pairing), 0);
}

static void teardown(void)
{
	pairing__free(pairing);
}

TestSuite(pairing, .init = setup, .fini = teardown);

static struct exchange *open_request(uint64_t id)
{
	struct exchange *exchange;

	cr_assert_eq(pairing__open(pairing, id, &exchange), 0);
	exchange->request.begun = true;
	return exchange;
}

static bool keep(void *context, struct exchange *exchange)
{
	struct exchange **kept = context;

	*kept = exchange;
	return true;
}

Test(pairing, an_exchange_can_be_kept)
{
	struct exchange_pool pool = {0};
	struct exchange *exchange, *kept = NULL;
	struct pairing *other;

	cr_assert_eq(pairing__new(&connection, keep, &kept, &other), 0);
	pairing__set_pool(other, &pool);
	cr_assert_eq(pairing__open(other, 1, &exchange), 0);
	cr_assert_eq(buf__append_str(&exchange->path, "/kept"), 0);
	exchange->response.begun = exchange->response.ended = true;
	cr_expect(pairing__settle(other, exchange));
	cr_expect_eq(pairing__count(other), 0);
	pairing__free(other);
	cr_assert_eq(kept, exchange);
	cr_expect(bytes__equal(buf__view(&kept->path), bytes__str("/kept")));
	cr_expect_gt(exchange__bytes(kept), sizeof(*kept));
	exchange_pool__put(&pool, kept);
	cr_expect_eq(pool.count, 1);
	exchange_pool__free(&pool);
}

Test(pairing, begins_empty)
{
	cr_assert_null(pairing__oldest(pairing));
	cr_assert_null(pairing__find(pairing, 0));
	cr_assert_eq(pairing__count(pairing), 0);
	pairing__give_up_all(pairing, REASON_LOST);
	cr_assert_eq(seen.count, 0);
	pairing__free(NULL);
}

Test(pairing, an_exchange_of_which_nothing_was_seen_is_not_handed_on)
{
	struct exchange *exchange;

	cr_assert_eq(pairing__open(pairing, 1, &exchange), 0);
	exchange->response.begun = true;
	exchange->status = 101;
	cr_assert_eq(headers__add(&exchange->response.headers, bytes__str("a"), bytes__str("b")),
		     0);
	cr_expect(exchange__is_begun(exchange));
	exchange__forget_response(exchange);
	cr_expect_not(exchange__is_begun(exchange));
	cr_expect_eq(exchange->response.headers.count + exchange->status, 0);
	pairing__give_up(pairing, exchange, REASON_LOST);
	cr_expect_eq(pairing__count(pairing), 0);
	cr_expect_eq(seen.count, 0);
}

Test(pairing, opens_an_empty_exchange)
{
	struct exchange *exchange = open_request(7);

	cr_assert_eq(exchange->id, 7);
	cr_assert_eq(exchange->reason, REASON_NONE);
	cr_assert_null(exchange->error);
	cr_assert_eq(buf__append_str(&exchange->path, "/"), 0);
	cr_assert_eq(headers__add(&exchange->response.trailers, bytes__str("a"), bytes__str("b")),
		     0);
	cr_assert_eq(pairing__find(pairing, 7), exchange);
	cr_assert_eq(pairing__oldest(pairing), exchange);
	cr_assert_eq(pairing__open(pairing, 7, &exchange), -EEXIST);
}

Test(pairing, settles_when_both_have_ended)
{
	struct exchange *exchange = open_request(1);

	cr_assert_not(pairing__settle(pairing, exchange));
	exchange->response.begun = exchange->response.ended = true;
	cr_assert_not(pairing__settle(pairing, exchange));
	exchange->request.ended = true;
	cr_assert(pairing__settle(pairing, exchange));
	cr_assert_eq(seen.count, 1);
	cr_assert_eq(seen.reasons[0], REASON_NONE);
	cr_assert_eq(pairing__count(pairing), 0);
}

Test(pairing, settles_without_a_request)
{
	struct exchange *exchange;

	cr_assert_eq(pairing__open(pairing, 1, &exchange), 0);
	exchange->response.begun = true;
	cr_assert_not(pairing__settle(pairing, exchange));
	exchange->response.ended = true;
	cr_assert(pairing__settle(pairing, exchange));
}

Test(pairing, hands_on_in_the_order_of_ends)
{
	struct exchange *first = open_request(1), *second = open_request(2),
			*third = open_request(3);

	third->request.ended = third->response.ended = true;
	cr_assert(pairing__settle(pairing, third));
	cr_assert_eq(pairing__oldest(pairing), first);
	cr_assert_eq(first->next, second);
	cr_assert_null(second->next);
	open_request(4);
	cr_assert_eq(second->next->id, 4);
	pairing__give_up(pairing, second, REASON_LOST);
	pairing__give_up_all(pairing, REASON_DESYNC);
	cr_assert_eq(seen.count, 4);
	cr_assert_eq(seen.ids[0], 3);
	cr_assert_eq(seen.ids[1], 2);
	cr_assert_eq(seen.ids[2], 1);
	cr_assert_eq(seen.ids[3], 4);
	cr_assert_eq(seen.reasons[1], REASON_LOST);
	cr_assert_eq(seen.reasons[2], REASON_DESYNC);
	open_request(5);
	cr_assert_eq(pairing__oldest(pairing)->id, 5);
}

Test(pairing, keeps_the_first_reason)
{
	struct exchange *exchange = open_request(1);

	exchange__fault(exchange, REASON_NONE);
	exchange__fault(exchange, REASON_TRUNCATED);
	exchange__fault(exchange, REASON_LOST);
	pairing__give_up(pairing, exchange, REASON_DESYNC);
	cr_assert_eq(seen.reasons[0], REASON_TRUNCATED);
}

Test(pairing, a_request_without_response_is_incomplete)
{
	struct exchange *exchange = open_request(1);

	pairing__give_up(pairing, exchange, REASON_NONE);
	cr_assert_eq(seen.reasons[0], REASON_NO_RESPONSE);
	exchange = open_request(2);
	exchange->response.ended = true;
	pairing__give_up(pairing, exchange, REASON_NONE);
	cr_assert_eq(seen.reasons[1], REASON_NONE);
}

Test(pairing, gives_up_the_oldest_beyond_the_maximum)
{
	for (uint64_t id = 0; id < PAIRING_MAX_OPEN + 3; id++)
		open_request(id);
	cr_assert_eq(pairing__count(pairing), PAIRING_MAX_OPEN);
	cr_assert_eq(seen.count, 3);
	cr_assert_eq(seen.ids[2], 2);
	cr_assert_eq(seen.reasons[2], REASON_TRUNCATED);
	cr_assert_eq(pairing__oldest(pairing)->id, 3);
}

Test(pairing, no_memory)
{
	struct exchange *exchange = NULL;
	struct pairing *none = NULL;

	failing_alloc__arm(0);
	cr_assert_eq(pairing__open(pairing, 1, &exchange), -ENOMEM);
	failing_alloc__arm(0);
	cr_assert_eq(pairing__new(&connection, on_done, &seen, &none), -ENOMEM);
	failing_alloc__disarm();
	cr_assert_null(exchange);
	cr_assert_null(none);
	cr_assert_eq(pairing__count(pairing), 0);
}
