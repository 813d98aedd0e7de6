/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams and exchanges of HTTP/2. See http2_streams.h. */
#include "proto/http2_streams.h"
#include "proto/http2_frame.h"

#include <errno.h>

/* Beyond so many, those whose end may have been lost are given up first. */
#define STREAMS_SUSPECT 128

#define VERSION	    20 /* struct exchange.version */
#define UPGRADED_ID 1  /* RFC 7540 3.2 */

static struct http2_stream *streams__find(const struct http2_streams *streams, uint32_t id)
{
	struct http2_stream *stream;

	HASH_FIND(hh, streams->table, &id, sizeof(id), stream);
	return stream;
}

/* Forgets a stream, whose exchange is gone. */
static void streams__remove(struct http2_streams *streams, struct http2_stream *stream)
{
	streams->closed[streams->closed_at++ % HTTP2_CLOSED_STREAMS] = stream->id;
	streams->bytes -= stream->bytes;
	HASH_DELETE(hh, streams->table, stream);
	free(stream);
}

/* Why the request of a response was not seen. */
static enum reason streams__why_unseen(const struct http2_streams *streams)
{
	enum reason why = streams->why[streams->requests];

	return why ? why : REASON_DESYNC;
}

static void streams__give_up(struct http2_streams *streams, struct http2_stream *stream,
			     enum reason reason)
{
	if (stream->exchange && !stream->exchange->request.begun)
		exchange__fault(stream->exchange, streams__why_unseen(streams));
	if (stream->exchange)
		pairing__give_up(streams->pairing, stream->exchange, reason);
	streams__remove(streams, stream);
}

void http2_streams__free(struct http2_streams *streams)
{
	struct http2_stream *stream, *next;

	HASH_ITER(hh, streams->table, stream, next)
	{
		HASH_DELETE(hh, streams->table, stream);
		free(stream);
	}
}

void http2_streams__set_roles(struct http2_streams *streams, enum wire_direction requests)
{
	if (streams->roles_known)
		return;
	streams->roles_known = true;
	streams->requests = requests;
	streams->connection->side = requests == WIRE_WRITE ? SIDE_CLIENT : SIDE_SERVER;
}

/* Its way of requests or of responses; where roles are known. */
static struct http2_way *streams__way(const struct http2_streams *streams,
				      struct http2_stream *stream, bool responses)
{
	return &stream->ways[responses ? 1 - streams->requests : streams->requests];
}

/* The message that goes in a direction. */
static struct message *streams__message(const struct http2_streams *streams,
					struct http2_stream *stream, enum wire_direction direction)
{
	return direction == streams->requests ? &stream->exchange->request
					      : &stream->exchange->response;
}

static bool streams__is_unsure(const struct http2_streams *streams,
			       const struct http2_stream *stream)
{
	return stream->ways[0].unsure || stream->ways[1].unsure;
}

/* Makes room: gives up the oldest of those that are suspected to be over, or the oldest. */
static void streams__evict(struct http2_streams *streams, bool suspects_only)
{
	struct http2_stream *stream, *next;

	HASH_ITER(hh, streams->table, stream, next)
	{
		if (!streams__is_unsure(streams, stream))
			continue;
		streams__give_up(streams, stream, REASON_LOST);
		return;
	}
	if (suspects_only)
		return;
	streams->connection->counts->streams_given_up++;
	streams__give_up(streams, streams->table, REASON_TRUNCATED);
}

/* Whether a stream is one whose request was not seen yet. */
static bool streams__is_new(const struct http2_streams *streams, uint32_t id)
{
	return (id & 1) && (!streams->has_new || id > streams->last_new);
}

/* Whether a stream ended a short time ago. */
static bool streams__just_closed(const struct http2_streams *streams, uint32_t id)
{
	for (size_t i = 0; i < HTTP2_CLOSED_STREAMS; i++)
		if (streams->closed[i] == id)
			return true;
	return false;
}

