/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/1.0 and 1.1 (RFC 9112) as a bystander reads it: both directions of a connection, taken line
 * by line from pieces of any size, with bytes missing and from a start in the middle. Own code,
 * because packaged parsers take one side's complete stream and stop at the first error.
 *
 * Keeping the place. Each direction is a state machine (enum state). Body bytes whose number is
 * known need not be seen: a gap in them is only counted. Any other gap, and bytes that do not
 * follow from what came before, lose the place: the direction then searches for a start line at
 * the beginning of a TLS call's buffer, where clients and servers put them, and nothing in between
 * is looked at.
 *
 * Keeping the pairs is http1_order.c. After an Upgrade to HTTP/2, the rest is left to http2.c.
 *
 * Memory: two line buffers of LINE_MAX_BYTES, and a few MB of open exchanges; when idle, struct
 * parser and for each direction one buffer of 1 KB at most.
 */
#include "exchange/stream.h"
#include "proto/http1_order.h"
#include "proto/http2_frame.h"

#include <errno.h>
#include <stdlib.h>

/* A line kept until its end comes; of a longer one only so much is looked at. */
#define LINE_MAX_BYTES (64 * 1024)

static int http1__open(struct pairing *pairing, struct connection *connection, bool from_start,
		       struct parser **ret_parser)
{
	struct parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return -ENOMEM;
	parser->pairing = pairing;
	parser->connection = connection;
	parser->why = from_start ? REASON_DESYNC : REASON_JOINED_LATE;
	for (int i = 0; i < 2; i++) {
		struct half *half = &parser->half[i];

		half->state = from_start ? STATE_START : STATE_SEARCHING;
		half->why = from_start ? REASON_NONE : REASON_JOINED_LATE;
		half->kinds = HTTP1_EITHER;
		buf__init(&half->line, LINE_MAX_BYTES);
	}
	*ret_parser = parser;
	return 0;
}

static void http1__free(struct parser *parser)
{
	if (!parser)
		return;
	for (int i = 0; i < 2; i++) {
		http1_half__reset(&parser->half[i], STATE_SEARCHING);
		http1_framing__free(&parser->half[i].framing);
	}
	free(parser);
}

/* No other request is answered on this connection. */
static void parser__give_up_others(struct parser *parser, const struct exchange *exchange)
{
	struct exchange *next;

	for (struct exchange *each = pairing__oldest(parser->pairing); each; each = next) {
		next = each->next;
		if (each != exchange)
			pairing__give_up(parser->pairing, each, REASON_NO_RESPONSE);
	}
}

/* What follows is not HTTP, both ways, and counts as the two bodies (RFC 9110 7.8, 9.3.6). */
static void parser__tunnel(struct parser *parser, struct half *half)
{
	struct half *requests = parser__other(parser, half);
	struct exchange *exchange = half->exchange;

	http1_half__reset(half, STATE_TUNNEL);
	http1_half__reset(requests, STATE_TUNNEL);
	parser__give_up_others(parser, exchange);
	half->exchange = exchange;
	if (!exchange->request.begun)
		return;
	if (!exchange->request.ended)
		exchange__fault(exchange, REASON_TRUNCATED);
	exchange->request.ended = false;
	requests->exchange = exchange;
}

static void half__end_tunnel(struct half *half, uint64_t time_ns)
{
	half__message(half)->ended = true;
	half__message(half)->last_ns = time_ns;
	half->exchange = NULL;
}

/*
 * A direction of a tunnel ended. Who will write no more on a WebSocket has done with it, and may
 * keep the connection in memory without reading that its peer says so too.
 */
static void parser__end_tunnel(struct parser *parser, struct half *half, uint64_t time_ns)
{
	struct half *other = parser__other(parser, half);
	struct exchange *exchange = half->exchange;

	if (!exchange)
		return;
	half__end_tunnel(half, time_ns);
	if (half == &parser->half[WIRE_WRITE] && other->exchange &&
	    exchange__stream(exchange) == STREAM_WEBSOCKET)
		half__end_tunnel(other, time_ns);
	pairing__settle(parser->pairing, exchange);
}

