/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP/2 parser on conversations of two libnghttp2 sessions: whole, in every piece, joined at
 * every call, with every call lost, and without memory. Whatever is missing, no name or value is
 * ever other than what was said.
 */
#include "failing_alloc.h"
#include "h2_talk.h"
#include "proto/hpack.h"
#include "proto/http2_frame.h"
#include "reasons.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t size);

/* What came out of a run. */
struct seen {
	const struct talk *talk; /* NULL: nothing is compared */
	size_t count;
	size_t complete;
	size_t unknown;	 /* of the exchanges, those with unknown headers */
	size_t unnamed;	 /* values without a name */
	size_t requests; /* with a path */
	uint64_t ids[256];
	uint64_t first_ns, last_ns;
	const char *error;
	enum reason reason;
	uint64_t messages[2];
	bool has_messages[2];
	uint64_t bodies[2];
	uint64_t lost_bytes;
	bool upgraded; /* to WebSocket */
};

struct run {
	struct connection connection;
	struct protocol_counts counts;
	struct pairing *pairing;
	struct parser *parser;
	struct passage when;
	uint64_t pending[2];
	int err;
};

static bool text_is(struct bytes bytes, const char *text)
{
	return bytes__equal(bytes, bytes__str(text));
}

static const char *said(const struct talk_block *block, const char *name)
{
	for (size_t i = 0; i < block->count; i++)
		if (!strcmp(block->fields[i].name, name))
			return block->fields[i].value;
	return NULL;
}

/* Each field was said; all were where `whole`. */
static void check_fields(struct seen *seen, const struct headers *headers,
			 const struct talk_block *block, bool whole)
{
	size_t pseudo = 0;

	for (size_t i = 0; i < headers->count; i++) {
		struct bytes name = headers__name(headers, i), value = headers__value(headers, i);
		bool found = false;

		seen->unnamed += !name.size;
		for (size_t j = 0; j < block->count && !found; j++)
			found = text_is(value, block->fields[j].value) &&
				(!name.size || text_is(name, block->fields[j].name));
		cr_assert(found, "%.*s: %.*s was not said", (int)name.size, (char *)name.data,
			  (int)value.size, (char *)value.data);
	}
	for (size_t j = 0; j < block->count; j++)
		pseudo += block->fields[j].name[0] == ':';
	if (!whole)
		return;
	cr_assert_eq(headers->count, block->count - pseudo);
	for (size_t i = 0; i < headers->count; i++) {
		const struct talk_field *field = &block->fields[pseudo + i];

		cr_assert(text_is(headers__name(headers, i), field->name));
		cr_assert(text_is(headers__value(headers, i), field->value));
	}
}

static void check_part(struct bytes got, const char *want, bool whole)
{
	if (got.size || whole)
		cr_assert(text_is(got, want ? want : ""), "got %.*s, said %s", (int)got.size,
			  (char *)got.data, want ? want : "nothing");
}

static void check_exchange(struct seen *seen, const struct exchange *exchange)
{
	const struct talk_stream *stream = talk__find(seen->talk, exchange->id);
	bool whole = exchange->reason == REASON_NONE;

	cr_assert(stream, "stream %llu", (unsigned long long)exchange->id);
	cr_assert_eq(exchange->version, 20);
	for (size_t i = 0; i + 1 < seen->count && i < 256; i++)
		cr_assert_neq(seen->ids[i], exchange->id, "stream %llu twice, %s",
			      (unsigned long long)exchange->id, reasons[exchange->reason]);
	if (exchange->request.begun) {
		char target[600] = "";

		check_part(buf__view(&exchange->method), said(&stream->request, ":method"), whole);
		check_part(buf__view(&exchange->scheme), said(&stream->request, ":scheme"), whole);
		check_part(buf__view(&exchange->authority), said(&stream->request, ":authority"),
			   whole);
		snprintf(target, sizeof(target), "%.*s%s%.*s", (int)exchange->path.size,
			 exchange->path.size ? (char *)exchange->path.data : "",
			 exchange->has_query ? "?" : "", (int)exchange->query.size,
			 exchange->query.size ? (char *)exchange->query.data : "");
		check_part(bytes__str(target), said(&stream->request, ":path"), whole);
		seen->requests += exchange->path.size > 0;
	}
	check_fields(seen, &exchange->request.headers, &stream->request, whole);
	check_fields(seen, &exchange->response.headers, &stream->response, whole);
	check_fields(seen, &exchange->response.trailers, &stream->trailers, whole);
	if (exchange->status)
		cr_assert_eq(exchange->status, atoi(said(&stream->response, ":status")));
	if (!whole)
		return;
	cr_assert_eq(exchange->request.body_bytes, stream->request_body);
	cr_assert_eq(exchange->response.body_bytes, stream->response_body);
	cr_assert(exchange->request.ended && exchange->response.ended);
	cr_assert_leq(exchange->request.first_ns, exchange->request.last_ns);
	cr_assert_leq(exchange->request.first_ns, exchange->response.first_ns);
	cr_assert_leq(exchange->response.first_ns, exchange->response.last_ns);
}

