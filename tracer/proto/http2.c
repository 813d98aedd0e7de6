/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/2 (RFC 9113) as a bystander reads it: the frames of both directions, taken from pieces of
 * any size, with bytes missing and from a start in the middle. Own code: libnghttp2's sessions are
 * one end of a connection, see it from its start and end it at the first error. HPACK is
 * libnghttp2's (hpack.c); what frames mean for exchanges is http2_streams.c.
 *
 * Keeping the place. A frame says how long it is, so DATA need not be seen, and a gap inside one is
 * only counted. Any other gap, and a frame that cannot be, lose the place: the direction then keeps
 * the last bytes in a window and looks for a chain of frames in them, at each byte. With the place
 * goes the HPACK table: what was lost may have changed it.
 *
 * Memory: for each direction a frame or header block under way of BLOCK_MAX_BYTES or a window of
 * WINDOW_MAX_BYTES, an HPACK table (and what http2_late.h keeps), and 4 MB of open exchanges; when
 * idle, tables and exchanges.
 */
#include "proto/hpack.h"
#include "proto/http2_frame.h"
#include "proto/http2_late.h"
#include "proto/http2_streams.h"

#include <errno.h>

/* A header block as it is sent: no server takes a larger one. */
#define BLOCK_MAX_BYTES	 (256 * 1024)
#define BLOCK_MAX_FRAMES 128

/* Frames that are read whole, but for header blocks: a few settings, GOAWAY with its text. */
#define CONTROL_MAX_BYTES 4096

/* Four frames of the usual maximum, and a piece. */
#define WINDOW_MAX_BYTES (4 * (HTTP2_FRAME_BYTES + HTTP2_HEAD_BYTES) + 16 * 1024)
#define WINDOW_MARKS	 8

/* SETTINGS that wait for their ACK; peers send one. */
#define SETTINGS_MAX_PENDING 8

/* No buffer of more is kept for the next frame. */
#define KEEP_MAX_BYTES 4096

enum state {
	STATE_START,	 /* the preface, or a server's SETTINGS */
	STATE_HEAD,	 /* of a frame */
	STATE_DATA,	 /* payload of DATA */
	STATE_SKIP,	 /* payload that does not matter */
	STATE_GATHER,	 /* payload that is read whole */
	STATE_SEARCHING, /* the place is lost */
};

/* From `offset` of the window on, bytes passed like this. */
struct mark {
	size_t offset;
	bool call_start;
	struct passage when;
};

struct half {
	enum state state;
	struct hpack *hpack;
	uint8_t head[HTTP2_PREFACE_BYTES]; /* of the frame under way, or the preface */
	size_t head_size;
	struct http2_frame frame;
	uint32_t left;	    /* of its payload */
	uint32_t padding;   /* of that: at its end */
	bool padding_comes; /* the next byte says how much */
	struct buf payload; /* what is here of one that is gathered */

	/* The header block under way. */
	bool in_block;
	bool block_refused;
	bool block_ends_stream;
	uint32_t block_stream; /* of its frames */
	uint32_t promised;     /* 0: none */
	uint64_t block_at;     /* position of its first frame */
	size_t block_frames;
	struct buf block;
	struct http2_moment moment; /* of its first frame, or of the frame at hand */

	bool settings_due; /* the first frame after an Upgrade */
	bool began;	   /* a frame, with the first byte of the last data */
	bool fresh;	   /* searching, the window begins with that byte */
	size_t last_frame; /* began so many bytes before the end of that data; 0: none did */
	struct buf window; /* while searching, and what was found */
	struct mark marks[WINDOW_MARKS];
	size_t mark_count;

	/* Positions: bytes of the direction that have passed. */
	uint64_t passed;  /* all that were told */
	uint64_t run_end; /* ... as far as they were given to parser__run ... */
	uint64_t at;	  /* ... and as far as it has come */
	struct http2_late late;

	/* Table sizes that it announced, for the other direction, in the order of their ACKs. */
	uint32_t pending[SETTINGS_MAX_PENDING];
	size_t pending_count;
};

struct parser {
	struct connection *connection;
	struct half half[2];
	struct http2_streams streams;
	struct http2_block block; /* scratch */
};

static struct half *parser__other(struct parser *parser, const struct half *half)
{
	return half == &parser->half[0] ? &parser->half[1] : &parser->half[0];
}

static enum wire_direction parser__direction(const struct parser *parser, const struct half *half)
{
	return half == &parser->half[WIRE_READ] ? WIRE_READ : WIRE_WRITE;
}

static void http2__free(struct parser *parser)
{
	if (!parser)
		return;
	for (int i = 0; i < 2; i++) {
		struct half *half = &parser->half[i];

		hpack__free(half->hpack);
		buf__free(&half->payload);
		buf__free(&half->block);
		buf__free(&half->window);
		http2_late__free(&half->late);
	}
	http2_streams__free(&parser->streams);
	headers__free(&parser->block.pseudo);
	headers__free(&parser->block.fields);
	free(parser);
}