/* Whether a stream that is not in the table ended, as far as can be told. */
static bool streams__was_closed(const struct http2_streams *streams, uint32_t id)
{
	if (streams__just_closed(streams, id))
		return true;
	if (streams->late && (!streams->has_new || id < streams->first_new || !(id & 1)))
		return false;
	return !streams->lossy[0] && !streams->lossy[1];
}

static int streams__add(struct http2_streams *streams, uint32_t id,
			struct http2_stream **ret_stream)
{
	struct http2_stream *stream = calloc(1, sizeof(*stream));
	size_t count = HASH_COUNT(streams->table);

	if (!stream)
		return -ENOMEM;
	if (count >= STREAMS_SUSPECT)
		streams__evict(streams, count < HTTP2_MAX_STREAMS);
	stream->id = id;
	for (int d = 0; d < 2; d++)
		stream->ways[d].unsure = streams->searching[d];
	HASH_ADD(hh, streams->table, id, sizeof(stream->id), stream);
	if (!stream->hh.tbl) {
		free(stream);
		return -ENOMEM;
	}
	*ret_stream = stream;
	return 0;
}

static int streams__open(struct http2_streams *streams, struct http2_stream *stream)
{
	int err = pairing__open(streams->pairing, stream->id, &stream->exchange);

	if (err)
		return err;
	stream->exchange->version = VERSION;
	for (int d = 0; d < 2; d++)
		streams__message(streams, stream, d)->body_bytes = stream->ways[d].body_bytes;
	return 0;
}

/* Takes note of what its exchange holds. The stream itself is not given up for it. */
static void streams__weigh(struct http2_streams *streams, struct http2_stream *stream)
{
	size_t bytes = exchange__bytes(stream->exchange);

	streams->bytes += bytes - stream->bytes;
	stream->bytes = bytes;
	while (streams->bytes > HTTP2_OPEN_MAX_BYTES && streams->table != stream) {
		streams->connection->counts->streams_given_up++;
		streams__give_up(streams, streams->table, REASON_TRUNCATED);
	}
}

/* Ends what has ended. The stream may be gone afterwards. */
static void streams__settle(struct http2_streams *streams, struct http2_stream *stream)
{
	struct exchange *exchange = stream->exchange;
	bool over = stream->ways[0].ended && stream->ways[1].ended;

	if (!exchange) {
		/* Nothing is said of a stream of which no head was seen. */
		if (over || (streams->roles_known && streams__way(streams, stream, true)->ended))
			streams__remove(streams, stream);
		return;
	}
	/* A response without a status, where nothing was missed, is none. */
	if (exchange->response.ended && exchange->request.begun && !exchange->status)
		exchange__fault(exchange, REASON_DESYNC);
	if (exchange->response.ended && !exchange->request.begun)
		streams__give_up(streams, stream, REASON_NONE);
	else if (pairing__settle(streams->pairing, exchange))
		streams__remove(streams, stream);
	else if (exchange->response.ended && streams__way(streams, stream, false)->unsure)
		streams__give_up(streams, stream, REASON_LOST);
}

static struct bytes headers__get(const struct headers *headers, const char *name)
{
	size_t i = headers__find(headers, name, 0);

	return i < headers->count ? headers__value(headers, i) : (struct bytes){0};
}

static bool block__is_request(const struct http2_block *block)
{
	return headers__get(&block->pseudo, ":method").data ||
	       headers__get(&block->pseudo, ":path").data ||
	       headers__get(&block->pseudo, ":scheme").data ||
	       headers__get(&block->pseudo, ":authority").data;
}

static bool block__is_response(const struct http2_block *block)
{
	return headers__get(&block->pseudo, ":status").data ||
	       headers__get(&block->fields, "grpc-status").data;
}

static uint16_t block__status(const struct http2_block *block)
{
	struct bytes text = headers__get(&block->pseudo, ":status");
	uint16_t status = 0;

	if (text.size != 3)
		return 0;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		status = (uint16_t)(status * 10 + (text.data[i] - '0'));
	}
	return status;
}

