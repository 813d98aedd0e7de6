/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exchanges that ended before the socket of their connection was found. With memory BIOs the socket
 * call comes after the TLS call, so an exchange may wait a moment for it. Time comes from records
 * alone: the same records release the same exchanges at the same places.
 */
#ifndef TLSTRACE_WAITING_H
#define TLSTRACE_WAITING_H

#include "exchange/pairing.h"

/* No exchange waits longer. With how often a trace looks, within the 200 ms that are promised. */
#define WAITING_NS ((uint64_t)100 * 1000 * 1000)

/* So many of one connection wait, and all may hold so much; beyond, the oldest goes on as it is. */
#define WAITING_MAX_OF_CONNECTION 64
#define WAITING_MAX_BYTES	  ((size_t)16 * 1024 * 1024)

/* The exchanges of one connection that wait, in their order. All zero is an empty one. */
struct waiting_queue {
	struct exchange *oldest;
	uint32_t count;
};

/* All that wait. All zero but for `release`, `context` and `pool` is an empty one. */
struct waiting {
	void (*release)(void *context, const struct exchange *exchange); /* its wait is over */
	void *context;
	struct exchange_pool *pool; /* where exchanges go after it */
	struct exchange *oldest;    /* the one with the earliest deadline */
	uint64_t latest_ns;	    /* the last deadline that was set */
	size_t bytes;		    /* what all hold */
};

/*
 * Takes an exchange that ended at `now_ns`, the time of a record. `queue` is its connection's and
 * does not move. Needs no memory. May release older ones.
 */
void waiting__add(struct waiting *waiting, struct waiting_queue *queue, struct exchange *exchange,
		  uint64_t now_ns);

/* The connection's tuple is known, or will not be: releases its exchanges. */
void waiting__release(struct waiting *waiting, struct waiting_queue *queue);

/* A record tells that it is `now_ns`: releases what has waited long enough. */
void waiting__release_due(struct waiting *waiting, uint64_t now_ns);

/* Drops a connection's exchanges. */
void waiting__drop(struct waiting *waiting, struct waiting_queue *queue);

/* The earliest deadline; 0: nothing waits. */
uint64_t waiting__until(const struct waiting *waiting);

#endif
