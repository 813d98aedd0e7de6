/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections that go from HTTP/1.1 to HTTP/2 by an Upgrade (RFC 7540 3.2): what two libnghttp2
 * sessions say after it, as records of a connection: whole, in pieces, with losses, joined late,
 * without memory; and what is no such upgrade.
 */
#include "failing_alloc.h"
#include "flow/flow.h"
#include "h2_talk.h"
#include "reasons.h"
#include "records.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t size);

#define MAX_STEPS 64
#define MAX_TOLD  16

#define TEXT_SIZE 4096

/* What one side gave to TLS at once; the client writes. */
struct step {
	enum wire_direction direction;
	uint8_t *data;
	size_t size;
};

/* An exchange as its two ends know it. */
struct told {
	const struct talk_stream *stream; /* NULL: that of HTTP/1.1 before the upgrade */
	char line[TEXT_SIZE];		  /* as print_exchange() has it */
};

static struct {
	struct talk talk;
	struct step steps[MAX_STEPS];
	size_t step_count;
	size_t upgrade; /* the step with which the upgraded request begins */
	bool answers_first;
	size_t answer; /* the step in which the 101 begins */
	struct told told[MAX_TOLD];
	size_t told_count;
} said;

static struct {
	size_t exchanges;
	size_t complete;
	size_t right; /* complete, and all as was said */
	char last[TEXT_SIZE];
	size_t underway;
	uint64_t tunnels; /* directives that leave out all that follows */
	struct directive directive;
	uint64_t request_ns, ttfb_ns;
	enum reason reason;
	bool quiet; /* `last` is not wanted */
} seen;

static struct flow *flow;
static struct source source;

/* ---- what was said ---- */

