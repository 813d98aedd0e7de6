/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exchanges that wait for their connection's tuple. All wait equally long, so the list of all in
 * the order in which they came is in the order of deadlines. See waiting.h.
 */
#include "flow/waiting.h"

#include <utlist.h>

static void waiting__unlink(struct waiting *waiting, struct exchange *exchange)
{
	struct waiting_queue *queue = exchange->waiting.queue;

	DL_DELETE2(waiting->oldest, exchange, waiting.prev, waiting.next);
	DL_DELETE2(queue->oldest, exchange, waiting.of_prev, waiting.of_next);
	queue->count--;
	waiting->bytes -= exchange->waiting.bytes;
}

static void waiting__release_one(struct waiting *waiting, struct exchange *exchange)
{
	waiting__unlink(waiting, exchange);
	waiting->release(waiting->context, exchange);
	exchange_pool__put(waiting->pool, exchange);
}

void waiting__add(struct waiting *waiting, struct waiting_queue *queue, struct exchange *exchange,
		  uint64_t now_ns)
{
	uint64_t deadline_ns = now_ns < UINT64_MAX - WAITING_NS ? now_ns + WAITING_NS : UINT64_MAX;
	size_t bytes = exchange__bytes(exchange);

	if (queue->count == WAITING_MAX_OF_CONNECTION)
		waiting__release_one(waiting, queue->oldest);
	while (waiting->oldest && waiting->bytes + bytes > WAITING_MAX_BYTES)
		waiting__release_one(waiting, waiting->oldest);
	/* Records of different processors come a little out of order. */
	if (!waiting->oldest || deadline_ns > waiting->latest_ns)
		waiting->latest_ns = deadline_ns;
	exchange->waiting = (struct waiting_place){
		.queue = queue,
		.deadline_ns = waiting->latest_ns,
		.bytes = bytes,
	};
	DL_APPEND2(waiting->oldest, exchange, waiting.prev, waiting.next);
	DL_APPEND2(queue->oldest, exchange, waiting.of_prev, waiting.of_next);
	queue->count++;
	waiting->bytes += bytes;
}

void waiting__release(struct waiting *waiting, struct waiting_queue *queue)
{
	while (queue->oldest)
		waiting__release_one(waiting, queue->oldest);
}

void waiting__release_due(struct waiting *waiting, uint64_t now_ns)
{
	while (waiting->oldest && waiting->oldest->waiting.deadline_ns <= now_ns)
		waiting__release_one(waiting, waiting->oldest);
}

void waiting__drop(struct waiting *waiting, struct waiting_queue *queue)
{
	struct exchange *exchange;

	while (queue->oldest) {
		exchange = queue->oldest;
		waiting__unlink(waiting, exchange);
		exchange_pool__put(waiting->pool, exchange);
	}
}

uint64_t waiting__until(const struct waiting *waiting)
{
	return waiting->oldest ? waiting->oldest->waiting.deadline_ns : 0;
}
