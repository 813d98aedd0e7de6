/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pairs the requests and responses of one connection. A protocol parser names every message by an
 * id (HTTP/1 counts, HTTP/2 has stream ids) and reports what it sees; an exchange is handed on, in
 * the order in which exchanges end, the moment both of its messages have ended, or when its parser
 * or the connection gives it up. Does no I/O and reads no clock.
 */
#ifndef TLSTRACE_PAIRING_H
#define TLSTRACE_PAIRING_H

#include "exchange/exchange.h"
#include "exchange/underway.h"

/* Requests without a response that one connection may have; the oldest is given up beyond. */
#define PAIRING_MAX_OPEN 1024

/*
 * Takes a finished exchange. True when the callee keeps it: then it is the callee's, to be given
 * to exchange_pool__put. Else it is freed when this returns.
 */
typedef bool exchange_done_fn(void *context, struct exchange *exchange);

struct pairing;

/*
 * An empty pairing for `connection`, which must outlive it. 0 or -ENOMEM; *ret_pairing is the
 * caller's to free.
 */
int pairing__new(struct connection *connection, exchange_done_fn *done, void *context,
		 struct pairing **ret_pairing);

/* Frees it with its open exchanges, without handing them on. NULL is fine. */
void pairing__free(struct pairing *pairing);

/*
 * Exchanges that ended, kept for the next ones of all connections that share it: a few, and none
 * that holds much memory. All zero is an empty one.
 */
struct exchange_pool {
	struct exchange *spare;
	size_t count;
};

/* Takes an exchange that nobody needs any more: keeps or frees it. `pool` may be NULL. */
void exchange_pool__put(struct exchange_pool *pool, struct exchange *exchange);

/* What an exchange holds in memory. */
size_t exchange__bytes(const struct exchange *exchange);

/* Gives its memory back; it is empty and usable afterwards. */
void exchange_pool__free(struct exchange_pool *pool);

/* From now on exchanges come from `pool` and go there. It must outlive the pairing. */
void pairing__set_pool(struct pairing *pairing, struct exchange_pool *pool);

/* From now on `underway`, which must outlive the pairing, knows of the exchanges that are open. */
void pairing__set_underway(struct pairing *pairing, struct underway *underway);

/*
 * Begins an exchange. It is open until both messages have ended. 0, -EEXIST when `id` is open,
 * -ENOMEM. *ret_exchange belongs to the pairing.
 */
int pairing__open(struct pairing *pairing, uint64_t id, struct exchange **ret_exchange);

/* The open exchange called `id`, or NULL. */
struct exchange *pairing__find(struct pairing *pairing, uint64_t id);

/* The oldest open exchange (follow ->next for the others), or NULL. */
struct exchange *pairing__oldest(struct pairing *pairing);

/* How many exchanges are open. */
size_t pairing__count(const struct pairing *pairing);

/* Says that the head of an open exchange's final response is complete. */
void pairing__answer(struct pairing *pairing, struct exchange *exchange);

/*
 * Says that a message of `exchange` may have ended. When both have (request.ended or never begun,
 * and response.ended), the exchange is handed on and freed: true, and the pointer is dead.
 */
bool pairing__settle(struct pairing *pairing, struct exchange *exchange);

/*
 * Hands an open exchange on as it is and frees it. `reason` is recorded unless it has one; a
 * request that was seen and has no ended response is incomplete whatever the reason.
 */
void pairing__give_up(struct pairing *pairing, struct exchange *exchange, enum reason reason);

/* Gives up all, oldest first. */
void pairing__give_up_all(struct pairing *pairing, enum reason reason);

/* Whether anything was seen of it. If not, it is freed at its end, not handed on. */
bool exchange__is_begun(const struct exchange *exchange);

/* Forgets the response so far: it was an interim one. */
void exchange__forget_response(struct exchange *exchange);

/* Records why an exchange is incomplete; the first reason stays. */
void exchange__fault(struct exchange *exchange, enum reason reason);

#endif
