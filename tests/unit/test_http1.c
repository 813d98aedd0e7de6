/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP/1 parser on a corpus of conversations. Each is fed whole and must give the exchanges
 * written beside it; split in every way it must give the same; and cut, joined late, with losses
 * and without memory it must never pair a request with another's response (x-id tells).
 */
#include "failing_alloc.h"
#include "proto/parser.h"
#include "reasons.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The input is not for the failing allocator. */
void *__real_malloc(size_t size);

#define STEP_MAX  16
#define STEP_NS	  1000
#define FIRST_NS  1
#define LAST_NS	  9
#define TEXT_SIZE 8192

/* One TLS call ('w' or 'r') or an end: 'W', 'R' of a direction, 'C' closed, 'T' trace. */
struct step {
	char what;
	const char *text;
};

enum {
	ANY = 0,
	/* No observer can tell when it joins late, or when a whole request is lost. */
	ONLY_IN_ORDER = 1,
};

struct conversation {
	const char *name;
	struct step steps[STEP_MAX];
	const char *expected;
	int flags;
};

/* What came out: "method authority path version x-id fields body first-last" and so on. */
struct observed {
	char text[TEXT_SIZE];
	size_t size;
	size_t count;
	size_t paired;
	size_t mispaired;
	uint64_t lost_bytes;
};

struct run {
	struct connection connection;
	struct pairing *pairing;
	struct parser *parser;
	struct observed *out;
	struct passage when;
	uint64_t pending[2]; /* gaps to be told with the next bytes */
	bool late_gaps;
	int err;
};