/* What is longer than its maximum is left out. */
static int exchange__set(struct exchange *exchange, struct buf *part, struct bytes value)
{
	int err = buf__append(part, value);

	if (err == -ENOSPC) {
		exchange__fault(exchange, REASON_TRUNCATED);
		return 0;
	}
	return err;
}

static int exchange__set_target(struct exchange *exchange, const struct http2_block *block)
{
	struct bytes path = headers__get(&block->pseudo, ":path");
	struct bytes authority = headers__get(&block->pseudo, ":authority");
	size_t mark = bytes__find(path, '?');
	int err;

	/* RFC 9113 8.3.1: Host where there is no :authority. */
	if (!authority.size)
		authority = headers__get(&block->fields, "host");
	err = exchange__set(exchange, &exchange->method, headers__get(&block->pseudo, ":method"));
	if (!err)
		err = exchange__set(exchange, &exchange->scheme,
				    headers__get(&block->pseudo, ":scheme"));
	if (!err)
		err = exchange__set(exchange, &exchange->authority, authority);
	if (!err)
		err = exchange__set(exchange, &exchange->path, bytes__first(path, mark));
	if (!err && mark < path.size)
		err = exchange__set(exchange, &exchange->query, bytes__from(path, mark + 1));
	exchange->has_query = !err && mark < path.size;
	/* Half a target would be another one. */
	if (err)
		buf__clear(&exchange->path);
	/* Extended CONNECT (RFC 8441). */
	if (!err)
		err = exchange__set(exchange, &exchange->upgrade,
				    headers__get(&block->pseudo, ":protocol"));
	return err;
}

/* Moves the fields of a block to where there are none yet. */
static void block__move_fields(struct http2_block *block, struct headers *headers)
{
	struct headers empty = *headers;

	*headers = block->fields;
	block->fields = empty;
}

static void exchange__judge(struct exchange *exchange, const struct http2_block *block)
{
	bool unnamed = headers__find(&block->fields, "", 0) < block->fields.count;

	if (block->out_of_memory)
		exchange__fault(exchange, REASON_LOST);
	if (block->bad)
		exchange__fault(exchange, REASON_DESYNC);
	if (block->fields.unknown || unnamed)
		exchange__fault(exchange, REASON_UNKNOWN_HEADERS);
	if (block->fields.truncated || block->pseudo.truncated)
		exchange__fault(exchange, REASON_TRUNCATED);
}

static bool content_is_grpc(const struct headers *headers)
{
	struct bytes type = headers__get(headers, "content-type");
	struct bytes grpc = bytes__str("application/grpc");
	struct bytes rest = bytes__from(type, grpc.size);

	return bytes__equal_nocase(bytes__first(type, grpc.size), grpc) &&
	       (!rest.size || rest.data[0] == '+' || rest.data[0] == ';');
}

/* The head of a message: its first block but for interim responses. */
static void streams__begin(struct http2_streams *streams, struct http2_stream *stream,
			   struct http2_block *block, const struct http2_moment *moment)
{
	struct message *message = streams__message(streams, stream, moment->direction);
	struct http2_way *way = &stream->ways[moment->direction];

	message->begun = true;
	message->first_ns = moment->first_ns;
	block__move_fields(block, &message->headers);
	if (content_is_grpc(&message->headers) && !way->moved) {
		way->grpc.on = true;
		streams->has_grpc = true;
		message->has_messages = true;
	}
}

static int streams__request(struct http2_streams *streams, struct http2_stream *stream,
			    struct http2_block *block, const struct http2_moment *moment)
{
	struct exchange *exchange = stream->exchange;
	int err = 0;