static void text__add(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void text__add(char *text, const char *format, ...)
{
	size_t size = strlen(text);
	va_list args;

	va_start(args, format);
	size += (size_t)vsnprintf(text + size, TEXT_SIZE - size, format, args);
	va_end(args);
	cr_assert_lt(size, TEXT_SIZE);
}

static const char *value_of(const struct talk_block *block, const char *name)
{
	for (size_t i = 0; i < block->count; i++)
		if (!strcmp(block->fields[i].name, name))
			return block->fields[i].value;
	return NULL;
}

static void add_step(enum wire_direction direction, const void *data, size_t size)
{
	struct step *step = &said.steps[said.step_count++];

	cr_assert_lt(said.step_count, MAX_STEPS);
	*step = (struct step){.direction = direction, .data = __real_malloc(size), .size = size};
	memcpy(step->data, data, size);
}

static void add_text(enum wire_direction direction, const char *text)
{
	add_step(direction, text, strlen(text));
}

/* The fields of a block that are no pseudo-headers. */
static void add_fields(char *text, const struct talk_block *block)
{
	for (size_t i = 0; i < block->count; i++)
		if (block->fields[i].name[0] != ':')
			text__add(text, "%s: %s\r\n", block->fields[i].name,
				  block->fields[i].value);
	text__add(text, "|");
}

static void tell(const struct talk_stream *stream, const char *upgrade, const char *request_head)
{
	struct told *told = &said.told[said.told_count++];

	cr_assert_lt(said.told_count, MAX_TOLD);
	told->stream = stream;
	text__add(told->line, "HTTP/2 %s%s %s %s %s %zu/%zu\r\n", *upgrade ? upgrade : "-",
		  value_of(&stream->request, ":method"), value_of(&stream->request, ":authority"),
		  value_of(&stream->request, ":path"), value_of(&stream->response, ":status"),
		  stream->request_body, stream->response_body);
	if (request_head)
		text__add(told->line, "%s|", request_head);
	else
		add_fields(told->line, &stream->request);
	add_fields(told->line, &stream->response);
	add_fields(told->line, &stream->trailers);
}

static void fill_stream(struct talk_stream *stream, unsigned int n)
{
	talk__field(&stream->request, ":method", n % 2 ? "POST" : "GET");
	talk__field(&stream->request, ":scheme", "https");
	talk__field(&stream->request, ":authority", "h");
	talk__field(&stream->request, ":path", "/s%u", n);
	talk__field(&stream->request, "x-id", "request-%u", n);
	talk__field(&stream->request, "x-constant", "always the same");
	talk__field(&stream->response, ":status", "%u", 400 + n);
	talk__field(&stream->response, "x-id", "response-%u", n);
	talk__field(&stream->response, "x-constant", "always the same");
	if (n % 2 == 0)
		talk__field(&stream->trailers, "x-trailer", "trailer-%u", n);
	stream->interim = n % 3 == 0;
	stream->request_body = n % 2 ? 7 : 0;
	stream->response_body = 30;
}

struct kind {
	bool post;	    /* the upgraded request has a body */
	bool answers_first; /* the server, before it has the client's preface */
	bool joined;	    /* the 101 with the server's first frames in one call */
	const char *upgrade;
	uint32_t client_table;
};

/* An exchange of HTTP/1.1, the request that is upgraded, and three more after it. */
static void converse(const struct kind *kind)
{
	static const char *const hosts = "Host: h\r\nConnection: Upgrade, HTTP2-Settings\r\n";
	struct talk_stream *first;
	char head[TEXT_SIZE] = "", text[TEXT_SIZE] = "";
	size_t answer;

	memset(&said, 0, sizeof(said));
	said.talk = (struct talk){
		.upgrades = true,
		.answers_first = kind->answers_first,
		.client_table = kind->client_table,
		.deflate_table = kind->client_table,
	};
	talk__begin(&said.talk);
	first = talk__stream(&said.talk);
	fill_stream(first, kind->post);
	talk__say(&said.talk, 1);
	said.talk.answers_first = false;
	said.answers_first = kind->answers_first;
	fill_stream(talk__stream(&said.talk), 2);
	talk__say(&said.talk, 1);
	fill_stream(talk__stream(&said.talk), 3);
	fill_stream(talk__stream(&said.talk), 4);
	talk__say(&said.talk, 2);

	add_text(WIRE_WRITE, "GET /before HTTP/1.1\r\nHost: h\r\n\r\n");
	add_text(WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	text__add(said.told[said.told_count++].line,
		  "HTTP/1 -GET h /before 200 0/2\r\nHost: h\r\n|Content-Length: 2\r\n||");
	text__add(head, "%sUpgrade: foo, %s\r\nHTTP2-Settings: %s\r\nX-Id: request\r\n%s", hosts,
		  kind->upgrade, said.talk.settings, kind->post ? "Content-Length: 7\r\n" : "");
	text__add(text, "%s %s HTTP/1.1\r\n%s\r\n%s", value_of(&first->request, ":method"),
		  value_of(&first->request, ":path"), head, kind->post ? "1234567" : "");
	said.upgrade = said.step_count;
	add_text(WIRE_WRITE, text);
	tell(first, kind->upgrade, head);
	for (size_t i = 1; i < said.talk.stream_count; i++)
		tell(&said.talk.streams[i], "", NULL);

	text[0] = '\0';
	text__add(text,
		  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n"
		  "X-Id: not of the response\r\n\r\n",
		  kind->upgrade);
	said.answer = answer = said.step_count;
	add_text(WIRE_READ, text);
	for (size_t i = 0; i < said.talk.call_count; i++) {
		const struct talk_call *call = &said.talk.calls[i];

		if (!i && kind->joined && call->direction == WIRE_READ) {
			struct step *step = &said.steps[answer];

			step->data = realloc(step->data, step->size + call->size);
			memcpy(step->data + step->size, call->data, call->size);
			step->size += call->size;
		} else {
			add_step(call->direction, call->data, call->size);
		}
	}
}

static void forget_said(void)
{
	talk__free(&said.talk);
	for (size_t i = 0; i < said.step_count; i++)
		free(said.steps[i].data);
}

/* ---- what came out ---- */

static void print_fields(char *text, const struct headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		struct bytes name = headers__name(headers, i), value = headers__value(headers, i);

		text__add(text, "%.*s: %.*s\r\n", (int)name.size, (const char *)name.data,
			  (int)value.size, (const char *)value.data);
	}
	text__add(text, "|");
}

static void print_part(char *text, const struct buf *part)
{
	text__add(text, "%.*s", (int)part->size, part->size ? (const char *)part->data : "");
}

static void print_exchange(char *text, const struct exchange *exchange)
{
	*text = '\0';
	text__add(text, "HTTP/%u ", exchange->version / 10);
	print_part(text, &exchange->upgrade);
	text__add(text, "%s", exchange->upgrade.size ? "" : "-");
	print_part(text, &exchange->method);
	text__add(text, " ");
	print_part(text, &exchange->authority);
	text__add(text, " ");
	print_part(text, &exchange->path);
	text__add(text, " %u %llu/%llu\r\n", exchange->status,
		  (unsigned long long)exchange->request.body_bytes,
		  (unsigned long long)exchange->response.body_bytes);
	print_fields(text, &exchange->request.headers);
	print_fields(text, &exchange->response.headers);
	print_fields(text, &exchange->response.trailers);
}

/* Whether each field is in a text of such. */
static void check_fields_in(const struct headers *headers, const char *text)
{
	char field[TEXT_SIZE];

	for (size_t i = 0; i < headers->count; i++) {
		struct bytes name = headers__name(headers, i), value = headers__value(headers, i);

		field[0] = '\0';
		text__add(field, "%.*s: %.*s\r\n", (int)name.size, (const char *)name.data,
			  (int)value.size, (const char *)value.data);
		cr_assert(strstr(text, field), "%s is not in %s", field, text);
	}
}

/* Which of those said an incomplete one is: requests may be cut, responses may have none. */
static const struct told *told__of(const struct exchange *exchange)
{
	if (exchange->version != 20)
		return &said.told[exchange->status != 200 && !strstr(seen.last, " /before ")];
	for (size_t i = 0; i < said.told_count; i++)
		if (said.told[i].stream && exchange->id == (uint64_t)said.told[i].stream->id)
			return &said.told[i];
	cr_assert_fail("nobody said %s", seen.last);
	return NULL;
}

/* What is there of an incomplete one was said. */
static void check_incomplete(const struct exchange *exchange)
{
	const struct told *told = told__of(exchange);
	char status[16];

	check_fields_in(&exchange->request.headers, told->line);
	/* The 101's own, where it was cut. */
	if (exchange->status == 101)
		return;
	check_fields_in(&exchange->response.headers, told->line);
	check_fields_in(&exchange->response.trailers, told->line);
	snprintf(status, sizeof(status), " %u ", exchange->status);
	if (exchange->status)
		cr_assert(strstr(told->line, status), "%s but %s", seen.last, told->line);
}

static void on_exchange(void *context, const struct exchange *exchange, struct bytes executable)
{
	bool whole = exchange->reason == REASON_NONE, right = false;

	seen.exchanges++;
	seen.complete += whole;
	seen.reason = exchange->reason;
	if (seen.quiet)
		return;
	print_exchange(seen.last, exchange);
	seen.request_ns = exchange->request.first_ns;
	seen.ttfb_ns = exchange->response.first_ns - exchange->request.first_ns;
	for (size_t i = 0; i < said.told_count && whole; i++)
		right |= !strcmp(said.told[i].line, seen.last);
	seen.right += right;
	if (said.told_count && whole && exchange->status != 101)
		cr_assert(right, "nobody said\n%s", seen.last);
	if (said.told_count && !whole)
		check_incomplete(exchange);
	text__add(seen.last, " %s", reasons[exchange->reason]);
}

static void on_underway(void *context, const struct exchange *exchange, struct bytes executable)
{
	seen.underway++;
}

static void on_directive(void *context, const struct directive *directive)
{
	seen.tunnels += directive->skip_until == UINT64_MAX;
	seen.directive = *directive;
}

static const struct flow_callbacks callbacks = {
	.exchange = on_exchange,
	.underway = on_underway,
	.directive = on_directive,
};

static void begin(void)
{
	memset(&seen, 0, sizeof(seen));
	source = source__of(7, 0x1000);
	cr_assert_eq(flow__new(&callbacks, &flow), 0);
}

static void feed(struct bytes record)
{
	struct event event;

	cr_assert_eq(intake__event(record, &event), 0);
	flow__event(flow, &event);
	record__free(record);
}

/* Of a server, when `serves`. */
static bool serves;

static enum wire_direction direction_of(const struct step *step)
{
	return serves ? 1 - step->direction : step->direction;
}

static void feed_part(const struct step *step, size_t from, size_t to, bool call_start)
{
	if (from == to)
		return;
	source.flags =
		(uint8_t)((source.flags & ~WIRE_CALL_START) | (call_start ? WIRE_CALL_START : 0));
	feed(source__data(&source, direction_of(step), bytes__of(step->data + from, to - from),
			  (uint32_t)(to - from)));
}

static void feed_steps(size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		feed_part(&said.steps[i], 0, said.steps[i].size, true);
}

static void end(void)
{
	feed(source__close(&source, WIRE_CLOSE_FREE));
	flow__free(flow);
}

static void check_all_right(const char *what, size_t at)
{
	cr_assert_eq(seen.right, said.told_count, "%s %zu: %zu of %zu", what, at, seen.right,
		     said.told_count);
	cr_assert_eq(seen.exchanges, said.told_count);
	cr_assert_eq(seen.tunnels, 0);
	cr_assert_eq(flow__counts(flow)->protocol.places_lost, 0);
	cr_assert_eq(flow__counts(flow)->protocol.tables_reset, 0);
}

static const struct kind kinds[] = {
	{.upgrade = "h2c"},
	{.upgrade = "h2c", .post = true, .joined = true},
	{.upgrade = "H2C", .answers_first = true, .joined = true},
	{.upgrade = "h2", .answers_first = true, .post = true},
	{.upgrade = "h2c", .client_table = 16384},
};

static void with_all_kinds(void (*check)(void))
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (int side = 0; side < 2; side++) {
			serves = side;
			converse(&kinds[i]);
			check();
			forget_said();
		}
	}
	serves = false;
	said.told_count = 0;
}