static bool on_done(void *context, struct exchange *exchange)
{
	struct seen *seen = context;

	if (seen->count < 256)
		seen->ids[seen->count] = exchange->id;
	seen->count++;
	seen->complete += exchange->reason == REASON_NONE;
	seen->unknown += exchange->reason == REASON_UNKNOWN_HEADERS;
	seen->error = exchange->error;
	seen->reason = exchange->reason;
	seen->first_ns = exchange->request.first_ns;
	seen->last_ns = exchange->response.last_ns;
	seen->messages[0] = exchange->request.messages;
	seen->messages[1] = exchange->response.messages;
	seen->has_messages[0] = exchange->request.has_messages;
	seen->has_messages[1] = exchange->response.has_messages;
	seen->bodies[0] = exchange->request.body_bytes;
	seen->bodies[1] = exchange->response.body_bytes;
	seen->lost_bytes += exchange->request.lost_bytes + exchange->response.lost_bytes;
	seen->upgraded = bytes__equal(buf__view(&exchange->upgrade), bytes__str("websocket"));
	cr_assert(exchange->request.begun || exchange->response.begun);
	if (seen->talk)
		check_exchange(seen, exchange);
	return false;
}

static int run__begin(struct run *run, struct seen *seen, const struct talk *talk, bool from_start)
{
	int err;

	*run = (struct run){.connection.from_start = from_start};
	run->connection.counts = &run->counts;
	*seen = (struct seen){.talk = talk};
	err = pairing__new(&run->connection, on_done, seen, &run->pairing);
	if (!err)
		err = http2_ops.open(run->pairing, &run->connection, from_start, &run->parser);
	return err;
}

static void run__end(struct run *run, enum end_kind kind)
{
	if (run->parser)
		http2_ops.end(run->parser, WIRE_READ, kind, run->when.last_ns);
	http2_ops.free(run->parser);
	pairing__free(run->pairing);
}

/* Bytes in memory of exactly their size. */
static void run__data(struct run *run, enum wire_direction direction, struct bytes bytes,
		      bool call_start)
{
	uint8_t *copy;
	int err;

	if (run->pending[direction])
		http2_ops.gap(run->parser, direction, run->pending[direction], GAP_LOST,
			      &run->when);
	run->pending[direction] = 0;
	if (!bytes.size)
		return;
	run->when.first_ns = run->when.last_ns + 1;
	run->when.last_ns += 2;
	copy = __real_malloc(bytes.size);
	memcpy(copy, bytes.data, bytes.size);
	err = http2_ops.data(run->parser, direction, bytes__of(copy, bytes.size), call_start,
			     &run->when);
	run->err = err ? err : run->err;
	free(copy);
}

static struct bytes call__bytes(const struct talk_call *call)
{
	return bytes__of(call->data, call->size);
}

/* ---- conversations ---- */

