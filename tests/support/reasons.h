/* SPDX-License-Identifier: BSD-2-Clause */
/* How tests write why an exchange is incomplete; their own words, not the program's. */
#ifndef REASONS_H
#define REASONS_H

#include "exchange/exchange.h"

static const char *const reasons[] = {
	[REASON_NONE] = "ok",
	[REASON_JOINED_LATE] = "joined_late",
	[REASON_LOST] = "lost",
	[REASON_TRUNCATED] = "truncated",
	[REASON_NO_RESPONSE] = "no_response",
	[REASON_UNKNOWN_HEADERS] = "unknown_headers",
	[REASON_DESYNC] = "desync",
};

#endif