static void print(struct observed *out, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void print(struct observed *out, const char *format, ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(out->text + out->size, sizeof(out->text) - out->size, format, args);
	va_end(args);
	if (size > 0 && out->size + (size_t)size < sizeof(out->text))
		out->size += (size_t)size;
}

static struct bytes message_id(const struct message *message)
{
	size_t i = headers__find(&message->headers, "x-id", 0);

	if (!message->begun || i == message->headers.count)
		return bytes__of(NULL, 0);
	return headers__value(&message->headers, i);
}

static void print_bytes(struct observed *out, struct bytes bytes)
{
	print(out, "%.*s", (int)bytes.size, bytes.size ? (const char *)bytes.data : "");
}

static void print_message(struct observed *out, const struct message *message)
{
	struct bytes id = message_id(message);

	print(out, " #");
	print_bytes(out, id);
	print(out, " h%zu t%zu b%llu %llu-%llu%s%s", message->headers.count,
	      message->trailers.count, (unsigned long long)message->body_bytes,
	      (unsigned long long)message->first_ns / STEP_NS,
	      (unsigned long long)message->last_ns / STEP_NS, message->ended ? "" : " cut",
	      message->first_ns % STEP_NS == FIRST_NS && message->last_ns % STEP_NS == LAST_NS
		      ? ""
		      : " BADTIME");
}

static bool on_done(void *context, struct exchange *exchange)
{
	struct observed *out = context;
	struct bytes request = message_id(&exchange->request);
	struct bytes response = message_id(&exchange->response);

	out->count++;
	out->lost_bytes += exchange->request.lost_bytes + exchange->response.lost_bytes;
	if (exchange->request.begun && exchange->response.begun)
		out->paired++;
	if (request.size && response.size && !bytes__equal(request, response))
		out->mispaired++;
	if (exchange->request.begun) {
		print_bytes(out, buf__view(&exchange->method));
		print(out, " ");
		if (exchange->scheme.size) {
			print_bytes(out, buf__view(&exchange->scheme));
			print(out, "://");
		}
		print_bytes(out, buf__view(&exchange->authority));
		print(out, " ");
		print_bytes(out, buf__view(&exchange->path));
		if (exchange->has_query)
			print(out, "?");
		print_bytes(out, buf__view(&exchange->query));
		print_message(out, &exchange->request);
	} else {
		print(out, "-");
	}
	print(out, " | ");
	if (exchange->response.begun) {
		print(out, "%u", exchange->status);
		print_message(out, &exchange->response);
	} else {
		print(out, "-");
	}
	print(out, " | %u %s%s%s\n", exchange->version, reasons[exchange->reason],
	      exchange->error ? " " : "", exchange->error ? exchange->error : "");
	return false;
}

static void run__begin(struct run *run, struct observed *out, bool from_start)
{
	*run = (struct run){.out = out};
	memset(out, 0, sizeof(*out));
	cr_assert_eq(pairing__new(&run->connection, on_done, out, &run->pairing), 0);
	cr_assert_eq(http1_ops.open(run->pairing, &run->connection, from_start, &run->parser), 0);
}

static void run__end(struct run *run)
{
	http1_ops.end(run->parser, WIRE_READ, END_CLOSED, run->when.last_ns);
	http1_ops.free(run->parser);
	pairing__free(run->pairing);
}

static void run__flush_gaps(struct run *run)
{
	for (int i = 0; i < 2; i++) {
		if (run->pending[i])
			http1_ops.gap(run->parser, i, run->pending[i], GAP_LOST, &run->when);
		run->pending[i] = 0;
	}
}

static enum wire_direction step__direction(const struct step *step)
{
	return step->what == 'w' || step->what == 'W' ? WIRE_WRITE : WIRE_READ;
}

static bool step__is_data(const struct step *step)
{
	return step->what == 'w' || step->what == 'r';
}

/* Bytes in memory of exactly their size, so that a sanitizer sees a read beyond them. */
static void run__data(struct run *run, const struct step *step, size_t from, size_t size,
		      bool call_start)
{
	enum wire_direction direction = step__direction(step);
	uint8_t *copy;
	int err;

	if (!size)
		return;
	if (run->pending[direction])
		http1_ops.gap(run->parser, direction, run->pending[direction], GAP_LOST,
			      &run->when);
	run->pending[direction] = 0;
	copy = __real_malloc(size);
	memcpy(copy, step->text + from, size);
	err = http1_ops.data(run->parser, direction, bytes__of(copy, size), call_start, &run->when);
	if (err)
		run->err = err;
	free(copy);
}

static void run__lost(struct run *run, const struct step *step, size_t size)
{
	if (run->late_gaps)
		run->pending[step__direction(step)] += size;
	else if (size)
		http1_ops.gap(run->parser, step__direction(step), size, GAP_LOST, &run->when);
}

static void run__at(struct run *run, const struct conversation *conversation,
		    const struct step *step)
{
	uint64_t base = (uint64_t)(step - conversation->steps) * STEP_NS;

	run->when = (struct passage){.first_ns = base + FIRST_NS, .last_ns = base + LAST_NS};
}

static void run__end_step(struct run *run, const struct step *step)
{
	enum end_kind kind = step->what == 'C'	 ? END_CLOSED
			     : step->what == 'T' ? END_TRACE
						 : END_STREAM;

	run__flush_gaps(run);
	http1_ops.end(run->parser, step__direction(step), kind, run->when.last_ns);
}

/* A step as it is; `run__at` has set the time. */
static void run__step(struct run *run, const struct step *step)
{
	if (step__is_data(step))
		run__data(run, step, 0, strlen(step->text), true);
	else
		run__end_step(run, step);
}

#define FOR_EACH_STEP(each, conversation)                                                          \
	for (const struct step *each = (conversation)->steps; each->what; each++)

static const struct conversation corpus[] = {
#include "http1_corpus.inc"
};

#define CORPUS_COUNT (sizeof(corpus) / sizeof(corpus[0]))

static void expect_same(const struct conversation *conversation, const struct observed *out,
			const char *how, size_t step, size_t at)
{
	cr_assert_str_eq(out->text, conversation->expected, "%s, %s, step %zu at %zu:\n%s",
			 conversation->name, how, step, at, out->text);
}

static void expect_sane(const struct conversation *conversation, const struct observed *out,
			const char *how, size_t step, size_t at)
{
	cr_assert_eq(out->mispaired, 0, "%s, %s, step %zu at %zu:\n%s", conversation->name, how,
		     step, at, out->text);
	cr_assert_null(strstr(out->text, "BADTIME"), "%s, %s, step %zu at %zu:\n%s",
		       conversation->name, how, step, at, out->text);
}

Test(http1, whole)
{
	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		struct observed out;
		struct run run;

		run__begin(&run, &out, true);
		FOR_EACH_STEP(step, &corpus[i])
		{
			run__at(&run, &corpus[i], step);
			run__step(&run, step);
		}
		run__end(&run);
		expect_same(&corpus[i], &out, "whole", 0, 0);
		expect_sane(&corpus[i], &out, "whole", 0, 0);
	}
}

/* `calls`: every byte is a TLS call of its own, as some clients read. */
static void feed_bytewise(const struct conversation *conversation, bool calls)
{
	struct observed out;
	struct run run;

	run__begin(&run, &out, true);
	FOR_EACH_STEP(step, conversation)
	{
		run__at(&run, conversation, step);
		if (!step__is_data(step)) {
			run__step(&run, step);
			continue;
		}
		for (size_t at = 0; at < strlen(step->text); at++)
			run__data(&run, step, at, 1, calls || !at);
	}
	run__end(&run);
	expect_same(conversation, &out, calls ? "a call a byte" : "byte by byte", 0, 0);
}

Test(http1, byte_by_byte)
{
	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		feed_bytewise(&corpus[i], false);
		feed_bytewise(&corpus[i], true);
	}
}

/* What is done to one step at one place; all others are fed whole. */
typedef void hurt_fn(struct run *run, const struct step *step, size_t at);

static void hurt_split(struct run *run, const struct step *step, size_t at)
{
	run__data(run, step, 0, at, true);
	run__data(run, step, at, strlen(step->text) - at, !at);
}

static void hurt_lose_one(struct run *run, const struct step *step, size_t at)
{
	run__data(run, step, 0, at, true);
	run__lost(run, step, 1);
	run__data(run, step, at + 1, strlen(step->text) - at - 1, false);
}

