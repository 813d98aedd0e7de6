/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The open exchanges of one connection, in a list, oldest first. A list, because HTTP/1 asks for
 * the oldest and HTTP/2 has few streams open at a time; the maximum bounds the walk. See pairing.h.
 */
#include "exchange/pairing.h"

#include <errno.h>
#include <stdlib.h>

/* No method or scheme in use is nearly as long. */
#define WORD_MAX_BYTES 64

#define POOL_MAX_EXCHANGES 8
/* What a spare exchange may hold; most have a few hundred bytes of text. */
#define POOL_MAX_BYTES (16 * 1024)

struct pairing {
	struct connection *connection;
	exchange_done_fn *done;
	void *context;
	struct exchange_pool *pool; /* NULL: none */
	struct underway *underway;  /* NULL: none */
	struct exchange *oldest;
	struct exchange **tail; /* where the next one is linked in */
	size_t count;
};

int pairing__new(struct connection *connection, exchange_done_fn *done, void *context,
		 struct pairing **ret_pairing)
{
	struct pairing *pairing = calloc(1, sizeof(*pairing));

	if (!pairing)
		return -ENOMEM;
	pairing->connection = connection;
	pairing->done = done;
	pairing->context = context;
	pairing->tail = &pairing->oldest;
	*ret_pairing = pairing;
	return 0;
}

static void message__init(struct message *message)
{
	headers__init(&message->headers);
	headers__init(&message->trailers);
}

static void message__free(struct message *message)
{
	headers__free(&message->headers);
	headers__free(&message->trailers);
}

static int exchange__new(struct connection *connection, uint64_t id, struct exchange **ret_exchange)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		return -ENOMEM;
	exchange->id = id;
	exchange->connection = connection;
	message__init(&exchange->request);
	message__init(&exchange->response);
	buf__init(&exchange->method, WORD_MAX_BYTES);
	buf__init(&exchange->scheme, WORD_MAX_BYTES);
	buf__init(&exchange->authority, TARGET_MAX_BYTES);
	buf__init(&exchange->path, TARGET_MAX_BYTES);
	buf__init(&exchange->query, TARGET_MAX_BYTES);
	buf__init(&exchange->upgrade, WORD_MAX_BYTES);
	*ret_exchange = exchange;
	return 0;
}

static void exchange__free(struct exchange *exchange)
{
	message__free(&exchange->request);
	message__free(&exchange->response);
	buf__free(&exchange->method);
	buf__free(&exchange->scheme);
	buf__free(&exchange->authority);
	buf__free(&exchange->path);
	buf__free(&exchange->query);
	buf__free(&exchange->upgrade);
	free(exchange);
}

static size_t headers__capacity(const struct headers *headers)
{
	return headers->text.capacity + headers->capacity * sizeof(*headers->fields);
}

size_t exchange__bytes(const struct exchange *exchange)
{
	return sizeof(*exchange) + headers__capacity(&exchange->request.headers) +
	       headers__capacity(&exchange->request.trailers) +
	       headers__capacity(&exchange->response.headers) +
	       headers__capacity(&exchange->response.trailers) + exchange->method.capacity +
	       exchange->scheme.capacity + exchange->authority.capacity + exchange->path.capacity +
	       exchange->query.capacity + exchange->upgrade.capacity;
}

static struct headers headers__emptied(struct headers headers)
{
	buf__clear(&headers.text);
	headers.count = headers.unknown = 0;
	headers.truncated = false;
	return headers;
}

static struct message message__emptied(const struct message *message)
{
	return (struct message){
		.headers = headers__emptied(message->headers),
		.trailers = headers__emptied(message->trailers),
	};
}

/* As exchange__new makes it, but with the memory of its buffers. */
static void exchange__renew(struct exchange *exchange, struct connection *connection, uint64_t id)
{
	*exchange = (struct exchange){
		.id = id,
		.connection = connection,
		.request = message__emptied(&exchange->request),
		.response = message__emptied(&exchange->response),
		.method = exchange->method,
		.scheme = exchange->scheme,
		.authority = exchange->authority,
		.path = exchange->path,
		.query = exchange->query,
		.upgrade = exchange->upgrade,
	};
	buf__clear(&exchange->method);
	buf__clear(&exchange->scheme);
	buf__clear(&exchange->authority);
	buf__clear(&exchange->path);
	buf__clear(&exchange->query);
	buf__clear(&exchange->upgrade);
}

