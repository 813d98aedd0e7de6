/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exchanges that are under way for long: a stream of events, a WebSocket, a request that nobody
 * answers. Each is told of, once without its response and once with the response's head, when it
 * has lasted. Time comes from records alone: the same records tell the same at the same places.
 */
#ifndef TLSTRACE_UNDERWAY_H
#define TLSTRACE_UNDERWAY_H

#include "exchange/exchange.h"

/* A request without a response for so long is told of ... */
#define UNDERWAY_UNANSWERED_NS ((uint64_t)5 * 1000 * 1000 * 1000)
/* ... and a response that has not ended so long after its head, ... */
#define UNDERWAY_ANSWERED_NS ((uint64_t)1 * 1000 * 1000 * 1000)
/* ... if it is made to last (exchange__lasts). The connection's socket may be found meanwhile. */
#define UNDERWAY_LASTING_NS ((uint64_t)100 * 1000 * 1000)

/* Those that wait equally long, so they are in the order of their deadlines. */
struct underway_list {
	struct exchange *oldest;
	uint64_t latest_ns; /* the last deadline that was set */
};

/* All zero but for `tell` and `context` is an empty one. */
struct underway {
	void (*tell)(void *context, const struct exchange *exchange);
	void *context;
	uint64_t now_ns; /* of the record at hand; the owner sets it */
	struct underway_list unanswered, answered, lasting;
};

/* An exchange begins. It must not be in `underway`. */
void underway__begin(struct underway *underway, struct exchange *exchange);

/* Its response's head is complete, and the response goes on. */
void underway__answer(struct underway *underway, struct exchange *exchange);

/* It has ended, or is given up: it will not be told of. */
void underway__end(struct exchange *exchange);

/* Tells of those that have lasted by now. */
void underway__tell_due(struct underway *underway);

/* The earliest deadline; 0: there is none. */
uint64_t underway__until(const struct underway *underway);

#endif
