/* SPDX-License-Identifier: BSD-2-Clause */
/* Exchanges whose response is made to last. See stream.h. */
#include "exchange/stream.h"

static bool exchange__is_accepted(const struct exchange *exchange)
{
	return exchange->response.begun && exchange->status / 100 == 2;
}

bool exchange__tunnels(const struct exchange *exchange)
{
	if (exchange->response.begun && exchange->status == 101)
		return true;
	return exchange__is_accepted(exchange) &&
	       bytes__equal(buf__view(&exchange->method), bytes__str("CONNECT"));
}

static bool content_is_events(const struct headers *headers)
{
	size_t i = headers__find(headers, "content-type", 0);
	struct bytes type;

	if (i == headers->count)
		return false;
	type = headers__value(headers, i);
	type = bytes__trim(bytes__first(type, bytes__find(type, ';')));
	return bytes__equal_nocase(type, bytes__str("text/event-stream"));
}

enum stream exchange__stream(const struct exchange *exchange)
{
	if (exchange__tunnels(exchange) &&
	    bytes__equal_nocase(buf__view(&exchange->upgrade), bytes__str("websocket")))
		return STREAM_WEBSOCKET;
	if (exchange__is_accepted(exchange) && content_is_events(&exchange->response.headers))
		return STREAM_EVENTS;
	return STREAM_NONE;
}

bool exchange__lasts(const struct exchange *exchange)
{
	return exchange__tunnels(exchange) || exchange__stream(exchange) != STREAM_NONE;
}
