/* SPDX-License-Identifier: BSD-2-Clause */
/* Events, each followed by its bytes, in one buffer. See held.h. */
#include "flow/held.h"

#include <string.h>

void held__init(struct held *held)
{
	buf__init(&held->events, HELD_MAX_BYTES);
}

void held__free(struct held *held)
{
	buf__free(&held->events);
}

int held__add(struct held *held, const struct event *event)
{
	size_t before = buf__view(&held->events).size;
	int err = buf__append(&held->events, bytes__of(event, sizeof(*event)));

	if (!err)
		err = buf__append(&held->events, event->data.bytes);
	if (err)
		held->events.size = before;
	else if (!before)
		held->first_ns = event->time_ns;
	return err;
}

bool held__next(const struct held *held, size_t *at, struct event *ret_event)
{
	struct bytes events = buf__view(&held->events);
	const void *event = bytes__at(events, *at, sizeof(*ret_event));

	if (!event)
		return false;
	memcpy(ret_event, event, sizeof(*ret_event));
	*at += sizeof(*ret_event);
	ret_event->data.bytes.data = events.data + *at;
	*at += ret_event->data.bytes.size;
	return true;
}

void held__clear(struct held *held)
{
	buf__free(&held->events);
}