static void add_stream(struct talk *talk, unsigned int n)
{
	struct talk_stream *stream = talk__stream(talk);
	static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
	static const unsigned int statuses[] = {200, 404, 201, 500, 418};
	struct talk_block *request = &stream->request, *response = &stream->response;

	talk__field(request, ":method", "%s", methods[n % 4]);
	talk__field(request, ":scheme", "https");
	talk__field(request, ":authority", "host%u.example", n % 3);
	talk__field(request, ":path", n % 2 ? "/path/%u?q=%u" : "/path/%u", n, n);
	talk__field(request, "user-agent", "talk/1.0");
	talk__field(request, "x-id", "request-%u", n);
	talk__field(request, "x-constant", "always the same");
	if (n % 3 == 0)
		talk__field(request, "authorization", "Bearer secret-%u", n);
	talk__field(response, ":status", "%u", statuses[n % 5]);
	talk__field(response, "server", "talker");
	talk__field(response, "x-id", "response-%u", n);
	talk__field(response, "content-type", "text/plain; n=%u", n % 2);
	if (n % 4 == 3) {
		talk__field(&stream->trailers, "x-trailer", "trailer-%u", n);
		talk__field(&stream->trailers, "x-constant", "always the same");
	}
	stream->interim = n % 5 == 2;
	stream->request_body = n % 4 == 1 ? 10 + n : 0;
	stream->response_body = n % 4 == 3 ? 40 + n : n % 4 == 2 ? 20 : 0;
}

static void talk__short(struct talk *talk)
{
	talk__begin(talk);
	for (unsigned int n = 0; n < 4; n++)
		add_stream(talk, n);
	talk__say(talk, 4);
	for (unsigned int n = 4; n < 7; n++) {
		add_stream(talk, n);
		talk__say(talk, 1);
	}
}

static void talk__long(struct talk *talk)
{
	talk__begin(talk);
	for (unsigned int n = 0; n < 40; n += 4) {
		for (unsigned int i = n; i < n + 4; i++)
			add_stream(talk, i);
		if (n == 12)
			talk->streams[talk->stream_count - 1].response_body = 60000;
		talk__say(talk, 4);
		if (n == 16)
			talk__resize(talk, false, 200);
		if (n == 24)
			talk__resize(talk, false, 8192);
		if (n == 28)
			talk__resize(talk, true, 100);
	}
}

static void check_whole(const struct talk *talk, size_t piece)
{
	struct seen seen;
	struct run run;

	cr_assert_eq(run__begin(&run, &seen, talk, true), 0);
	for (size_t i = 0; i < talk->call_count; i++)
		for (size_t at = 0; at < talk->calls[i].size; at += piece)
			run__data(&run, talk->calls[i].direction,
				  bytes__first(bytes__from(call__bytes(&talk->calls[i]), at),
					       piece),
				  !at);
	cr_assert_eq(seen.count, talk->stream_count, "%zu of %zu in pieces of %zu", seen.count,
		     talk->stream_count, piece);
	cr_assert_eq(seen.complete, seen.count);
	cr_assert_eq(run.connection.side, SIDE_CLIENT);
	cr_assert_eq(run.counts.places_lost + run.counts.tables_reset, 0);
	run__end(&run, END_CLOSED);
	cr_assert_eq(seen.count, talk->stream_count);
	cr_assert_eq(run.err, 0);
}

static void with_all_talks(void (*check)(const struct talk *))
{
	static const struct talk kinds[] = {
		{.pads = false},
		{.pads = true},
		{.client_table = 65536, .server_table = 65536, .deflate_table = 65536},
		{.client_table = 1, .server_table = 60},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		static struct talk talk;

		talk = kinds[i];
		talk__short(&talk);
		check(&talk);
		talk__free(&talk);
		talk = kinds[i];
		talk__long(&talk);
		check(&talk);
		talk__free(&talk);
	}
}

static void check_pieces(const struct talk *talk)
{
	static const size_t pieces[] = {1, 2, 3, 7, 8, 9, 10, 11, 100, 1000, SIZE_MAX / 2};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		check_whole(talk, pieces[i]);
}

Test(http2, whole_in_pieces_of_any_size)
{
	with_all_talks(check_pieces);
}