static int http2__open(struct pairing *pairing, struct connection *connection, bool from_start,
		       struct parser **ret_parser)
{
	struct parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return -ENOMEM;
	parser->connection = connection;
	parser->streams.pairing = pairing;
	parser->streams.connection = connection;
	parser->streams.late = !from_start;
	headers__init(&parser->block.pseudo);
	headers__init(&parser->block.fields);
	for (int i = 0; i < 2; i++) {
		struct half *half = &parser->half[i];

		half->state = from_start ? STATE_START : STATE_SEARCHING;
		half->moment.direction = i;
		parser->streams.searching[i] = !from_start;
		parser->streams.why[i] = from_start ? REASON_NONE : REASON_JOINED_LATE;
		buf__init(&half->payload, BLOCK_MAX_BYTES);
		buf__init(&half->block, BLOCK_MAX_BYTES);
		buf__init(&half->window, WINDOW_MAX_BYTES);
		http2_late__init(&half->late);
		if (hpack__new(from_start, &half->hpack)) {
			http2__free(parser);
			return -ENOMEM;
		}
	}
	*ret_parser = parser;
	return 0;
}

/* Empties a buffer; what is large is given back. */
static void buf__release(struct buf *buf)
{
	if (buf->capacity > KEEP_MAX_BYTES)
		buf__free(buf);
	else
		buf__clear(buf);
}

static void half__end_block(struct half *half)
{
	half->in_block = half->block_refused = false;
	buf__release(&half->block);
}

/* Back to no frame and no block. */
static void half__reset(struct half *half, enum state state)
{
	half->state = state;
	half->head_size = 0;
	half->left = half->padding = 0;
	half->padding_comes = false;
	buf__release(&half->payload);
	half__end_block(half);
}

/* The table is empty (`exact`), or nothing is known of it. */
static void half__forget_table(struct half *half, bool exact)
{
	hpack__reset(half->hpack, exact);
	http2_late__clear(&half->late);
}

/* Whether the next byte is a frame's first. */
static bool half__is_between(const struct half *half)
{
	return (half->state == STATE_START || half->state == STATE_HEAD) && !half->head_size;
}

/* The direction has lost its place: it searches from here on. */
static void parser__lose(struct parser *parser, struct half *half, enum reason reason,
			 uint64_t lost_bytes)
{
	struct half *other = parser__other(parser, half);
	enum wire_direction direction = parser__direction(parser, half);

	if (half->state == STATE_SEARCHING)
		return;
	parser->connection->counts->places_lost++;
	half__reset(half, STATE_SEARCHING);
	half->settings_due = half->began = false;
	half->last_frame = 0;
	half__forget_table(half, false);
	/* An announcement or an ACK may have gone with it. */
	half->pending_count = other->pending_count = 0;
	hpack__set_limit(other->hpack, HPACK_TABLE_MAX_BYTES);
	parser->streams.searching[direction] = true;
	http2_streams__lose(&parser->streams, direction, reason, lost_bytes);
}

/* ---- header blocks ---- */

static int on_field(void *context, struct bytes name, struct bytes value)
{
	struct http2_block *block = context;
	bool first = !block->fields.count && !block->fields.unknown && !block->pseudo.count &&
		     !block->fields.truncated;
	bool pseudo = name.size && name.data[0] == ':';
	int err = 0;

	if (first) {
		block->begins_known = name.size;
		block->begins_regular = !pseudo;
	}
	block->unknown |= !name.size;
	if (!name.size && !value.size)
		block->fields.unknown++;
	else
		err = headers__add(pseudo ? &block->pseudo : &block->fields, name, value);
	block->out_of_memory |= err == -ENOMEM;
	return block->out_of_memory;
}

static void headers__clear(struct headers *headers)
{
	buf__clear(&headers->text);
	headers->count = headers->unknown = 0;
	headers->truncated = false;
}

static void block__clear(struct http2_block *block)
{
	headers__clear(&block->pseudo);
	headers__clear(&block->fields);
	block->begins_known = block->begins_regular = block->unknown = false;
	block->bad = block->out_of_memory = false;
}

static void parser__count_adopted(struct parser *parser, int err)
{
	parser->connection->counts->tables_adopted += !err;
	parser->connection->counts->tables_refused += err == -EBADMSG;
}

/* A block was read: what that means for a table that is not known. 0 or -ENOMEM. */
static int parser__note_block(struct parser *parser, struct half *half, struct bytes bytes,
			      bool was_reset)
{
	int err;

	if (was_reset)
		http2_late__clear(&half->late);
	if (hpack__is_exact(half->hpack))
		return 0;
	err = http2_late__block(&half->late, half->block_at, half->at, bytes,
				parser->block.unknown);
	if (err)
		return err;
	err = http2_late__end_block(&half->late, half->hpack);
	parser__count_adopted(parser, err);
	return err == -ENOMEM ? err : 0;
}