static bool list__has(struct bytes list, struct bytes item)
{
	while (list.size) {
		size_t comma = bytes__find(list, ',');

		if (bytes__equal_nocase(bytes__trim(bytes__first(list, comma)), item))
			return true;
		list = bytes__from(list, comma + 1);
	}
	return false;
}

/* Whether the request names the protocol in Upgrade; one that was not seen whole may have. */
static bool exchange__may_ask_for(const struct exchange *exchange, struct bytes protocol)
{
	const struct headers *headers = &exchange->request.headers;
	size_t i = headers__find(headers, "upgrade", 0);

	if (!exchange->request.ended || headers->truncated)
		return true;
	for (; i < headers->count; i = headers__find(headers, "upgrade", i + 1))
		if (list__has(headers__value(headers, i), protocol))
			return true;
	return false;
}

/*
 * Whether what follows a response's head is HTTP/2 (RFC 7540 3.2): "h2c", which inside TLS some
 * call "h2". Not where bytes of the request are to come or where HTTP/2's may have come: then it
 * would begin somewhere else.
 */
static bool parser__becomes_http2(struct parser *parser, const struct half *half)
{
	const struct half *requests = parser__other(parser, half);
	const struct exchange *exchange = half->exchange;
	struct bytes protocol = buf__view(&exchange->upgrade);

	if (exchange->status != 101 || (!bytes__equal_nocase(protocol, bytes__str("h2c")) &&
					!bytes__equal_nocase(protocol, bytes__str("h2"))))
		return false;
	if (requests->state != STATE_SEARCHING &&
	    (requests->state != STATE_START || requests->line.size || !exchange->request.ended))
		return false;
	return exchange__may_ask_for(exchange, protocol);
}

/* The connection goes on in HTTP/2, where the halves are; with `exchange` (NULL: none). */
static void parser__leave_to_http2(struct parser *parser, const struct half *requests,
				   struct exchange *exchange)
{
	parser->hand_over = (struct hand_over){
		.to = &http2_ops,
		.requests = requests == &parser->half[WIRE_WRITE] ? WIRE_WRITE : WIRE_READ,
		.exchange = exchange,
	};
	for (int i = 0; i < 2; i++)
		if (parser->half[i].state == STATE_SEARCHING)
			parser->hand_over.why[i] = parser->half[i].why;
	if (exchange) {
		parser__give_up_others(parser, exchange);
		exchange__forget_response(exchange);
	} else { /* what was asked is answered by what was missed */
		pairing__give_up_all(parser->pairing, parser__other(parser, requests)->why);
	}
}

/*
 * Whether HTTP/2's preface is where a request would be, and the 101 may be among the responses that
 * were missed.
 */
static bool parser__meets_http2(struct parser *parser, const struct half *half, struct bytes bytes,
				bool call_start)
{
	struct bytes preface = bytes__of(HTTP2_PREFACE, HTTP2_PREFACE_BYTES);

	return call_start && half->kinds == HTTP1_REQUEST && half->state == STATE_START &&
	       !half->line.size && parser__other(parser, half)->state == STATE_SEARCHING &&
	       bytes__equal(bytes__first(bytes, preface.size), preface);
}

static void parser__set_role(struct parser *parser, struct half *half, unsigned int kind)
{
	bool writes = half == &parser->half[WIRE_WRITE];

	half->kinds = kind;
	parser__other(parser, half)->kinds = HTTP1_EITHER & ~kind;
	parser->connection->side = writes == (kind == HTTP1_REQUEST) ? SIDE_CLIENT : SIDE_SERVER;
}

static int exchange__set_target(struct exchange *exchange, const struct http1_start *start)
{
	struct http1_target target = http1_target__parse(start->method, start->target);
	int err = buf__append(&exchange->method, start->method);

	if (!err)
		err = buf__append(&exchange->scheme, target.scheme);
	/* Too long for a scheme: it was none. */
	if (err == -ENOSPC)
		err = 0;
	if (!err)
		err = buf__append(&exchange->authority, target.authority);
	if (!err)
		err = buf__append(&exchange->path, target.path);
	if (!err)
		err = buf__append(&exchange->query, target.query);
	exchange->has_query = target.query.data;
	return err;
}