static void hurt_lose_rest(struct run *run, const struct step *step, size_t at)
{
	run__data(run, step, 0, at, true);
	run__lost(run, step, strlen(step->text) - at);
}

static void feed_hurt(const struct conversation *conversation, hurt_fn *hurt, bool late_gaps,
		      const struct step *where, size_t at, struct observed *out)
{
	struct run run;

	run__begin(&run, out, true);
	run.late_gaps = late_gaps;
	FOR_EACH_STEP(step, conversation)
	{
		run__at(&run, conversation, step);
		if (step == where)
			hurt(&run, step, at);
		else
			run__step(&run, step);
	}
	run__flush_gaps(&run);
	run__end(&run);
}

#define FOR_EACH_PLACE(each, at, conversation)                                                     \
	FOR_EACH_STEP(each, conversation)                                                          \
	for (size_t at = 0; step__is_data(each) && at < strlen(each->text); at++)

Test(http1, split_in_two)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++)
		FOR_EACH_PLACE(step, at, &corpus[i])
		{
			feed_hurt(&corpus[i], hurt_split, false, step, at, &out);
			expect_same(&corpus[i], &out, "split", (size_t)(step - corpus[i].steps),
				    at);
		}
}

static void check_loss(hurt_fn *hurt, const char *how)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		if (corpus[i].flags & ONLY_IN_ORDER)
			continue;
		FOR_EACH_PLACE(step, at, &corpus[i])
		for (int late = 0; late < 2; late++) {
			feed_hurt(&corpus[i], hurt, late, step, at, &out);
			expect_sane(&corpus[i], &out, how, (size_t)(step - corpus[i].steps), at);
		}
	}
}

Test(http1, one_byte_lost)
{
	check_loss(hurt_lose_one, "lost byte");
}

Test(http1, rest_of_call_lost)
{
	check_loss(hurt_lose_rest, "lost rest");
}

Test(http1, two_losses)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		if (corpus[i].flags & ONLY_IN_ORDER)
			continue;
		FOR_EACH_STEP(first, &corpus[i])
		FOR_EACH_STEP(second, &corpus[i])
		{
			for (int late = 0; late < 2; late++) {
				struct run run;

				run__begin(&run, &out, true);
				run.late_gaps = late;
				FOR_EACH_STEP(step, &corpus[i])
				{
					run__at(&run, &corpus[i], step);
					if ((step == first || step == second) &&
					    step__is_data(step))
						hurt_lose_rest(&run, step, 0);
					else
						run__step(&run, step);
				}
				run__flush_gaps(&run);
				run__end(&run);
				expect_sane(&corpus[i], &out, "two calls lost",
					    (size_t)(first - corpus[i].steps),
					    (size_t)(second - corpus[i].steps));
			}
		}
	}
}

static void feed_cut(const struct conversation *conversation, const struct step *where, size_t at,
		     enum end_kind kind, struct observed *out)
{
	struct run run;

	run__begin(&run, out, true);
	FOR_EACH_STEP(step, conversation)
	{
		run__at(&run, conversation, step);
		if (step == where) {
			run__data(&run, step, 0, at, true);
			http1_ops.end(run.parser, WIRE_READ, kind, run.when.last_ns);
			break;
		}
		run__step(&run, step);
	}
	cr_assert_null(pairing__oldest(run.pairing));
	run__end(&run);
}

Test(http1, cut_anywhere)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++)
		FOR_EACH_PLACE(step, at, &corpus[i])
		{
			size_t number = (size_t)(step - corpus[i].steps);

			feed_cut(&corpus[i], step, at, END_CLOSED, &out);
			expect_sane(&corpus[i], &out, "cut", number, at);
			feed_cut(&corpus[i], step, at, END_REUSED, &out);
			expect_sane(&corpus[i], &out, "reused", number, at);
			feed_cut(&corpus[i], step, at, END_TRACE, &out);
			expect_sane(&corpus[i], &out, "trace ended", number, at);
		}
}

Test(http1, joined_anywhere)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		if (corpus[i].flags & ONLY_IN_ORDER)
			continue;
		FOR_EACH_PLACE(where, at, &corpus[i])
		{
			struct run run;

			run__begin(&run, &out, false);
			FOR_EACH_STEP(step, &corpus[i])
			{
				run__at(&run, &corpus[i], step);
				if (step == where)
					run__data(&run, step, at, strlen(step->text) - at, !at);
				else if (step > where)
					run__step(&run, step);
			}
			run__end(&run);
			expect_sane(&corpus[i], &out, "joined late",
				    (size_t)(where - corpus[i].steps), at);
		}
	}
}