/* A block is whole: `bytes`. */
static int parser__block(struct parser *parser, struct half *half, struct bytes bytes,
			 const struct passage *when)
{
	struct http2_block *block = &parser->block;
	struct http2_moment *moment = &half->moment;
	uint64_t resets = hpack__resets(half->hpack);
	int err, late_err;

	block__clear(block);
	err = hpack__block(half->hpack, bytes, on_field, block);
	resets = hpack__resets(half->hpack) - resets;
	parser->connection->counts->tables_reset += resets;
	late_err = parser__note_block(parser, half, bytes, resets);
	if (err == -EBADMSG || err == -ENOMEM) {
		block__clear(block);
		block->bad = err == -EBADMSG;
		block->out_of_memory = err == -ENOMEM;
	}
	moment->last_ns = when->last_ns;
	if (half->promised)
		err = http2_streams__promise(&parser->streams, half->promised, block, moment);
	else
		err = http2_streams__headers(&parser->streams, half->block_stream,
					     half->block_ends_stream, block, moment);
	if (block->out_of_memory || late_err)
		err = -ENOMEM;
	/* What a long one needed is not kept. */
	if (block->fields.text.capacity > KEEP_MAX_BYTES)
		headers__free(&block->fields);
	return err;
}

/* A block that is too long: its fields are not known, nor is the table after it. */
static int parser__refuse_block(struct parser *parser, struct half *half,
				const struct passage *when)
{
	struct http2_block *block = &parser->block;

	half__forget_table(half, false);
	block__clear(block);
	block->fields.truncated = true;
	half->moment.last_ns = when->last_ns;
	if (half->promised)
		return http2_streams__promise(&parser->streams, half->promised, block,
					      &half->moment);
	return http2_streams__headers(&parser->streams, half->block_stream, half->block_ends_stream,
				      block, &half->moment);
}

static void half__refuse(struct parser *parser, struct half *half)
{
	if (!half->block_refused)
		parser->connection->counts->blocks_refused++;
	half->block_refused = true;
	buf__free(&half->block);
}

/* A part of a block, of HEADERS, PUSH_PROMISE or CONTINUATION. */
static int parser__fragment(struct parser *parser, struct half *half, struct bytes fragment,
			    const struct passage *when)
{
	bool last = half->frame.flags & HTTP2_END_HEADERS;
	int err = 0;

	if (++half->block_frames > BLOCK_MAX_FRAMES)
		half__refuse(parser, half);
	if (last && half->block_frames == 1 && !half->block_refused) {
		err = parser__block(parser, half, fragment, when);
	} else {
		if (!half->block_refused)
			err = buf__append(&half->block, fragment);
		if (err == -ENOSPC)
			half__refuse(parser, half);
		else if (err)
			return err;
		if (!last)
			return 0;
		err = half->block_refused
			      ? parser__refuse_block(parser, half, when)
			      : parser__block(parser, half, buf__view(&half->block), when);
	}
	half__end_block(half);
	return err;
}

/* Begins the block of the frame at hand. */
static void half__begin_block(struct half *half)
{
	half->in_block = true;
	half->block_refused = false;
	half->block_stream = half->frame.stream;
	half->block_ends_stream =
		half->frame.type == HTTP2_HEADERS && (half->frame.flags & HTTP2_END_STREAM);
	half->block_frames = 0;
	half->promised = 0;
}

/* Takes padding off a payload (RFC 9113 6.2, 6.6). False when it is not as it must be. */
static bool payload__unpad(const struct http2_frame *frame, struct bytes *payload)
{
	uint8_t padding;

	if (!(frame->flags & HTTP2_PADDED))
		return true;
	if (!payload->size || payload->data[0] > payload->size - 1)
		return false;
	padding = payload->data[0];
	*payload = bytes__of(payload->data + 1, payload->size - 1 - padding);
	return true;
}

/* 0, -EBADMSG when the frame cannot be, -ENOMEM. */
static int parser__headers(struct parser *parser, struct half *half, struct bytes payload,
			   const struct passage *when)
{
	http2_late__frame(&half->late, bytes__of(half->head, HTTP2_HEAD_BYTES), payload);
	if (!payload__unpad(&half->frame, &payload))
		return -EBADMSG;
	if (half->frame.flags & HTTP2_HAS_PRIORITY) {
		if (payload.size < 5)
			return -EBADMSG;
		payload = bytes__from(payload, 5);
	}
	return parser__fragment(parser, half, payload, when);
}

