/* SPDX-License-Identifier: BSD-2-Clause */
/* A complete exchange to change at will. See sample.h. */
#include "sample.h"

#include <stdlib.h>

const int64_t sample_clock_offset_ns = 1767323045123456000 - 1000000000;

const uint8_t sample_key[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

void sample__set(struct buf *part, const char *text)
{
	buf__clear(part);
	if (buf__append_str(part, text))
		abort();
}

static void sample__init_buf(struct buf *part, const char *text)
{
	buf__init(part, TARGET_MAX_BYTES);
	sample__set(part, text);
}

static void sample__message(struct message *message, uint64_t first_ns, uint64_t last_ns)
{
	*message = (struct message){.begun = true,
				    .ended = true,
				    .first_ns = first_ns,
				    .last_ns = last_ns};
	headers__init(&message->headers);
	headers__init(&message->trailers);
}

void sample__make(struct sample *sample)
{
	struct exchange *exchange = &sample->exchange;

	sample->connection = (struct connection){
		.pid = 1234,
		.tid = 1234,
		.side = SIDE_SERVER,
		.tuple = {.source = WIRE_TUPLE_NESTED,
			  .ip_version = 4,
			  .local_port = 8443,
			  .peer_port = 40210,
			  .local = {127, 0, 0, 1},
			  .peer = {127, 0, 0, 1}},
	};
	*exchange = (struct exchange){.connection = &sample->connection,
				      .version = 11,
				      .has_query = true,
				      .status = 200};
	sample__message(&exchange->request, 1000000000, 1000100000);
	sample__message(&exchange->response, 1000412000, 1000530000);
	exchange->response.body_bytes = 1024;
	sample__init_buf(&exchange->method, "GET");
	sample__init_buf(&exchange->scheme, "");
	sample__init_buf(&exchange->authority, "api.example:8443");
	sample__init_buf(&exchange->path, "/v1/items");
	sample__init_buf(&exchange->query, "page=2");
	sample__init_buf(&exchange->upgrade, "");
}

void sample__free(struct sample *sample)
{
	struct exchange *exchange = &sample->exchange;

	headers__free(&exchange->request.headers);
	headers__free(&exchange->request.trailers);
	headers__free(&exchange->response.headers);
	headers__free(&exchange->response.trailers);
	buf__free(&exchange->method);
	buf__free(&exchange->scheme);
	buf__free(&exchange->authority);
	buf__free(&exchange->path);
	buf__free(&exchange->query);
	buf__free(&exchange->upgrade);
}