/* What skippable() allows to leave out, left out. */
Test(http1, skipping)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		struct run run;

		run__begin(&run, &out, true);
		FOR_EACH_STEP(step, &corpus[i])
		{
			enum wire_direction direction = step__direction(step);
			size_t at = 0, size = step__is_data(step) ? strlen(step->text) : 0;

			run__at(&run, &corpus[i], step);
			if (!size)
				run__step(&run, step);
			while (at < size) {
				uint64_t skip = http1_ops.skippable(run.parser, direction);

				if (skip > size - at)
					skip = size - at;
				if (skip)
					http1_ops.gap(run.parser, direction, skip, GAP_SKIPPED,
						      &run.when);
				else
					run__data(&run, step, at, 1, !at);
				at += skip ? skip : 1;
			}
		}
		run__end(&run);
		expect_same(&corpus[i], &out, "skipping", 0, 0);
	}
}

Test(http1, no_memory)
{
	struct observed out;

	for (size_t i = 0; i < CORPUS_COUNT; i++) {
		bool failed = true;

		for (unsigned int nth = 0; failed; nth++) {
			struct run run;

			run__begin(&run, &out, true);
			failing_alloc__arm(nth);
			FOR_EACH_STEP(step, &corpus[i])
			{
				run__at(&run, &corpus[i], step);
				run__step(&run, step);
			}
			failed = failing_alloc__disarm();
			run__end(&run);
			cr_assert_eq(run.err, failed ? -ENOMEM : 0, "%s, allocation %u",
				     corpus[i].name, nth);
			expect_sane(&corpus[i], &out, "no memory", nth, 0);
		}
		expect_same(&corpus[i], &out, "enough memory", 0, 0);
	}
}

Test(http1, no_memory_to_begin)
{
	struct connection connection = {0};
	struct parser *parser = NULL;

	failing_alloc__arm(0);
	cr_assert_eq(http1_ops.open(NULL, &connection, true, &parser), -ENOMEM);
	failing_alloc__disarm();
	cr_assert_null(parser);
	http1_ops.free(NULL);
}

/* Hand-made scenes. */

static void say(struct run *run, char what, const char *text)
{
	struct step step = {.what = what, .text = text};

	run->when.first_ns += STEP_NS;
	run->when.last_ns = run->when.first_ns - FIRST_NS + LAST_NS;
	run__step(run, &step);
}

static void lose(struct run *run, enum wire_direction direction, uint64_t size)
{
	http1_ops.gap(run->parser, direction, size, GAP_LOST, &run->when);
}

#define GET(id) "GET /" id " HTTP/1.1\r\nHost: h\r\nX-Id: " id "\r\n\r\n"
#define OK(id)	"HTTP/1.1 200 OK\r\nX-Id: " id "\r\nContent-Length: 2\r\n\r\nhi"

static struct observed scene_out;
static struct run scene;

static void begin_scene(void)
{
	run__begin(&scene, &scene_out, true);
	scene.when.first_ns = FIRST_NS;
}

static void begin_late_scene(void)
{
	run__begin(&scene, &scene_out, false);
	scene.when.first_ns = FIRST_NS;
}

static void end_scene(void)
{
	run__end(&scene);
}

#define expect_out(expected) cr_assert_str_eq(scene_out.text, expected)