static void check_whole(void)
{
	begin();
	feed_steps(0, said.step_count);
	check_all_right("whole", 0);
	end();
}

Test(h2c, whole)
{
	with_all_kinds(check_whole);
}

static void check_pieces(void)
{
	for (size_t piece = 1; piece < 12; piece++) {
		begin();
		for (size_t i = 0; i < said.step_count; i++) {
			const struct step *step = &said.steps[i];

			for (size_t at = 0; at < step->size; at += piece)
				feed_part(step, at,
					  at + piece < step->size ? at + piece : step->size, !at);
		}
		check_all_right("pieces of", piece);
		end();
	}
}

Test(h2c, in_pieces_of_any_size)
{
	with_all_kinds(check_pieces);
}

/* Into two records of one call, or into two calls. */
static void check_cuts(void)
{
	for (size_t cut_step = said.upgrade; cut_step < said.step_count; cut_step++) {
		for (size_t cut = 1; cut < said.steps[cut_step].size; cut++) {
			begin();
			feed_steps(0, cut_step);
			feed_part(&said.steps[cut_step], 0, cut, true);
			feed_part(&said.steps[cut_step], cut, said.steps[cut_step].size, cut % 2);
			feed_steps(cut_step + 1, said.step_count);
			check_all_right("cut", cut);
			end();
		}
	}
}

