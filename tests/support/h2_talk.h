/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Real HTTP/2 to parse: two sessions of libnghttp2, a client's and a server's, talk in memory, and
 * all that passes is kept with what was said. Not for the failing allocator.
 */
#ifndef H2_TALK_H
#define H2_TALK_H

#include "base/bytes.h"
#include "wire.h"

#define TALK_MAX_CALLS	 512
#define TALK_MAX_STREAMS 64
#define TALK_MAX_FIELDS	 24

/* What one side gave to TLS at once. The client writes (WIRE_WRITE). */
struct talk_call {
	enum wire_direction direction;
	uint8_t *data;
	size_t size;
};

struct talk_field {
	char name[40];
	char value[512];
};

struct talk_block {
	struct talk_field fields[TALK_MAX_FIELDS]; /* pseudo-headers too */
	size_t count;
};

/* What a stream really was. */
struct talk_stream {
	int32_t id;
	struct talk_block request;
	struct talk_block response;
	struct talk_block trailers;
	size_t request_body;
	size_t response_body;
	size_t call; /* in which its request began */
	bool interim;
	bool request_sent, response_sent; /* here: how far a body was given out */
	size_t request_given, response_given;
};

struct talk {
	struct talk_call calls[TALK_MAX_CALLS];
	size_t call_count;
	struct talk_stream streams[TALK_MAX_STREAMS];
	size_t stream_count;
	bool pads;	       /* frames are padded */
	uint32_t client_table; /* SETTINGS_HEADER_TABLE_SIZE of each; what the other may use */
	uint32_t server_table;
	size_t deflate_table; /* what encoders use at most; 0: 4096 */
	/* HTTP/1.1 was upgraded: the caller tells the first stream's request by that. */
	bool upgrades;
	bool answers_first; /* that request, before it has read anything of HTTP/2 */
	char settings[32];  /* what its HTTP2-Settings says */
	void *client, *server;
};

/* Begins it: the sessions exchange their settings. Zero but for what may be chosen. */
void talk__begin(struct talk *talk);

/* A stream to fill in: its request and response, sent by talk__say. */
struct talk_stream *talk__stream(struct talk *talk);
void talk__field(struct talk_block *block, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Sends the requests of the last `count` streams at once, then their responses. */
void talk__say(struct talk *talk, size_t count);

/* Announces another table size. */
void talk__resize(struct talk *talk, bool by_client, uint32_t bytes);

/* A client's reset of a stream that the server does not answer. */
struct talk_stream *talk__cancelled(struct talk *talk);

const struct talk_stream *talk__find(const struct talk *talk, uint64_t id);

void talk__free(struct talk *talk);

#endif
