/* SPDX-License-Identifier: BSD-2-Clause */
/* What the sinks have in common: the text of times and addresses. For this room alone. */
#ifndef TLSTRACE_SINK_FORMAT_H
#define TLSTRACE_SINK_FORMAT_H

#include "sink/sink.h"

#include <netinet/in.h>

/*
 * The text of one second. Thousands of entries fall into each, and the C library's conversion
 * takes a lock and longer than all the rest of a line.
 */
struct second_text {
	bool valid;
	int64_t second;
	size_t size;
	char text[40];
};

enum second_style {
	SECOND_UTC,   /* 2026-01-02T03:04:05 */
	SECOND_LOCAL, /* 12:04:05, the time zone's */
};

/* The text of the second that `time_ns` falls into; *ret_us are its microseconds. */
struct bytes second_text__of(struct second_text *cache, int64_t time_ns, enum second_style style,
			     unsigned int *ret_us);

enum tuple_end {
	TUPLE_LOCAL,
	TUPLE_PEER,
};

/*
 * The address of one end as text, IPv4-mapped IPv6 as IPv4, and its port. False when the tuple
 * holds none, then nothing is set.
 */
bool tuple__address(const struct wire_tuple *tuple, enum tuple_end end,
		    char ret_address[INET6_ADDRSTRLEN], uint16_t *ret_port);

#endif