static void message__begin(struct message *message, const struct half *half,
			   const struct passage *when)
{
	message->begun = true;
	message->first_ns = half->line_first_ns;
	message->last_ns = when->last_ns;
}

static int parser__begin_request(struct parser *parser, struct half *half,
				 const struct http1_start *start, const struct passage *when)
{
	bool searched = half->state == STATE_SEARCHING;
	struct exchange *exchange;
	int err;

	http1_order__request(parser, half, searched);
	err = pairing__open(parser->pairing, ++parser->last_id, &exchange);
	if (err)
		return err;
	parser->unanswered++;
	message__begin(&exchange->request, half, when);
	exchange->tcp = half->line_tcp;
	exchange->version = start->version;
	err = exchange__set_target(exchange, start);
	if (err) {
		/* Without its method its response cannot be read. */
		pairing__give_up(parser->pairing, exchange, parser->why);
		return err;
	}
	if (half->cut)
		exchange__fault(exchange, REASON_TRUNCATED);
	half->exchange = exchange;
	parser->requested_at = parser->now;
	parser->unclaimed_bytes = 0;
	return 0;
}

/* An exchange for a response whose request was not seen. */
static int parser__open_unseen(struct parser *parser, const struct half *requests,
			       const struct half *half, struct exchange **ret_exchange)
{
	struct exchange *exchange;
	enum reason reason = requests->why;
	int err = pairing__open(parser->pairing, ++parser->last_id, &exchange);

	if (err)
		return err;
	if (!reason)
		reason = half->why;
	if (!reason)
		reason = parser->unpaired ? parser->why : REASON_DESYNC;
	exchange__fault(exchange, reason);
	parser->unseen_answered = true;
	exchange->request.lost_bytes = parser->unclaimed_bytes;
	parser->unclaimed_bytes = 0;
	*ret_exchange = exchange;
	return 0;
}

static int parser__begin_response(struct parser *parser, struct half *half,
				  const struct http1_start *start, const struct passage *when)
{
	struct exchange *exchange;
	size_t count;
	int err;

	half->interim = start->status < 200 && start->status != 101;
	if (half->interim)
		return 0;
	exchange = http1_order__owed(parser, &count);
	/* It cannot answer what was not sent yet. */
	if (parser->unpaired || (exchange && when->last_ns < exchange->request.first_ns))
		exchange = NULL;
	if (!exchange) {
		err = parser__open_unseen(parser, parser__other(parser, half), half, &exchange);
		if (err)
			return err;
	}
	parser->unanswered--;
	message__begin(&exchange->response, half, when);
	exchange->status = start->status;
	/* The lower of both is what the two have in common (RFC 9110 6.2). */
	if (!exchange->version || start->version < exchange->version)
		exchange->version = start->version;
	if (half->cut)
		exchange__fault(exchange, REASON_TRUNCATED);
	half->exchange = exchange;
	return 0;
}

static int parser__begin(struct parser *parser, struct half *half, const struct http1_start *start,
			 const struct passage *when)
{
	int err;

	if (half->kinds == HTTP1_EITHER)
		parser__set_role(parser, half, start->kind);
	if (start->kind == HTTP1_REQUEST)
		err = parser__begin_request(parser, half, start, when);
	else
		err = parser__begin_response(parser, half, start, when);
	if (err)
		return err;
	half->state = STATE_HEAD;
	half->body_seen = false;
	half->foldable = false;
	http1_framing__reset(&half->framing);
	return 0;
}

