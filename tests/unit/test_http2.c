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
};

struct run {
	struct connection connection;
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
	cr_assert(exchange->request.begun || exchange->response.begun);
	if (seen->talk)
		check_exchange(seen, exchange);
	return false;
}

static int run__begin(struct run *run, struct seen *seen, const struct talk *talk, bool from_start)
{
	int err;

	*run = (struct run){.connection.from_start = from_start};
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
	cr_assert_eq(run.connection.counts.places_lost + run.connection.counts.tables_reset, 0);
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