static int parser__push_promise(struct parser *parser, struct half *half, struct bytes payload,
				const struct passage *when)
{
	if (!payload__unpad(&half->frame, &payload) || payload.size < 4)
		return -EBADMSG;
	half->promised = http2__u32(payload.data) & 0x7fffffff;
	if (!half->promised || (half->promised & 1))
		return -EBADMSG;
	return parser__fragment(parser, half, bytes__from(payload, 4), when);
}

/* The size of the table that this direction's headers may use is the other's to announce. */
static void parser__settings(struct parser *parser, struct half *half, struct bytes payload)
{
	struct half *other = parser__other(parser, half);
	uint32_t table;

	if (half->frame.flags & HTTP2_ACK) {
		if (!other->pending_count)
			return;
		table = other->pending[0];
		memmove(other->pending, other->pending + 1,
			--other->pending_count * sizeof(other->pending[0]));
		if (table != HTTP2_NO_TABLE_SIZE)
			hpack__set_limit(half->hpack, table);
		return;
	}
	table = http2_settings__table_size(payload);
	if (half->pending_count < SETTINGS_MAX_PENDING) {
		half->pending[half->pending_count++] = table;
		return;
	}
	/* So many without an ACK: which one an ACK means is not followed any more. */
	half->pending_count = 0;
	hpack__set_limit(other->hpack, HPACK_TABLE_MAX_BYTES);
}

/* ---- frames ---- */

/* A gathered payload is whole. Errors as parser__headers. */
static int parser__payload(struct parser *parser, struct half *half, struct bytes payload,
			   const struct passage *when)
{
	switch (half->frame.type) {
	case HTTP2_HEADERS:
		return parser__headers(parser, half, payload, when);
	case HTTP2_PUSH_PROMISE:
		return parser__push_promise(parser, half, payload, when);
	case HTTP2_CONTINUATION:
		return parser__fragment(parser, half, payload, when);
	case HTTP2_SETTINGS:
		parser__settings(parser, half, payload);
		break;
	case HTTP2_RST_STREAM:
		http2_streams__reset(&parser->streams, half->frame.stream,
				     http2__u32(payload.data));
		break;
	case HTTP2_GOAWAY:
		http2_streams__goaway(&parser->streams, half->moment.direction,
				      http2__u32(payload.data) & 0x7fffffff,
				      http2__u32(payload.data + 4));
		break;
	}
	return 0;
}

static bool frame__is_gathered(const struct http2_frame *frame)
{
	switch (frame->type) {
	case HTTP2_HEADERS:
	case HTTP2_PUSH_PROMISE:
	case HTTP2_CONTINUATION:
	case HTTP2_RST_STREAM:
		return true;
	case HTTP2_SETTINGS:
	case HTTP2_GOAWAY:
		return frame->size <= CONTROL_MAX_BYTES;
	}
	return false;
}

/* DATA has ended where its frame does. */
static void parser__end_data(struct parser *parser, struct half *half, uint64_t last_ns)
{
	half->state = STATE_HEAD;
	if (half->frame.flags & HTTP2_END_STREAM)
		http2_streams__end_way(&parser->streams, half->frame.stream, half->moment.direction,
				       last_ns);
}

/* A frame's head is whole. Errors as parser__headers. */
static int parser__begin_frame(struct parser *parser, struct half *half, const struct passage *when)
{
	struct http2_frame *frame = &half->frame;
	bool goes_on;

	*frame = http2_frame__parse(half->head);
	half->head_size = 0;
	half->left = frame->size;
	goes_on = frame->type == HTTP2_CONTINUATION;
	if (!http2_frame__is_valid(frame) || goes_on != half->in_block ||
	    (goes_on && frame->stream != half->block_stream))
		return -EBADMSG;
	if (half->settings_due && (frame->type != HTTP2_SETTINGS || (frame->flags & HTTP2_ACK)))
		return -EBADMSG;
	half->settings_due = false;
	if (frame->type == HTTP2_DATA) {
		half->padding = 0;
		half->padding_comes = frame->flags & HTTP2_PADDED;
		half->state = STATE_DATA;
		if (!half->left)
			parser__end_data(parser, half, when->last_ns);
		return 0;
	}
	if (frame->type == HTTP2_HEADERS || frame->type == HTTP2_PUSH_PROMISE)
		half__begin_block(half);
	if (frame__is_gathered(frame) && frame->size > BLOCK_MAX_BYTES) {
		/* Of a promise, the stream is in the payload. */
		if (frame->type == HTTP2_PUSH_PROMISE)
			return -EBADMSG;
		half__refuse(parser, half);
		half->block_frames++;
		half->state = STATE_SKIP;
		return 0;
	}
	half->state = frame__is_gathered(frame) ? STATE_GATHER : STATE_SKIP;
	if (half->left)
		return 0;
	half->state = STATE_HEAD;
	return parser__payload(parser, half, bytes__of(NULL, 0), when);
}

