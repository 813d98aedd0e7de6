/* SPDX-License-Identifier: BSD-2-Clause */
/* A complete exchange to change at will: the one of the documentation. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "exchange/exchange.h"

struct sample {
	struct connection connection;
	struct exchange exchange;
};

/* Nanoseconds to add to the sample's times for 2026-01-02T03:04:05.123456Z. */
extern const int64_t sample_clock_offset_ns;

/* 16 bytes. */
extern const uint8_t sample_key[];

/* GET https://api.example:8443/v1/items?page=2 to a server, HTTP/1.1, 200, complete. */
void sample__make(struct sample *sample);
void sample__free(struct sample *sample);

/* Replaces a part. */
void sample__set(struct buf *part, const char *text);

#endif
