/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks JSON (RFC 8259) strictly: the judge of what the writer makes, so it shares no code. */
#ifndef JSON_CHECK_H
#define JSON_CHECK_H

#include "base/bytes.h"

/* Whether `text` is one JSON value in valid UTF-8 with nothing around it. */
bool json_check__valid(struct bytes text);

#endif
