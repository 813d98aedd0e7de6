/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From records to log lines. One conversation, of which the true lines are known, is delivered as
 * probes could: in calls and pieces of any size, with bytes left out as the pipeline allowed, late
 * or at once, and with losses. What says that it is complete must be true, and no response may be
 * given to another's request (x-id tells). All is in one microsecond, so that lines are comparable.
 */
#include "pipeline.h"
#include "failing_alloc.h"
#include "json_check.h"
#include "records.h"
#include "sink/sink.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(array)	  (sizeof(array) / sizeof((array)[0]))
#define LINE_MAX_BYTES	  (64 * 1024)
#define TEXT_SIZE	  (256 * 1024)
#define NOW_NS		  1000000999
#define TIMES_IN_ONE_US	  990
#define LARGE_BODY_BYTES  300000
#define MEDIUM_BODY_BYTES 5000

/* What one side sends before the other goes on: messages, in one call each where nothing splits. */
struct message_text {
	enum wire_direction direction;
	const char *head;
	size_t body_bytes; /* behind the head */
};

static const struct message_text messages[] = {
	/* Pipelined. */
	{WIRE_WRITE, "GET /1 HTTP/1.1\r\nHost: h.example\r\nX-Id: 1\r\n\r\n", 0},
	{WIRE_WRITE, "HEAD /2 HTTP/1.1\r\nHost: h.example\r\nX-Id: 2\r\n\r\n", 0},
	{WIRE_WRITE, "GET /3 HTTP/1.1\r\nHost: h.example\r\nX-Id: 3\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\nX-Id: 1\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nX-Id: 2\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX-Id: 3\r\n\r\n",
	 MEDIUM_BODY_BYTES},
	/* One after the other. */
	{WIRE_WRITE, "GET /4?token=abc HTTP/1.1\r\nHost: h.example\r\nX-Id: 4\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX-Id: 4\r\n\r\n",
	 MEDIUM_BODY_BYTES},
	{WIRE_WRITE,
	 "POST /5 HTTP/1.1\r\nHost: h.example\r\nX-Id: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nX-Trailer: t\r\n\r\n",
	 0},
	{WIRE_READ,
	 "HTTP/1.1 100 Continue\r\n\r\n"
	 "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nX-Id: 5\r\n\r\n"
	 "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
	 0},
	{WIRE_WRITE, "HEAD /6 HTTP/1.1\r\nHost: h.example\r\nX-Id: 6\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 77777\r\nX-Id: 6\r\n\r\n", 0},
	{WIRE_WRITE,
	 "PUT /7 HTTP/1.1\r\nHost: h.example\r\nX-Id: 7\r\nContent-Length: 300000\r\n\r\n",
	 LARGE_BODY_BYTES},
	{WIRE_READ, "HTTP/1.1 204 No Content\r\nX-Id: 7\r\n\r\n", 0},
	{WIRE_WRITE, "GET /8 HTTP/1.1\r\nHost: h.example\r\nX-Id: 8\r\n\r\n", 0},
	{WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nX-Id: 8\r\n\r\n",
	 LARGE_BODY_BYTES},
	{WIRE_WRITE,
	 "DELETE /9 HTTP/1.1\r\nHost: h.example\r\nAuthorization: Bearer abc\r\nX-Id: 9\r\n\r\n",
	 0},
	{WIRE_READ, "HTTP/1.0 500 Error\r\nX-Id: 9\r\n\r\nbody to the end", 0},
};

#define ENTRIES		   9
#define MESSAGES_PIPELINED 6 /* the first */

/* How the probes deliver: xorshift, so that a round can be repeated from its seed. */
struct delivery {
	uint64_t random;
	bool split;
	size_t part_min_bytes;		/* 1 or more */
	unsigned int loss_percent[2];	/* by enum wire_direction */
	unsigned int directive_percent; /* of those that take effect */
	uint64_t socket_at_call;	/* the one by which the socket is found; 0: at once */
};

static uint64_t delivery__below(struct delivery *delivery, uint64_t limit)
{
	uint64_t x = delivery->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	delivery->random = x;
	return (x >> 16) % limit;
}

/* One traced connection, with what the probes remember of it. */
struct probe {
	struct source source;
	struct delivery delivery;
	uint64_t calls;
	struct directive directives[2];
	bool directed[2];
	struct directive coming[2];
	unsigned int coming_in[2]; /* calls until it takes effect; 0: none is coming */
	uint64_t captured_up_to[2];
	uint64_t skipped_bytes;
};