/* RFC 9112 6.3. -EBADMSG when it cannot be told where the message ends. */
static int parser__end_head(struct parser *parser, struct half *half)
{
	struct exchange *exchange = half->exchange;
	const struct http1_framing *framing = &half->framing;
	bool response = half__has_responses(half);
	uint16_t status = response && exchange ? exchange->status : 0;
	struct bytes method = {0};

	if (half->interim) {
		http1_order__finish(parser, half);
		return 0;
	}
	if (response && exchange)
		method = buf__view(&exchange->method);
	if (response && exchange && parser__becomes_http2(parser, half)) {
		parser__leave_to_http2(parser, parser__other(parser, half), exchange);
		return 0;
	}
	if (response && exchange && exchange__tunnels(exchange)) {
		parser__tunnel(parser, half);
		pairing__answer(parser->pairing, exchange);
		return 0;
	}
	if (response && exchange)
		pairing__answer(parser->pairing, exchange);
	http1_framing__close(&half->framing);
	if (status == 204 || status == 304 || bytes__equal(method, bytes__str("HEAD"))) {
		http1_order__finish(parser, half);
	} else if (framing->bad_coding) {
		return -EBADMSG;
	} else if (framing->coded) {
		if (!framing->chunked && !response)
			return -EBADMSG;
		half->state = framing->chunked ? STATE_CHUNK_SIZE : STATE_CLOSE;
	} else if (framing->bad_length) {
		return -EBADMSG;
	} else if (framing->has_length && framing->length) {
		half->state = STATE_LENGTH;
		half->remaining = framing->length;
	} else if (response && !framing->has_length) {
		half->state = STATE_CLOSE;
	} else {
		http1_order__finish(parser, half);
	}
	return 0;
}

/* -ENOSPC is no error of the message: the rest goes on, unstored. */
static int exchange__stored(struct exchange *exchange, const struct headers *headers, int err)
{
	if (headers->truncated)
		exchange__fault(exchange, REASON_TRUNCATED);
	return err == -ENOSPC ? 0 : err;
}

static int half__store(struct half *half, struct headers *headers, struct bytes name,
		       struct bytes value)
{
	size_t room = HEADERS_MAX_BYTES - headers->text.size;
	int err;

	if (half->cut)
		headers->truncated = true;
	if (name.size < room && value.size > room - name.size) {
		value.size = room - name.size;
		headers->truncated = true;
	}
	err = headers__add(headers, name, value);
	half->foldable = !err;
	return exchange__stored(half->exchange, headers, err);
}

/* A line that continues the field before it, by one space (RFC 9112 5.2). */
static int half__fold(struct half *half, struct headers *headers, struct bytes text)
{
	int err = 0;

	if (half->state == STATE_HEAD)
		err = http1_framing__fold(&half->framing, text, half->cut);
	if (err || !half->foldable || !text.size || !headers)
		return err;
	if (headers__value(headers, headers->count - 1).size)
		err = headers__extend_last(headers, bytes__str(" "));
	if (!err)
		err = headers__extend_last(headers, text);
	half->foldable = !err;
	return exchange__stored(half->exchange, headers, err);
}

/* What a field of a head says of the exchange. What has no room is left out. 0 or -ENOMEM. */
static int exchange__take_field(struct exchange *exchange, bool response, struct bytes name,
				struct bytes value)
{
	int err = 0;

	/* Host, but the target's own authority goes before it (RFC 9112 3.2.2). */
	if (!response && !exchange->authority.size && bytes__equal_nocase(name, bytes__str("host")))
		err = buf__append(&exchange->authority, value);
	/* What the connection speaks after it. */
	if (response && exchange->status == 101 && !exchange->upgrade.size &&
	    bytes__equal_nocase(name, bytes__str("upgrade")))
		err = buf__append(&exchange->upgrade, value);
	return err == -ENOSPC ? 0 : err;
}