	if (exchange->request.begun) {
		block__move_fields(block, &exchange->request.trailers);
		return 0;
	}
	exchange->tcp = moment->tcp;
	err = exchange__set_target(exchange, block);
	if (err)
		exchange__fault(exchange, REASON_LOST);
	streams__begin(streams, stream, block, moment);
	if ((stream->id & 1) && (!streams->has_new || stream->id < streams->first_new))
		streams->first_new = stream->id;
	if ((stream->id & 1) && (!streams->has_new || stream->id > streams->last_new))
		streams->last_new = stream->id;
	streams->has_new |= stream->id & 1;
	return err;
}

enum place {
	PLACE_HEAD,
	PLACE_TRAILERS,
	PLACE_UNKNOWN,
};

/*
 * What a block of responses is, where its status may not be known. Trailers end the stream, and
 * pseudo-headers come first; so a block that begins with a regular field is trailers. An interim
 * response of unknown status was taken for the head until the next block told.
 */
static enum place streams__place(const struct http2_streams *streams, struct http2_stream *stream,
				 const struct http2_block *block, bool end_stream)
{
	bool begun = stream->exchange->response.begun;
	bool moved = streams__way(streams, stream, true)->moved;

	if (headers__get(&block->pseudo, ":status").data || (!end_stream && !moved))
		return PLACE_HEAD;
	if (block->begins_known || moved)
		return PLACE_TRAILERS;
	if (!begun)
		return PLACE_HEAD;
	return stream->exchange->status ? PLACE_TRAILERS : PLACE_UNKNOWN;
}

static void streams__response(struct http2_streams *streams, struct http2_stream *stream,
			      struct http2_block *block, bool end_stream,
			      const struct http2_moment *moment)
{
	struct exchange *exchange = stream->exchange;
	struct message *response = &exchange->response;

	switch (streams__place(streams, stream, block, end_stream)) {
	case PLACE_HEAD:
		if (response->begun && exchange->status)
			break; /* there is only one */
		exchange->status = block__status(block);
		/* Not yet that of a request that was upgraded. */
		exchange->version = VERSION;
		streams__begin(streams, stream, block, moment);
		pairing__answer(streams->pairing, exchange);
		break;
	case PLACE_TRAILERS:
		if (!response->begun)
			response->first_ns = moment->first_ns;
		response->begun = true;
		block__move_fields(block, &response->trailers);
		break;
	case PLACE_UNKNOWN:
		response->headers.unknown += block->fields.count + block->fields.unknown;
		exchange__fault(exchange, REASON_UNKNOWN_HEADERS);
		break;
	}
}

/* Roles as a block tells them; false where it contradicts what is known. */
static bool streams__learn_roles(struct http2_streams *streams, const struct http2_block *block,
				 enum wire_direction direction)
{
	bool request = block__is_request(block), response = block__is_response(block);

	if (!streams->roles_known && request != response)
		http2_streams__set_roles(streams, request ? direction : 1 - direction);
	if (!streams->roles_known)
		return false;
	return direction == streams->requests ? !response : !request;
}

static int streams__take(struct http2_streams *streams, uint32_t id,
			 const struct http2_block *block, enum wire_direction direction,
			 struct http2_stream **ret_stream)
{
	bool is_request = direction == streams->requests;
	int err;

	*ret_stream = streams__find(streams, id);
	if (!*ret_stream) {
		bool is_new = streams__is_new(streams, id);

		if (is_new ? streams__just_closed(streams, id) : streams__was_closed(streams, id))
			return 0;
		/* Trailers of a request that was not seen. */
		if (is_request && (is_new ? block->begins_known && block->begins_regular
					  : !block__is_request(block)))
			return 0;
		err = streams__add(streams, id, ret_stream);
		if (err)
			return err;
	}
	if ((*ret_stream)->exchange)
		return 0;
	err = streams__open(streams, *ret_stream);
	if (err) {
		streams__remove(streams, *ret_stream);
		return err;
	}
	/* Calls that run at the same time may be told in either order: the request may yet come. */
	if (!is_request && streams->why[streams->requests])
		exchange__fault((*ret_stream)->exchange, streams__why_unseen(streams));
	return 0;
}