static struct pipeline *pipeline;
static struct probe probe;
static struct buf line;
static uint64_t directives, farewells;
/* The lines of the round, and those of the whole conversation in one piece. */
static char lines[TEXT_SIZE], truth[TEXT_SIZE];
static size_t lines_size;
static uint8_t *body;

static void on_entry(void *context, const struct entry *entry)
{
	static const struct sink_options options;

	buf__clear(&line);
	cr_assert_eq(sink_json.format(&options, entry, &line), 0);
	cr_assert_lt(lines_size + line.size, sizeof(lines));
	memcpy(lines + lines_size, line.data, line.size);
	lines_size += line.size;
	lines[lines_size] = '\0';
}

static void on_directive(void *context, const struct directive *directive)
{
	enum wire_direction direction = directive->direction;

	directives++;
	cr_assert_eq(directive->pid, probe.source.pid);
	cr_assert_eq(directive->connection.object, probe.source.connection.object);
	if (delivery__below(&probe.delivery, 100) >= probe.delivery.directive_percent)
		return;
	probe.coming[direction] = *directive;
	probe.coming_in[direction] = 1 + (unsigned int)delivery__below(&probe.delivery, 4);
}

static void on_forget(void *context, uint32_t pid, const struct wire_connection *connection)
{
	farewells++;
}

static const struct pipeline_callbacks callbacks = {
	.entry = on_entry,
	.directive = on_directive,
	.forget = on_forget,
};

static void begin(const struct delivery *delivery)
{
	static const struct policy policy = {.key = {1}};

	pipeline__free(pipeline);
	cr_assert_eq(pipeline__new(&policy, &callbacks, &pipeline), 0);
	probe = (struct probe){.source = source__of(7, 0x1000), .delivery = *delivery};
	if (delivery->socket_at_call)
		probe.source.tuple = (struct wire_tuple){0};
	directives = farewells = 0;
	lines_size = 0;
	lines[0] = '\0';
}

static void feed(struct bytes record)
{
	cr_assert_eq(pipeline__record(pipeline, record), 0);
	record__free(record);
}

static void probe__set_time(void)
{
	probe.source.time_ns = NOW_NS;
	probe.source.step_ns = 2 * (1 + probe.calls % TIMES_IN_ONE_US);
}

/* The socket is found at last: a record says so, or the next one has it. */
static void probe__find_socket(void)
{
	if (probe.source.tuple.source != WIRE_TUPLE_NONE)
		return;
	probe.source.tuple = source__of(0, 0).tuple;
	probe__set_time();
	if (delivery__below(&probe.delivery, 2))
		feed(source__socket(&probe.source));
}

/* A piece of a call, all captured. */
static void probe__piece(enum wire_direction direction, struct bytes bytes)
{
	struct source *source = &probe.source;

	if (delivery__below(&probe.delivery, 100) < probe.delivery.loss_percent[direction]) {
		source__lose(source, direction, bytes.size);
		return;
	}
	probe__set_time();
	feed(source__data(source, direction, bytes, (uint32_t)bytes.size));
}

static void probe__take_directive(enum wire_direction direction)
{
	if (!probe.coming_in[direction] || --probe.coming_in[direction])
		return;
	probe.directives[direction] = probe.coming[direction];
	probe.directed[direction] = true;
}

/* As may_start_message of probes/commit.bpf.c. */
static bool may_start_message(struct bytes bytes)
{
	for (size_t i = 0; i < (bytes.size < 4 ? 1 : 3); i++)
		if (bytes.data[i] < 'A' || bytes.data[i] > 'Z')
			return false;
	return true;
}

/* A part of so many bytes, any but a very small one. */
static size_t delivery__part(struct delivery *delivery, size_t size)
{
	size_t least = delivery->part_min_bytes;

	if (!delivery->split || size <= least)
		return size;
	return least + delivery__below(delivery, size - least + 1);
}

/* Reports a call, at least by one piece, though it be empty. */
static void probe__report(enum wire_direction direction, struct bytes bytes)
{
	do {
		size_t size = delivery__below(&probe.delivery, 3)
				      ? bytes.size
				      : delivery__part(&probe.delivery, bytes.size);

		probe__piece(direction, bytes__first(bytes, size));
		bytes = bytes__from(bytes, size);
	} while (bytes.size);
}