Test(http1, lost_response_then_right_again, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	say(&scene, 'w', GET("2"));
	/* The loss is told only with the next bytes. */
	say(&scene, 'w', GET("3"));
	lose(&scene, WIRE_READ, strlen(OK("2")));
	say(&scene, 'r', OK("3"));
	say(&scene, 'w', GET("4"));
	say(&scene, 'r', OK("4"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b2 2-2 | 11 ok\n"
		   "GET h /2 #2 h2 t0 b0 3-3 | - | 11 lost\n"
		   "GET h /3 #3 h2 t0 b0 4-4 | 200 #3 h2 t0 b2 5-5 | 11 ok\n"
		   "GET h /4 #4 h2 t0 b0 6-6 | 200 #4 h2 t0 b2 7-7 | 11 ok\n");
	cr_assert_eq(scene_out.lost_bytes, strlen(OK("2")));
}

Test(http1, lost_request_then_right_again, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	lose(&scene, WIRE_WRITE, strlen(GET("2")));
	say(&scene, 'r', OK("2"));
	say(&scene, 'w', GET("3"));
	say(&scene, 'r', OK("3"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b2 2-2 | 11 ok\n"
		   "- | 200 #2 h2 t0 b2 3-3 | 11 lost\n"
		   "GET h /3 #3 h2 t0 b0 4-4 | 200 #3 h2 t0 b2 5-5 | 11 ok\n");
	cr_assert_eq(scene_out.lost_bytes, strlen(GET("2")));
}

Test(http1, lost_both_ways_then_right_again, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	say(&scene, 'w', GET("2"));
	say(&scene, 'r', OK("2"));
	say(&scene, 'w', GET("3"));
	lose(&scene, WIRE_WRITE, strlen(GET("4")));
	say(&scene, 'w', GET("5"));
	lose(&scene, WIRE_READ, 2 * strlen(OK("3")));
	say(&scene, 'r', OK("5"));
	say(&scene, 'w', GET("6"));
	say(&scene, 'r', OK("6"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b2 2-2 | 11 ok\n"
		   "GET h /2 #2 h2 t0 b0 3-3 | 200 #2 h2 t0 b2 4-4 | 11 ok\n"
		   "GET h /3 #3 h2 t0 b0 5-5 | - | 11 lost\n"
		   "GET h /5 #5 h2 t0 b0 6-6 | 200 #5 h2 t0 b2 7-7 | 11 ok\n"
		   "GET h /6 #6 h2 t0 b0 8-8 | 200 #6 h2 t0 b2 9-9 | 11 ok\n");
}

Test(http1, lost_body_bytes_are_counted, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 100000\r\n\r\nab");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), 99998);
	lose(&scene, WIRE_READ, 99998);
	say(&scene, 'w', GET("2"));
	say(&scene, 'r', OK("2"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b100000 2-2 | 11 lost\n"
		   "GET h /2 #2 h2 t0 b0 3-3 | 200 #2 h2 t0 b2 4-4 | 11 ok\n");
	cr_assert_eq(scene_out.lost_bytes, 99998);
}

Test(http1, loss_over_the_body_end, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 10\r\n\r\nab");
	lose(&scene, WIRE_READ, 40);
	cr_assert(http1_ops.searching(scene.parser, WIRE_READ));
	say(&scene, 'w', GET("2"));
	say(&scene, 'r', OK("2"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b10 2-2 | 11 lost\n"
		   "GET h /2 #2 h2 t0 b0 3-3 | 200 #2 h2 t0 b2 4-4 | 11 ok\n");
}

Test(http1, pipelined_loss_ends_pairing, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1") GET("2") GET("3"));
	lose(&scene, WIRE_READ, 10);
	say(&scene, 'r', OK("2"));
	say(&scene, 'r', OK("3"));
	say(&scene, 'w', GET("4"));
	say(&scene, 'r', OK("4"));
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | - | 11 lost\n"
		   "GET h /2 #2 h2 t0 b0 1-1 | - | 11 lost\n"
		   "GET h /3 #3 h2 t0 b0 1-1 | - | 11 lost\n"
		   "- | 200 #2 h2 t0 b2 2-2 | 11 lost\n"
		   "- | 200 #3 h2 t0 b2 3-3 | 11 lost\n"
		   "GET h /4 #4 h2 t0 b0 4-4 | - | 11 lost\n"
		   "- | 200 #4 h2 t0 b2 5-5 | 11 lost\n");
}

Test(http1, joined_in_a_body, .init = begin_late_scene, .fini = end_scene)
{
	cr_assert(http1_ops.searching(scene.parser, WIRE_READ));
	cr_assert(http1_ops.searching(scene.parser, WIRE_WRITE));
	say(&scene, 'r', "rest of a body HTTP/1.1 200 OK\r\n\r\n");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), 0);
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	say(&scene, 'w', GET("2"));
	say(&scene, 'r', OK("2"));
	expect_out("GET h /1 #1 h2 t0 b0 2-2 | 200 #1 h2 t0 b2 3-3 | 11 ok\n"
		   "GET h /2 #2 h2 t0 b0 4-4 | 200 #2 h2 t0 b2 5-5 | 11 ok\n");
}

Test(http1, joined_before_a_response, .init = begin_late_scene, .fini = end_scene)
{
	say(&scene, 'w', OK("0"));
	say(&scene, 'r', GET("1"));
	say(&scene, 'w', OK("1"));
	cr_assert_eq(scene.connection.side, SIDE_SERVER);
	expect_out("- | 200 #0 h2 t0 b2 1-1 | 11 joined_late\n"
		   "GET h /1 #1 h2 t0 b0 2-2 | 200 #1 h2 t0 b2 3-3 | 11 ok\n");
}

Test(http1, joined_before_an_answer_to_head, .init = begin_late_scene, .fini = end_scene)
{
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 5000\r\n\r\n");
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	expect_out("- | 200 #0 h2 t0 b0 1-1 | 11 joined_late\n"
		   "GET h /1 #1 h2 t0 b0 2-2 | 200 #1 h2 t0 b2 3-3 | 11 ok\n");
}

/* Else what answers the next requests would be left out with a body that never comes. */
Test(http1, joined_before_an_answer_that_may_lack_its_body, .init = begin_late_scene,
     .fini = end_scene)
{
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 0\r\n\r\n");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), SKIP_NOTHING);
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', OK("1"));
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 2\r\nContent-Length: 500000\r\n\r\n");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), SKIP_NOTHING);
	say(&scene, 'r', "body");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), 499996);
	expect_out("- | 200 #0 h1 t0 b0 1-1 | 11 joined_late\n"
		   "GET h /1 #1 h2 t0 b0 2-2 | 200 #1 h2 t0 b2 3-3 | 11 ok\n");
}