Test(h2c, a_cut_anywhere)
{
	with_all_kinds(check_cuts);
}

/* Loses a call from one byte on, or up to one. */
static void lose(size_t lost_step, size_t cut, bool head)
{
	const struct step *step = &said.steps[lost_step];

	begin();
	feed_steps(0, lost_step);
	if (!head)
		feed_part(step, 0, cut, true);
	source__lose(&source, direction_of(step), head ? cut : step->size - cut);
	if (head)
		feed_part(step, cut, step->size, false);
	feed_steps(lost_step + 1, said.step_count);
	end();
	/* Nothing is shown as complete but what is; the rest was checked as it came. */
	cr_assert_leq(seen.exchanges, said.told_count + 2);
	cr_assert_leq(seen.complete, said.told_count);
}

static void check_losses(void)
{
	for (size_t i = 0; i < said.step_count; i++) {
		for (size_t cut = 0; cut < said.steps[i].size; cut++) {
			lose(i, cut, false);
			lose(i, cut + 1, true);
		}
	}
}

Test(h2c, a_loss_anywhere_nothing_is_wrong)
{
	with_all_kinds(check_losses);
}

/* What was lost of the request does not keep the frames from being read. */
Test(h2c, a_request_of_which_something_is_lost)
{
	converse(&kinds[1]);
	for (size_t cut = said.steps[said.upgrade].size - 7; cut; cut--) {
		begin();
		feed_steps(0, said.upgrade);
		feed_part(&said.steps[said.upgrade], 0, cut, true);
		source__lose(&source, WIRE_WRITE, said.steps[said.upgrade].size - cut);
		feed_steps(said.upgrade + 1, said.step_count);
		cr_assert_eq(seen.exchanges, said.told_count, "cut %zu", cut);
		cr_assert_eq(seen.right, said.told_count - 1, "cut %zu: %zu", cut, seen.right);
		end();
	}
	forget_said();
	said.told_count = 0;
}