static int pairing__take(struct pairing *pairing, uint64_t id, struct exchange **ret_exchange)
{
	struct exchange_pool *pool = pairing->pool;
	struct exchange *exchange = pool ? pool->spare : NULL;

	if (!exchange)
		return exchange__new(pairing->connection, id, ret_exchange);
	pool->spare = exchange->next;
	pool->count--;
	exchange__renew(exchange, pairing->connection, id);
	*ret_exchange = exchange;
	return 0;
}

void exchange_pool__put(struct exchange_pool *pool, struct exchange *exchange)
{
	if (!pool || pool->count >= POOL_MAX_EXCHANGES ||
	    exchange__bytes(exchange) > POOL_MAX_BYTES) {
		exchange__free(exchange);
		return;
	}
	exchange->next = pool->spare;
	pool->spare = exchange;
	pool->count++;
}

void exchange_pool__free(struct exchange_pool *pool)
{
	struct exchange *next;

	for (struct exchange *exchange = pool->spare; exchange; exchange = next) {
		next = exchange->next;
		exchange__free(exchange);
	}
	*pool = (struct exchange_pool){0};
}

void pairing__set_pool(struct pairing *pairing, struct exchange_pool *pool)
{
	pairing->pool = pool;
}

void pairing__set_underway(struct pairing *pairing, struct underway *underway)
{
	pairing->underway = underway;
}

void pairing__free(struct pairing *pairing)
{
	struct exchange *next;

	if (!pairing)
		return;
	for (struct exchange *exchange = pairing->oldest; exchange; exchange = next) {
		next = exchange->next;
		underway__end(exchange);
		exchange__free(exchange);
	}
	free(pairing);
}

size_t pairing__count(const struct pairing *pairing)
{
	return pairing->count;
}

int pairing__open(struct pairing *pairing, uint64_t id, struct exchange **ret_exchange)
{
	struct exchange *exchange;
	int err;

	if (pairing__find(pairing, id))
		return -EEXIST;
	err = pairing__take(pairing, id, &exchange);
	if (err)
		return err;
	if (pairing->count == PAIRING_MAX_OPEN)
		pairing__give_up(pairing, pairing->oldest, REASON_TRUNCATED);
	*pairing->tail = exchange;
	pairing->tail = &exchange->next;
	pairing->count++;
	exchange->is_open = true;
	if (pairing->underway)
		underway__begin(pairing->underway, exchange);
	*ret_exchange = exchange;
	return 0;
}

struct exchange *pairing__find(struct pairing *pairing, uint64_t id)
{
	struct exchange *exchange = pairing->oldest;

	while (exchange && exchange->id != id)
		exchange = exchange->next;
	return exchange;
}

struct exchange *pairing__oldest(struct pairing *pairing)
{
	return pairing->oldest;
}

void pairing__answer(struct pairing *pairing, struct exchange *exchange)
{
	if (pairing->underway)
		underway__answer(pairing->underway, exchange);
}

/* Takes it out of the list first: `done` sees the pairing without it. */
static void pairing__hand_on(struct pairing *pairing, struct exchange *exchange)
{
	struct exchange **link = &pairing->oldest;

	while (*link != exchange)
		link = &(*link)->next;
	*link = exchange->next;
	if (!*link)
		pairing->tail = link;
	exchange->next = NULL;
	exchange->is_open = false;
	underway__end(exchange);
	pairing->count--;
	if (!exchange__is_begun(exchange) || !pairing->done(pairing->context, exchange))
		exchange_pool__put(pairing->pool, exchange);
}

bool pairing__settle(struct pairing *pairing, struct exchange *exchange)
{
	if (exchange->request.begun && !exchange->request.ended)
		return false;
	if (!exchange->response.ended)
		return false;
	pairing__hand_on(pairing, exchange);
	return true;
}

void pairing__give_up(struct pairing *pairing, struct exchange *exchange, enum reason reason)
{
	exchange__fault(exchange, reason);
	if (exchange->request.begun && !exchange->response.ended)
		exchange__fault(exchange, REASON_NO_RESPONSE);
	pairing__hand_on(pairing, exchange);
}

void pairing__give_up_all(struct pairing *pairing, enum reason reason)
{
	while (pairing->oldest)
		pairing__give_up(pairing, pairing->oldest, reason);
}

bool exchange__is_begun(const struct exchange *exchange)
{
	return exchange->request.begun || exchange->response.begun;
}

void exchange__forget_response(struct exchange *exchange)
{
	exchange->response = message__emptied(&exchange->response);
	exchange->status = 0;
}

void exchange__fault(struct exchange *exchange, enum reason reason)
{
	if (exchange->reason == REASON_NONE)
		exchange->reason = reason;
}