Test(http1, joined_reading_byte_by_byte, .init = begin_late_scene, .fini = end_scene)
{
	const char *response = "}GH" OK("1");
	char byte[2] = "";

	say(&scene, 'w', "GE");
	say(&scene, 'r', "H");
	say(&scene, 'w', GET("1"));
	for (; *response; response++) {
		byte[0] = *response;
		scene.when.first_ns -= STEP_NS;
		say(&scene, 'r', byte);
	}
	expect_out("GET h /1 #1 h2 t0 b0 3-3 | 200 #1 h2 t0 b2 3-3 | 11 ok\n");
}

/* Go's servers read the first byte of a request by itself. */
Test(http1, joined_behind_the_first_byte, .init = begin_late_scene, .fini = end_scene)
{
	say(&scene, 'r', "OST /0 HTTP/1.1\r\nHost: h\r\nX-Id: 0\r\n\r\n");
	say(&scene, 'w', OK("0"));
	say(&scene, 'r', GET("1"));
	say(&scene, 'w', OK("1"));
	expect_out("- | 200 #0 h2 t0 b2 2-2 | 11 joined_late\n"
		   "GET h /1 #1 h2 t0 b0 3-3 | 200 #1 h2 t0 b2 4-4 | 11 ok\n");
}

Test(http1, joined_before_a_method_of_ones_own, .init = begin_late_scene, .fini = end_scene)
{
	say(&scene, 'r', "BOOST /1 HTTP/1.1\r\nHost: h\r\nX-Id: 1\r\n\r\n");
	say(&scene, 'w', OK("1"));
	expect_out("BOOST h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b2 2-2 | 11 ok\n");
}

Test(http1, trace_ends_in_a_close_delimited_body, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'r', "HTTP/1.1 200 OK\r\nX-Id: 1\r\n\r\nsome");
	cr_assert_eq(http1_ops.skippable(scene.parser, WIRE_READ), SKIP_REST);
	say(&scene, 'T', NULL);
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h1 t0 b4 2-2 cut | 11 no_response\n");
}

Test(http1, trace_ends_before_the_response, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	say(&scene, 'T', NULL);
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | - | 11 no_response\n");
}

Test(http1, lost_then_closed_is_not_called_closed, .init = begin_scene, .fini = end_scene)
{
	say(&scene, 'w', GET("1"));
	lose(&scene, WIRE_READ, 70);
	say(&scene, 'C', NULL);
	expect_out("GET h /1 #1 h2 t0 b0 1-1 | - | 11 lost\n");
}

Test(http1, response_before_the_request_was_sent, .init = begin_scene, .fini = end_scene)
{
	struct passage early = {.first_ns = FIRST_NS, .last_ns = LAST_NS};
	const char *text = OK("0");

	say(&scene, 'w', GET("1"));
	http1_ops.data(scene.parser, WIRE_READ, bytes__str(text), true, &early);
	say(&scene, 'r', OK("1"));
	expect_out("- | 200 #0 h2 t0 b2 0-0 | 11 desync\n"
		   "GET h /1 #1 h2 t0 b0 1-1 | 200 #1 h2 t0 b2 2-2 | 11 ok\n");
}

Test(http1, too_many_open, .init = begin_scene, .fini = end_scene)
{
	for (int i = 0; i < PAIRING_MAX_OPEN + 10; i++) {
		say(&scene, 'w', "GET / HTTP/1.1\r\n\r\n");
		cr_assert_leq(pairing__count(scene.pairing), PAIRING_MAX_OPEN);
	}
	say(&scene, 'r', OK("1"));
	cr_assert_eq(scene_out.count, PAIRING_MAX_OPEN + 11);
	cr_assert_eq(scene_out.paired, 0);
}

/* Long messages, made here. */

static size_t kept_fields, kept_text, kept_body;
static bool kept_truncated, kept_ended;
static enum reason kept_reason;
static char kept_authority[64];

static void keep_first(const struct exchange *exchange)
{
	kept_fields = exchange->request.headers.count;
	kept_text = exchange->request.headers.text.size;
	kept_body = exchange->request.body_bytes;
	kept_truncated = exchange->request.headers.truncated;
	kept_ended = exchange->request.ended;
	kept_reason = exchange->reason;
	snprintf(kept_authority, sizeof(kept_authority), "%.*s", (int)exchange->authority.size,
		 exchange->authority.size ? (const char *)exchange->authority.data : "");
}

static bool keep(void *context, struct exchange *exchange)
{
	struct observed *out = context;

	if (!out->count++)
		keep_first(exchange);
	out->paired += exchange->request.ended && exchange->response.ended;
	return false;
}

/* Feeds a request in pieces, then a second one, then both responses. */
static void feed_long(struct buf *request, size_t piece)
{
	struct connection connection = {0};
	struct observed out = {0};
	struct passage when = {.first_ns = FIRST_NS, .last_ns = LAST_NS};
	struct pairing *pairing;
	struct parser *parser;

	cr_assert_eq(pairing__new(&connection, keep, &out, &pairing), 0);
	cr_assert_eq(http1_ops.open(pairing, &connection, true, &parser), 0);
	for (size_t at = 0; at < request->size; at += piece) {
		struct bytes part = bytes__first(bytes__from(buf__view(request), at), piece);

		cr_assert_eq(http1_ops.data(parser, WIRE_WRITE, part, true, &when), 0);
	}
	http1_ops.data(parser, WIRE_READ, bytes__str(OK("1")), true, &when);
	http1_ops.data(parser, WIRE_WRITE, bytes__str(GET("2")), true, &when);
	http1_ops.data(parser, WIRE_READ, bytes__str(OK("2")), true, &when);
	cr_assert_eq(out.count, 2);
	cr_assert_eq(out.paired, 2);
	http1_ops.free(parser);
	pairing__free(pairing);
}

