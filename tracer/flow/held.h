/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a connection has read while a call of its own was writing, held back until that call's bytes
 * are here. Where one thread or goroutine reads and another writes, an answer may be read before
 * the call that sent the question has returned: records come in the order of returns. Time comes
 * from records alone, as in waiting.h.
 */
#ifndef TLSTRACE_HELD_H
#define TLSTRACE_HELD_H

#include "base/buf.h"
#include "intake/intake.h"

/* Nothing is held longer. The call has sent its bytes: all it has to do is return, but others may
 * have the CPUs. */
#define HELD_NS ((uint64_t)100 * 1000 * 1000)

/* So much is held of one connection, with what is kept beside the bytes; and of all. */
#define HELD_MAX_BYTES	   ((size_t)256 * 1024)
#define HELD_MAX_ALL_BYTES ((size_t)16 * 1024 * 1024)

struct held {
	struct buf events;
	uint64_t first_ns; /* time of the first event */
};

void held__init(struct held *held);
void held__free(struct held *held);

/* Keeps a DATA event, its bytes included. 0; -ENOSPC or -ENOMEM: it must go on at once. */
int held__add(struct held *held, const struct event *event);

/*
 * Steps through what is held: *at is 0 at the beginning. False at the end. The event's bytes are
 * valid until something is added, or all is cleared.
 */
bool held__next(const struct held *held, size_t *at, struct event *ret_event);

static inline bool held__is_empty(const struct held *held)
{
	return !held->events.size;
}

/* When what is held must go on. */
static inline uint64_t held__until(const struct held *held)
{
	return held->first_ns < UINT64_MAX - HELD_NS ? held->first_ns + HELD_NS : UINT64_MAX;
}

/* All of it has gone on. */
void held__clear(struct held *held);

#endif