Test(http2, a_cut_anywhere)
{
	static struct talk talk;
	struct seen seen;
	struct run run;

	talk__short(&talk);
	for (size_t cut_call = 0; cut_call < talk.call_count; cut_call++) {
		for (size_t cut = 1; cut < talk.calls[cut_call].size; cut++) {
			cr_assert_eq(run__begin(&run, &seen, &talk, true), 0);
			for (size_t i = 0; i < talk.call_count; i++) {
				struct bytes bytes = call__bytes(&talk.calls[i]);
				size_t first = i == cut_call ? cut : bytes.size;

				run__data(&run, talk.calls[i].direction, bytes__first(bytes, first),
					  true);
				run__data(&run, talk.calls[i].direction, bytes__from(bytes, first),
					  false);
			}
			run__end(&run, END_CLOSED);
			cr_assert_eq(seen.complete, talk.stream_count);
		}
	}
	talk__free(&talk);
}

/* From one call on, and from the middle of one on. */
static void check_joined(const struct talk *talk)
{
	struct seen seen;
	struct run run;

	for (size_t from = 0; from < talk->call_count; from++) {
		size_t step = talk->calls[from].size > 64 ? 37 : 5;

		for (size_t at = 0; at < talk->calls[from].size; at += step) {
			size_t later = 0;

			cr_assert_eq(run__begin(&run, &seen, talk, false), 0);
			for (size_t i = from; i < talk->call_count; i++)
				run__data(&run, talk->calls[i].direction,
					  bytes__from(call__bytes(&talk->calls[i]),
						      i == from ? at : 0),
					  i != from || !at);
			run__end(&run, END_CLOSED);
			for (size_t i = 0; i < talk->stream_count; i++)
				later += talk->streams[i].call > from;
			/* libnghttp2 never puts paths into the table. */
			cr_assert_geq(seen.requests, later, "%zu of %zu from call %zu, %zu",
				      seen.requests, later, from, at);
			/* With the preface, it is as from the start. */
			if (!from && !at)
				cr_assert_eq(seen.complete, talk->stream_count);
		}
	}
}

Test(http2, joined_anywhere_nothing_is_wrong)
{
	with_all_talks(check_joined);
}

static void check_losses(const struct talk *talk)
{
	struct seen seen;
	struct run run;

	for (size_t lost = 0; lost < talk->call_count; lost++) {
		for (size_t lost_size = 1; lost_size < 3; lost_size++) {
			cr_assert_eq(run__begin(&run, &seen, talk, true), 0);
			for (size_t i = 0; i < talk->call_count; i++) {
				const struct talk_call *call = &talk->calls[i];
				size_t gone = lost_size == 1 ? call->size : call->size / 2;

				if (i == lost)
					run.pending[call->direction] += gone;
				run__data(&run, call->direction,
					  bytes__from(call__bytes(call), i == lost ? gone : 0),
					  i != lost);
			}
			run__end(&run, END_CLOSED);
			cr_assert_leq(seen.count, talk->stream_count);
			cr_assert_geq(seen.count + 4, talk->stream_count);
		}
	}
}

Test(http2, lost_anywhere_nothing_is_wrong)
{
	with_all_talks(check_losses);
}

Test(http2, without_memory_nothing_is_wrong)
{
	static struct talk talk;
	bool failed = true;
	struct seen seen;
	struct run run;

	talk__short(&talk);
	for (int late = 0; late < 2; late++) {
		failed = true;
		for (unsigned int nth = 0; failed; nth++) {
			int err;

			failing_alloc__arm(nth);
			err = run__begin(&run, &seen, &talk, !late);
			for (size_t i = late ? 4 : 0; i < talk.call_count && !err; i++)
				run__data(&run, talk.calls[i].direction,
					  call__bytes(&talk.calls[i]), true);
			failed = failing_alloc__disarm();
			run__end(&run, END_CLOSED);
			cr_assert(!failed || err || run.err || seen.complete <= talk.stream_count);
		}
	}
	talk__free(&talk);
}

/* ---- by hand ---- */

#define PREFACE	 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

