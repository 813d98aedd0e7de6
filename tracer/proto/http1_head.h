/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lines of an HTTP/1 message head, one at a time: what a start line says, whether bytes can be
 * the beginning of one, and what the fields say about the body's length. Keeps no state but what
 * the caller holds; knows nothing of connections.
 */
#ifndef TLSTRACE_HTTP1_HEAD_H
#define TLSTRACE_HTTP1_HEAD_H

#include "proto/parser.h"

#define HTTP1_METHOD_MAX_BYTES 32

/* Which start lines are meant; a mask. */
#define HTTP1_REQUEST  0x1u
#define HTTP1_RESPONSE 0x2u
#define HTTP1_EITHER   (HTTP1_REQUEST | HTTP1_RESPONSE)

/* Views are into the line. */
struct http1_start {
	unsigned int kind; /* HTTP1_REQUEST or HTTP1_RESPONSE */
	uint8_t version;   /* 10, 11 */
	struct bytes method;
	struct bytes target;
	uint16_t status;
};

/*
 * Reads a start line (without its line end) of one of `kinds`, as leniently as servers do; true
 * when it is one. `cut` tells that the end of the line is missing: a request's version is then
 * taken to be 1.1.
 */
bool http1_start__parse(struct bytes line, unsigned int kinds, bool cut,
			struct http1_start *ret_start);

/*
 * Whether a start line is beyond doubt where its place is not known: no byte of it is out of place,
 * and none is missing before it. (Go's servers read a request's first byte by itself: "OST /".)
 */
bool http1_start__strict(const struct http1_start *start);

/* Whether its method is one that is registered or well known. */
bool http1_start__known(const struct http1_start *start);

/*
 * Whether bytes can be the beginning of a start line of one of `kinds`. With `known`, of a request
 * only with a well-known method and a usual target.
 */
bool http1_start__possible(struct bytes head, unsigned int kinds, bool known);

/* parser_ops.detect */
enum verdict http1__detect(struct bytes head, bool from_start);

/* The parts of a request target (RFC 9112 3.2). Data NULL: absent. */
struct http1_target {
	struct bytes scheme;
	struct bytes authority; /* without userinfo */
	struct bytes path;
	struct bytes query;
};

struct http1_target http1_target__parse(struct bytes method, struct bytes target);

enum http1_framing_field {
	HTTP1_FRAMING_NONE = 0,
	HTTP1_FRAMING_LENGTH,
	HTTP1_FRAMING_CODING,
};

/* What Content-Length and Transfer-Encoding say. A field counts when the line after it is known
 * not to continue it. */
struct http1_framing {
	enum http1_framing_field open; /* the field that a folded line would continue */
	struct buf value;	       /* of the open field */
	bool has_length;
	bool bad_length;
	bool coded;   /* a transfer coding other than identity applies */
	bool chunked; /* the last of them is chunked */
	bool bad_coding;
	uint64_t length;
};

/* Nothing said yet. What it holds of memory is kept. */
void http1_framing__reset(struct http1_framing *framing);
void http1_framing__free(struct http1_framing *framing);

/* The next field of the head; `cut` tells that its value is not whole. 0 or -ENOMEM. */
int http1_framing__field(struct http1_framing *framing, struct bytes name, struct bytes value,
			 bool cut);

/* A folded line that continues the last field. 0 or -ENOMEM. */
int http1_framing__fold(struct http1_framing *framing, struct bytes more, bool cut);

/* The last field is whole. */
void http1_framing__close(struct http1_framing *framing);

#endif
