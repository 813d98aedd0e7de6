/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP/1 parser on chunked bodies of which the probes walked over a part: whatever part it was,
 * the exchanges are those of all bytes.
 */
#include "proto/parser.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define REQUESTS                                                                                   \
	"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"                                   \
	"1\r\nx\r\n0\r\n\r\n"                                                                      \
	"GET /2 HTTP/1.1\r\n\r\n"
#define HEAD   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n"
#define CHUNKS "5\r\nhello\r\n0A;ext=1\r\n0123\r\n5\r\n9\r\n1\r\n\n\r\nc\r\n0\r\n\r\nb234567\r\n"
#define END    "000\r\nA: 1\r\nB: 2\r\n\r\n"
#define NEXT   "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"

static const char response[] = HEAD CHUNKS END NEXT;

/* Size lines, and how long they are, in CHUNKS; the last one is the end's. */
static const struct {
	const char *line;
	size_t payload;
} chunks[] = {{"5\r\n", 5}, {"0A;ext=1\r\n", 10}, {"1\r\n", 1}, {"c\r\n", 12}, {"000\r\n", 0}};

#define CHUNK_COUNT (sizeof(chunks) / sizeof(chunks[0]) - 1)

static char text[1024];
static size_t text_size;
static struct connection connection;
static struct pairing *pairing;
static struct parser *parser;
static const struct passage when = {.first_ns = 1, .last_ns = 2};

static bool on_done(void *context, struct exchange *exchange)
{
	text_size +=
		(size_t)snprintf(text + text_size, sizeof(text) - text_size,
				 "%.*s %u %llu/%llu lost %llu trailers %zu ended %d%d reason %d\n",
				 (int)exchange->path.size,
				 (const char *)buf__view(&exchange->path).data, exchange->status,
				 (unsigned long long)exchange->request.body_bytes,
				 (unsigned long long)exchange->response.body_bytes,
				 (unsigned long long)exchange->response.lost_bytes,
				 exchange->response.trailers.count, exchange->request.ended,
				 exchange->response.ended, exchange->reason);
	return false;
}

static void begin(void)
{
	text_size = 0;
	text[0] = '\0';
	connection = (struct connection){0};
	cr_assert_eq(pairing__new(&connection, on_done, NULL, &pairing), 0);
	cr_assert_eq(http1_ops.open(pairing, &connection, true, &parser), 0);
}

static void end(void)
{
	http1_ops.end(parser, WIRE_READ, END_CLOSED, when.last_ns);
	http1_ops.free(parser);
	pairing__free(pairing);
}

static void feed(enum wire_direction direction, const char *bytes, size_t size)
{
	if (size)
		cr_assert_eq(http1_ops.data(parser, direction, bytes__of(bytes, size), true, &when),
			     0);
}

static void walk(size_t size, size_t body)
{
	http1_ops.walked(parser, WIRE_WRITE, size, body, &when);
}

static bool began(void)
{
	return http1_ops.began(parser, WIRE_WRITE);
}

static const char whole[] = "/1 200 1/28 lost 0 trailers 2 ended 11 reason 0\n"
			    "/2 201 0/2 lost 0 trailers 0 ended 11 reason 0\n";

/* Where chunk `index`'s size line begins in the response. */
static size_t line_at(size_t index)
{
	size_t at = strlen(HEAD);

	for (size_t i = 0; i < index; i++)
		at += strlen(chunks[i].line) + chunks[i].payload + 2;
	return at;
}

/* The response's payload bytes in [from, to). */
static size_t payload_in(size_t from, size_t to)
{
	size_t count = 0;

	for (size_t i = 0; i < CHUNK_COUNT; i++) {
		size_t first = line_at(i) + strlen(chunks[i].line);

		for (size_t at = first; at < first + chunks[i].payload; at++)
			count += at >= from && at < to;
	}
	return count;
}

/* Whether the byte belongs to a size line; at its beginning a walk may start. */
static bool inside_line(size_t at)
{
	for (size_t i = 0; i <= CHUNK_COUNT; i++)
		if (at > line_at(i) && at < line_at(i) + strlen(chunks[i].line))
			return true;
	return false;
}

/* What is left out begins anywhere but inside a size line, and ends before one. */
Test(http1_walk, any_part_may_be_walked_over)
{
	size_t tried = 0;

	cr_assert_eq(line_at(CHUNK_COUNT), strlen(HEAD CHUNKS));
	for (size_t from = strlen(HEAD); from < strlen(HEAD CHUNKS); from++)
		for (size_t last = 0; last <= CHUNK_COUNT; last++) {
			size_t to = line_at(last);

			if (to <= from || inside_line(from))
				continue;
			begin();
			feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
			feed(WIRE_WRITE, response, from);
			walk(to - from, payload_in(from, to));
			feed(WIRE_WRITE, response + to, strlen(response) - to);
			end();
			cr_assert_str_eq(text, whole, "%zu to %zu:\n%s", from, to, text);
			tried++;
		}
	cr_assert_gt(tried, 50);
}