/* A frame at the end of `out`, which has room. */
static size_t frame(uint8_t *out, size_t at, unsigned int type, unsigned int flags, uint32_t id,
		    const char *payload, size_t size)
{
	const uint8_t head[] = {
		(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size,
		(uint8_t)type,	       (uint8_t)flags,	     (uint8_t)(id >> 24),
		(uint8_t)(id >> 16),   (uint8_t)(id >> 8),   (uint8_t)id,
	};

	memcpy(out + at, head, sizeof(head));
	if (size)
		memcpy(out + at + sizeof(head), payload, size);
	return at + sizeof(head) + size;
}

static void run__frame(struct run *run, enum wire_direction direction, unsigned int type,
		       unsigned int flags, uint32_t id, const char *payload, size_t size)
{
	uint8_t bytes[20000];

	cr_assert_lt(size, sizeof(bytes) - HTTP2_HEAD_BYTES);
	run__data(run, direction, bytes__of(bytes, frame(bytes, 0, type, flags, id, payload, size)),
		  true);
}

#define FRAME(run, direction, type, flags, id, payload)                                            \
	run__frame(run, direction, type, flags, id, payload, sizeof(payload) - 1)

/* A connection from its start, of a server. */
static void run__served(struct run *run, struct seen *seen)
{
	cr_assert_eq(run__begin(run, seen, NULL, true), 0);
	run__data(run, WIRE_READ, bytes__of(PREFACE SETTINGS, sizeof(PREFACE SETTINGS) - 1), true);
	run__data(run, WIRE_WRITE, bytes__of(SETTINGS, sizeof(SETTINGS) - 1), true);
	cr_assert_eq(run->connection.side, SIDE_SERVER);
}

#define GET  "\x82\x87\x84" /* GET https / */
#define POST "\x83\x87\x84"
#define OK   "\x88"
#define GRPC                                                                                       \
	"\x0f\x10\x10"                                                                             \
	"application/grpc"

Test(http2, a_push)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
	FRAME(&run, WIRE_WRITE, HTTP2_PUSH_PROMISE, 4, 1, "\0\0\0\2" GET);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 2, OK);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 2, "pushed");
	cr_assert_eq(seen.complete, 1);
	cr_assert_eq(seen.ids[0], 2);
	cr_assert_eq(seen.bodies[1], 6);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 1, "x");
	cr_assert_eq(seen.complete, 2);
	run__end(&run, END_CLOSED);
}

Test(http2, how_exchanges_fail)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
	FRAME(&run, WIRE_READ, HTTP2_RST_STREAM, 0, 1, "\0\0\0\x08");
	cr_assert_str_eq(seen.error, "rst_stream:CANCEL");
	cr_assert_eq(seen.reason, REASON_NO_RESPONSE);
	/* The response that was under way is nobody's. */
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 1, "late");
	cr_assert_eq(seen.count, 1);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 3, GET);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 5, GET);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 4, 7, POST);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 7, OK);
	/* A whole response, and the rest of the request is not wanted. */
	FRAME(&run, WIRE_WRITE, HTTP2_RST_STREAM, 0, 7, "\0\0\0\0");
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.complete, 1);
	cr_assert_null(seen.error);
	FRAME(&run, WIRE_WRITE, HTTP2_GOAWAY, 0, 0, "\0\0\0\3\0\0\0\0");
	cr_assert_eq(seen.count, 3);
	cr_assert_eq(seen.ids[2], 5);
	cr_assert_str_eq(seen.error, "goaway");
	run__end(&run, END_CLOSED);
	cr_assert_eq(seen.count, 4);
	cr_assert_str_eq(seen.error, "closed");
	cr_assert_eq(seen.reason, REASON_NO_RESPONSE);
}

Test(http2, a_response_without_a_status_is_not_complete)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 1, "\x40\x0bgrpc-status\x01\x35");
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 3, GET);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 3, "\x08\x03xyz"); /* a :status */
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 3, "x");
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.complete, 0);
	cr_assert_eq(seen.reason, REASON_DESYNC);
	run__end(&run, END_CLOSED);
}

/* A thread reads the response while the call that wrote the request has not returned. */
Test(http2, a_response_before_its_request)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 1, "x");
	cr_assert_eq(seen.complete, 1);
	/* One that never comes. */
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 3, OK);
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.reason, REASON_DESYNC);
	run__end(&run, END_CLOSED);
}