/* Nor does the loss of the 101: the client's preface tells. */
static void check_lost_switches(void)
{
	for (size_t cut = 0; cut < said.steps[said.answer].size; cut++) {
		begin();
		feed_steps(0, said.answer);
		feed_part(&said.steps[said.answer], 0, cut, true);
		source__lose(&source, direction_of(&said.steps[said.answer]),
			     said.steps[said.answer].size - cut);
		feed_steps(said.answer + 1, said.step_count);
		end();
		cr_assert_geq(seen.exchanges, said.told_count, "cut %zu", cut);
		cr_assert_eq(seen.tunnels, 0);
		/* What was lost of an answer changed the table. */
		if (!said.answers_first)
			cr_assert_eq(seen.right, said.told_count - 1, "cut %zu: %zu", cut,
				     seen.right);
	}
}

Test(h2c, a_lost_101)
{
	with_all_kinds(check_lost_switches);
}

/* Traced from any call on. */
static void check_joined(void)
{
	for (size_t from = 0; from < said.step_count; from++) {
		size_t before = from <= said.upgrade ? from / 2 : 0;

		begin();
		source.flags = 0;
		feed_steps(from, said.step_count);
		end();
		if (from == 0 || from == said.upgrade)
			cr_assert_eq(seen.right, said.told_count - before, "from %zu: %zu", from,
				     seen.right);
		/* Without the request all is there but that. */
		if (from == said.answer)
			cr_assert_eq(seen.right, said.told_count - 2, "from %zu: %zu, %s", from,
				     seen.right, seen.last);
	}
}

Test(h2c, joined_anywhere)
{
	with_all_kinds(check_joined);
}

Test(h2c, times_are_of_the_request_and_of_the_final_response)
{
	converse(&kinds[0]);
	begin();
	feed_steps(0, said.upgrade);
	source.time_ns = 5000000000;
	feed_steps(said.upgrade, said.upgrade + 1);
	source.time_ns = 6000000000;
	for (size_t i = said.answer; seen.exchanges < 2; i++) {
		source.time_ns = 6000000000 + (i - said.answer) * 1000000000;
		feed_steps(i, i + 1);
	}
	/* Entered half a millisecond before its record. */
	cr_expect_eq(seen.request_ns, 5000000000 - source.step_ns / 2);
	cr_expect_gt(seen.ttfb_ns, 2000000000);
	end();
	forget_said();
	said.told_count = 0;
}

/* ---- by hand ---- */

#define REQUEST(fields) "GET /a HTTP/1.1\r\nHost: h\r\n" fields "\r\n"
#define ASKS		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
#define SWITCHES	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"
#define PREFACE		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS	"\0\0\0\4\0\0\0\0\0"
#define ACK		"\0\0\0\4\1\0\0\0\0"
#define STATUS_200	"\0\0\1\1\5\0\0\0\1\x88"

static void call(enum wire_direction direction, const char *data, size_t size)
{
	source.flags |= WIRE_CALL_START;
	feed(source__data(&source, direction, bytes__of(data, size), (uint32_t)size));
}

#define WRITES(text) call(WIRE_WRITE, text, sizeof(text) - 1)
#define READS(text)  call(WIRE_READ, text, sizeof(text) - 1)

static void expect(const char *line)
{
	cr_expect_str_eq(seen.last, line, "got:\n%s\nnot:\n%s", seen.last, line);
	seen.last[0] = '\0';
}