/* A TLS call moved bytes: as commit of probes/commit.bpf.c, but for the size of pieces. */
static void probe__call(enum wire_direction direction, struct bytes bytes)
{
	const struct directive *directive = &probe.directives[direction];
	uint64_t position = probe.source.position[direction], left_out = 0;

	if (++probe.calls == probe.delivery.socket_at_call)
		probe__find_socket();
	probe__take_directive(direction);
	if (probe.directed[direction]) {
		if (position + bytes.size < directive->skip_until) {
			left_out = bytes.size;
		} else if (position < directive->skip_until) {
			left_out = directive->skip_until - position;
		} else if (directive->watch &&
			   directive->position >= probe.captured_up_to[direction]) {
			if (may_start_message(bytes))
				probe.captured_up_to[direction] = position + bytes.size;
			else
				left_out = bytes.size;
		}
	}
	source__skip(&probe.source, direction, left_out);
	probe.skipped_bytes += left_out;
	if (left_out == bytes.size && position + bytes.size != directive->skip_until)
		return;
	probe__report(direction, bytes__from(bytes, left_out));
}

/* What the program hands to its TLS library at a time: little, or any part. */
static size_t call_size(size_t rest)
{
	size_t some = delivery__below(&probe.delivery, 4) ? rest : 64;

	return delivery__part(&probe.delivery, some < rest ? some : rest);
}

static void probe__send(enum wire_direction direction, struct bytes bytes)
{
	while (bytes.size) {
		size_t size = call_size(bytes.size);

		probe__call(direction, bytes__first(bytes, size));
		bytes = bytes__from(bytes, size);
	}
}

static void introduce(void)
{
	probe__set_time();
	feed(source__process(&probe.source, "/usr/bin/client"));
}

/* All messages from the `first` on. */
static void converse(size_t first)
{
	for (size_t i = first; i < COUNT(messages); i++) {
		const struct message_text *message = &messages[i];

		probe__send(message->direction, bytes__str(message->head));
		probe__send(message->direction, bytes__of(body, message->body_bytes));
	}
	probe__set_time();
	feed(source__close(&probe.source, WIRE_CLOSE_EOF));
	probe__find_socket();
	probe__set_time();
	feed(source__close(&probe.source, WIRE_CLOSE_FREE));
	probe__set_time();
	feed(source__end(&probe.source, 0, false));
}

static void setup(void)
{
	static const struct delivery whole = {.random = 1};

	body = malloc(LARGE_BODY_BYTES);
	cr_assert_not_null(body);
	/* Much of it is like a message at first sight. */
	for (size_t i = 0; i < LARGE_BODY_BYTES; i++)
		body[i] = (uint8_t) "GET it? HTTP/1 is no body\r\n\r\n"[i % 30];
	/* Its memory is there before any allocation is made to fail. */
	buf__init(&line, LINE_MAX_BYTES);
	cr_assert_eq(buf__append(&line, bytes__of(body, LINE_MAX_BYTES)), 0);
	begin(&whole);
	introduce();
	converse(0);
	memcpy(truth, lines, sizeof(truth));
}

static void teardown(void)
{
	pipeline__free(pipeline);
	buf__free(&line);
	free(body);
}

TestSuite(pipeline, .init = setup, .fini = teardown);

/* The next line of a text, without its end; false at the end. */
static bool next_line(const char **text, struct bytes *ret_line)
{
	size_t size = strcspn(*text, "\n");

	if (!(*text)[size])
		return false;
	*ret_line = bytes__of(*text, size);
	*text += size + 1;
	return true;
}

static bool line_holds(struct bytes of, const char *text)
{
	return memmem(of.data, of.size, text, strlen(text));
}

/* Which of the true lines it is; ENTRIES: none. */
static size_t true_index(struct bytes wanted)
{
	const char *text = truth;
	struct bytes each;
	size_t i = 0;

	while (next_line(&text, &each) && !bytes__equal(each, wanted))
		i++;
	return i;
}