/* A payload that does not matter has passed. */
static int parser__end_skip(struct parser *parser, struct half *half, const struct passage *when)
{
	half->state = STATE_HEAD;
	if (half->in_block && (half->frame.flags & HTTP2_END_HEADERS)) {
		int err = parser__refuse_block(parser, half, when);

		half__end_block(half);
		return err;
	}
	return 0;
}

/* Up to `size` bytes of DATA, here (`bytes`) or not; how many were taken, 0 where it cannot tell.
 */
static uint64_t parser__take_data(struct parser *parser, struct half *half, const uint8_t *bytes,
				  uint64_t size, bool lost, uint64_t last_ns, int *ret_err)
{
	uint64_t taken = size < half->left ? size : half->left, payload;

	*ret_err = 0;
	if (half->padding_comes) {
		if (!bytes)
			return 0;
		half->padding_comes = false;
		half->padding = *bytes;
		half->left--;
		if (half->padding > half->left)
			*ret_err = -EBADMSG;
		else if (!half->left)
			parser__end_data(parser, half, last_ns);
		return 1;
	}
	payload = half->left - half->padding;
	if (payload > taken)
		payload = taken;
	if (payload)
		*ret_err =
			http2_streams__data(&parser->streams, half->frame.stream,
					    half->moment.direction, bytes, payload, lost, last_ns);
	half->left -= (uint32_t)taken;
	/* Padding that is left is what the whole rest is. */
	if (half->padding > half->left)
		half->padding = half->left;
	if (!half->left)
		parser__end_data(parser, half, last_ns);
	return taken;
}

/* Takes bytes up to the end of a gathered payload. */
static int parser__gather(struct parser *parser, struct half *half, struct bytes *bytes,
			  const struct passage *when)
{
	struct bytes part = bytes__first(*bytes, half->left);
	int err;

	if (half->payload.size || part.size < half->left) {
		err = buf__append(&half->payload, part);
		if (err)
			return err;
	}
	half->left -= (uint32_t)part.size;
	*bytes = bytes__from(*bytes, part.size);
	half->at = half->run_end - bytes->size;
	if (half->left)
		return 0;
	half->state = STATE_HEAD;
	if (half->payload.size)
		part = buf__view(&half->payload);
	err = parser__payload(parser, half, part, when);
	buf__release(&half->payload);
	return err;
}

/* Takes bytes up to the end of a frame's head. */
static int parser__head(struct parser *parser, struct half *half, struct bytes *bytes,
			size_t offset, const struct passage *when)
{
	struct bytes part = bytes__first(*bytes, HTTP2_HEAD_BYTES - half->head_size);

	if (!half->head_size)
		half->last_frame = bytes->size;
	/* Of a block, its first frame counts. */
	if (!half->head_size && !half->in_block) {
		half->block_at = half->run_end - bytes->size;
		half->moment.first_ns = when->first_ns;
		half->moment.tcp = passage__tcp(when, offset);
	}
	memcpy(half->head + half->head_size, part.data, part.size);
	half->head_size += part.size;
	*bytes = bytes__from(*bytes, part.size);
	half->at = half->run_end - bytes->size;
	if (half->head_size < HTTP2_HEAD_BYTES)
		return 0;
	return parser__begin_frame(parser, half, when);
}

/* The connection begins here: nothing was before, in either direction. */
static void parser__set_start(struct parser *parser, struct half *half)
{
	struct http2_streams *streams = &parser->streams;

	http2_streams__set_roles(streams, parser__direction(parser, half));
	if (!streams->late)
		return;
	/* No header block can have passed the other way before the client spoke. */
	streams->late = false;
	for (int i = 0; i < 2; i++) {
		half__forget_table(&parser->half[i], true);
		/* A setting that was announced before may not have been seen. */
		hpack__set_limit(parser->half[i].hpack, HPACK_TABLE_MAX_BYTES);
	}
}

/* The first bytes: a preface is taken off, a frame's head stays in half->head. */
static int parser__start(struct parser *parser, struct half *half, struct bytes *bytes,
			 const struct passage *when, size_t offset)
{
	struct bytes preface = bytes__of(HTTP2_PREFACE, HTTP2_PREFACE_BYTES);
	struct bytes part = bytes__first(*bytes, preface.size - half->head_size);

	if (!half->head_size && bytes->data[0] != preface.data[0]) {
		half->state = STATE_HEAD;
		return parser__head(parser, half, bytes, offset, when);
	}
	if (memcmp(part.data, preface.data + half->head_size, part.size) != 0)
		return -EBADMSG;
	half->head_size += part.size;
	*bytes = bytes__from(*bytes, part.size);
	if (half->head_size == preface.size) {
		half->head_size = 0;
		half->state = STATE_HEAD;
		parser__set_start(parser, half);
	}
	return 0;
}