static int half__field(struct half *half, struct bytes line)
{
	struct exchange *exchange = half->exchange;
	struct headers *headers = NULL;
	struct bytes name, value;
	size_t colon;
	int err;

	if (exchange && half->state == STATE_HEAD)
		headers = &half__message(half)->headers;
	else if (exchange)
		headers = &half__message(half)->trailers;
	if (line.data[0] == ' ' || line.data[0] == '\t')
		return half__fold(half, headers, bytes__trim(line));

	colon = bytes__find(line, ':');
	name = bytes__trim(bytes__first(line, colon));
	value = colon < line.size ? bytes__trim(bytes__from(line, colon + 1)) : bytes__of(NULL, 0);
	if (half->state == STATE_HEAD) {
		err = http1_framing__field(&half->framing, name, value, half->cut);
		if (err)
			return err;
	}
	half->foldable = false;
	if (colon == line.size || !name.size || !headers)
		return 0;
	if (half->state == STATE_HEAD) {
		err = exchange__take_field(exchange, half__has_responses(half), name, value);
		if (err)
			return err;
	}
	return half__store(half, headers, name, value);
}

static int hex_digit(uint8_t c)
{
	c = ascii__lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 9112 7.1; extensions are skipped. -EBADMSG. */
static int half__chunk_size(struct half *half, struct bytes line)
{
	uint64_t size = 0;
	size_t i;

	for (i = 0; i < line.size && hex_digit(line.data[i]) >= 0; i++) {
		if (size > (INT64_MAX >> 4))
			return -EBADMSG;
		size = size << 4 | (uint64_t)hex_digit(line.data[i]);
	}
	if (!i || (i < line.size && !memchr(" \t;", line.data[i], 3)))
		return -EBADMSG;
	half->remaining = size;
	half->state = size ? STATE_CHUNK : STATE_TRAILERS;
	half->foldable = false;
	return 0;
}

/* A whole line. 0, -ENOMEM, or -EBADMSG when it does not belong here. */
static int parser__line(struct parser *parser, struct half *half, struct bytes line,
			const struct passage *when)
{
	struct http1_start start;

	switch (half->state) {
	case STATE_START:
		if (!line.size)
			return 0;
		if (!http1_start__parse(line, half->kinds, half->cut, &start))
			return -EBADMSG;
		return parser__begin(parser, half, &start, when);
	case STATE_HEAD:
		return line.size ? half__field(half, line) : parser__end_head(parser, half);
	case STATE_CHUNK_SIZE:
		return half__chunk_size(half, line);
	case STATE_CHUNK_END:
		half->state = STATE_CHUNK_SIZE;
		return line.size ? -EBADMSG : 0;
	default: /* STATE_TRAILERS */
		if (line.size)
			return half__field(half, line);
		http1_order__finish(parser, half);
		return 0;
	}
}

/* Whether the part of a line that is there can be the beginning of one that belongs here. */
static bool half__line_possible(const struct half *half, struct bytes part)
{
	switch (half->state) {
	case STATE_START:
		return http1_start__possible(part, half->kinds, false);
	case STATE_CHUNK_SIZE:
		return hex_digit(part.data[0]) >= 0;
	case STATE_CHUNK_END:
		return part.size == 1 && part.data[0] == '\r';
	default:
		return true;
	}
}

static void half__begin_line(struct half *half, const struct passage *when)
{
	half->line_first_ns = when->first_ns;
	half->line_call = half->calls;
	half->line_tcp = passage__tcp(when, half->offset);
}

/* Adds to the line under way as far as there is room. */
static int half__keep(struct half *half, struct bytes part)
{
	size_t room = half->line.max - half->line.size;

	if (part.size > room)
		half->cut = true;
	return buf__append(&half->line, bytes__first(part, room));
}

static struct bytes without_cr(struct bytes line)
{
	if (line.size && line.data[line.size - 1] == '\r')
		line.size--;
	return line;
}

/* Takes bytes up to a line's end. Nothing is taken when it fails. */
static int parser__step_line(struct parser *parser, struct half *half, struct bytes *bytes,
			     const struct passage *when)
{
	size_t end = bytes__find(*bytes, '\n');
	struct bytes line = bytes__first(*bytes, end);
	bool whole = end < bytes->size;
	int err;

	if (!half->line.size)
		half__begin_line(half, when);
	if (half->line.size || !whole) {
		err = half__keep(half, line);
		if (err)
			return err;
		line = buf__view(&half->line);
	} else if (line.size > LINE_MAX_BYTES) {
		line.size = LINE_MAX_BYTES;
		half->cut = true;
	}
	if (!whole) {
		if (!half__line_possible(half, line))
			return -EBADMSG;
		*bytes = bytes__from(*bytes, end);
		return 0;
	}
	err = parser__line(parser, half, half->cut ? line : without_cr(line), when);
	if (err)
		return err;
	buf__clear(&half->line);
	half->cut = false;
	*bytes = bytes__from(*bytes, end + 1);
	return 0;
}

/*
 * Whether the direction has found its place: a whole start line at the start of a call, or split
 * over calls when its method is a known one. -EAGAIN: not yet, but it can be; -EBADMSG: it is not
 * here; -ENOMEM.
 */
static int parser__try_start(struct parser *parser, struct half *half, struct bytes *bytes,
			     const struct passage *when)
{
	size_t end = bytes__find(*bytes, '\n');
	struct bytes line = bytes__first(*bytes, end);
	bool split = half->line.size;
	struct http1_start start;
	int err;

	if (!split)
		half__begin_line(half, when);
	if (split || end == bytes->size) {
		/* Before it is copied: nearly all that is searched is not it. */
		if (!split && !http1_start__possible(line, half->kinds, true))
			return -EBADMSG;
		err = half__keep(half, line);
		if (err)
			return err;
		line = buf__view(&half->line);
	}
	if (half->cut || line.size > LINE_MAX_BYTES)
		return -EBADMSG;
	if (end == bytes->size)
		return http1_start__possible(line, half->kinds, true) ? -EAGAIN : -EBADMSG;
	if (!http1_start__parse(without_cr(line), half->kinds, false, &start) ||
	    !http1_start__strict(&start) || (split && !http1_start__known(&start)))
		return -EBADMSG;
	err = parser__begin(parser, half, &start, when);
	if (err)
		return err;
	buf__clear(&half->line);
	*bytes = bytes__from(*bytes, end + 1);
	return 0;
}

static int parser__step_search(struct parser *parser, struct half *half, struct bytes *bytes,
			       bool call_start, const struct passage *when)
{
	bool split = half->line.size;
	int err = -EBADMSG;

	if (split)
		err = parser__try_start(parser, half, bytes, when);
	if (err == -EBADMSG) {
		if (split)
			half__miss(half, half->moved_before);
		buf__clear(&half->line);
		half->cut = false;
		if (call_start)
			err = parser__try_start(parser, half, bytes, when);
	}
	if (err == -EBADMSG) {
		half__miss(half, parser->now);
		buf__free(&half->line);
		half->cut = false;
	}
	if (err == -EBADMSG || err == -EAGAIN) {
		*bytes = bytes__of(NULL, 0);
		return 0;
	}
	return err;
}

/* Body bytes, here or in a gap. */
static void half__count_body(struct half *half, uint64_t size, bool lost)
{
	struct message *message;

	half->body_seen = true;
	if (!half->exchange)
		return;
	message = half__message(half);
	message->body_bytes += size;
	if (lost) {
		message->lost_bytes += size;
		exchange__fault(half->exchange, REASON_LOST);
	}
}

/* Up to `size` body bytes of known number; how many were taken. */
static uint64_t parser__take_body(struct parser *parser, struct half *half, uint64_t size,
				  bool lost)
{
	if (half->state == STATE_CLOSE || half->state == STATE_TUNNEL) {
		half__count_body(half, size, lost);
		return size;
	}
	if (size > half->remaining)
		size = half->remaining;
	half__count_body(half, size, lost);
	half->remaining -= size;
	if (half->remaining)
		return size;
	if (half->state == STATE_CHUNK)
		half->state = STATE_CHUNK_END;
	else
		http1_order__finish(parser, half);
	return size;
}

static bool half__in_body(const struct half *half)
{
	return half->state == STATE_LENGTH || half->state == STATE_CHUNK ||
	       half->state == STATE_CLOSE || half->state == STATE_TUNNEL;
}

/* Notes that bytes pass in a direction. */
static void parser__touch(struct parser *parser, struct half *half)
{
	half->moved_before = half->moved_at;
	half->moved_at = ++parser->now;
}

static void half__set_last(struct half *half, const struct passage *when)
{
	if (half->exchange)
		half__message(half)->last_ns = when->last_ns;
}

static bool half__in_chunks(const struct half *half)
{
	return half->state == STATE_CHUNK_SIZE || half->state == STATE_CHUNK ||
	       half->state == STATE_CHUNK_END;
}

static int http1__data(struct parser *parser, enum wire_direction direction, struct bytes bytes,
		       bool call_start, const struct passage *when)
{
	struct half *half = &parser->half[direction];
	size_t taken, size = bytes.size;
	bool split;
	int err;

	parser__touch(parser, half);
	half->calls += call_start;
	half->began = half->state == STATE_START && !half->line.size;
	if (parser->suspected && half__has_responses(half))
		http1_order__confirm(parser);
	if (parser__meets_http2(parser, half, bytes, call_start))
		parser__leave_to_http2(parser, half, NULL);
	while (bytes.size && !parser->hand_over.to) {
		struct bytes rest = bytes;

		half->offset = size - bytes.size;
		half__set_last(half, when);
		if (half__in_body(half)) {
			taken = (size_t)parser__take_body(parser, half, bytes.size, false);
			rest = bytes__from(bytes, taken);
			err = 0;
		} else if (half->state == STATE_SEARCHING) {
			split = half->line.size;
			err = parser__step_search(parser, half, &rest, call_start, when);
			half->began |= call_start && !split && half->state == STATE_HEAD;
		} else {
			if (half->state == STATE_CHUNK_SIZE)
				half->body_seen = true;
			err = parser__step_line(parser, half, &rest, when);
		}
		if (err)
			half->began = false;
		if (err == -EBADMSG) {
			/* At the start of a call the same bytes may be a start line. */
			http1_order__lose(parser, half, REASON_DESYNC, 0);
			continue;
		}
		if (err) {
			http1_order__lose(parser, half, REASON_LOST, bytes.size);
			half__miss(half, parser->now);
			return err;
		}
		bytes = rest;
		call_start = false;
	}
	parser->hand_over.left = bytes.size;
	return 0;
}

static bool http1__hands_over(const struct parser *parser, struct hand_over *ret_hand_over)
{
	*ret_hand_over = parser->hand_over;
	return parser->hand_over.to;
}

static void http1__gap(struct parser *parser, enum wire_direction direction, uint64_t size,
		       enum gap_kind kind, const struct passage *when)
{
	struct half *half = &parser->half[direction];
	bool lost = kind == GAP_LOST;

	parser__touch(parser, half);
	half__set_last(half, when);
	if (half__in_body(half))
		size -= parser__take_body(parser, half, size, lost);
	if (size && half->state == STATE_SEARCHING && !lost) {
		half__miss(half, parser->now);
		buf__free(&half->line);
		half->cut = false;
	} else if (size) {
		http1_order__lose(parser, half, lost ? REASON_LOST : REASON_DESYNC,
				  lost ? size : 0);
	}
	/* The response that was owed may have ended in here, before the request came. */
	if (half__has_responses(half) &&
	    (half->state == STATE_START || half->state == STATE_SEARCHING))
		parser->suspected = parser->holes = false;
}

static void http1__walked(struct parser *parser, enum wire_direction direction, uint64_t size,
			  uint64_t body_bytes, const struct passage *when)
{
	struct half *half = &parser->half[direction];

	if (!half__in_chunks(half)) {
		http1__gap(parser, direction, size, GAP_SKIPPED, when);
		return;
	}
	parser__touch(parser, half);
	half__set_last(half, when);
	half__count_body(half, body_bytes, false);
	buf__clear(&half->line);
	half->remaining = 0;
	half->state = STATE_CHUNK_SIZE;
}

/* There are no frames in HTTP/1: the probes took it for HTTP/2. */
static void http1__walked_frames(struct parser *parser, enum wire_direction direction,
				 uint64_t size, const struct left_out *left_out,
				 const struct passage *when)
{
	http1__gap(parser, direction, size, GAP_SKIPPED, when);
}

/* The stream ended where this message is. */
static void parser__cut(struct parser *parser, struct half *half, uint64_t time_ns)
{
	struct exchange *exchange = half->exchange;

	if (half->state == STATE_TUNNEL) {
		parser__end_tunnel(parser, half, time_ns);
		return;
	}
	if (half->state == STATE_CLOSE)
		http1_order__finish(parser, half);
	else if (exchange)
		exchange->error = "closed";
	if (half->exchange && half__has_responses(half))
		http1_order__drop(parser, exchange, REASON_NO_RESPONSE);
	else if (half->exchange && exchange->response.ended)
		http1_order__drop(parser, exchange, REASON_NONE);
	http1_half__reset(half, STATE_SEARCHING);
	half->why = REASON_DESYNC;
}

/* No response comes any more. Where one may have passed unseen, nothing is said of it. */
static void parser__end_responses(struct parser *parser, struct half *half, uint64_t time_ns)
{
	bool unsure = half->state == STATE_SEARCHING && half->moved_at > parser->requested_at;
	enum reason reason = unsure ? half->why : REASON_NO_RESPONSE;
	struct exchange *next;

	parser__cut(parser, half, time_ns);
	for (struct exchange *each = pairing__oldest(parser->pairing); each; each = next) {
		next = each->next;
		if (each->response.ended)
			continue;
		if (!unsure)
			each->error = "closed";
		http1_order__drop(parser, each, reason);
	}
}

static void http1__end(struct parser *parser, enum wire_direction direction, enum end_kind kind,
		       uint64_t time_ns)
{
	for (int i = 0; i < 2; i++) {
		struct half *half = &parser->half[i];

		if (kind == END_STREAM && i != (int)direction)
			continue;
		if (kind == END_TRACE)
			http1_half__reset(half, STATE_SEARCHING);
		else if (half__has_responses(half))
			parser__end_responses(parser, half, time_ns);
	}
	if (kind == END_TRACE) {
		pairing__give_up_all(parser->pairing, REASON_NO_RESPONSE);
		return;
	}
	for (int i = 0; i < 2; i++)
		if ((kind != END_STREAM || i == (int)direction) &&
		    !half__has_responses(&parser->half[i]))
			parser__cut(parser, &parser->half[i], time_ns);
}

static uint64_t http1__skippable(const struct parser *parser, enum wire_direction direction)
{
	const struct half *half = &parser->half[direction];

	switch (half->state) {
	case STATE_LENGTH:
		return half__may_lack_body(half) ? SKIP_NOTHING : half->remaining;
	case STATE_CHUNK:
		return half->remaining;
	case STATE_CLOSE:
		return half__may_lack_body(half) ? SKIP_NOTHING : SKIP_REST;
	case STATE_TUNNEL:
		return SKIP_REST;
	default:
		return SKIP_NOTHING;
	}
}

static bool http1__began(const struct parser *parser, enum wire_direction direction)
{
	return parser->half[direction].began;
}

static uint64_t http1__frame_began(const struct parser *parser, enum wire_direction direction)
{
	return 0;
}

static bool http1__reads_bodies(const struct parser *parser, enum wire_direction direction)
{
	return false;
}

static bool http1__searching(const struct parser *parser, enum wire_direction direction)
{
	return parser->half[direction].state == STATE_SEARCHING;
}

const struct parser_ops http1_ops = {
	.name = "http1",
	.detect = http1__detect,
	.open = http1__open,
	.free = http1__free,
	.data = http1__data,
	.hands_over = http1__hands_over,
	.gap = http1__gap,
	.walked = http1__walked,
	.walked_frames = http1__walked_frames,
	.end = http1__end,
	.skippable = http1__skippable,
	.began = http1__began,
	.frame_began = http1__frame_began,
	.reads_bodies = http1__reads_bodies,
	.searching = http1__searching,
};