Test(http2, grpc_messages_are_counted)
{
	struct seen seen;
	struct run run;

	for (int gap = 0; gap < 3; gap++) {
		run__served(&run, &seen);
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 4, 1, POST GRPC);
		FRAME(&run, WIRE_READ, HTTP2_DATA, 0, 1, "\0\0\0\0\3abc\0\0");
		FRAME(&run, WIRE_READ, HTTP2_DATA, 1, 1, "\0\0\0");
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK GRPC);
		run__data(&run, WIRE_WRITE, bytes__of("\0\0\x0e\0\0\0\0\0\1\0\0\0\0\2", 14), true);
		if (!gap)
			run__data(&run, WIRE_WRITE, bytes__of("xx\0\0\0\0\2", 7), true);
		else
			http2_ops.gap(run.parser, WIRE_WRITE, gap == 1 ? 2 : 7, GAP_SKIPPED,
				      &run.when);
		if (gap == 1)
			run__data(&run, WIRE_WRITE, bytes__of("\0\0\0\0\2", 5), true);
		run__data(&run, WIRE_WRITE, bytes__of("yy", 2), true);
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 1,
		      "\0\x0bgrpc-status\1"
		      "5");
		run__end(&run, END_CLOSED);
		cr_assert_eq(seen.complete, 1);
		cr_assert(seen.has_messages[0]);
		cr_assert_eq(seen.messages[0], 2);
		cr_assert_eq(seen.bodies[1], 14);
		/* A prefix that was left out cannot be counted. */
		cr_assert_eq(seen.has_messages[1], gap != 2);
		cr_assert(gap == 2 || seen.messages[1] == 2);
	}
}

Test(http2, data_that_is_left_out)
{
	struct seen seen;
	struct run run;

	for (int kind = 0; kind < 2; kind++) {
		run__served(&run, &seen);
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK);
		cr_assert_eq(http2_ops.skippable(run.parser, WIRE_WRITE), SKIP_NOTHING);
		/* 1 of padding's size, 5 of data, 3 of padding. */
		run__data(&run, WIRE_WRITE, bytes__of("\0\0\x09\0\x09\0\0\0\1", 9), true);
		cr_assert_eq(http2_ops.skippable(run.parser, WIRE_WRITE), SKIP_NOTHING);
		run__data(&run, WIRE_WRITE, bytes__of("\3", 1), false);
		cr_assert_eq(http2_ops.skippable(run.parser, WIRE_WRITE), 8);
		http2_ops.gap(run.parser, WIRE_WRITE, 7, kind ? GAP_LOST : GAP_SKIPPED, &run.when);
		run__data(&run, WIRE_WRITE, bytes__of("p", 1), false);
		cr_assert_eq(seen.count, 1);
		cr_assert_eq(seen.bodies[1], 5);
		cr_assert_eq(seen.lost_bytes, kind ? 5 : 0);
		cr_assert_eq(seen.reason, kind ? REASON_LOST : REASON_NONE);
		cr_assert_eq(run.counts.places_lost, 0);
		run__end(&run, END_CLOSED);
	}
}

/* Extended CONNECT: the stream is a WebSocket, and an exchange when it ends. */
Test(http2, a_websocket)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	FRAME(&run, WIRE_READ, HTTP2_HEADERS, 4, 1,
	      "\2\7"
	      "CONNECT"
	      "\x87\x84"
	      "\0\x09:protocol\x09websocket");
	FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 4, 1, OK);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 0, 1, "frames");
	FRAME(&run, WIRE_READ, HTTP2_DATA, 1, 1, "of it");
	cr_assert_eq(seen.count, 0);
	FRAME(&run, WIRE_WRITE, HTTP2_DATA, 1, 1, "");
	cr_assert_eq(seen.complete, 1);
	cr_assert(seen.upgraded);
	cr_assert_eq(seen.bodies[0], 5);
	cr_assert_eq(seen.bodies[1], 6);
	run__end(&run, END_CLOSED);
}

Test(http2, many_streams_are_bounded)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	for (uint32_t i = 0; i < 5000; i++)
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 2 * i + 1, GET);
	cr_assert_geq(seen.count, 4000);
	cr_assert_eq(run.counts.streams_given_up, seen.count);
	run__end(&run, END_CLOSED);
	cr_assert_eq(seen.count, 5000);
}

