/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections and streams: records go in as the probes make them, exchanges, directives and
 * farewells come out as text, one a line.
 */
#include "flow/flow.h"
#include "flow/held.h"
#include "flow/waiting.h"
#include "failing_alloc.h"
#include "reasons.h"
#include "records.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_SIZE (64 * 1024)
#define OBJECT	  0x1000

#define REQUEST	 "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define RESPONSE "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* What came out. */
struct observed {
	char text[TEXT_SIZE];
	size_t size;
	uint64_t exchanges;
	uint64_t directives;
	uint64_t forgotten;
	bool quiet;	      /* count only */
	struct tcp_facts tcp; /* of the latest exchange */
	struct directive last;
};

static struct observed observed;
static struct flow *flow;
static struct source source;

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
	va_list args;

	if (observed.quiet)
		return;
	va_start(args, format);
	observed.size += (size_t)vsnprintf(observed.text + observed.size,
					   sizeof(observed.text) - observed.size, format, args);
	va_end(args);
	cr_assert_lt(observed.size, sizeof(observed.text));
}

static void print_bytes(struct bytes bytes)
{
	print("%.*s", (int)bytes.size, bytes.size ? (const char *)bytes.data : "");
}

/* "pid executable method path status request-body/response-body lost tuple reason" */
static void on_exchange(void *context, const struct exchange *exchange, struct bytes executable)
{
	observed.exchanges++;
	observed.tcp = exchange->tcp;
	print("%u ", exchange->connection->pid);
	print_bytes(executable);
	print(" ");
	print_bytes(buf__view(&exchange->method));
	print(" ");
	print_bytes(buf__view(&exchange->path));
	print(" %u %llu/%llu lost %llu %s %s\n", exchange->status,
	      (unsigned long long)exchange->request.body_bytes,
	      (unsigned long long)exchange->response.body_bytes,
	      (unsigned long long)(exchange->request.lost_bytes + exchange->response.lost_bytes),
	      exchange->connection->tuple.source ? "tuple" : "none", reasons[exchange->reason]);
}

static void on_directive(void *context, const struct directive *directive)
{
	observed.directives++;
	observed.last = *directive;
	print("direct %u %llx/%llu %s ", directive->pid,
	      (unsigned long long)directive->connection.object,
	      (unsigned long long)directive->connection.generation,
	      directive->direction == WIRE_WRITE ? "write" : "read");
	if (directive->watch)
		print("watch from %llu\n", (unsigned long long)directive->position);
	else if (directive->skip_until == UINT64_MAX)
		print("skip all\n");
	else
		print("skip to %llu\n", (unsigned long long)directive->skip_until);
}

static void on_forget(void *context, uint32_t pid, const struct wire_connection *connection)
{
	observed.forgotten++;
	print("forget %u %llx/%llu\n", pid, (unsigned long long)connection->object,
	      (unsigned long long)connection->generation);
}

static void on_table(void *context, const struct table_request *request)
{
	print("table %u %llx/%llu %s%s\n", request->pid,
	      (unsigned long long)request->connection.object,
	      (unsigned long long)request->connection.generation,
	      request->direction == WIRE_WRITE ? "write" : "read", request->want ? "" : " not");
}

static const struct flow_callbacks callbacks = {
	.exchange = on_exchange,
	.directive = on_directive,
	.table = on_table,
	.forget = on_forget,
};

static void setup(void)
{
	observed = (struct observed){0};
	source = source__of(7, OBJECT);
	cr_assert_eq(flow__new(&callbacks, &flow), 0);
}

static void teardown(void)
{
	flow__free(flow);
}

TestSuite(flow, .init = setup, .fini = teardown);

/* Takes a record, and frees it. */
static void feed(struct bytes record)
{
	struct event event;

	cr_assert_eq(intake__event(record, &event), 0);
	flow__event(flow, &event);
	record__free(record);
}

/* A call of `from`, all of it captured. */
static void call(struct source *from, enum wire_direction direction, const char *text)
{
	feed(source__data(from, direction, bytes__str(text), (uint32_t)strlen(text)));
}

static void reads(const char *text)
{
	call(&source, WIRE_READ, text);
}

static void writes(const char *text)
{
	call(&source, WIRE_WRITE, text);
}

/* What came out since the last time. */
static void expect(const char *text)
{
	cr_expect_str_eq(observed.text, text, "got:\n%s\nnot:\n%s", observed.text, text);
	observed.size = 0;
	observed.text[0] = '\0';
}

Test(flow, an_exchange)
{
	feed(source__process(&source, "/bin/server"));
	reads(REQUEST);
	expect("");
	writes(RESPONSE);
	expect("7 /bin/server GET /a 200 0/2 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("");
	cr_expect_eq(flow__counts(flow)->connections, 1);
	cr_expect_eq(flow__counts(flow)->not_http, 0);
	cr_expect_eq(flow__counts(flow)->bytes_captured, strlen(REQUEST RESPONSE));
}

Test(flow, an_exchange_in_many_records)
{
	for (const char *c = REQUEST; *c; c++)
		feed(source__data(&source, WIRE_READ, bytes__of(c, 1), 1));
	for (const char *c = RESPONSE; *c; c++)
		feed(source__data(&source, WIRE_WRITE, bytes__of(c, 1), 1));
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
	cr_expect_eq(flow__counts(flow)->connections, 1);
}

Test(flow, empty_records)
{
	feed(source__data(&source, WIRE_READ, bytes__of(NULL, 0), 0));
	reads(REQUEST);
	feed(source__data(&source, WIRE_WRITE, bytes__of(NULL, 0), 0));
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, directions_may_be_seen_in_any_order)
{
	/* A message that is not told by its first bytes waits for more of them. */
	reads("GE");
	writes("HTTP/1.1 100 Continue\r\n\r\n");
	reads("T /a HTTP/1.1\r\n\r\n");
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
}

/* A response whose body is bytes of which only `captured` come, and `lost` of the rest is lost. */
static void respond(uint32_t captured, uint32_t lost)
{
	writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
	source.lost_bytes[WIRE_WRITE] += lost;
	feed(source__data(&source, WIRE_WRITE, bytes__of("0123456789", captured), 100));
}

Test(flow, moved_beyond_captured)
{
	reads(REQUEST);
	respond(10, 0);
	expect("7  GET /a 200 0/100 lost 0 tuple ok\n");
	reads(REQUEST);
	respond(10, 90);
	expect("7  GET /a 200 0/100 lost 90 tuple lost\n");
	reads(REQUEST);
	respond(0, 40);
	expect("7  GET /a 200 0/100 lost 40 tuple lost\n");
}

Test(flow, gaps_lost_and_skipped)
{
	for (int lost = 0; lost < 2; lost++) {
		reads(REQUEST);
		writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
		if (lost)
			source__lose(&source, WIRE_WRITE, 60);
		else
			source__skip(&source, WIRE_WRITE, 60);
		writes("0123456789012345678901234567890123456789");
	}
	expect("7  GET /a 200 0/100 lost 0 tuple ok\n"
	       "7  GET /a 200 0/100 lost 60 tuple lost\n");
}

Test(flow, a_gap_may_be_both)
{
	reads(REQUEST);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
	source__skip(&source, WIRE_WRITE, 60);
	source__lose(&source, WIRE_WRITE, 30);
	writes("0123456789");
	expect("7  GET /a 200 0/100 lost 30 tuple lost\n");
}

Test(flow, close_tells_of_what_came_last)
{
	reads(REQUEST);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
	source__lose(&source, WIRE_WRITE, 100);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("7  GET /a 200 0/100 lost 100 tuple lost\n");
}

Test(flow, loses_its_place_and_finds_it_again)
{
	reads(REQUEST);
	writes(RESPONSE);
	reads("GET /b HTTP/1.1\r\n\r\n");
	source__lose(&source, WIRE_WRITE, 500);
	writes("tail of a body");
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n"
	       "7  GET /b 0 0/0 lost 500 tuple lost\n"
	       "direct 7 1000/1 write watch from 554\n");
	reads("GET /c HTTP/1.1\r\n\r\n");
	writes(RESPONSE);
	expect("7  GET /c 200 0/2 lost 0 tuple ok\n");
}