/* Walks follow one another, with nothing or with a chunk between them. */
Test(http1_walk, many_walks)
{
	for (unsigned int walks = 0; walks < 1U << CHUNK_COUNT; walks++) {
		begin();
		feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
		feed(WIRE_WRITE, response, strlen(HEAD));
		for (size_t i = 0; i < CHUNK_COUNT; i++) {
			size_t size = line_at(i + 1) - line_at(i);

			if (walks >> i & 1)
				walk(size, chunks[i].payload);
			else
				feed(WIRE_WRITE, response + line_at(i), size);
		}
		feed(WIRE_WRITE, END NEXT, strlen(END NEXT));
		end();
		cr_assert_str_eq(text, whole, "%x:\n%s", walks, text);
	}
}

Test(http1_walk, began_where_a_message_begins)
{
	size_t next = strlen(HEAD CHUNKS END);

	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	for (size_t i = 0; i < strlen(response); i++) {
		feed(WIRE_WRITE, response + i, 1);
		cr_expect_eq(began(), i == 0 || i == next, "at %zu", i);
		cr_expect(http1_ops.began(parser, WIRE_READ));
	}
	end();
	cr_expect_str_eq(text, whole, "%s", text);
	/* However many of them come at once, and however they go on. */
	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	feed(WIRE_WRITE, response, strlen(response));
	cr_expect(began());
	end();
}

Test(http1_walk, began_after_a_search)
{
	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	http1_ops.gap(parser, WIRE_WRITE, 100, GAP_LOST, &when);
	feed(WIRE_WRITE, "nothing", 7);
	cr_expect_not(began());
	/* Where a start line is split, it is not known soon enough. */
	feed(WIRE_WRITE, "HTTP/1.1 20", 11);
	cr_expect_not(began());
	feed(WIRE_WRITE, "1 Created\r\nContent-Length: 2\r\n\r\nok", 35);
	cr_expect_not(began());
	feed(WIRE_WRITE, NEXT, strlen(NEXT));
	cr_expect(began());
	http1_ops.gap(parser, WIRE_WRITE, 100, GAP_LOST, &when);
	feed(WIRE_WRITE, NEXT NEXT, strlen(NEXT NEXT));
	cr_expect(began());
	/* What begins a call where no message was to begin. */
	feed(WIRE_WRITE, HEAD "5\r\nhello\r\n", strlen(HEAD "5\r\nhello\r\n"));
	cr_expect(began());
	feed(WIRE_WRITE, NEXT, strlen(NEXT));
	cr_expect(http1_ops.searching(parser, WIRE_WRITE) || began());
	end();
}

/* A walk is a gap like any other where no chunks are: between messages it loses the place. */
Test(http1_walk, without_chunks)
{
	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	walk(10, 5);
	cr_expect(http1_ops.searching(parser, WIRE_WRITE));
	feed(WIRE_WRITE, HEAD, strlen(HEAD));
	cr_expect_not(http1_ops.searching(parser, WIRE_WRITE));
	end();
	cr_expect_null(strstr(text, "reason 0"), "%s", text);
}

Test(http1_walk, in_a_body_of_known_length)
{
	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	feed(WIRE_WRITE, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0",
	     strlen("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0"));
	walk(9, 3);
	cr_expect_str_eq(text, "/1 200 1/10 lost 0 trailers 0 ended 11 reason 0\n", "%s", text);
	end();
}

Test(http1_walk, a_gap_after_it)
{
	for (int kind = 0; kind < 2; kind++) {
		begin();
		feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
		feed(WIRE_WRITE, HEAD "5\r\nhello\r\n", strlen(HEAD "5\r\nhello\r\n"));
		walk(100, 80);
		http1_ops.gap(parser, WIRE_WRITE, 10, kind, &when);
		cr_expect(http1_ops.searching(parser, WIRE_WRITE));
		/* Nothing is left of the body that a walk could go on in. */
		walk(50, 40);
		cr_expect(http1_ops.searching(parser, WIRE_WRITE));
		feed(WIRE_WRITE, NEXT, strlen(NEXT));
		end();
		cr_expect_null(strstr(text, "200 1/85 lost 0 trailers 0 ended 11 reason 0"), "%s",
			       text);
		cr_expect_not_null(strstr(text, "200 1/85 lost"), "%s", text);
	}
}

Test(http1_walk, closed_after_it)
{
	begin();
	feed(WIRE_READ, REQUESTS, strlen(REQUESTS));
	feed(WIRE_WRITE, HEAD, strlen(HEAD));
	walk(100, 80);
	end();
	cr_expect(strncmp(text, "/1 200 1/80 lost 0 trailers 0 ended 10", 38) == 0, "%s", text);
}