/*
 * Takes bytes in their place until there are none, or the place is lost; they end at half->run_end.
 * How many were taken.
 */
static size_t parser__run(struct parser *parser, struct half *half, struct bytes bytes,
			  size_t offset, const struct passage *when, int *ret_err)
{
	size_t size = bytes.size;
	int err = 0;

	half->last_frame = 0;
	while (bytes.size && half->state != STATE_SEARCHING) {
		size_t at = offset + size - bytes.size;

		switch (half->state) {
		case STATE_START:
			err = parser__start(parser, half, &bytes, when, at);
			break;
		case STATE_HEAD:
			err = parser__head(parser, half, &bytes, at, when);
			break;
		case STATE_DATA:
			bytes = bytes__from(bytes,
					    parser__take_data(parser, half, bytes.data, bytes.size,
							      false, when->last_ns, &err));
			break;
		case STATE_SKIP: {
			size_t part = bytes.size < half->left ? bytes.size : half->left;

			half->left -= (uint32_t)part;
			bytes = bytes__from(bytes, part);
			if (!half->left)
				err = parser__end_skip(parser, half, when);
			break;
		}
		default:
			err = parser__gather(parser, half, &bytes, when);
			break;
		}
		if (!err)
			continue;
		if (err == -ENOMEM) {
			/* The rest of the call is given up with it. */
			parser__lose(parser, half, REASON_LOST, bytes.size);
			*ret_err = err;
			return size;
		}
		parser__lose(parser, half, REASON_DESYNC, 0);
		err = 0;
	}
	return size - bytes.size;
}

/* ---- after an Upgrade ---- */

/*
 * HTTP2-Settings is the client's first SETTINGS, in force with the 101 (RFC 7540 3.2.1). Where
 * there is not just one that can be read, it may have said anything.
 */
static void half__apply_upgrade(struct half *responses, const struct headers *headers)
{
	size_t i = headers__find(headers, "http2-settings", 0);
	uint32_t table = HPACK_TABLE_MAX_BYTES;

	if (i < headers->count &&
	    headers__find(headers, "http2-settings", i + 1) == headers->count &&
	    !http2_settings__decode_table_size(headers__value(headers, i), &table))
		table = HPACK_TABLE_MAX_BYTES;
	if (table != HTTP2_NO_TABLE_SIZE)
		hpack__set_limit(responses->hpack, table);
}

static int http2__take_over(struct parser *parser, const struct hand_over *hand_over)
{
	struct half *responses = &parser->half[1 - hand_over->requests];
	struct exchange *exchange = hand_over->exchange;
	int err;

	http2_streams__set_roles(&parser->streams, hand_over->requests);
	if (exchange) {
		err = http2_streams__adopt(&parser->streams, exchange);
		if (err)
			return err;
		half__apply_upgrade(responses, &exchange->request.headers);
	}
	/* The client alone has a preface. */
	responses->state = STATE_HEAD;
	for (int i = 0; i < 2; i++) {
		parser->half[i].settings_due = true;
		if (hand_over->why[i])
			parser__lose(parser, &parser->half[i], hand_over->why[i], 0);
	}
	return 0;
}

/* ---- searching ---- */

static void window__clear(struct half *half)
{
	buf__free(&half->window);
	half->mark_count = 0;
}

/* Drops the first `size` bytes, and the marks of which nothing is left. */
static void window__drop(struct half *half, size_t size)
{
	size_t gone = 0;

	half->window.size -= size;
	memmove(half->window.data, half->window.data + size, half->window.size);
	while (gone + 1 < half->mark_count && half->marks[gone + 1].offset <= size)
		gone++;
	half->mark_count -= gone;
	memmove(half->marks, half->marks + gone, half->mark_count * sizeof(half->marks[0]));
	for (size_t i = 0; i < half->mark_count; i++) {
		struct mark *mark = &half->marks[i];

		if (mark->offset < size) {
			mark->call_start = false;
			/* What TCP said held for the call's first bytes. */
			mark->when.seq_bytes = 0;
		}
		mark->offset = mark->offset > size ? mark->offset - size : 0;
	}
	if (!half->window.size)
		window__clear(half);
}

static int window__add(struct half *half, struct bytes bytes, bool call_start,
		       const struct passage *when)
{
	size_t at = half->window.size;
	int err = buf__append(&half->window, bytes);

	if (err || half->mark_count == WINDOW_MARKS)
		return err;
	half->marks[half->mark_count++] = (struct mark){
		.offset = at,
		.call_start = call_start,
		.when = *when,
	};
	return 0;
}

static bool window__starts_call(const struct half *half, size_t offset)
{
	for (size_t i = 0; i < half->mark_count; i++)
		if (half->marks[i].offset == offset)
			return half->marks[i].call_start;
	return false;
}