/* Both messages' X-Id, where both are there, are the same. */
static bool pairs_match(struct bytes of)
{
	static const char member[] = "\"x-id\":[\"";
	const uint8_t *first = memmem(of.data, of.size, member, strlen(member));
	struct bytes rest;
	const uint8_t *second;

	if (!first)
		return true;
	rest = bytes__from(of, (size_t)(first - of.data) + strlen(member));
	second = memmem(rest.data, rest.size, member, strlen(member));
	return !second || *rest.data == second[strlen(member)];
}

/* Checks the round's lines; how many are complete. */
static size_t check_lines(const char *round)
{
	bool seen[ENTRIES] = {0};
	const char *text = lines;
	struct bytes each;
	size_t complete = 0;

	while (next_line(&text, &each)) {
		size_t i = true_index(each);

		cr_assert(pairs_match(each), "%s: %s", round, lines);
		if (!line_holds(each, "\"complete\":true"))
			continue;
		cr_assert_lt(i, ENTRIES, "%s: not true: %.*s", round, (int)each.size,
			     (const char *)each.data);
		cr_assert_not(seen[i], "%s: twice: %s", round, lines);
		seen[i] = true;
		complete++;
	}
	return complete;
}

Test(pipeline, the_whole_conversation)
{
	const char *text = truth;
	struct bytes each;
	size_t count = 0;

	while (next_line(&text, &each)) {
		char path[8];

		count++;
		snprintf(path, sizeof(path), "\"/%zu\"", count);
		cr_expect(json_check__valid(each));
		cr_expect(line_holds(each, path), "%s: %s", path, truth);
		cr_expect(line_holds(each, "\"complete\":true"), "%s", truth);
		cr_expect(line_holds(each, "\"side\":\"client\""));
		cr_expect(line_holds(each, "\"port\":8443"));
		cr_expect(line_holds(each, "/usr/bin/client"));
		cr_expect_not(line_holds(each, "abc\""), "a secret: %s", truth);
	}
	cr_expect_eq(count, ENTRIES);
	cr_expect_eq(check_lines("whole"), ENTRIES);
	/* The two large bodies, the one that ends with the stream, and no other. */
	cr_expect_eq(directives, 3);
	cr_expect_eq(farewells, 1);
	cr_expect_eq(pipeline__totals(pipeline)->events_lost, 0);
	cr_expect_eq(pipeline__flow_counts(pipeline)->connections, 1);
}

Test(pipeline, any_delivery_without_loss)
{
	uint64_t skipped_bytes = 0;
	char round[32];

	for (uint64_t seed = 1; seed <= 2000; seed++) {
		begin(&(struct delivery){.random = seed * 0x9e3779b97f4a7c15,
					 .split = true,
					 .part_min_bytes = 1,
					 .directive_percent = 70});
		introduce();
		converse(0);
		snprintf(round, sizeof(round), "seed %d", (int)seed);
		cr_assert_str_eq(lines, truth, "%s: %s", round, lines);
		skipped_bytes += probe.skipped_bytes;
	}
	cr_expect_gt(skipped_bytes, 2000 * LARGE_BODY_BYTES / 2);
}

Test(pipeline, any_delivery_that_finds_the_socket_late)
{
	char round[32];

	for (uint64_t seed = 1; seed <= 1000; seed++) {
		begin(&(struct delivery){.random = seed * 0x9e3779b97f4a7c15,
					 .split = seed % 2,
					 .part_min_bytes = 1,
					 .directive_percent = 70,
					 .socket_at_call = 1 + seed % 100});
		introduce();
		converse(0);
		snprintf(round, sizeof(round), "seed %d", (int)seed);
		cr_assert_str_eq(lines, truth, "%s: %s", round, lines);
	}
}

Test(pipeline, time_lets_an_entry_go)
{
	struct source source = source__of(9, 0x2000);

	cr_expect_eq(pipeline__waits_until(pipeline), 0);
	begin(&(struct delivery){.random = 1, .socket_at_call = UINT64_MAX});
	for (size_t i = 0; i <= MESSAGES_PIPELINED; i++)
		probe__send(messages[i].direction, bytes__str(messages[i].head));
	cr_expect_str_eq(lines, "");
	source.time_ns = pipeline__waits_until(pipeline);
	cr_expect_eq(source.time_ns, NOW_NS + 100000000);
	source.time_ns--;
	source.step_ns = 1;
	feed(source__tick(&source));
	cr_expect_str_eq(lines, "");
	feed(source__tick(&source));
	cr_expect(strstr(lines, "\"/2\""));
	cr_expect(strstr(lines, "\"tuple\":\"none\""));
	cr_expect_eq(pipeline__waits_until(pipeline), 0);
}