static void fill(struct buf *buf, char c, size_t size)
{
	for (size_t i = 0; i < size; i++)
		cr_assert_eq(buf__append_byte(buf, (uint8_t)c), 0);
}

static const size_t pieces[] = {1, 7, 4096, 1 << 20};

Test(http1, five_thousand_fields)
{
	struct buf request;

	buf__init(&request, 1 << 20);
	buf__append_str(&request, "POST / HTTP/1.1\r\nHost: h\r\n");
	for (int i = 0; i < 5000; i++)
		cr_assert_eq(buf__printf(&request, "a%d: %d\r\n", i, i), 0);
	buf__append_str(&request, "Content-Length: 3\r\n\r\nabc");
	for (size_t i = 0; i < 4; i++) {
		feed_long(&request, pieces[i]);
		cr_assert_eq(kept_fields, 5002);
		cr_assert_eq(kept_body, 3);
		cr_assert_eq(kept_reason, REASON_NONE);
	}
	buf__free(&request);
}

Test(http1, head_beyond_the_maximum)
{
	struct buf request;

	buf__init(&request, 1 << 20);
	buf__append_str(&request, "POST / HTTP/1.1\r\n");
	for (int i = 0; i < 20000; i++)
		cr_assert_eq(buf__printf(&request, "a%d: %d\r\n", i, i), 0);
	buf__append_str(&request, "Host: late\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"
				  "3\r\nabc\r\n0\r\n\r\n");
	for (size_t i = 0; i < 4; i++) {
		feed_long(&request, pieces[i]);
		cr_assert(kept_truncated);
		cr_assert_leq(kept_text, HEADERS_MAX_BYTES);
		cr_assert_eq(kept_body, 3);
		cr_assert_eq(kept_reason, REASON_TRUNCATED);
		cr_assert_str_eq(kept_authority, "late");
	}
	buf__free(&request);
}

Test(http1, line_beyond_the_maximum)
{
	struct buf request;

	buf__init(&request, 1 << 20);
	buf__append_str(&request, "POST / HTTP/1.1\r\nCookie: ");
	fill(&request, 'c', 100000);
	buf__append_str(&request, "\r\nContent-Length: 3\r\nHost: late\r\n\r\nabc");
	for (size_t i = 0; i < 4; i++) {
		feed_long(&request, pieces[i]);
		cr_assert_eq(kept_fields, 1);
		cr_assert(kept_truncated);
		cr_assert_geq(kept_text, HEADERS_MAX_BYTES - 16);
		cr_assert_eq(kept_body, 3);
		cr_assert_str_eq(kept_authority, "late");
	}
	buf__free(&request);
}

Test(http1, start_line_beyond_the_maximum)
{
	struct buf request;

	buf__init(&request, 1 << 20);
	buf__append_str(&request, "GET /");
	fill(&request, 'p', 100000);
	buf__append_str(&request, " HTTP/1.1\r\nHost: h\r\n\r\n");
	for (size_t i = 0; i < 4; i++) {
		feed_long(&request, pieces[i]);
		cr_assert_eq(kept_reason, REASON_TRUNCATED);
		cr_assert(kept_ended);
		cr_assert_eq(kept_fields, 1);
	}
	buf__free(&request);
}

Test(http1, large_pipelined_heads_are_bounded, .init = begin_scene, .fini = end_scene)
{
	struct buf request;

	buf__init(&request, 1 << 20);
	buf__append_str(&request, "GET / HTTP/1.1\r\nCookie: ");
	fill(&request, 'c', 60000);
	buf__append_str(&request, "\r\n\r\n");
	for (int i = 0; i < 1000; i++) {
		http1_ops.data(scene.parser, WIRE_WRITE, buf__view(&request), true, &scene.when);
		cr_assert_leq(pairing__count(scene.pairing), 128);
	}
	buf__free(&request);
}