/* What the first bytes of a window are. */
static enum verdict window__verify(struct bytes bytes, bool call_start)
{
	return call_start ? http2__detect(bytes, false) : http2_chain__verify(bytes, false);
}

static enum verdict window__verify_at(const struct half *half, size_t at)
{
	return window__verify(bytes__from(buf__view(&half->window), at),
			      window__starts_call(half, at));
}

/*
 * Looks for the place in the window and drops what is before. Whether it was found. While it is
 * open whether a frame is one, a call that begins with frames beyond doubt goes before it.
 */
static bool half__find_place(struct half *half)
{
	enum verdict verdict = VERDICT_NO;
	size_t at = 0;

	while (at < half->window.size) {
		verdict = window__verify_at(half, at);
		if (verdict != VERDICT_NO)
			break;
		at++;
	}
	for (size_t i = 0; i < half->mark_count && verdict == VERDICT_MORE; i++) {
		const struct mark *mark = &half->marks[i];

		if (mark->call_start && mark->offset > at &&
		    window__verify_at(half, mark->offset) == VERDICT_YES) {
			at = mark->offset;
			verdict = VERDICT_YES;
		}
	}
	if (at)
		window__drop(half, at);
	half->fresh &= !at;
	if (verdict != VERDICT_YES)
		return false;
	half->began |= half->fresh;
	half->fresh = false;
	return true;
}

/* Takes what is in the window as far as it has a place; it ends at `window_end` of what passed. */
static int parser__drain(struct parser *parser, struct half *half, uint64_t window_end)
{
	enum wire_direction direction = parser__direction(parser, half);
	int err = 0;

	while (half->window.size) {
		size_t end = half->window.size;
		struct passage when;

		if (half->state == STATE_SEARCHING) {
			if (!half__find_place(half))
				break;
			half->state = STATE_START;
			parser->streams.searching[direction] = false;
			end = half->window.size;
		}
		if (half->mark_count > 1)
			end = half->marks[1].offset;
		when = half->marks[0].when;
		half->run_end = window_end - (half->window.size - end);
		window__drop(half,
			     parser__run(parser, half, bytes__first(buf__view(&half->window), end),
					 0, &when, &err));
	}
	return err;
}

static int parser__search(struct parser *parser, struct half *half, struct bytes bytes,
			  bool call_start, const struct passage *when)
{
	struct passage rest = *when;
	int err = 0;

	while (bytes.size && !err) {
		struct bytes part = bytes__first(bytes, WINDOW_MAX_BYTES - half->window.size);

		/* What TCP said held for the call's first bytes. */
		if (!call_start)
			rest.seq_bytes = 0;
		err = window__add(half, part, call_start, &rest);
		if (err) {
			window__clear(half);
			return err;
		}
		bytes = bytes__from(bytes, part.size);
		err = parser__drain(parser, half, half->passed - bytes.size);
		call_start = false;
	}
	return err;
}

static int http2__data(struct parser *parser, enum wire_direction direction, struct bytes bytes,
		       bool call_start, const struct passage *when)
{
	struct half *half = &parser->half[direction];
	size_t taken;
	int err = 0;

	half->passed += bytes.size;
	half->run_end = half->passed;
	half->began = half__is_between(half);
	half->last_frame = 0;
	half->fresh = half->state == STATE_SEARCHING && !half->window.size;
	if (half->state == STATE_SEARCHING)
		return parser__search(parser, half, bytes, call_start, when);
	taken = parser__run(parser, half, bytes, 0, when, &err);
	if (err || taken == bytes.size)
		return err;
	return parser__search(parser, half, bytes__from(bytes, taken), false, when);
}

static void http2__gap(struct parser *parser, enum wire_direction direction, uint64_t size,
		       enum gap_kind kind, const struct passage *when)
{
	struct half *half = &parser->half[direction];
	bool lost = kind == GAP_LOST;
	int err = 0;

	half->passed += size;
	if (half->state == STATE_SEARCHING) {
		window__clear(half);
		if (lost)
			http2_streams__lose(&parser->streams, direction, REASON_LOST, size);
		return;
	}
	if (half->state == STATE_DATA)
		size -= parser__take_data(parser, half, NULL, size, lost, when->last_ns, &err);
	else if (half->state == STATE_SKIP && size < half->left && !half->in_block) {
		half->left -= (uint32_t)size;
		size = 0;
	}
	if (size || err)
		parser__lose(parser, half, lost || err ? REASON_LOST : REASON_DESYNC,
			     lost ? size : 0);
}

static void http2__walked(struct parser *parser, enum wire_direction direction, uint64_t size,
			  uint64_t body_bytes, const struct passage *when)
{
	/* There are no chunks in HTTP/2. */
	http2__gap(parser, direction, size, GAP_SKIPPED, when);
}