Test(flow, streams_only_go_on)
{
	uint64_t end;

	reads(REQUEST);
	end = source.position[WIRE_READ];
	source.position[WIRE_READ] = 0;
	reads("GET /again HTTP/1.1\r\n\r\n");
	source.position[WIRE_READ] = end - 1;
	reads("GET /overlap HTTP/1.1\r\n\r\n");
	source.position[WIRE_READ] = end;
	writes(RESPONSE);
	source__lose(&source, WIRE_READ, 9);
	reads("GET /b HTTP/1.1\r\n\r\n");
	source.lost_bytes[WIRE_READ] = 8;
	reads("GET /less-lost HTTP/1.1\r\n\r\n");
	source.position[WIRE_READ] = source.position[WIRE_WRITE] = 0;
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n"
	       "7  GET /b 0 0/0 lost 0 tuple no_response\n");
}

Test(flow, the_last_position)
{
	source.position[WIRE_READ] = UINT64_MAX - 1000;
	source.flags = WIRE_CALL_START;
	reads(REQUEST);
	source.position[WIRE_READ] = UINT64_MAX - 10;
	feed(source__data(&source, WIRE_READ, bytes__of(NULL, 0), 10));
	source.position[WIRE_READ] = 0;
	reads(REQUEST);
	feed(source__end(&source, 0, false));
	cr_expect_eq(observed.exchanges, 1);
}

Test(flow, reuse)
{
	reads(REQUEST);
	feed(source__close(&source, WIRE_CLOSE_REUSE));
	expect("7  GET /a 0 0/0 lost 0 tuple no_response\n");
	source = source__of(7, OBJECT);
	source.connection.generation = 2;
	reads(REQUEST);
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
	cr_expect_eq(flow__counts(flow)->connections, 2);
}

Test(flow, another_generation_without_a_close)
{
	reads(REQUEST);
	source = source__of(7, OBJECT);
	source.connection.generation = 2;
	reads("GET /b HTTP/1.1\r\n\r\n");
	expect("7  GET /a 0 0/0 lost 0 tuple no_response\n");
	writes(RESPONSE);
	expect("7  GET /b 200 0/2 lost 0 tuple ok\n");
}

Test(flow, a_close_of_another_generation)
{
	reads(REQUEST);
	source.connection.generation = 2;
	feed(source__close(&source, WIRE_CLOSE_SHUTDOWN));
	expect("7  GET /a 0 0/0 lost 0 tuple no_response\n");
	cr_expect_eq(flow__counts(flow)->connections, 1);
}

Test(flow, a_close_of_no_connection)
{
	feed(source__close(&source, WIRE_CLOSE_FREE));
	feed(source__exit(&source));
	expect("");
	cr_expect_eq(flow__counts(flow)->connections, 0);
}