Test(http1, detect)
{
	static const struct {
		const char *head;
		enum verdict verdict;
	} cases[] = {
		{"GET / HTTP/1.1\r\n", VERDICT_YES},
		{"GET /", VERDICT_YES},
		{"GET ", VERDICT_MORE},
		{"G", VERDICT_MORE},
		{"", VERDICT_MORE},
		{"\r\n\r\nGET / HTTP/1.1\r\n", VERDICT_YES},
		{"\r\n", VERDICT_MORE},
		{"\r\n\r\n\r\nGET / HTTP/1.1\r\n", VERDICT_NO},
		{"PROPFIND /dav HTTP/1.1\r\n", VERDICT_YES},
		{"M-SEARCH * HTTP/1.1\r\n", VERDICT_NO},
		{"OPTIONS * HTTP/1.1\r\n", VERDICT_YES},
		{"OPTIONS *", VERDICT_MORE},
		{"OPTIONS * RTSP/1.0\r\n", VERDICT_NO},
		{"OPTIONS sip:a@b SIP/2.0\r\n", VERDICT_NO},
		{"DESCRIBE rtsp://a/b RTSP/1.0\r\n", VERDICT_NO},
		{"GET http://h/ HTTP/1.1\r\n", VERDICT_YES},
		{"GET HTTPS://h/ HTTP/1.1\r\n", VERDICT_YES},
		{"GET htt", VERDICT_MORE},
		{"CONNECT h:443 HTTP/1.1\r\n", VERDICT_YES},
		{"CONNECT [::1]:443 HTTP/1.1\r\n", VERDICT_YES},
		{"CONNECT {\"verbose\":false}\r\n", VERDICT_NO},
		{"CONNECT\naccept-version:1.2\n", VERDICT_NO},
		{"BREW /pot HTTP/1.1\r\n", VERDICT_YES},
		{"BREW /pot HTTP/1.1", VERDICT_MORE},
		{"BREW /pot\r\n", VERDICT_NO},
		{"BREW /a-path-so-long-that-the-version-is-out-of-sight-of-detection HTTP/1.1\r\n",
		 VERDICT_NO},
		{"get key\r\n", VERDICT_NO},
		{"GET key\r\n", VERDICT_NO},
		{"HTTP/1.1 200 OK\r\n", VERDICT_YES},
		{"HTTP/1.0", VERDICT_YES},
		{"HTTP/1.", VERDICT_MORE},
		{"HTTP/2.0 200\r\n", VERDICT_NO},
		{"HTTP/1.1 abc", VERDICT_NO},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERDICT_NO},
		{"PRI ", VERDICT_NO},
		{"*1\r\n$4\r\nPING\r\n", VERDICT_NO},
		{"$5\r\nhello\r\n", VERDICT_NO},
		{"+OK\r\n", VERDICT_NO},
		{"220 mail.example ESMTP Postfix\r\n", VERDICT_NO},
		{"EHLO client.example\r\n", VERDICT_NO},
		{"a001 LOGIN user pass\r\n", VERDICT_NO},
		{"SSH-2.0-OpenSSH_9.2\r\n", VERDICT_NO},
		{"\x10\x0c\x01\x04MQTT", VERDICT_NO},
		{"\x16\x03\x01\x02", VERDICT_NO},
	};
	static const char postgres[] = "\0\0\0\x08\x04\xd2\x16\x2f";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = strlen(cases[i].head);
		uint8_t *copy = malloc(size ? size : 1);

		memcpy(copy, cases[i].head, size);
		cr_assert_eq(http1_ops.detect(bytes__of(copy, size), true), cases[i].verdict, "%s",
			     cases[i].head);
		/* A prefix of what is HTTP is never refused. */
		for (size_t part = 0; cases[i].verdict == VERDICT_YES && part < size; part++)
			cr_assert_neq(http1_ops.detect(bytes__of(copy, part), true), VERDICT_NO,
				      "%s up to %zu", cases[i].head, part);
		free(copy);
	}
	cr_assert_eq(http1_ops.detect(bytes__of(postgres, 8), true), VERDICT_NO);
}

/* On a connection that does not pipeline: any run of calls lost at once, told only later. */
Test(http1, bursts)
{
	enum { PAIRS = 12, CALLS = 2 * PAIRS };
	struct observed out;

	for (size_t from = 0; from < CALLS; from++)
		for (size_t until = from + 1; until <= CALLS; until++) {
			struct run run;

			run__begin(&run, &out, true);
			run.late_gaps = true;
			for (size_t i = 0; i < CALLS; i++) {
				char text[128];
				struct step step = {.what = i % 2 ? 'r' : 'w', .text = text};

				snprintf(text, sizeof(text),
					 i % 2 ? "HTTP/1.1 200 OK\r\nX-Id: %zu\r\n"
						 "Content-Length: 0\r\n\r\n"
					       : "GET / HTTP/1.1\r\nX-Id: %zu\r\n\r\n",
					 i / 2);
				run.when.first_ns = i * STEP_NS + FIRST_NS;
				run.when.last_ns = i * STEP_NS + LAST_NS;
				if (i >= from && i < until)
					run__lost(&run, &step, strlen(text));
				else
					run__step(&run, &step);
			}
			run__flush_gaps(&run);
			run__end(&run);
			cr_assert_eq(out.mispaired, 0, "%zu to %zu:\n%s", from, until, out.text);
			/* All that was untouched, and after a first exchange. */
			if (from >= 3)
				cr_assert_eq(out.paired, from / 2 + (CALLS - until) / 2,
					     "%zu to %zu:\n%s", from, until, out.text);
		}
}
