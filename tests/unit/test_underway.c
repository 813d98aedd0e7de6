/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lasts, told while it goes on: records go in as the probes make them, and lines come out as
 * a terminal would show them. Before each line is the time of the record that brought it, in
 * milliseconds since the first.
 */
#include "pipeline.h"
#include "failing_alloc.h"
#include "records.h"
#include "sink/sink.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OBJECT	       0x1000
#define LINE_MAX_BYTES 4096
#define BEGIN_NS       ((uint64_t)1000000000)
#define MS	       ((uint64_t)1000000)

#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define EVENTS                                                                                     \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define EVENT "9\r\ndata: 1\n\n\r\n"
#define LAST  "0\r\n\r\n"

/* How each line begins and ends. */
#define LINE(ms, rest) ms " 00:00:01.000 -[7] -> 127.0.0.1:40210 " rest "\n"

static struct buf out;
static struct pipeline *pipeline;
static struct source source;

static void on_entry(void *context, const struct entry *entry)
{
	const struct sink_options *options = context;

	cr_assert_eq(buf__printf(&out, "%llu ",
				 (unsigned long long)((source.time_ns - BEGIN_NS) / MS)),
		     0);
	cr_assert_eq(sink_text.format(options, entry, &out), 0);
}

static void on_underway(void *context, const struct entry *entry)
{
	cr_expect(entry->is_open);
	on_entry(context, entry);
}

static void make(bool wanted)
{
	static struct sink_options options;
	struct pipeline_callbacks callbacks = {.context = &options, .entry = on_entry};
	struct policy policy = {0};

	if (wanted)
		callbacks.underway = on_underway;
	pipeline__free(pipeline);
	cr_assert_eq(pipeline__new(&policy, &callbacks, &pipeline), 0);
	source = source__of(7, OBJECT);
	source.time_ns = BEGIN_NS;
	source.step_ns = 0;
}

static void setup(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
	buf__init(&out, LINE_MAX_BYTES);
	make(true);
}

static void teardown(void)
{
	pipeline__free(pipeline);
	buf__free(&out);
}

TestSuite(underway, .init = setup, .fini = teardown);

static void feed(struct bytes record)
{
	cr_assert_eq(pipeline__record(pipeline, record), 0);
	record__free(record);
}

static void at(uint64_t ms)
{
	source.time_ns = BEGIN_NS + ms * MS;
}

static void tick(uint64_t ms)
{
	at(ms);
	feed(source__tick(&source));
}

static void call(enum wire_direction direction, const char *bytes, size_t size)
{
	feed(source__data(&source, direction, bytes__of(bytes, size), (uint32_t)size));
}

#define WRITES(text) call(WIRE_WRITE, text, sizeof(text) - 1)
#define READS(text)  call(WIRE_READ, text, sizeof(text) - 1)

/* What came out since the last time. */
static void expect(const char *text)
{
	cr_assert_eq(buf__append_byte(&out, 0), 0);
	cr_expect_str_eq((const char *)out.data, text, "got:\n%s\nnot:\n%s", (const char *)out.data,
			 text);
	buf__clear(&out);
}

static void expect_until(uint64_t ms)
{
	cr_expect_eq(pipeline__waits_until(pipeline), BEGIN_NS + ms * MS, "%llu",
		     (unsigned long long)pipeline__waits_until(pipeline));
}

Test(underway, a_stream_of_events)
{
	WRITES(GET);
	at(40);
	READS(EVENTS);
	expect_until(140);
	at(60);
	READS(EVENT);
	expect("");
	tick(140);
	expect(LINE("140", "GET https://h/a 200 ... ... HTTP/1.1 [sse: ttfb 40.0ms]"));
	cr_expect_eq(pipeline__waits_until(pipeline), 0);
	at(9000);
	READS(EVENT LAST);
	expect(LINE("9000", "GET https://h/a 200 18B 9.00s HTTP/1.1 [sse: ttfb 40.0ms]"));
}

/* Any record tells the time, not a tick alone. */
Test(underway, a_stream_of_events_that_come)
{
	WRITES(GET);
	READS(EVENTS);
	at(100);
	READS(EVENT);
	expect(LINE("100", "GET https://h/a 200 ... ... HTTP/1.1 [sse: ttfb 0.00ms]"));
}