Test(h2c, the_shortest)
{
	begin();
	WRITES(REQUEST(ASKS));
	READS(SWITCHES SETTINGS STATUS_200);
	expect("HTTP/2 h2cGET h /a 200 0/0\r\nHost: h\r\n" ASKS "||| ok");
	WRITES(PREFACE SETTINGS ACK);
	READS(ACK);
	cr_expect_eq(seen.tunnels, 0);
	end();
	cr_expect_eq(seen.exchanges, 1);
}

Test(h2c, without_an_answer)
{
	begin();
	WRITES(REQUEST(ASKS));
	READS(SWITCHES SETTINGS);
	WRITES(PREFACE SETTINGS ACK);
	end();
	expect("HTTP/1 h2cGET h /a 0 0/0\r\nHost: h\r\n" ASKS "||| no_response");
	cr_expect_eq(seen.exchanges, 1);
}

Test(h2c, ends_within_the_101)
{
	for (size_t size = 1; size < sizeof(SWITCHES) - 1; size++) {
		begin();
		WRITES(REQUEST(ASKS));
		call(WIRE_READ, SWITCHES, size);
		end();
		cr_expect_eq(seen.exchanges, 1);
		cr_expect_eq(seen.complete, 0);
	}
}

/* It is a tunnel then, as any other. */
Test(h2c, nobody_asked_for_it)
{
	begin();
	WRITES(REQUEST("Upgrade: websocket\r\n"));
	READS(SWITCHES SETTINGS STATUS_200);
	WRITES("0123456789");
	cr_expect_eq(seen.tunnels, 2);
	end();
	expect("HTTP/1 h2cGET h /a 101 10/19\r\nHost: h\r\nUpgrade: websocket\r\n|Upgrade: h2c\r\n"
	       "|| ok");
}

Test(h2c, a_101_to_no_request)
{
	begin();
	READS(SWITCHES SETTINGS STATUS_200);
	cr_expect_eq(seen.tunnels, 1);
	end();
	expect("HTTP/1 h2c   101 0/19\r\n|Upgrade: h2c\r\n|| desync");
}

Test(h2c, another_upgrade_was_chosen)
{
	begin();
	WRITES(REQUEST("Upgrade: h2c, websocket\r\n"));
	READS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi");
	cr_expect_eq(seen.tunnels, 1);
	end();
	expect("HTTP/1 websocketGET h /a 101 0/4\r\nHost: h\r\nUpgrade: h2c, websocket\r\n"
	       "|Upgrade: websocket\r\n|| ok");
}