Test(flow, processes_share_addresses)
{
	struct source other = source__of(8, OBJECT);

	feed(source__process(&source, "/bin/a"));
	feed(source__process(&other, "/bin/b"));
	reads(REQUEST);
	call(&other, WIRE_READ, "GET /b HTTP/1.1\r\n\r\n");
	writes(RESPONSE);
	call(&other, WIRE_WRITE, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
	expect("7 /bin/a GET /a 200 0/2 lost 0 tuple ok\n"
	       "8 /bin/b GET /b 404 0/0 lost 0 tuple ok\n");
	cr_expect_eq(flow__counts(flow)->connections, 2);
}

Test(flow, exit_ends_connections)
{
	struct source other = source__of(8, OBJECT);
	struct source second = source__of(7, OBJECT + 1);

	feed(source__process(&source, "/bin/a"));
	reads(REQUEST);
	call(&second, WIRE_READ, "GET /b HTTP/1.1\r\n\r\n");
	call(&other, WIRE_READ, "GET /c HTTP/1.1\r\n\r\n");
	feed(source__exit(&source));
	expect("7 /bin/a GET /a 0 0/0 lost 0 tuple no_response\n"
	       "7 /bin/a GET /b 0 0/0 lost 0 tuple no_response\n");
	/* A process of the same number is another. */
	source = source__of(7, OBJECT);
	reads(REQUEST);
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, exec_ends_connections)
{
	feed(source__process(&source, "/bin/a"));
	reads(REQUEST);
	feed(source__process(&source, "/bin/b"));
	expect("7 /bin/a GET /a 0 0/0 lost 0 tuple no_response\n");
	source = source__of(7, OBJECT);
	reads(REQUEST);
	writes(RESPONSE);
	expect("7 /bin/b GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, eof_ends_what_is_read)
{
	writes(REQUEST);
	reads("HTTP/1.0 200 OK\r\n\r\nbody");
	feed(source__close(&source, WIRE_CLOSE_SHUTDOWN));
	expect("direct 7 1000/1 read skip all\n");
	feed(source__close(&source, WIRE_CLOSE_EOF));
	expect("7  GET /a 200 0/4 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("forget 7 1000/1\n");
}

Test(flow, shutdown_ends_what_is_written)
{
	reads(REQUEST);
	writes("HTTP/1.0 200 OK\r\n\r\nbody");
	feed(source__close(&source, WIRE_CLOSE_EOF));
	expect("direct 7 1000/1 write skip all\n");
	/* The skipped rest is known from where the stream ends. */
	source__skip(&source, WIRE_WRITE, 1000);
	feed(source__close(&source, WIRE_CLOSE_SHUTDOWN));
	expect("7  GET /a 200 0/1004 lost 0 tuple ok\n");
}

Test(flow, the_tuple_is_what_the_latest_record_says)
{
	struct wire_tuple tuple = source.tuple;

	source.tuple = (struct wire_tuple){0};
	reads(REQUEST);
	source.tuple = tuple;
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
	source.tuple = (struct wire_tuple){0};
	reads(REQUEST);
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 none ok\n");
	reads(REQUEST);
	source.tuple = tuple;
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("7  GET /a 0 0/0 lost 0 tuple no_response\n");
}

Test(flow, what_is_not_http_is_left_alone_at_once)
{
	reads("*1\r\n$4\r\nPING\r\n");
	expect("direct 7 1000/1 read skip all\n"
	       "direct 7 1000/1 write skip all\n");
	writes("+PONG\r\n");
	reads(REQUEST);
	writes(RESPONSE);
	source__skip(&source, WIRE_READ, 1 << 20);
	reads(REQUEST);
	feed(source__close(&source, WIRE_CLOSE_SHUTDOWN));
	expect("");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("forget 7 1000/1\n");
	cr_expect_eq(flow__counts(flow)->not_http, 1);
}

Test(flow, joined_late_in_the_middle)
{
	source.flags = WIRE_CALL_START;
	reads("{\"rest\": \"of a body\"}");
	writes("</html>");
	expect("direct 7 1000/1 read watch from 21\n"
	       "direct 7 1000/1 write watch from 7\n");
	reads(REQUEST);
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("forget 7 1000/1\n");
	cr_expect_eq(flow__counts(flow)->not_http, 0);
}

/* What may be a message is tried with what follows, and that then by itself. */
Test(flow, joined_late_in_a_body_that_looks_like_a_message)
{
	source.flags = WIRE_CALL_START;
	reads("rest");
	reads(REQUEST);
	writes(RESPONSE);
	cr_expect(strstr(observed.text, "GET /a "), "%s", observed.text);
}

/* HTTP/2: a request for / and its response with a body of "ok". */
#define H2_PREFACE  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_SETTINGS "\0\0\0\4\0\0\0\0\0"
#define H2_REQUEST  "\0\0\3\1\5\0\0\0\1\x82\x84\x87"
#define H2_RESPONSE "\0\0\1\1\4\0\0\0\1\x88\0\0\2\0\1\0\0\0\1ok"
#define CALL(direction, text)                                                                      \
	feed(source__data(&source, direction, bytes__of(text, sizeof(text) - 1), sizeof(text) - 1))

Test(flow, http2_from_its_start)
{
	CALL(WIRE_WRITE, H2_SETTINGS);
	CALL(WIRE_READ, H2_PREFACE H2_SETTINGS);
	CALL(WIRE_READ, H2_REQUEST);
	CALL(WIRE_WRITE, H2_RESPONSE);
	expect("7  GET / 200 0/2 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("");
	cr_expect_eq(flow__counts(flow)->not_http, 0);
}

Test(flow, http2_a_byte_at_a_time)
{
	static const char reads_bytes[] = H2_PREFACE H2_SETTINGS H2_REQUEST;

	for (size_t i = 0; i + 1 < sizeof(reads_bytes); i++)
		feed(source__data(&source, WIRE_READ, bytes__of(reads_bytes + i, 1), 1));
	CALL(WIRE_WRITE, H2_RESPONSE);
	expect("7  GET / 200 0/2 lost 0 tuple ok\n");
}

/* Once it is known, the probes are to show all of the other direction. */
Test(flow, http2_joined_late)
{
	source.flags = WIRE_CALL_START;
	CALL(WIRE_WRITE, "{the middle of a frame");
	expect("direct 7 1000/1 write watch from 22\n");
	CALL(WIRE_READ, H2_REQUEST);
	expect("direct 7 1000/1 write skip to 0\n");
	CALL(WIRE_WRITE, H2_RESPONSE);
	expect("7  GET / 200 0/2 lost 0 tuple ok\n");
}

Test(flow, http2_joined_late_by_a_head_that_is_read_alone)
{
	source.flags = WIRE_CALL_START;
	CALL(WIRE_READ, "\0\0\3\1\5\0\0\0\1");
	CALL(WIRE_READ, "\x82\x84\x87");
	CALL(WIRE_WRITE, H2_RESPONSE);
	expect("7  GET / 200 0/2 lost 0 tuple ok\n");
}

Test(flow, http2_lost_and_found)
{
	CALL(WIRE_READ, H2_PREFACE H2_SETTINGS);
	CALL(WIRE_READ, H2_REQUEST);
	source__lose(&source, WIRE_WRITE, 100);
	CALL(WIRE_READ, "\0\0\3\1\5\0\0\0\3\x82\x84\x87");
	CALL(WIRE_WRITE, "\0\0\1\1\5\0\0\0\3\x88");
	expect("7  GET / 200 0/0 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("7  GET / 0 0/0 lost 100 tuple lost\n");
}

Test(flow, joined_late_before_the_response)
{
	source.flags = WIRE_CALL_START;
	writes(RESPONSE);
	cr_expect_eq(observed.exchanges, 1);
	expect("7    200 0/2 lost 0 tuple joined_late\n");
}

Test(flow, the_first_record_was_lost)
{
	source__lose(&source, WIRE_READ, 200);
	reads("{\"rest\": \"of a body\"}");
	writes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	cr_expect_eq(flow__counts(flow)->not_http, 0);
	reads(REQUEST);
	writes(RESPONSE);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	cr_expect(strstr(observed.text, "GET /a 200 0/2 lost 0 tuple ok\n"), "%s", observed.text);
}

/* The response to the lost request is not taken for the one to the request that was seen. */
Test(flow, the_first_request_was_lost)
{
	source__lose(&source, WIRE_READ, 200);
	reads("GET /second HTTP/1.1\r\n\r\n");
	writes("HTTP/1.1 201 First\r\nContent-Length: 0\r\n\r\n"
	       "HTTP/1.1 202 Second\r\nContent-Length: 0\r\n\r\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	cr_expect_not(strstr(observed.text, "/second 201"), "%s", observed.text);
	cr_expect(strstr(observed.text, " 202 "), "%s", observed.text);
}

Test(flow, a_large_body_is_not_needed)
{
	char head[128];
	uint32_t total = 10000000;

	reads(REQUEST);
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", total);
	writes(head);
	cr_expect_eq(observed.directives, 1);
	cr_expect_eq(observed.last.direction, WIRE_WRITE);
	cr_expect_not(observed.last.watch);
	cr_expect_eq(observed.last.skip_until, strlen(head) + total);
	cr_expect_eq(observed.last.position, strlen(head));
	/* The probes had more under way; then they skip, and tell when the end has passed. */
	feed(source__data(&source, WIRE_WRITE, bytes__str("0123456789"), 16384));
	feed(source__data(&source, WIRE_WRITE, bytes__of(NULL, 0), 16384));
	cr_expect_eq(observed.directives, 1);
	source__skip(&source, WIRE_WRITE, total - 2 * 16384);
	feed(source__data(&source, WIRE_WRITE, bytes__of(NULL, 0), 0));
	cr_expect(strstr(observed.text, "7  GET /a 200 0/10000000 lost 0 tuple ok\n"), "%s",
		  observed.text);
	/* What follows at once is all there. */
	reads(REQUEST);
	writes(RESPONSE);
	cr_expect_eq(observed.exchanges, 2);
	cr_expect_eq(observed.directives, 1);
}

Test(flow, a_body_that_is_not_worth_telling)
{
	reads(REQUEST);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
	cr_expect_eq(observed.directives, 0);
}

#define CHUNKED_HEAD "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define CHUNK_SIZE   0x4000
#define CHUNK_LINE   "4000\r\n"
#define CHUNK_BYTES  (6 + CHUNK_SIZE + 2)
#define CHUNKS	     5 /* with which a walk is worth confirming */

/* A chunk, all of it captured. */
static void writes_chunk(void)
{
	static char chunk[CHUNK_BYTES + 1];

	memset(chunk, 'c', CHUNK_BYTES);
	memcpy(chunk, CHUNK_LINE, 6);
	memcpy(chunk + CHUNK_BYTES - 2, "\r\n", 2);
	writes(chunk);
}

/* A response's head and chunks, with which the probes began a walk `off` from its first byte. */
static void begin_chunks(int off)
{
	reads(REQUEST);
	source.walk_from[WIRE_WRITE] = WIRE_WALK_FROM(source.position[WIRE_WRITE]) + (uint64_t)off;
	writes(CHUNKED_HEAD);
	for (int i = 0; i < CHUNKS; i++)
		writes_chunk();
}

/* The probes walk over chunks. */
static void walk(uint64_t chunks)
{
	source__skip(&source, WIRE_WRITE, chunks * CHUNK_BYTES);
	source.body_bytes[WIRE_WRITE] += chunks * CHUNK_SIZE;
}

Test(flow, a_walk_is_confirmed_once)
{
	begin_chunks(0);
	cr_expect_eq(observed.directives, 1);
	cr_expect_eq(observed.last.direction, WIRE_WRITE);
	cr_expect_eq(observed.last.walk_from, WIRE_WALK_FROM(0));
	cr_expect_eq(observed.last.skip_until, 0);
	cr_expect_not(observed.last.watch);
	writes_chunk();
	cr_expect_eq(observed.directives, 1);
	observed.size = 0;
	walk(1000);
	source.walk_from[WIRE_WRITE] = 0;
	writes("0\r\n\r\n");
	expect("7  GET /a 200 0/16482304 lost 0 tuple ok\n");
	/* And another walk. */
	begin_chunks(0);
	cr_expect_eq(observed.directives, 2);
	cr_expect_eq(observed.last.walk_from, source.walk_from[WIRE_WRITE]);
}

Test(flow, a_walk_that_began_elsewhere_is_not_confirmed)
{
	for (int off = -1; off <= 2; off++) {
		teardown();
		setup();
		begin_chunks(off);
		cr_expect_eq(observed.directives, off ? 0 : 1, "%d", off);
		/* Nor where a call begins, but no message. */
		source.walk_from[WIRE_WRITE] = WIRE_WALK_FROM(source.position[WIRE_WRITE]);
		for (int i = 0; i < CHUNKS; i++)
			writes_chunk();
		cr_expect_eq(observed.directives, off ? 0 : 1, "%d", off);
	}
}

Test(flow, a_walk_in_a_body_that_looks_like_a_message_is_not_confirmed)
{
	char text[0x4000 + 1];

	reads(REQUEST);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 131071\r\n\r\n");
	source.walk_from[WIRE_WRITE] = WIRE_WALK_FROM(source.position[WIRE_WRITE]);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n");
	memset(text, 'a', 0x4000);
	text[0x4000] = '\0';
	for (int i = 0; i < 7; i++)
		writes(text);
	cr_expect_eq(observed.directives, 0);
}

/* It goes on over messages: all that follow are the same walk. */
Test(flow, a_walk_over_many_messages)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
	static char body[100000 + 1];

	memset(body, 'a', 100000);
	reads(REQUEST);
	source.walk_from[WIRE_WRITE] = WIRE_WALK_FROM(0);
	writes(head);
	writes(body);
	cr_expect_eq(observed.directives, 1);
	cr_expect_eq(observed.last.walk_from, WIRE_WALK_FROM(0));
	for (int i = 0; i < 3; i++) {
		observed.size = 0;
		reads(REQUEST);
		feed(source__data(&source, WIRE_WRITE, bytes__str(head),
				  (uint32_t)strlen(head) + 16000));
		source__skip(&source, WIRE_WRITE, 84000);
		feed(source__data(&source, WIRE_WRITE, bytes__of(NULL, 0), 0));
		expect("7  GET /a 200 0/100000 lost 0 tuple ok\n");
	}
	cr_expect_eq(observed.directives, 1);
	/* A head that is lost. */
	observed.size = 0;
	reads(REQUEST);
	source__lose(&source, WIRE_WRITE, strlen(head) + 16000);
	source__skip(&source, WIRE_WRITE, 84000);
	feed(source__data(&source, WIRE_WRITE, bytes__of(NULL, 0), 0));
	reads(REQUEST);
	writes(RESPONSE);
	cr_expect_not(strstr(observed.text, "100000"), "%s", observed.text);
	cr_expect(strstr(observed.text, "7  GET /a 200 0/2 lost 0 tuple ok\n"), "%s",
		  observed.text);
}

/* What a skip leaves out is no part of body_bytes: no walk may go on in the midst of it. */
Test(flow, a_walk_is_not_confirmed_during_a_skip)
{
	static char body[0x8000 + 1];

	memset(body, 'a', 0x8000);
	reads(REQUEST);
	source.walk_from[WIRE_WRITE] = WIRE_WALK_FROM(0);
	writes("HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n");
	cr_expect_eq(observed.directives, 1);
	cr_expect_eq(observed.last.walk_from, 0);
	cr_expect_eq(observed.last.skip_until, source.position[WIRE_WRITE] + 262144);
	for (int i = 0; i < 8; i++) {
		cr_expect_eq(observed.directives, 1);
		writes(body);
	}
	cr_expect_eq(observed.directives, 2);
	cr_expect_eq(observed.last.walk_from, WIRE_WALK_FROM(0));
}

/* The end of a chunk has no payload; only a walk leaves it out. */
Test(flow, a_walk_over_a_line_end_alone)
{
	begin_chunks(0);
	observed.size = 0;
	writes("2\r\nab");
	source__skip(&source, WIRE_WRITE, 2);
	writes("0\r\n\r\n");
	expect("7  GET /a 200 0/81922 lost 0 tuple ok\n");
}

Test(flow, a_close_tells_of_a_walk)
{
	begin_chunks(0);
	observed.size = 0;
	walk(1);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	cr_expect(strstr(observed.text, "7  GET /a 200 0/98304 lost 0 tuple"), "%s", observed.text);
	cr_expect_not(strstr(observed.text, " ok\n"), "%s", observed.text);
}

Test(flow, a_walk_and_a_loss)
{
	for (int order = 0; order < 3; order++) {
		teardown();
		setup();
		begin_chunks(0);
		if (order != 1)
			walk(2);
		source__lose(&source, WIRE_WRITE, 100);
		if (order > 0)
			walk(2);
		writes("0\r\n\r\n");
		reads(REQUEST);
		writes(RESPONSE);
		cr_expect_not(strstr(strstr(observed.text, "7  GET /a"), "ok\n7  GET /a"), "%d: %s",
			      order, observed.text);
		cr_expect(strstr(observed.text, " lost\n"), "%d: %s", order, observed.text);
		cr_expect(strstr(observed.text, "7  GET /a 200 0/2 lost 0 tuple ok\n"), "%d: %s",
			  order, observed.text);
	}
}

Test(flow, after_an_upgrade_nothing_is_needed)
{
	writes("GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	reads("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi");
	writes("\x81\x82....");
	cr_expect_eq(observed.directives, 2);
	writes("\x81\x82....");
	reads("\x81\x02hi");
	cr_expect_eq(observed.directives, 2);
	cr_expect_eq(observed.last.skip_until, UINT64_MAX);
	cr_expect_eq(observed.exchanges, 0);
	source__skip(&source, WIRE_WRITE, 1000);
	source__skip(&source, WIRE_READ, 2000);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	cr_expect_eq(observed.forgotten, 1);
	cr_expect_eq(observed.exchanges, 1);
	cr_expect(strstr(observed.text, "7  GET /chat 101 1012/2008 lost 0 tuple ok\n"), "%s",
		  observed.text);
}

Test(flow, the_end_tells_how_far_what_was_left_out_has_come)
{
	writes(REQUEST);
	reads("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	source__skip(&source, WIRE_READ, 4000);
	feed(source__close(&source, WIRE_CLOSE_NOT));
	cr_expect_eq(observed.exchanges, 0);
	feed(source__end(&source, 0, false));
	cr_expect(strstr(observed.text, "7  GET /a 200 0/4000 lost 0 tuple no_response\n"), "%s",
		  observed.text);
}

/* Of one direction; the other's place is not known to whoever tells. */
Test(flow, how_far_one_direction_has_come)
{
	uint64_t written;

	writes(REQUEST);
	reads("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	source__skip(&source, WIRE_READ, 4000);
	written = source.position[WIRE_WRITE];
	source.position[WIRE_WRITE] = 0;
	feed(source__close(&source, WIRE_CLOSE_NOT));
	source.position[WIRE_WRITE] = written;
	source__skip(&source, WIRE_READ, 996000);
	feed(source__close(&source, WIRE_CLOSE_NOT));
	cr_expect(strstr(observed.text, "7  GET /a 200 0/1000000 lost 0 tuple ok\n"), "%s",
		  observed.text);
}

Test(flow, nobody_to_direct)
{
	struct flow_callbacks alone = {.exchange = on_exchange};

	flow__free(flow);
	cr_assert_eq(flow__new(&alone, &flow), 0);
	reads("not HTTP at all");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("");
}

Test(flow, the_end_gives_up_what_is_open)
{
	struct source other = source__of(8, OBJECT);

	reads(REQUEST);
	call(&other, WIRE_READ, "GET /b HTTP/1.1\r\n\r\n");
	feed(source__end(&source, 0, false));
	expect("7  GET /a 0 0/0 lost 0 tuple no_response\n"
	       "8  GET /b 0 0/0 lost 0 tuple no_response\n");
}

Test(flow, enough_is_enough)
{
	reads(REQUEST);
	feed(source__end(&source, 0, true));
	expect("");
	flow__free(flow);
	flow = NULL;
	expect("");
}

/* A call on each of many connections. */
static void call_on_all(uint32_t count, enum wire_direction direction, const char *text)
{
	for (uint32_t i = 0; i < count; i++) {
		struct source each = source__of(7 + i % 16, OBJECT + i);

		if (direction == WIRE_WRITE)
			each.time_ns += each.step_ns;
		call(&each, direction, text);
	}
}

Test(flow, the_quietest_is_given_up_beyond_the_maximum)
{
	observed.quiet = true;
	call_on_all(FLOW_MAX_CONNECTIONS, WIRE_READ, REQUEST);
	cr_expect_eq(flow__counts(flow)->evicted, 0);
	/* The first is no more the quietest: the second is. */
	source = source__of(7, OBJECT);
	source.position[WIRE_READ] = strlen(REQUEST);
	reads("GET /later HTTP/1.1\r\n\r\n");
	observed.quiet = false;
	source = source__of(99, OBJECT);
	reads(REQUEST);
	expect("8  GET /a 0 0/0 lost 0 tuple no_response\n");
	source = source__of(99, OBJECT + 1);
	reads(REQUEST);
	expect("9  GET /a 0 0/0 lost 0 tuple no_response\n");
	cr_expect_eq(flow__counts(flow)->evicted, 2);
	observed.quiet = true;
	call_on_all(2 * FLOW_MAX_CONNECTIONS, WIRE_WRITE, RESPONSE);
	cr_expect_eq(flow__counts(flow)->connections - flow__counts(flow)->evicted,
		     FLOW_MAX_CONNECTIONS);
}

/* One that was given up may be back, in the middle of its stream. */
Test(flow, back_from_being_given_up)
{
	source.position[WIRE_READ] = 5000;
	source.position[WIRE_WRITE] = 5000;
	writes("{\"rest\": \"of a body\"}");
	cr_expect_eq(flow__counts(flow)->not_http, 0);
	reads(REQUEST);
	writes(RESPONSE);
	expect("direct 7 1000/1 write watch from 5021\n"
	       "7  GET /a 200 0/2 lost 0 tuple ok\n");
}

/* Of the sanitizer's allocator_interface.h, which gcc does not install. */
size_t __sanitizer_get_current_allocated_bytes(void);

static size_t allocated_bytes(void)
{
#ifdef __SANITIZE_ADDRESS__
	return __sanitizer_get_current_allocated_bytes();
#else
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#endif
}

#define IDLE_CONNECTIONS 10000
#define IDLE_MAX_BYTES	 1792 /* of one connection; with room for the allocator's own */

Test(flow, idle_connections_are_small)
{
	size_t before = allocated_bytes(), idle;

	observed.quiet = true;
	call_on_all(IDLE_CONNECTIONS, WIRE_READ, REQUEST);
	call_on_all(IDLE_CONNECTIONS, WIRE_WRITE, RESPONSE);
	cr_expect_eq(observed.exchanges, IDLE_CONNECTIONS);
	idle = allocated_bytes() - before;
	cr_expect_lt(idle, IDLE_CONNECTIONS * IDLE_MAX_BYTES, "%zu bytes each",
		     idle / IDLE_CONNECTIONS);
	for (uint32_t i = 0; i < IDLE_CONNECTIONS; i++) {
		struct source each = source__of(7 + i % 16, OBJECT + i);

		feed(source__close(&each, WIRE_CLOSE_FREE));
	}
	/* Sixteen processes remain, and what the allocator keeps. */
	cr_expect_lt(allocated_bytes() - before, 64 * 1024, "%zu bytes left",
		     allocated_bytes() - before);
}

Test(flow, processes_that_are_gone_hold_nothing)
{
	size_t before = allocated_bytes();

	for (uint32_t pid = 1; pid <= 100000; pid++) {
		source = source__of(pid, OBJECT);
		feed(source__process(&source, "/bin/short-lived"));
		feed(source__exit(&source));
	}
	cr_expect_lt(allocated_bytes() - before, 64 * 1024);
}

/* A request for `path` and its response. */
static void exchange(struct source *from, const char *path)
{
	char request[128];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	call(from, WIRE_READ, request);
	call(from, WIRE_WRITE, RESPONSE);
}

static const struct wire_tuple no_tuple;

/* As `source`, its socket not found yet. */
static struct source unfound(uint32_t pid, uint64_t object)
{
	struct source from = source__of(pid, object);

	from.tuple = no_tuple;
	return from;
}

/* The socket of a connection is found, and a record says so. */
static void find(struct source *from)
{
	from->tuple = source__of(0, 0).tuple;
	feed(source__socket(from));
}

/* When an exchange that has just ended must go on. */
static uint64_t deadline(const struct source *from)
{
	return from->time_ns - from->step_ns + WAITING_NS;
}

Test(flow, an_exchange_waits_for_its_socket)
{
	source.tuple = no_tuple;
	cr_expect_eq(flow__waits_until(flow), 0);
	reads(REQUEST);
	cr_expect_eq(flow__waits_until(flow), 0);
	writes(RESPONSE);
	expect("");
	cr_expect_eq(flow__waits_until(flow), deadline(&source));
	find(&source);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
	cr_expect_eq(flow__waits_until(flow), 0);
	exchange(&source, "/b");
	expect("7  GET /b 200 0/2 lost 0 tuple ok\n");
}

Test(flow, those_that_wait_keep_their_order)
{
	struct source other = unfound(8, OBJECT);

	source.tuple = no_tuple;
	exchange(&source, "/1");
	exchange(&other, "/other");
	exchange(&source, "/2");
	exchange(&source, "/3");
	expect("");
	find(&source);
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n"
	       "7  GET /2 200 0/2 lost 0 tuple ok\n"
	       "7  GET /3 200 0/2 lost 0 tuple ok\n");
	cr_expect_eq(flow__waits_until(flow), deadline(&other));
	find(&other);
	expect("8  GET /other 200 0/2 lost 0 tuple ok\n");
}

Test(flow, any_record_brings_the_socket)
{
	struct wire_tuple tuple = source.tuple;

	source.tuple = no_tuple;
	exchange(&source, "/1");
	source.tuple = tuple;
	reads(REQUEST);
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n");
	source = unfound(7, OBJECT + 1);
	exchange(&source, "/1");
	source.tuple = tuple;
	feed(source__close(&source, WIRE_CLOSE_SHUTDOWN));
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n");
	source = unfound(7, OBJECT + 2);
	exchange(&source, "/1");
	reads(REQUEST);
	source.tuple = tuple;
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n"
	       "7  GET /a 0 0/0 lost 0 tuple no_response\n");
}

/* What is over finds no socket any more; what waited goes before what is given up. */
Test(flow, the_end_of_a_connection_ends_the_wait)
{
	static const char both[] = "7 /bin/a GET /1 200 0/2 lost 0 none ok\n"
				   "7 /bin/a GET /a 0 0/0 lost 0 none no_response\n";

	for (int how = 0; how < 5; how++) {
		feed(source__process(&source, "/bin/a"));
		source.connection.generation++;
		source.position[0] = source.position[1] = 0;
		source.tuple = no_tuple;
		exchange(&source, "/1");
		reads(REQUEST);
		expect("");
		if (how == 0)
			feed(source__close(&source, WIRE_CLOSE_FREE));
		else if (how == 1)
			feed(source__close(&source, WIRE_CLOSE_REUSE));
		else if (how == 2)
			feed(source__exit(&source));
		else if (how == 3)
			feed(source__process(&source, "/bin/b"));
		else
			feed(source__end(&source, 0, false));
		expect(both);
		cr_expect_eq(flow__waits_until(flow), 0);
	}
}

Test(flow, another_connection_in_the_object_ends_the_wait)
{
	struct source next = source__of(7, OBJECT);

	source.tuple = no_tuple;
	exchange(&source, "/1");
	/* The close was lost. */
	next.connection.generation++;
	next.time_ns = source.time_ns;
	call(&next, WIRE_READ, REQUEST);
	expect("7  GET /1 200 0/2 lost 0 none ok\n");
}

Test(flow, nothing_waits_when_it_is_enough)
{
	source.tuple = no_tuple;
	exchange(&source, "/1");
	feed(source__end(&source, 0, true));
	expect("");
	flow__free(flow);
	flow = NULL;
	expect("");
}

/* A record of each type, of others. */
static struct bytes anything(enum wire_type type, uint64_t time_ns)
{
	struct source other = source__of(9, OBJECT);

	other.time_ns = time_ns;
	switch (type) {
	case WIRE_DATA:
		return source__data(&other, WIRE_READ, bytes__of(NULL, 0), 1);
	case WIRE_CLOSE:
		return source__close(&other, WIRE_CLOSE_FREE);
	case WIRE_PROCESS:
		return source__process(&other, "/bin/other");
	case WIRE_EXIT:
		return source__exit(&other);
	case WIRE_SOCKET:
		return source__socket(&other);
	case WIRE_FRAMES:
		return source__frames(&other, WIRE_READ, NULL, 0, 0, 0);
	default:
		return source__tick(&other);
	}
}

Test(flow, any_record_tells_the_time)
{
	static const enum wire_type types[] = {WIRE_DATA,   WIRE_CLOSE, WIRE_PROCESS, WIRE_EXIT,
					       WIRE_SOCKET, WIRE_TICK,	WIRE_FRAMES};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		source = unfound(7, OBJECT + i);
		exchange(&source, "/1");
		exchange(&source, "/2");
		feed(anything(types[i], deadline(&source) - 2 * source.step_ns - 1));
		expect("");
		feed(anything(types[i], deadline(&source) - 2 * source.step_ns));
		expect("7  GET /1 200 0/2 lost 0 none ok\n");
		feed(anything(types[i], deadline(&source) + 1));
		expect("7  GET /2 200 0/2 lost 0 none ok\n");
		cr_expect_eq(flow__waits_until(flow), 0);
		/* The socket is for what comes later. */
		find(&source);
		exchange(&source, "/3");
		expect("7  GET /3 200 0/2 lost 0 tuple ok\n");
		feed(anything(WIRE_EXIT, source.time_ns));
	}
}

Test(flow, the_record_at_the_deadline_may_bring_the_socket)
{
	source.tuple = no_tuple;
	exchange(&source, "/1");
	source.time_ns = deadline(&source);
	find(&source);
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n");
}

/* Records of different processors come a little out of order, and recordings may be hostile. */
Test(flow, times_out_of_order)
{
	struct source other = unfound(8, OBJECT);
	uint64_t first;

	source.tuple = no_tuple;
	source.time_ns += 500;
	exchange(&source, "/1");
	first = flow__waits_until(flow);
	exchange(&other, "/2"); /* 500 ns before that */
	cr_expect_eq(flow__waits_until(flow), first);
	feed(anything(WIRE_TICK, first));
	expect("7  GET /1 200 0/2 lost 0 none ok\n"
	       "8  GET /2 200 0/2 lost 0 none ok\n");
	other.time_ns = UINT64_MAX - 2 * other.step_ns;
	exchange(&other, "/3");
	cr_expect_eq(flow__waits_until(flow), UINT64_MAX);
	find(&other);
	expect("8  GET /3 200 0/2 lost 0 tuple ok\n");
}

/* Calls used different sockets: the probes say none, for good. */
Test(flow, an_ambiguous_connection_waits_for_nothing)
{
	struct wire_tuple tuple = source.tuple;

	exchange(&source, "/1");
	source.tuple = no_tuple;
	exchange(&source, "/2");
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n"
	       "7  GET /2 200 0/2 lost 0 none ok\n");
	/* A record of before that. */
	source.tuple = tuple;
	source.time_ns -= 3 * source.step_ns;
	feed(source__socket(&source));
	source.tuple = no_tuple;
	exchange(&source, "/3");
	expect("7  GET /3 200 0/2 lost 0 none ok\n");
	cr_expect_eq(flow__waits_until(flow), 0);
}

Test(flow, a_record_of_before_the_socket_was_found_takes_nothing_back)
{
	uint64_t before;

	source.tuple = no_tuple;
	reads(REQUEST);
	before = source.time_ns;
	source.time_ns += 10 * source.step_ns;
	find(&source);
	source.tuple = no_tuple;
	source.time_ns = before;
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, a_socket_of_nobody)
{
	struct source other = source__of(8, OBJECT);

	feed(source__socket(&other));
	cr_expect_eq(flow__counts(flow)->connections, 0);
	source.tuple = no_tuple;
	exchange(&source, "/1");
	other = source__of(7, OBJECT);
	for (uint64_t generation = 0; generation < 4; generation += 2) {
		other.connection.generation = generation;
		feed(source__socket(&other));
	}
	expect("");
	exchange(&source, "/2");
	cr_expect_eq(flow__counts(flow)->connections, 1);
	find(&source);
	expect("7  GET /1 200 0/2 lost 0 tuple ok\n"
	       "7  GET /2 200 0/2 lost 0 tuple ok\n");
}

Test(flow, so_many_of_a_connection_wait)
{
	char path[16];

	source.step_ns = 1000;
	source.tuple = no_tuple;
	for (int i = 0; i < WAITING_MAX_OF_CONNECTION; i++) {
		snprintf(path, sizeof(path), "/%d", i);
		exchange(&source, path);
	}
	expect("");
	exchange(&source, "/more");
	expect("7  GET /0 200 0/2 lost 0 none ok\n");
	exchange(&source, "/more");
	expect("7  GET /1 200 0/2 lost 0 none ok\n");
	find(&source);
	cr_expect_eq(observed.exchanges, WAITING_MAX_OF_CONNECTION + 2);
}

#define LONG_BYTES 60000

Test(flow, so_much_waits)
{
	size_t before = allocated_bytes(), wanted = 2 * WAITING_MAX_BYTES / LONG_BYTES;
	struct buf request;

	buf__init(&request, 2 * LONG_BYTES);
	cr_assert_eq(buf__append_str(&request, "GET /long HTTP/1.1\r\nLong: "), 0);
	for (int i = 0; i < LONG_BYTES; i++)
		cr_assert_eq(buf__append_byte(&request, 'x'), 0);
	cr_assert_eq(buf__append(&request, bytes__of("\r\n\r\n", 5)), 0);
	observed.quiet = true;
	for (size_t i = 0; i < wanted; i++) {
		struct source each = unfound(7, OBJECT + i);

		call(&each, WIRE_READ, (const char *)request.data);
		call(&each, WIRE_WRITE, RESPONSE);
	}
	cr_expect_gt(observed.exchanges, wanted / 3);
	cr_expect_lt(observed.exchanges, wanted);
	/* With the allocator's own for each that waits. */
	cr_expect_lt(allocated_bytes() - before,
		     WAITING_MAX_BYTES + wanted * (IDLE_MAX_BYTES + 256));
	feed(anything(WIRE_TICK, flow__waits_until(flow) + WAITING_NS));
	cr_expect_eq(observed.exchanges, wanted);
	cr_expect_lt(allocated_bytes() - before, wanted * IDLE_MAX_BYTES + 1024 * 1024);
	buf__free(&request);
}

Test(flow, one_that_waits_is_given_up_with_its_connection)
{
	struct source waits = unfound(7, OBJECT - 1);

	exchange(&waits, "/1");
	observed.quiet = true;
	call_on_all(FLOW_MAX_CONNECTIONS - 1, WIRE_READ, REQUEST);
	observed.quiet = false;
	expect("");
	source = source__of(99, OBJECT);
	reads(REQUEST);
	expect("7  GET /1 200 0/2 lost 0 none ok\n");
	cr_expect_eq(flow__waits_until(flow), 0);
}

Test(flow, facts_of_tcp)
{
	struct wire_tcp tcp = {.seq = 100, .ack = 200, .rtt_us = 300, .retransmits = 1};

	exchange(&source, "/");
	cr_expect_not(observed.tcp.has_seq || observed.tcp.has_rtt || observed.tcp.has_retransmits);

	source.flags |= WIRE_TCP_SEQ | WIRE_TCP_STATE;
	source.tcp = tcp;
	reads(REQUEST);
	source.tcp = (struct wire_tcp){.seq = 900, .ack = 901, .rtt_us = 902, .retransmits = 2};
	writes(RESPONSE);
	cr_expect(observed.tcp.has_seq && observed.tcp.has_rtt && observed.tcp.has_retransmits);
	cr_expect_eq(observed.tcp.seq, 100);
	cr_expect_eq(observed.tcp.ack, 200);
	cr_expect_eq(observed.tcp.rtt_us, 300);
	cr_expect_eq(observed.tcp.retransmits, 2);

	/* Of the call with the first byte, though the line ends in another. */
	source.tcp = tcp;
	reads("GE");
	source.tcp.seq = 500;
	reads("T /b HTTP/1.1\r\n\r\n");
	source.flags &= ~(WIRE_TCP_SEQ | WIRE_TCP_STATE);
	writes(RESPONSE);
	cr_expect_eq(observed.tcp.seq, 100);
	cr_expect_eq(observed.tcp.retransmits, 1);

	/* Where only the state is known, or nothing, and the retransmits from before. */
	source.flags |= WIRE_TCP_STATE;
	exchange(&source, "/c");
	cr_expect(!observed.tcp.has_seq && observed.tcp.has_rtt);
	cr_expect_eq(observed.tcp.seq, 0);
	source.flags &= ~WIRE_TCP_STATE;
	exchange(&source, "/d");
	cr_expect(!observed.tcp.has_rtt && observed.tcp.has_retransmits);
	cr_expect_eq(observed.tcp.retransmits, 1);
}

/* Two requests in one call, the first one such that the second begins `offset` bytes behind. */
static void read_two(unsigned int offset)
{
	char text[1024];

	snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
		 (int)(offset - strlen("GET / HTTP/1.1\r\n\r\n")), 0);
	reads(text);
}

Test(flow, seq_is_known_in_the_first_tls_record_of_a_call)
{
	source.flags |= WIRE_TCP_SEQ;
	source.tcp.seq = 100;
	exchange(&source, "/");
	for (unsigned int offset = 510; offset < 515; offset++) {
		read_two(offset);
		writes(RESPONSE);
		cr_expect(observed.tcp.has_seq);
		writes(RESPONSE);
		cr_expect_eq(observed.tcp.has_seq, offset < 512, "%u", offset);
	}
	/* A further piece of a call. */
	source.flags &= ~WIRE_CALL_START;
	exchange(&source, "/");
	cr_expect_not(observed.tcp.has_seq);
	cr_expect_eq(observed.exchanges, 12);
}

/* The first bytes of a connection, of which it is not known at once what they are. */
Test(flow, seq_of_what_waited_for_a_verdict)
{
	source.flags |= WIRE_TCP_SEQ | WIRE_TCP_STATE;
	source.tcp = (struct wire_tcp){.seq = 100, .ack = 200, .rtt_us = 300};
	reads("G");
	source.tcp = (struct wire_tcp){.seq = 500, .ack = 600, .rtt_us = 700};
	reads("ET /a HTTP/1.1\r\n\r\n");
	writes(RESPONSE);
	cr_expect(observed.tcp.has_seq);
	cr_expect_eq(observed.tcp.seq, 100);
	cr_expect_eq(observed.tcp.rtt_us, 300);
}

/* Once an exchange has been seen; without a length, which the parser keeps for itself. */
Test(flow, waiting_needs_no_memory)
{
	for (int i = 0; i < 3; i++) {
		if (i)
			failing_alloc__arm(0);
		reads(REQUEST);
		writes("HTTP/1.1 204 No Content\r\n\r\n");
		cr_expect_not(failing_alloc__disarm());
	}
	cr_expect_eq(observed.exchanges, 3);
	source = unfound(7, OBJECT + 1);
	exchange(&source, "/a");
	failing_alloc__arm(0);
	find(&source);
	cr_expect_not(failing_alloc__disarm());
	cr_expect_eq(observed.exchanges, 4);
}

Test(flow, no_memory_at_all)
{
	struct flow *none = NULL;

	failing_alloc__arm(0);
	cr_expect_neq(flow__new(&callbacks, &none), 0);
	failing_alloc__disarm();
	cr_expect_null(none);
	flow__free(NULL);
}

/* With the socket known at once, or found at last. */
static void converse(bool waits)
{
	source = waits ? unfound(7, OBJECT) : source__of(7, OBJECT);
	feed(source__process(&source, "/bin/server"));
	reads(REQUEST);
	writes(RESPONSE);
	if (waits)
		find(&source);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	feed(source__exit(&source));
}

static void fail_each_allocation(bool waits)
{
	static const char whole[] = "7 /bin/server GET /a 200 0/2 lost 0 tuple ok\n";
	uint64_t failures = 0;
	bool fired = true;

	for (unsigned int nth = 0; fired; nth++) {
		flow__free(flow);
		setup();
		failing_alloc__arm(nth);
		converse(waits);
		fired = failing_alloc__disarm();
		if (!fired) {
			expect(whole);
			cr_expect_eq(flow__counts(flow)->out_of_memory, 0);
			break;
		}
		failures++;
		cr_expect_gt(flow__counts(flow)->out_of_memory, 0, "allocation %u", nth);
		/* Right, without its executable, not complete, or not there. */
		cr_expect(!strcmp(observed.text, whole) || !strstr(observed.text, " ok\n") ||
				  !strcmp(observed.text, "7  GET /a 200 0/2 lost 0 tuple ok\n"),
			  "allocation %u: %s", nth, observed.text);
		/* And the flow goes on. */
		observed.size = 0;
		converse(waits);
		expect(whole);
	}
	cr_expect_gt(failures, 10);
}

Test(flow, each_allocation_fails_in_turn)
{
	fail_each_allocation(false);
	fail_each_allocation(true);
}

/* ---- an answer that was read before the call returned that sent the question ---- */

#define ANSWERED "7  GET /a 200 0/2 lost 0 tuple ok\n"

/* What is read while a call writes that has not returned. */
static void reads_meanwhile(const char *text)
{
	source.flags |= WIRE_WRITE_RUNS;
	reads(text);
	source.flags &= (uint8_t)~WIRE_WRITE_RUNS;
}

/* That call returns: it began before all that came since `since_ns`. */
static void writes_since_bytes(const char *text, size_t size, uint64_t since_ns)
{
	uint64_t step_ns = source.step_ns;

	source.step_ns = 2 * (source.time_ns - since_ns) + 2;
	feed(source__data(&source, WIRE_WRITE, bytes__of(text, size), (uint32_t)size));
	source.step_ns = step_ns;
}

static void writes_since(const char *text, uint64_t since_ns)
{
	writes_since_bytes(text, strlen(text), since_ns);
}

Test(flow, an_answer_waits_for_its_question)
{
	uint64_t begun_ns = source.time_ns;

	source.time_ns += source.step_ns;
	reads_meanwhile(RESPONSE);
	expect("");
	cr_expect_eq(flow__waits_until(flow), source.time_ns - source.step_ns + HELD_NS);
	writes_since(REQUEST, begun_ns);
	expect(ANSWERED);
	cr_expect_eq(flow__waits_until(flow), 0);
}

Test(flow, pieces_of_an_answer_wait_in_order)
{
	uint64_t begun_ns = source.time_ns;

	source.time_ns += source.step_ns;
	reads_meanwhile("HTTP/1.1 200 OK\r\nContent-Le");
	reads_meanwhile("ngth: 2\r\n\r\n");
	reads_meanwhile("ok");
	writes_since(REQUEST, begun_ns);
	expect(ANSWERED);
}

/* What it wrote was left out, so that no record came. */
Test(flow, a_later_read_tells_that_nothing_is_waited_for)
{
	writes(REQUEST);
	reads_meanwhile("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
	reads("ok");
	expect(ANSWERED);
}

Test(flow, an_answer_does_not_wait_for_a_later_call)
{
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	expect("");
	writes("GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
	expect(ANSWERED);
	reads(RESPONSE);
	expect("7  GET /b 200 0/2 lost 0 tuple ok\n");
}

/* Else the answer would come within the question: the records of a call are one after the other. */
Test(flow, an_answer_waits_for_all_of_its_question)
{
	static char body[2 * WIRE_PIECE_BYTES];
	uint64_t begun_ns = source.time_ns;
	int head = snprintf(body, sizeof(body),
			    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n",
			    WIRE_PIECE_BYTES);

	memset(body + head, 'b', WIRE_PIECE_BYTES);
	source.time_ns += source.step_ns;
	reads_meanwhile(RESPONSE);
	body[head + WIRE_PIECE_BYTES] = '\0';
	writes_since_bytes(body, WIRE_PIECE_BYTES, begun_ns);
	expect("");
	writes_since_bytes(body + WIRE_PIECE_BYTES, (size_t)head, begun_ns);
	expect("7  POST /a 200 16384/2 lost 0 tuple ok\n");
	cr_expect_eq(flow__waits_until(flow), 0);
}

/* As of a server: the next request begins to come while it still answers the one that was lost. */
Test(flow, a_loss_before_what_waits_is_told_before_the_write)
{
	uint64_t begun_ns;

	reads(REQUEST);
	writes(RESPONSE);
	expect(ANSWERED);
	source__lose(&source, WIRE_READ, strlen(REQUEST));
	begun_ns = source.time_ns;
	source.time_ns += source.step_ns;
	reads_meanwhile("G");
	writes_since(RESPONSE, begun_ns);
	reads("ET /b HTTP/1.1\r\nHost: h\r\n\r\n");
	expect("7    200 0/2 lost 28 tuple lost\ndirect 7 1000/1 read watch from 57\n");
	writes(RESPONSE);
	expect("7  GET /b 200 0/2 lost 0 tuple ok\n");
}

Test(flow, an_answer_does_not_wait_for_ever)
{
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	source.time_ns += HELD_NS - 2 * source.step_ns;
	feed(source__tick(&source));
	expect("");
	feed(source__tick(&source));
	expect(ANSWERED);
	cr_expect_eq(flow__waits_until(flow), 0);
}

Test(flow, what_ends_a_connection_comes_after_what_waits)
{
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect(ANSWERED);
	source = source__of(7, OBJECT + 16);
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	feed(source__exit(&source));
	expect(ANSWERED);
	source = source__of(8, OBJECT);
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	feed(source__end(&source, 0, false));
	expect("8  GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, what_waits_is_bounded)
{
	char body[60000 + 1];
	uint64_t begun_ns = source.time_ns;

	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	source.time_ns += source.step_ns;
	reads_meanwhile("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
	for (int i = 0; i < 5; i++)
		reads_meanwhile(body);
	writes_since(REQUEST, begun_ns);
	/* The question came too late. */
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("direct 7 1000/1 read skip to 300043\n"
	       "7    200 0/300000 lost 0 tuple desync\n"
	       "7  GET /a 0 0/0 lost 0 tuple no_response\n"
	       "forget 7 1000/1\n");
	cr_expect_eq(flow__counts(flow)->out_of_memory, 0);
}

/* Of a recording, the time may be anything. */
Test(flow, what_waits_since_the_beginning_of_time)
{
	source.time_ns = 0;
	source.step_ns = 0;
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	expect("");
	source.time_ns = HELD_NS;
	feed(source__tick(&source));
	expect(ANSWERED);
	source = source__of(7, OBJECT + 16);
	source.time_ns = 0;
	source.step_ns = 0;
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	feed(source__exit(&source));
	expect(ANSWERED);
	source = source__of(8, OBJECT);
	source.time_ns = UINT64_MAX;
	source.step_ns = 0;
	writes(REQUEST);
	reads_meanwhile(RESPONSE);
	expect("8  GET /a 200 0/2 lost 0 tuple ok\n");
}

Test(flow, without_memory_an_answer_goes_on_at_once)
{
	writes(REQUEST);
	source.flags |= WIRE_WRITE_RUNS;
	{
		struct bytes record =
			source__data(&source, WIRE_READ, bytes__str(RESPONSE), strlen(RESPONSE));
		struct event event;

		cr_assert_eq(intake__event(record, &event), 0);
		failing_alloc__arm(0);
		flow__event(flow, &event);
		cr_expect(failing_alloc__disarm());
		record__free(record);
	}
	expect(ANSWERED);
}

/* HEADERS with END_STREAM; a block of 4 bytes. */
#define LATE_REQUEST(id)  "\0\0\4\1\5\0\0\0" id "\x82\x87\x84\xbe"
#define LATE_RESPONSE(id) "\0\0\1\1\5\0\0\0" id "\x88"

static void call_h2(enum wire_direction direction, const char *bytes, size_t size)
{
	feed(source__data(&source, direction, bytes__of(bytes, size), (uint32_t)size));
}

#define READS(frame)  call_h2(WIRE_READ, frame, sizeof(frame) - 1)
#define WRITES(frame) call_h2(WIRE_WRITE, frame, sizeof(frame) - 1)

static struct bytes a_table(uint64_t back)
{
	static const char *const fields[] = {"user-agent", "thing/1.0"};
	struct bytes record;

	source.position[WIRE_READ] -= back;
	record = source__table(&source, WIRE_READ, bytes__of(NULL, 0), fields, 1);
	source.position[WIRE_READ] += back;
	return record;
}

Test(flow, a_table_is_asked_for_where_something_is_unknown)
{
	const struct protocol_counts *counts = &flow__counts(flow)->protocol;

	source.flags = WIRE_CALL_START;
	READS(LATE_REQUEST("\3"));
	expect("table 7 1000/1 read\n");
	WRITES(LATE_RESPONSE("\3"));
	expect("7  GET / 200 0/0 lost 0 tuple unknown_headers\n");
	/* It is asked for again, but not at once; in the other direction all is known. */
	READS(LATE_REQUEST("\5"));
	WRITES(LATE_RESPONSE("\5"));
	expect("7  GET / 200 0/0 lost 0 tuple unknown_headers\n");
	source.time_ns += 1000000000;
	READS(LATE_REQUEST("\7"));
	expect("table 7 1000/1 read\n");
	WRITES(LATE_RESPONSE("\7"));
	expect("7  GET / 200 0/0 lost 0 tuple unknown_headers\n");
	/* Not of what did not pass, of another connection, or of another generation. */
	source.position[WIRE_READ] += 100;
	feed(a_table(0));
	source.position[WIRE_READ] -= 100;
	source.connection.generation = 2;
	feed(a_table(0));
	source.connection.generation = 1;
	source.connection.object++;
	feed(a_table(0));
	source.connection.object--;
	expect("");
	cr_expect_eq(counts->tables_adopted, 0);
	/* As of before the call that passed last. */
	feed(a_table(sizeof(LATE_REQUEST("\7")) - 1));
	expect("table 7 1000/1 read not\n");
	cr_expect_eq(counts->tables_adopted, 1);
	READS(LATE_REQUEST("\x9"));
	WRITES(LATE_RESPONSE("\x9"));
	expect("7  GET / 200 0/0 lost 0 tuple ok\n");
	feed(source__close(&source, WIRE_CLOSE_FREE));
	expect("forget 7 1000/1\n");
}

Test(flow, a_table_that_never_comes_is_not_asked_for_without_end)
{
	unsigned int asked = 0;

	source.flags = WIRE_CALL_START;
	source.step_ns = 1000000000;
	observed.size = 0;
	for (int i = 0; i < 100; i++) {
		READS(LATE_REQUEST("\3"));
		asked += !!strstr(observed.text, "table 7");
		observed.size = 0;
		observed.text[0] = '\0';
	}
	cr_expect_eq(asked, 50);
}

Test(flow, a_table_of_what_is_no_http2)
{
	reads(REQUEST);
	feed(a_table(0));
	writes(RESPONSE);
	expect("7  GET /a 200 0/2 lost 0 tuple ok\n");
}