int http2_streams__adopt(struct http2_streams *streams, struct exchange *exchange)
{
	struct http2_stream *stream;
	int err = streams__add(streams, UPGRADED_ID, &stream);

	if (err)
		return err;
	exchange->id = stream->id;
	stream->exchange = exchange;
	streams__way(streams, stream, false)->ended = exchange->request.ended;
	streams__weigh(streams, stream);
	return 0;
}

int http2_streams__headers(struct http2_streams *streams, uint32_t id, bool end_stream,
			   struct http2_block *block, const struct http2_moment *moment)
{
	enum wire_direction direction = moment->direction;
	struct http2_stream *stream;
	uint16_t status = block__status(block);
	int err;

	if (!streams__learn_roles(streams, block, direction)) {
		if (end_stream)
			http2_streams__end_way(streams, id, direction, moment->last_ns);
		return 0;
	}
	if (direction != streams->requests && status >= 100 && status < 200 && !end_stream)
		return 0;
	err = streams__take(streams, id, block, direction, &stream);
	if (err || !stream)
		return err;
	exchange__judge(stream->exchange, block);
	if (direction == streams->requests)
		err = streams__request(streams, stream, block, moment);
	else
		streams__response(streams, stream, block, end_stream, moment);
	streams__message(streams, stream, direction)->last_ns = moment->last_ns;
	streams__weigh(streams, stream);
	if (end_stream)
		http2_streams__end_way(streams, id, direction, moment->last_ns);
	return err;
}

int http2_streams__promise(struct http2_streams *streams, uint32_t id, struct http2_block *block,
			   const struct http2_moment *moment)
{
	struct http2_moment requested = *moment;
	struct http2_stream *stream;
	int err;

	/* Only servers promise. */
	http2_streams__set_roles(streams, 1 - moment->direction);
	if (moment->direction == streams->requests || streams__find(streams, id))
		return 0;
	err = streams__add(streams, id, &stream);
	if (err)
		return err;
	err = streams__open(streams, stream);
	if (err) {
		streams__remove(streams, stream);
		return err;
	}
	requested.direction = streams->requests;
	exchange__judge(stream->exchange, block);
	err = streams__request(streams, stream, block, &requested);
	streams__weigh(streams, stream);
	http2_streams__end_way(streams, id, streams->requests, moment->last_ns);
	return err;
}

/* Counts the messages that begin in `bytes`; NULL where they are not here. */
static void grpc__count(struct http2_grpc *grpc, struct message *message, const uint8_t *bytes,
			uint64_t size)
{
	while (size) {
		uint64_t step;

		if (grpc->left) {
			step = size < grpc->left ? size : grpc->left;
			grpc->left -= step;
		} else if (!bytes) {
			grpc->on = message->has_messages = false;
			return;
		} else {
			grpc->prefix[grpc->prefix_size++] = *bytes;
			step = 1;
			if (grpc->prefix_size == sizeof(grpc->prefix)) {
				grpc->left = http2__u32(grpc->prefix + 1);
				grpc->prefix_size = 0;
				message->messages++;
			}
		}
		bytes = bytes ? bytes + step : NULL;
		size -= step;
	}
}

int http2_streams__data(struct http2_streams *streams, uint32_t id, enum wire_direction direction,
			const uint8_t *bytes, uint64_t size, bool lost, uint64_t last_ns)
{
	struct http2_stream *stream = streams__find(streams, id);
	struct http2_way *way;
	struct message *message;
	int err;

	if (!stream) {
		if (!streams->late || streams__was_closed(streams, id))
			return 0;
		err = streams__add(streams, id, &stream);
		if (err)
			return err;
	}
	way = &stream->ways[direction];
	way->moved = true;
	if (!stream->exchange) {
		way->body_bytes += size;
		return 0;
	}
	message = streams__message(streams, stream, direction);
	message->body_bytes += size;
	message->last_ns = last_ns;
	if (lost) {
		message->lost_bytes += size;
		exchange__fault(stream->exchange, REASON_LOST);
	}
	if (way->grpc.on)
		grpc__count(&way->grpc, message, bytes, size);
	return 0;
}