Test(h2c, a_refusal)
{
	begin();
	WRITES(REQUEST(ASKS));
	READS("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok");
	expect("HTTP/1 -GET h /a 200 0/2\r\nHost: h\r\n" ASKS
	       "|Upgrade: h2c\r\nContent-Length: 2\r\n|| ok");
	WRITES(REQUEST(""));
	READS("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	expect("HTTP/1 -GET h /a 200 0/2\r\nHost: h\r\n|Content-Length: 2\r\n|| ok");
	end();
}

/* The rest of its body would be taken for frames. */
Test(h2c, a_request_that_has_not_ended)
{
	begin();
	WRITES("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n" ASKS "\r\n0123456789");
	READS(SWITCHES SETTINGS STATUS_200);
	WRITES("0123456789" PREFACE SETTINGS);
	end();
	cr_expect(strstr(seen.last, "POST h /a 101 53/19\r\n") && strstr(seen.last, " truncated"),
		  "%s", seen.last);
}

/* What waits of other requests has no answer. */
Test(h2c, requests_behind_it)
{
	begin();
	WRITES(REQUEST(ASKS) REQUEST(""));
	READS(SWITCHES);
	expect("HTTP/1 -GET h /a 0 0/0\r\nHost: h\r\n||| no_response");
	READS(SETTINGS STATUS_200);
	expect("HTTP/2 h2cGET h /a 200 0/0\r\nHost: h\r\n" ASKS "||| ok");
	end();
	cr_expect_eq(seen.exchanges, 2);
}

/* HTTP/2 cannot begin within one of those: it is a tunnel. */
Test(h2c, a_request_behind_it_that_has_begun)
{
	static const char *const parts[] = {"GE", "GET /b HTTP/1.1\r\n", "GET /b HTTP/1.1\r\nHost"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		begin();
		WRITES(REQUEST(ASKS));
		call(WIRE_WRITE, parts[i], strlen(parts[i]));
		READS(SWITCHES SETTINGS STATUS_200);
		cr_expect_eq(seen.tunnels, 1, "%zu", i);
		end();
		cr_expect(strstr(seen.last, "GET h /a 101 0/19\r\n"), "%s", seen.last);
	}
}

/* Fields that found no room may have asked. */
Test(h2c, a_request_with_too_many_fields)
{
	char head[HEADERS_MAX_BYTES + 1000] = "GET /a HTTP/1.1\r\nX-Long: ";
	size_t size = strlen(head);

	memset(head + size, 'x', HEADERS_MAX_BYTES);
	memcpy(head + size + HEADERS_MAX_BYTES, "\r\n" ASKS "\r\n", sizeof("\r\n" ASKS "\r\n"));
	begin();
	seen.quiet = true;
	call(WIRE_WRITE, head, strlen(head));
	READS(SWITCHES SETTINGS STATUS_200);
	cr_expect_eq(seen.exchanges, 1);
	cr_expect_eq(seen.reason, REASON_TRUNCATED);
	cr_expect_eq(seen.tunnels, 0);
	end();
}

/* Garbage for frames: whatever it is, no status or field comes of it. */
Test(h2c, garbage_behind_the_101)
{
	static const char *const garbage[] = {
		"Hello, world, this is not HTTP/2 at all",
		"HTTP/1.1 200 OK\r\n\r\n",
		PREFACE,
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"P",
	};

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		begin();
		WRITES(REQUEST(ASKS));
		READS(SWITCHES);
		call(WIRE_READ, garbage[i], strlen(garbage[i]));
		WRITES("no preface");
		for (int n = 0; n < 100; n++)
			call(i % 2 ? WIRE_READ : WIRE_WRITE, garbage[i], strlen(garbage[i]));
		end();
		cr_expect_eq(seen.exchanges, 1);
		cr_expect(strstr(seen.last, "HTTP/1 h2cGET h /a 0 0/0\r\n"), "%s", seen.last);
		cr_expect(strstr(seen.last, i == 4 ? " no_response" : " desync"), "%zu: %s", i,
			  seen.last);
	}
}

/* Joined late, nothing was seen of the request, and nothing comes of its response. */
Test(h2c, nothing_is_seen_on_either_side_of_the_101)
{
	begin();
	source.flags = 0;
	READS(SWITCHES);
	source.time_ns += 60000000000;
	READS("garbage");
	end();
	cr_expect_eq(seen.exchanges + seen.underway, 0);
}

/* A frame that may not be the first one, with a response that would be wrong. */
Test(h2c, settings_must_come_first)
{
	begin();
	WRITES(REQUEST(ASKS));
	READS(SWITCHES);
	READS(STATUS_200);
	WRITES(PREFACE);
	end();
	cr_expect(strstr(seen.last, " 0 0/0\r\n") && strstr(seen.last, " desync"), "%s", seen.last);
	begin();
	WRITES(REQUEST(ASKS));
	READS(SWITCHES ACK STATUS_200);
	end();
	cr_expect(strstr(seen.last, " 0 0/0\r\n") && strstr(seen.last, " desync"), "%s", seen.last);
}

/* HTTP2-Settings is in force at once: the server may change its table to what that allows. */
static uint64_t resets_with(const char *settings)
{
	uint64_t resets;
	char head[512];

	begin();
	snprintf(head, sizeof(head), REQUEST("Upgrade: h2c\r\n%s"), settings);
	call(WIRE_WRITE, head, strlen(head));
	/* To 65536 bytes, with the status. */
	READS(SWITCHES SETTINGS "\0\0\5\1\5\0\0\0\1\x3f\xe1\xff\3\x88");
	resets = flow__counts(flow)->protocol.tables_reset;
	cr_expect(strstr(seen.last, "GET h /a 200 0/0\r\n"), "%s", seen.last);
	end();
	return resets;
}