Test(http2, rapid_reset)
{
	struct seen seen;
	struct run run;

	run__served(&run, &seen);
	for (uint32_t i = 0; i < 5000; i++) {
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 2 * i + 1, GET);
		FRAME(&run, WIRE_READ, HTTP2_RST_STREAM, 0, 2 * i + 1, "\0\0\0\x08");
	}
	cr_assert_eq(seen.count, 5000);
	cr_assert_eq(run.counts.streams_given_up, 0);
	run__end(&run, END_CLOSED);
}

Test(http2, a_flood_of_continuations)
{
	static const size_t sizes[] = {0, 1, 16000};
	static const char zeros[16000];
	struct seen seen;
	struct run run;

	for (size_t i = 0; i < 3; i++) {
		run__served(&run, &seen);
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 1, 1, GET);
		for (int n = 0; n < 1000; n++)
			run__frame(&run, WIRE_READ, HTTP2_CONTINUATION, n == 999 ? 4 : 0, 1, zeros,
				   sizes[i]);
		cr_assert_eq(run.counts.blocks_refused, 1);
		/* The stream was there; what it said is not known, and the next one is. */
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 1, OK);
		cr_assert_eq(seen.count, 1);
		cr_assert_eq(seen.reason, REASON_TRUNCATED);
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 3, GET);
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 3, OK);
		cr_assert_eq(seen.complete, 1);
		run__end(&run, END_CLOSED);
	}
}

/* A field of 4 KB in the table, and a thousand references to it. */
Test(http2, a_bomb_of_fields)
{
	static char block[16000];
	size_t at = 0;
	struct seen seen;
	struct run run;

	memcpy(block, GET "\x40\1b\x7f\xa1\x1e", 9);
	at = 9;
	memset(block + at, 'x', 4000);
	at += 4000;
	memset(block + at, '\xbe', 10000);
	at += 10000;
	run__served(&run, &seen);
	for (uint32_t i = 0; i < 200; i++)
		run__frame(&run, WIRE_READ, HTTP2_HEADERS, 5, 2 * i + 1, block, at);
	/* Each is cut at its maximum, and so many of them are not kept. */
	cr_assert_gt(run.counts.streams_given_up, 100);
	run__end(&run, END_CLOSED);
	cr_assert_eq(seen.count, 200);
}

Test(http2, frames_that_cannot_be)
{
	static const struct {
		unsigned int type, flags, id, size;
	} cases[] = {
		{HTTP2_DATA, 0, 0, 1},		{HTTP2_HEADERS, 4, 0, 1},
		{HTTP2_PRIORITY, 0, 1, 4},	{HTTP2_RST_STREAM, 0, 1, 5},
		{HTTP2_SETTINGS, 0, 1, 6},	{HTTP2_SETTINGS, 0, 0, 5},
		{HTTP2_PING, 0, 0, 7},		{HTTP2_GOAWAY, 0, 0, 7},
		{HTTP2_WINDOW_UPDATE, 0, 1, 5}, {HTTP2_CONTINUATION, 4, 1, 1},
		{HTTP2_DATA, 8, 1, 0},
	};
	struct seen seen;
	struct run run;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run__served(&run, &seen);
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 1, GET);
		run__frame(&run, WIRE_READ, cases[i].type, cases[i].flags, cases[i].id,
			   "\0\0\0\0\0\0", cases[i].size);
		cr_assert_eq(run.counts.places_lost, 1, "case %zu", i);
		/* It finds its place again. */
		FRAME(&run, WIRE_READ, HTTP2_HEADERS, 5, 3, GET);
		FRAME(&run, WIRE_WRITE, HTTP2_HEADERS, 5, 3, OK);
		cr_assert_eq(seen.count, 1, "case %zu", i);
		cr_assert_eq(seen.complete, 1);
		run__end(&run, END_CLOSED);
	}
}

Test(http2, noise_is_survived)
{
	static struct talk talk;
	uint32_t state = 5;
	struct seen seen;
	struct run run;

	talk__short(&talk);
	for (int turn = 0; turn < 3000; turn++) {
		cr_assert_eq(run__begin(&run, &seen, NULL, turn & 1), 0);
		for (size_t i = 0; i < talk.call_count; i++) {
			uint8_t bytes[9000];
			size_t size = talk.calls[i].size;

			memcpy(bytes, talk.calls[i].data, size);
			state = state * 1664525 + 1013904223;
			if (state >> 28 < 6)
				bytes[(state >> 8) % size] = (uint8_t)(state >> 20);
			run__data(&run, talk.calls[i].direction, bytes__of(bytes, size), true);
		}
		run__end(&run, END_CLOSED);
	}
	talk__free(&talk);
}