/* One round of the rounds with losses; how many lines are complete. */
static size_t lossy_round(uint64_t seed)
{
	unsigned int percent = (unsigned int)(1 + seed % 40);
	struct delivery delivery = {.random = seed * 0x9e3779b97f4a7c15,
				    .split = seed % 3,
				    .part_min_bytes = 16, /* "OST /" would be a request */
				    .directive_percent = 70};
	char round[32];

	delivery.loss_percent[seed / 2 % 2] = percent;
	begin(&delivery);
	introduce();
	/* A client that pipelines does so from the beginning, or never. */
	converse(seed % 2 ? MESSAGES_PIPELINED : 0);
	snprintf(round, sizeof(round), "seed %llu", (unsigned long long)seed);
	return check_lines(round);
}

/*
 * In one direction a round: of requests and responses lost together nobody can tell which of those
 * that are left belong together.
 */
Test(pipeline, any_delivery_with_losses)
{
	size_t complete = 0, rounds = 10000;

	for (uint64_t seed = 1; seed <= rounds; seed++)
		complete += lossy_round(seed);
	/* Losses cost what they touch, and not everything. */
	cr_expect_gt(complete, rounds * ENTRIES / 10, "%zu", complete);
}

Test(pipeline, each_allocation_fails_in_turn)
{
	bool fired = true;

	for (unsigned int nth = 0; fired; nth++) {
		uint64_t counted;
		char round[32];

		begin(&(struct delivery){.random = 1 + nth, .split = nth % 2, .part_min_bytes = 1});
		introduce();
		failing_alloc__arm(nth);
		converse(0);
		fired = failing_alloc__disarm();
		snprintf(round, sizeof(round), "allocation %u", nth);
		check_lines(round);
		counted = pipeline__totals(pipeline)->events_lost +
			  pipeline__flow_counts(pipeline)->out_of_memory;
		if (strcmp(lines, truth))
			cr_expect_gt(counted, 0, "%s: %s", round, lines);
		cr_assert(fired || !counted);
	}
}

Test(pipeline, no_memory_for_itself)
{
	static const struct policy policy;
	struct pipeline *none = NULL;
	int err = -ENOMEM;

	for (unsigned int nth = 0; err; nth++) {
		failing_alloc__arm(nth);
		err = pipeline__new(&policy, &callbacks, &none);
		failing_alloc__disarm();
		if (!err)
			cr_expect_gt(nth, 2);
		else
			cr_expect_eq(err, -ENOMEM);
		cr_expect_eq(!none, !!err);
	}
	pipeline__free(none);
	pipeline__free(NULL);
}

Test(pipeline, refused_records_are_counted)
{
	struct source source = source__of(9, 0x2000);
	struct bytes record = source__exit(&source);
	struct bytes cut = record__cut(record, record.size - 1);

	cr_expect_eq(pipeline__record(pipeline, cut), -EINVAL);
	cr_expect_eq(pipeline__record(pipeline, bytes__of(NULL, 0)), -EINVAL);
	cr_expect_eq(pipeline__record(pipeline, record), 0);
	cr_expect_eq(pipeline__totals(pipeline)->bad_records, 2);
	record__free(cut);
	record__free(record);
}

Test(pipeline, the_end_tells_what_was_lost)
{
	feed(source__end(&probe.source, 42, false));
	cr_expect_eq(pipeline__totals(pipeline)->events_lost, 42);
}

Test(pipeline, enough)
{
	begin(&(struct delivery){.random = 1});
	probe__send(WIRE_WRITE, bytes__str(messages[0].head));
	feed(source__end(&probe.source, 0, true));
	cr_expect_str_eq(lines, "");
}

Test(pipeline, replay_has_nobody_to_direct)
{
	static const struct policy policy = {.key = {1}};
	static const struct pipeline_callbacks alone = {.entry = on_entry};

	begin(&(struct delivery){.random = 1});
	pipeline__free(pipeline);
	cr_assert_eq(pipeline__new(&policy, &alone, &pipeline), 0);
	introduce();
	converse(0);
	cr_expect_str_eq(lines, truth);
	cr_expect_eq(directives, 0);
}
