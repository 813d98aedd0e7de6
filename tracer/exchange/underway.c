/* SPDX-License-Identifier: BSD-2-Clause */
/* Exchanges that are under way for long. See underway.h. */
#include "exchange/underway.h"
#include "exchange/pairing.h"
#include "exchange/stream.h"

#include <utlist.h>

static void list__add(struct underway_list *list, struct exchange *exchange, uint64_t now_ns,
		      uint64_t wait_ns)
{
	uint64_t deadline_ns = now_ns < UINT64_MAX - wait_ns ? now_ns + wait_ns : UINT64_MAX;

	/* Records of different processors come a little out of order. */
	if (!list->oldest || deadline_ns > list->latest_ns)
		list->latest_ns = deadline_ns;
	exchange->underway.list = list;
	exchange->underway.deadline_ns = list->latest_ns;
	DL_APPEND2(list->oldest, exchange, underway.prev, underway.next);
}

void underway__begin(struct underway *underway, struct exchange *exchange)
{
	list__add(&underway->unanswered, exchange, underway->now_ns, UNDERWAY_UNANSWERED_NS);
}

void underway__answer(struct underway *underway, struct exchange *exchange)
{
	underway__end(exchange);
	if (exchange__lasts(exchange))
		list__add(&underway->lasting, exchange, underway->now_ns, UNDERWAY_LASTING_NS);
	else
		list__add(&underway->answered, exchange, underway->now_ns, UNDERWAY_ANSWERED_NS);
}

void underway__end(struct exchange *exchange)
{
	struct underway_list *list = exchange->underway.list;

	if (!list)
		return;
	DL_DELETE2(list->oldest, exchange, underway.prev, underway.next);
	exchange->underway.list = NULL;
}

static void underway__tell(struct underway *underway, struct underway_list *list)
{
	struct exchange *exchange;

	while (list->oldest && list->oldest->underway.deadline_ns <= underway->now_ns) {
		exchange = list->oldest;
		underway__end(exchange);
		if (exchange__is_begun(exchange))
			underway->tell(underway->context, exchange);
	}
}

void underway__tell_due(struct underway *underway)
{
	underway__tell(underway, &underway->unanswered);
	underway__tell(underway, &underway->answered);
	underway__tell(underway, &underway->lasting);
}

uint64_t underway__until(const struct underway *underway)
{
	const struct underway_list *lists[] = {&underway->unanswered, &underway->answered,
					       &underway->lasting};
	uint64_t until = 0;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const struct exchange *oldest = lists[i]->oldest;

		if (oldest && (!until || oldest->underway.deadline_ns < until))
			until = oldest->underway.deadline_ns;
	}
	return until;
}