Test(h2c, the_table_size_of_http2_settings)
{
	/* The default; 65536; 4096, then 65536; nothing said. */
	cr_expect_eq(resets_with("HTTP2-Settings: AAMAAABk\r\n"), 1);
	cr_expect_eq(resets_with("HTTP2-Settings: AAEAAQAA\r\n"), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAEAABAAAAEAAQAA\r\n"), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAEAAQAAAAEAABAA\r\n"), 1);
	cr_expect_eq(resets_with("HTTP2-Settings: \r\n"), 1);
	cr_expect_eq(resets_with("HTTP2-Settings: AP--_-__\r\n"), 1);
	/* What cannot be read may have said anything. */
	cr_expect_eq(resets_with(""), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAMAAABk\r\nHTTP2-Settings: AAMAAABk\r\n"), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAMAAAB\r\n"), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAMAAAB=\r\n"), 0);
	cr_expect_eq(resets_with("HTTP2-Settings: AAM+AAB/\r\n"), 0);
}

/* A walk over frames that the probes begin behind the 101 is confirmed as any other. */
Test(h2c, a_walk_over_frames)
{
	static const char data[9 + 16384] = "\0\x40\0\0\0\0\0\0\1";
	uint64_t from;

	begin();
	WRITES(REQUEST(ASKS));
	READS(SWITCHES SETTINGS);
	WRITES(PREFACE SETTINGS ACK);
	from = WIRE_WALK_FROM(source.position[WIRE_READ]);
	source.walk_from[WIRE_READ] = from;
	READS("\0\0\1\1\4\0\0\0\1\x88");
	for (int i = 0; i < 5; i++)
		call(WIRE_READ, data, sizeof(data));
	cr_expect_eq(seen.directive.walk_from, from);
	cr_expect_eq(seen.directive.direction, WIRE_READ);
	cr_expect_eq(seen.directive.skip_until, 0);
	READS("\0\0\0\0\1\0\0\0\1");
	expect("HTTP/2 h2cGET h /a 200 0/81920\r\nHost: h\r\n" ASKS "||| ok");
	end();
}

/* A search for messages lets the probes show only what begins like one: that is over. */
Test(h2c, frames_need_not_begin_calls)
{
	begin();
	source.flags = 0;
	WRITES("\1the end of a body");
	cr_expect(seen.directive.watch);
	READS(SWITCHES SETTINGS STATUS_200);
	cr_expect_not(seen.directive.watch);
	cr_expect_eq(seen.directive.direction, WIRE_WRITE);
	expect("HTTP/2 h2c   200 0/0\r\n||| joined_late");
	end();
	begin();
	WRITES("POST /a HTTP/1.1\r\nContent-Length: 100\r\n" ASKS "\r\n");
	source__lose(&source, WIRE_WRITE, 200);
	WRITES("\1the end of another body");
	cr_expect(seen.directive.watch);
	READS(SWITCHES SETTINGS STATUS_200);
	cr_expect_not(seen.directive.watch);
	cr_expect_eq(seen.directive.direction, WIRE_WRITE);
	cr_expect(strstr(seen.last, "POST  /a 200 100/0") && strstr(seen.last, " lost"), "%s",
		  seen.last);
	end();
}

/* A request that was seen makes an entry. */
static void fail_each_allocation(bool late)
{
	bool fired = true;

	for (unsigned int nth = 0; fired; nth++) {
		begin();
		if (late)
			source.flags = 0;
		else
			WRITES(REQUEST(ASKS));
		failing_alloc__arm(nth);
		READS(SWITCHES SETTINGS STATUS_200);
		WRITES(PREFACE SETTINGS ACK "\0\0\3\1\5\0\0\0\3\x82\x84\x87");
		READS("\0\0\1\1\5\0\0\0\3\x88");
		fired = failing_alloc__disarm();
		if (fired)
			cr_expect_gt(flow__counts(flow)->out_of_memory, 0, "allocation %u", nth);
		end();
		if (!late)
			cr_expect_geq(seen.exchanges, 1, "allocation %u", nth);
		if (!fired) {
			cr_expect_eq(seen.exchanges, 2);
			cr_expect_eq(seen.complete, late ? 1 : 2);
		}
	}
}

Test(h2c, each_allocation_fails_in_turn)
{
	fail_each_allocation(false);
	fail_each_allocation(true);
}