Test(http2, detected)
{
	static const struct {
		const char *bytes;
		size_t size;
		bool from_start;
		enum verdict verdict;
	} cases[] = {
		{PREFACE, 24, true, VERDICT_YES},
		{PREFACE, 24, false, VERDICT_YES},
		{PREFACE, 20, true, VERDICT_MORE},
		{"PRI * HTTP/1.1\r\n", 16, true, VERDICT_NO},
		{SETTINGS, 9, true, VERDICT_YES},
		{SETTINGS, 5, true, VERDICT_MORE},
		/* gRPC's setting for experiments, and one that nobody knows. */
		{"\0\0\6\4\0\0\0\0\0\xfe\3\0\0\0\1", 15, true, VERDICT_YES},
		{"\0\0\6\4\0\0\0\0\0\xfe\3\0\0\0\1", 15, false, VERDICT_YES},
		{"\0\0\6\4\0\0\0\0\0\x77\3\0\0\0\1", 15, true, VERDICT_YES},
		{"\0\0\6\4\0\0\0\0\0\x77\3\0\0\0\1", 15, false, VERDICT_NO},
		{"\0\0\5\4\0\0\0\0\0", 9, true, VERDICT_NO},
		{"\0\0\0\4\1\0\0\0\0", 9, true, VERDICT_NO},
		{"GET / HTTP/1.1\r\n", 16, true, VERDICT_NO},
		/* A frame that fills a call, two in one, one that does not end with it. */
		{"\0\0\4\x08\0\0\0\0\0\0\0\1\0", 13, false, VERDICT_YES},
		{"\0\0\0\0\1\0\0\0\3\0\0\1\1\5\0\0\0\5", 18, false, VERDICT_YES},
		{"\0\0\4\x08\0\0\0\0\0\0\0\1\0", 12, false, VERDICT_MORE},
		{"\0\0\4\x08\0\0\0\0\0\0\0\1\0zzzzzzzzzz", 23, false, VERDICT_NO},
		/* A request with its priority, as browsers send it. */
		{"\0\0\1\1\5\0\0\0\5\x82\0\0\7\x10\0\0\0\0\0\0\0\0\5u=1", 26, false, VERDICT_YES},
		/* No window of zero, no DATA of no stream, no even stream. */
		{"\0\0\4\x08\0\0\0\0\0\0\0\0\0", 13, false, VERDICT_NO},
		{"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18, false, VERDICT_NO},
		{"\0\0\0\0\1\0\0\0\2", 9, false, VERDICT_NO},
		/* Kafka's request, MySQL's packet, PostgreSQL's. */
		{"\0\0\0\x1d\0\3\0\x09\0\0\0\1\0\7client", 20, false, VERDICT_NO},
		{"\x01\0\0\1\1", 5, false, VERDICT_NO},
		{"\0\0\0\x08\4\xd2\x16\x2f", 8, true, VERDICT_NO},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(http2_ops.detect(bytes__of(cases[i].bytes, cases[i].size),
					      cases[i].from_start),
			     cases[i].verdict, "case %zu", i);
}

/* Noise is not taken for frames; of noise that is nearly all zeros and small numbers, hardly any.
 */
Test(http2, noise_is_not_detected)
{
	static uint8_t bytes[1 << 20];
	uint32_t state = 11;

	for (int small = 0; small < 2; small++) {
		size_t found = 0;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			state = state * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(state >> 24);
			if (small)
				bytes[i] = bytes[i] < 200 ? 0 : bytes[i] % 10;
		}
		for (size_t i = 0; i + 4096 < sizeof(bytes); i++)
			found += http2_chain__verify(bytes__of(bytes + i, 4096), false) ==
				 VERDICT_YES;
		cr_assert_leq(found, small ? 1 : 0);
	}
}
