/* SPDX-License-Identifier: BSD-2-Clause */
/* Exchanges whose response is made to last. */
#ifndef TLSTRACE_STREAM_H
#define TLSTRACE_STREAM_H

#include "exchange/exchange.h"

enum stream {
	STREAM_NONE = 0,
	STREAM_EVENTS,	  /* server-sent events (HTML 9.2) */
	STREAM_WEBSOCKET, /* RFC 6455, RFC 8441 */
};

/* What an exchange whose response has begun is; STREAM_NONE without one. */
enum stream exchange__stream(const struct exchange *exchange);

/*
 * Whether its connection, or HTTP/2 stream, carries something else from the response's head on:
 * after an Upgrade or CONNECT.
 */
bool exchange__tunnels(const struct exchange *exchange);

/* Whether its response is one of these, or a tunnel: it lasts for as long as somebody wants. */
bool exchange__lasts(const struct exchange *exchange);

#endif