Test(underway, a_short_stream_has_one_line)
{
	WRITES(GET);
	READS(EVENTS);
	at(99);
	READS(EVENT LAST);
	expect(LINE("99", "GET https://h/a 200 9B 99.0ms HTTP/1.1 [sse: ttfb 0.00ms]"));
	cr_expect_eq(pipeline__waits_until(pipeline), 0);
	tick(100000);
	expect("");
}

Test(underway, a_response_that_takes_long)
{
	WRITES(GET);
	at(20);
	READS("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
	expect_until(1020);
	tick(1019);
	expect("");
	tick(1020);
	expect(LINE("1020", "GET https://h/a 200 ... ... HTTP/1.1"));
	at(2000);
	READS("cd");
	expect(LINE("2000", "GET https://h/a 200 4B 2.00s HTTP/1.1"));
}

Test(underway, a_response_that_does_not_come)
{
	WRITES(GET);
	expect_until(5000);
	tick(5000);
	expect(LINE("5000", "GET https://h/a ... ... ... HTTP/1.1"));
	tick(20000);
	expect("");
	/* It comes at last: once more, with its head. */
	READS(EVENTS);
	tick(20100);
	expect(LINE("20100", "GET https://h/a 200 ... ... HTTP/1.1 [sse: ttfb 20.0s]"));
	at(30000);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect(LINE("30000", "GET https://h/a !200 0B - HTTP/1.1 [sse: ttfb 20.0s] "
			     "[no_response: closed]"));
}

Test(underway, a_slow_response_that_is_short)
{
	WRITES(GET);
	at(4000);
	READS("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	expect(LINE("4000", "GET https://h/a 200 2B 4.00s HTTP/1.1"));
	tick(5000);
	expect("");
}

Test(underway, a_websocket)
{
	WRITES("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\r\n");
	READS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\n");
	tick(100);
	expect(LINE("100", "GET https://h/ws 101 ... ... HTTP/1.1 [websocket]"));
	WRITES("\x81\x82zzzzzz");
	READS("\x81\x02hi");
	at(600);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect(LINE("600", "GET https://h/ws 101 4B 600ms HTTP/1.1 [websocket: 8B up]"));
}

Test(underway, another_upgrade_is_no_websocket)
{
	WRITES("GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket, lines\r\n\r\n");
	READS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\n\r\n");
	tick(100);
	expect(LINE("100", "GET https://h/x 101 ... ... HTTP/1.1"));
	at(600);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect(LINE("600", "GET https://h/x 101 0B 600ms HTTP/1.1"));
}

Test(underway, an_upgrade_that_is_refused)
{
	WRITES("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n");
	READS("HTTP/1.1 403 Forbidden\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n");
	expect(LINE("0", "GET https://h/ws 403 0B 0.00ms HTTP/1.1"));
}

/* HTML's parser takes any case and parameters; another type that begins so is another. */
Test(underway, what_is_a_stream_of_events)
{
	static const struct {
		const char *type;
		bool is_one;
	} types[] = {
		{"text/event-stream", true},
		{"Text/Event-Stream ; charset=utf-8", true},
		{"text/event-stream;charset=utf-8", true},
		{"text/event-streams", false},
		{"text/event", false},
		{"text/plain, text/event-stream", false},
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		char head[200];
		int size = snprintf(head, sizeof(head),
				    "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
				    "Content-Length: 0\r\n\r\n",
				    types[i].type);

		WRITES(GET);
		call(WIRE_READ, head, (size_t)size);
		expect(types[i].is_one
			       ? LINE("0",
				      "GET https://h/a 200 0B 0.00ms HTTP/1.1 [sse: ttfb 0.00ms]")
			       : LINE("0", "GET https://h/a 200 0B 0.00ms HTTP/1.1"));
	}
	WRITES(GET);
	READS("HTTP/1.1 500 Error\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n");
	expect(LINE("0", "GET https://h/a 500 0B 0.00ms HTTP/1.1"));
}

/* HTTP/2, by hand: stream 1. */
#define H2_START  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define H2_GET	  "\0\0\6\1\5\0\0\0\1\x82\x84\x87\x01\x01h"
#define H2_EVENTS "\0\0\x15\1\4\0\0\0\1\x88\x0f\x10\x11text/event-stream"
#define H2_DATA	  "\0\0\3\0\0\0\0\0\1abc"
#define H2_LAST	  "\0\0\0\0\1\0\0\0\1"
#define H2_CONNECT                                                                                 \
	"\0\0\x23\1\4\0\0\0\1\x02\x07"                                                             \
	"CONNECT\0\x09:protocol\x09websocket\x87\x84\x01\x01h"

Test(underway, http2)
{
	WRITES(H2_START);
	READS("\0\0\0\4\0\0\0\0\0");
	WRITES(H2_GET);
	READS(H2_EVENTS);
	tick(100);
	expect(LINE("100", "GET https://h/ 200 ... ... HTTP/2 [sse: ttfb 0.00ms]"));
	READS(H2_DATA);
	at(3000);
	READS(H2_LAST);
	expect(LINE("3000", "GET https://h/ 200 3B 3.00s HTTP/2 [sse: ttfb 0.00ms]"));
}

Test(underway, http2_websocket)
{
	WRITES(H2_START);
	READS("\0\0\0\4\0\0\0\0\0");
	WRITES(H2_CONNECT);
	READS("\0\0\1\1\4\0\0\0\1\x88");
	tick(100);
	expect(LINE("100", "CONNECT https://h/ 200 ... ... HTTP/2 [websocket]"));
	WRITES(H2_DATA H2_DATA H2_LAST);
	READS(H2_DATA);
	at(200);
	READS(H2_LAST);
	expect(LINE("200", "CONNECT https://h/ 200 3B 200ms HTTP/2 [websocket: 6B up]"));
}

Test(underway, the_end_of_the_trace_tells_only_the_entries)
{
	WRITES(GET);
	READS(EVENTS);
	at(10000);
	feed(source__end(&source, 0, false));
	expect(LINE("10000",
		    "GET https://h/a !200 0B - HTTP/1.1 [sse: ttfb 0.00ms] [no_response]"));
}

Test(underway, nobody_wants_to_know)
{
	make(false);
	WRITES(GET);
	READS(EVENTS);
	cr_expect_eq(pipeline__waits_until(pipeline), 0);
	tick(10000);
	expect("");
}

/* What is freed with its connection is not told of; a sanitizer sees it if it is. */
Test(underway, what_is_gone_is_forgotten)
{
	struct source other;

	WRITES(GET);
	other = source;
	source.connection.object++;
	source.position[0] = source.position[1] = 0;
	WRITES(GET);
	feed(source__exit(&source));
	buf__clear(&out);
	tick(100000);
	expect("");
	source = other;
	make(true);
	WRITES(GET);
	make(true);
	tick(100000);
	expect("");
}

/* Deadlines are those of records, which come a little out of order, or were made up. */
Test(underway, times_out_of_order)
{
	at(1000);
	WRITES(GET);
	source.connection.object++;
	source.position[0] = source.position[1] = 0;
	at(900);
	WRITES(GET);
	expect_until(6000);
	source.connection.object++;
	source.position[0] = source.position[1] = 0;
	source.time_ns = UINT64_MAX;
	WRITES(GET);
	cr_expect_eq(pipeline__waits_until(pipeline), 0);
}

/* A line that memory is missing for is left out; the entry comes. */
Test(underway, no_memory)
{
	for (unsigned int nth = 0; nth < 40; nth++) {
		struct bytes record;

		make(true);
		WRITES(GET);
		READS(EVENTS);
		at(100);
		record = source__tick(&source);
		failing_alloc__arm(nth);
		pipeline__record(pipeline, record);
		failing_alloc__disarm();
		record__free(record);
		buf__clear(&out);
		READS(LAST);
		expect(LINE("100", "GET https://h/a 200 0B 100ms HTTP/1.1 [sse: ttfb 0.00ms]"));
	}
}
