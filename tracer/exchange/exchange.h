/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model of what was seen: header fields, messages, and the exchange (a request with its
 * response) on its connection. Everything here holds data as it was on the wire, secrets
 * included; only policy/redact turns an exchange into an entry that a sink accepts.
 */
#ifndef TLSTRACE_EXCHANGE_H
#define TLSTRACE_EXCHANGE_H

#include "base/buf.h"
#include "wire.h"

/* The header text kept of one message; what is beyond is counted as truncated. */
#define HEADERS_MAX_BYTES (64 * 1024)
/* Fields kept of one message; one of 64 KB in fields of a few bytes has no more that matter. */
#define HEADERS_MAX_FIELDS 8192

struct field {
	uint32_t name_offset;
	uint32_t name_size;
	uint32_t value_offset;
	uint32_t value_size;
};

/*
 * Header or trailer fields in wire order, names in their original case. An empty name is one that
 * is not known (HPACK joined late), and a secret may be its value.
 */
struct headers {
	struct buf text;
	struct field *fields;
	size_t count;
	size_t capacity;
	size_t unknown; /* fields of which neither name nor value is known; not among the others */
	bool truncated; /* a field was left out or cut because of a maximum */
};

void headers__init(struct headers *headers);
void headers__free(struct headers *headers);

/*
 * Appends a copy of a field. 0; -ENOSPC when a maximum is reached (then `truncated` is set and
 * nothing was added); -ENOMEM.
 */
int headers__add(struct headers *headers, struct bytes name, struct bytes value);

/*
 * Appends text to the last field's value, which must be the last thing added (obs-fold, RFC 9112
 * 5.2). Errors as headers__add; -EINVAL when there is no field.
 */
int headers__extend_last(struct headers *headers, struct bytes more);

/* Views that live until the next add or free. `index` must be below count. */
struct bytes headers__name(const struct headers *headers, size_t index);
struct bytes headers__value(const struct headers *headers, size_t index);

/*
 * The first field called `name` (ASCII, compared without case) at or after `from`: its index, or
 * count when there is none.
 */
size_t headers__find(const struct headers *headers, const char *name, size_t from);

enum side {
	SIDE_UNKNOWN = 0,
	SIDE_CLIENT, /* the traced process sends the requests */
	SIDE_SERVER,
};

/* Why an exchange is not complete; the words of capture.reason. The first reason found stays. */
enum reason {
	REASON_NONE = 0,
	REASON_JOINED_LATE, /* tracing began in the middle of it */
	REASON_LOST,	    /* bytes of it found no room in the ring buffer */
	REASON_TRUNCATED,   /* a header block or line beyond a maximum */
	REASON_NO_RESPONSE, /* the connection or the trace ended before the response did */
	REASON_UNKNOWN_HEADERS,
	REASON_DESYNC, /* bytes that do not follow from what came before */
};

/*
 * Of the TCP connection, as the kernel knew it. seq and ack are as on the wire: of the first byte
 * of the TLS record that held the request's first byte, and of the next byte the other way.
 */
struct tcp_facts {
	bool has_seq; /* and ack */
	bool has_rtt;
	bool has_retransmits;
	uint32_t seq;
	uint32_t ack;
	uint32_t rtt_us;
	uint32_t retransmits; /* by this end, since the connection began */
};

/* What parsers gave up, or began anew, rather than to trust or keep it. */
struct protocol_counts {
	uint64_t streams_given_up; /* too many, or too large, at a time */
	uint64_t blocks_refused;   /* header blocks that are too long or in too many frames */
	uint64_t tables_reset;	   /* HPACK tables that were not what they were taken for */
	uint64_t tables_adopted;   /* HPACK tables of targets that were taken over */
	uint64_t tables_refused;   /* ... and that did not fit what had passed */
	uint64_t places_lost;	   /* bytes that did not follow from those before */
};

/* What all exchanges of a connection share. */
struct connection {
	uint32_t pid;
	uint32_t tid; /* of the latest call */
	struct wire_connection id;
	struct wire_tuple tuple;
	enum wire_library library;
	enum side side;
	bool from_start; /* seen since the TLS object was made */
	bool has_retransmits;
	uint32_t retransmits;		/* the latest that is known */
	struct protocol_counts *counts; /* of all connections */
};

struct waiting_queue;

/* An exchange's place where it waits for its connection's tuple; flow/waiting.c's own. */
struct waiting_place {
	struct waiting_queue *queue;
	struct exchange *prev, *next;	    /* in the order of deadlines */
	struct exchange *of_prev, *of_next; /* in its connection's queue */
	uint64_t deadline_ns;
	size_t bytes; /* what it holds */
};

struct underway_list;

/* An exchange's place among those that may come to last; exchange/underway.c's own. */
struct underway_place {
	struct underway_list *list; /* NULL: in none */
	struct exchange *prev, *next;
	uint64_t deadline_ns;
};

/* A request or a response. Times are CLOCK_MONOTONIC nanoseconds. */
struct message {
	bool begun; /* its start line was seen: the times and headers mean something */
	bool ended; /* its last byte was seen */
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t body_bytes; /* as carried: chunked or DATA framing taken off */
	uint64_t lost_bytes; /* passed but did not reach us */
	bool has_messages;   /* gRPC's were counted, all of them */
	uint64_t messages;
	struct headers headers;
	struct headers trailers;
};

/* Lengths that a start line may have before its parts are cut (and the exchange is TRUNCATED). */
#define TARGET_MAX_BYTES (64 * 1024)

struct exchange {
	uint64_t id; /* HTTP/1: number on the connection; HTTP/2: stream id */
	struct connection *connection;
	struct exchange *next; /* in its pairing's order */

	struct message request;
	struct message response;
	uint8_t version; /* 10, 11, 20 */
	struct buf method;
	struct buf scheme;    /* empty: https */
	struct buf authority; /* from an absolute target or Host or :authority; empty: not known */
	struct buf path;
	struct buf query; /* without its `?` */
	struct buf
		upgrade; /* what extended CONNECT (RFC 8441) asks for, or a 101 brings; or empty */
	bool has_query;
	uint16_t status; /* of the final response; 0: not seen */

	enum reason reason;
	const char *error; /* error.type, static text; NULL: none */
	bool is_open;	   /* it goes on: in its pairing still */

	struct tcp_facts tcp; /* of the request; the retransmits at the exchange's end */
	struct waiting_place waiting;
	struct underway_place underway;
};

#endif
