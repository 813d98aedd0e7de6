/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The streams of an HTTP/2 connection and the exchanges on them: what header blocks, DATA, resets
 * and losses mean for each. Knows nothing of frames' bytes.
 *
 * Which direction has the requests is not known on a connection joined late, until a block says so;
 * blocks before that are left out.
 */
#ifndef TLSTRACE_HTTP2_STREAMS_H
#define TLSTRACE_HTTP2_STREAMS_H

#include "proto/parser.h"

#define HASH_NONFATAL_OOM   1
#define uthash_malloc(size) malloc(size)
#include <stdlib.h>
#include <uthash.h>

/* Streams open at once; peers allow some hundred. The oldest is given up beyond. */
#define HTTP2_MAX_STREAMS 1000

/* What their exchanges may hold; the oldest is given up beyond. */
#define HTTP2_OPEN_MAX_BYTES (4 * 1024 * 1024)

/* Streams that ended and may still get what was under way. */
#define HTTP2_CLOSED_STREAMS 64

/* Counts the messages of gRPC: each has a prefix with its length. */
struct http2_grpc {
	bool on;
	uint8_t prefix_size; /* what is here of the next one's */
	uint8_t prefix[5];
	uint64_t left; /* of the message under way */
};

/* One direction of a stream. */
struct http2_way {
	bool ended;
	bool unsure;	     /* its end may have passed unseen */
	bool moved;	     /* DATA passed */
	uint64_t body_bytes; /* before there was an exchange */
	struct http2_grpc grpc;
};

struct http2_stream {
	uint32_t id;
	struct exchange *exchange; /* NULL: no block of it was seen */
	size_t bytes;		   /* what the exchange held when last looked at */
	struct http2_way ways[2];  /* by direction */
	UT_hash_handle hh;
};

/* A header block, decoded. */
struct http2_block {
	struct headers pseudo; /* names begin with a colon */
	struct headers fields;
	bool begins_known;   /* its first field has a name that is known ... */
	bool begins_regular; /* ... and is no pseudo-header */
	bool unknown;	     /* it refers to entries of the table that are not known */
	bool bad;	     /* it cannot be decoded: there are no fields */
	bool out_of_memory;
};

/* When and where a block passed. */
struct http2_moment {
	enum wire_direction direction;
	uint64_t first_ns; /* of its first frame's first byte */
	uint64_t last_ns;
	struct tcp_facts tcp; /* as of that byte */
};

struct http2_streams {
	struct pairing *pairing;
	struct connection *connection;
	struct http2_stream *table;
	size_t bytes; /* sum of the streams' */
	bool roles_known;
	enum wire_direction requests; /* where roles are known */
	bool late;		      /* requests from before are under way */
	bool lossy[2];		      /* by direction: something was lost since */
	bool searching[2];	      /* by direction: it has lost its place */
	enum reason why[2];	      /* of the latest loss */
	bool has_new;
	uint32_t first_new, last_new; /* of the requests seen */
	uint32_t closed[HTTP2_CLOSED_STREAMS];
	size_t closed_at;
	bool has_grpc; /* messages in bodies are counted */
	bool failed;   /* GOAWAY said that the connection ends by an error */
};

void http2_streams__free(struct http2_streams *streams);

/* Says which direction has the requests. The first word stays. */
void http2_streams__set_roles(struct http2_streams *streams, enum wire_direction requests);

/*
 * Makes a request of HTTP/1.1 that was upgraded stream 1, of which the response is to come. Its
 * exchange is open in the pairing; roles are known. 0 or -ENOMEM.
 */
int http2_streams__adopt(struct http2_streams *streams, struct exchange *exchange);

/* A block of stream `id`. 0 or -ENOMEM. `block` is emptied of what is kept. */
int http2_streams__headers(struct http2_streams *streams, uint32_t id, bool end_stream,
			   struct http2_block *block, const struct http2_moment *moment);

/* The request that is promised for stream `id`. 0 or -ENOMEM. */
int http2_streams__promise(struct http2_streams *streams, uint32_t id, struct http2_block *block,
			   const struct http2_moment *moment);

/*
 * `size` bytes of DATA without its padding: `bytes`, or NULL where they are not here, `lost` or
 * skipped. 0 or -ENOMEM.
 */
int http2_streams__data(struct http2_streams *streams, uint32_t id, enum wire_direction direction,
			const uint8_t *bytes, uint64_t size, bool lost, uint64_t last_ns);

/* A direction of a stream ended. */
void http2_streams__end_way(struct http2_streams *streams, uint32_t id,
			    enum wire_direction direction, uint64_t last_ns);

void http2_streams__reset(struct http2_streams *streams, uint32_t id, uint32_t code);

/* GOAWAY went in `direction`: higher streams of the other side's are not served. */
void http2_streams__goaway(struct http2_streams *streams, enum wire_direction direction,
			   uint32_t last_id, uint32_t code);

/* Bytes of a direction are not here, and it is not known what they were. */
void http2_streams__lose(struct http2_streams *streams, enum wire_direction direction,
			 enum reason reason, uint64_t lost_bytes);

/* As parser_ops.end. */
void http2_streams__end(struct http2_streams *streams, enum wire_direction direction,
			enum end_kind kind);

#endif