/* Whether that can be what comes next; in a recording it may be anything. */
static bool half__can_leave_out(const struct half *half, uint64_t size,
				const struct left_out *left_out)
{
	uint64_t sum = 0, own = 0;

	for (size_t i = 0; i < left_out->count; i++) {
		if (left_out->streams[i].payload > size)
			return false;
		sum += left_out->streams[i].payload;
		if (left_out->streams[i].stream == half->frame.stream)
			own += left_out->streams[i].payload;
	}
	if (sum > size || (size - sum) % HTTP2_HEAD_BYTES)
		return false;
	if (half->state != STATE_DATA)
		return half->state == STATE_SEARCHING ||
		       (half__is_between(half) && !half->in_block);
	if (half->padding_comes || half->padding)
		return false;
	if (size < half->left)
		return own == size && left_out->left == half->left - size;
	return own >= half->left;
}

static void http2__walked_frames(struct parser *parser, enum wire_direction direction,
				 uint64_t size, const struct left_out *left_out,
				 const struct passage *when)
{
	struct half *half = &parser->half[direction];
	uint64_t own = 0;
	int err = 0;

	if (!half__can_leave_out(half, size, left_out)) {
		http2__gap(parser, direction, size, GAP_SKIPPED, when);
		return;
	}
	half->passed += size;
	if (half->state == STATE_DATA)
		own = parser__take_data(parser, half, NULL, size, false, when->last_ns, &err);
	for (size_t i = 0; i < left_out->count && !err; i++) {
		const struct wire_frames_stream *stream = &left_out->streams[i];
		uint64_t payload = stream->payload;

		if (stream->stream == half->frame.stream) {
			uint64_t part = own < payload ? own : payload;

			payload -= part;
			own -= part;
		}
		if (payload)
			err = http2_streams__data(&parser->streams, stream->stream, direction, NULL,
						  payload, false, when->last_ns);
	}
	if (err) {
		parser__lose(parser, half, REASON_LOST, 0);
		return;
	}
	/* The walk knows the place, if it had been lost here. */
	if (half->state == STATE_SEARCHING) {
		window__clear(half);
		parser->streams.searching[direction] = false;
	}
	if (half->state == STATE_DATA)
		return;
	half->state = STATE_HEAD;
	if (left_out->left) {
		half->state = STATE_DATA;
		half->frame = (struct http2_frame){.type = HTTP2_DATA, .stream = left_out->stream};
		half->left = left_out->left;
		half->padding = 0;
	}
}

static void http2__end(struct parser *parser, enum wire_direction direction, enum end_kind kind,
		       uint64_t time_ns)
{
	http2_streams__end(&parser->streams, direction, kind);
}

static uint64_t http2__skippable(const struct parser *parser, enum wire_direction direction)
{
	const struct half *half = &parser->half[direction];

	return half->state == STATE_DATA && !half->padding_comes ? half->left : SKIP_NOTHING;
}

static bool http2__began(const struct parser *parser, enum wire_direction direction)
{
	return parser->half[direction].began;
}

static uint64_t http2__frame_began(const struct parser *parser, enum wire_direction direction)
{
	return parser->half[direction].last_frame;
}

static bool http2__reads_bodies(const struct parser *parser, enum wire_direction direction)
{
	return parser->streams.has_grpc;
}

static bool http2__searching(const struct parser *parser, enum wire_direction direction)
{
	return false;
}

static bool http2__wants_table(const struct parser *parser, enum wire_direction direction)
{
	const struct half *half = &parser->half[direction];

	return half->state != STATE_SEARCHING && http2_late__wants(&half->late);
}

static void http2__table(struct parser *parser, enum wire_direction direction,
			 const struct target_table *table)
{
	struct half *half = &parser->half[direction];
	int err;

	if (!http2__wants_table(parser, direction))
		return;
	if (table->after_frame) {
		http2_late__tell(&half->late, table);
		return;
	}
	/* Of the block under way, the target may have read a part, but of a whole frame. */
	if (table->age > half->passed ||
	    (half->in_block && half->block_at < half->passed - table->age &&
	     !(table->whole_frames && !half->block_frames)))
		return;
	err = http2_late__adopt(&half->late, half->hpack, table, half->passed - table->age);
	parser__count_adopted(parser, err);
}

const struct parser_ops http2_ops = {
	.name = "http2",
	.detect = http2__detect,
	.open = http2__open,
	.free = http2__free,
	.take_over = http2__take_over,
	.data = http2__data,
	.gap = http2__gap,
	.walked = http2__walked,
	.walked_frames = http2__walked_frames,
	.end = http2__end,
	.skippable = http2__skippable,
	.began = http2__began,
	.frame_began = http2__frame_began,
	.reads_bodies = http2__reads_bodies,
	.searching = http2__searching,
	.wants_table = http2__wants_table,
	.table = http2__table,
};