void http2_streams__end_way(struct http2_streams *streams, uint32_t id,
			    enum wire_direction direction, uint64_t last_ns)
{
	struct http2_stream *stream = streams__find(streams, id);
	struct message *message;

	if (!stream || stream->ways[direction].ended)
		return;
	stream->ways[direction].ended = true;
	stream->ways[direction].unsure = false;
	if (stream->exchange) {
		message = streams__message(streams, stream, direction);
		message->ended = true;
		message->last_ns = last_ns;
	}
	streams__settle(streams, stream);
}

void http2_streams__reset(struct http2_streams *streams, uint32_t id, uint32_t code)
{
	struct http2_stream *stream = streams__find(streams, id);

	struct exchange *exchange = stream ? stream->exchange : NULL;

	if (!stream)
		return;
	/* NO_ERROR behind a response: the request ends where it is (RFC 9113 8.1). */
	if (exchange && !code && exchange->response.ended &&
	    !streams__way(streams, stream, false)->unsure)
		exchange->request.ended = true;
	else if (exchange && (code || !exchange->response.ended))
		exchange->error = http2__reset_name(code);
	streams__give_up(streams, stream, REASON_NONE);
}

void http2_streams__goaway(struct http2_streams *streams, enum wire_direction direction,
			   uint32_t last_id, uint32_t code)
{
	struct http2_stream *stream, *next;

	streams->failed |= code;
	if (!streams->roles_known || direction == streams->requests)
		return;
	HASH_ITER(hh, streams->table, stream, next)
	{
		if (!(stream->id & 1) || stream->id <= last_id)
			continue;
		if (stream->exchange)
			stream->exchange->error = "goaway";
		streams__give_up(streams, stream, REASON_NONE);
	}
}

void http2_streams__lose(struct http2_streams *streams, enum wire_direction direction,
			 enum reason reason, uint64_t lost_bytes)
{
	struct http2_stream *stream, *next, *only = NULL;
	size_t count = 0;

	streams->lossy[direction] = true;
	streams->why[direction] = reason;
	HASH_ITER(hh, streams->table, stream, next)
	{
		if (!stream->exchange || stream->ways[direction].ended)
			continue;
		stream->ways[direction].unsure = true;
		exchange__fault(stream->exchange, reason);
		if (stream->ways[direction].grpc.on) {
			stream->ways[direction].grpc.on = false;
			streams__message(streams, stream, direction)->has_messages = false;
		}
		only = stream;
		count++;
	}
	/* With several it is not known whose they are. */
	if (count == 1)
		streams__message(streams, only, direction)->lost_bytes += lost_bytes;
	HASH_ITER(hh, streams->table, stream, next)
	streams__settle(streams, stream);
}

void http2_streams__end(struct http2_streams *streams, enum wire_direction direction,
			enum end_kind kind)
{
	struct http2_stream *stream, *next;

	HASH_ITER(hh, streams->table, stream, next)
	{
		struct exchange *exchange = stream->exchange;
		bool unsure;

		if (!exchange) {
			if (kind != END_STREAM)
				streams__remove(streams, stream);
			continue;
		}
		unsure = streams__way(streams, stream, true)->unsure;
		if (kind != END_TRACE && !exchange->response.ended && !unsure)
			exchange->error = streams->failed ? "goaway" : "closed";
		/* Responses may still come when the requests have ended. */
		if (kind == END_STREAM && direction == streams->requests) {
			if (exchange->request.ended)
				exchange->error = NULL;
			continue;
		}
		streams__give_up(streams, stream,
				 unsure ? streams->why[1 - streams->requests] : REASON_NONE);
	}
}
