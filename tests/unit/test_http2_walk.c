/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the HTTP/2 parser makes of frames that the probes left out: the numbers, the place behind
 * them, and what cannot be. That both sides understand frames alike is test_walk.c's.
 */
#include "proto/parser.h"
#include "reasons.h"

#include <criterion/criterion.h>

static struct protocol_counts counts;
static struct connection connection;
static struct pairing *pairing;
static struct parser *parser;
static const struct passage when = {.first_ns = 1, .last_ns = 2};

/* Of the last exchange that ended, and how many did. */
static struct {
	size_t count;
	uint64_t body_bytes;
	uint64_t lost_bytes;
	bool has_messages;
	uint64_t messages;
	bool complete;
} seen;

static bool on_exchange(void *context, struct exchange *exchange)
{
	seen.count++;
	seen.body_bytes = exchange->response.body_bytes;
	seen.lost_bytes = exchange->response.lost_bytes;
	seen.has_messages = exchange->response.has_messages;
	seen.messages = exchange->response.messages;
	seen.complete = !exchange->reason;
	return false;
}

#define DATA(text, call_start)                                                                     \
	cr_assert_eq(http2_ops.data(parser, WIRE_WRITE, bytes__of(text, sizeof(text) - 1),         \
				    call_start, &when),                                            \
		     0)

#define PREFACE	 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
/* GET https://h/, whole. */
#define REQUEST(id)  "\0\0\6\1\5\0\0\0" id "\x82\x87\x84\x41\1h"
#define RESPONSE(id) "\0\0\1\1\4\0\0\0" id "\x88"
/* application/grpc */
#define GRPC(id)                                                                                   \
	"\0\0\x14\1\4\0\0\0" id "\x88\x0f\x10\x10"                                                 \
	"application/grpc"
#define LAST(id) "\0\0\0\0\1\0\0\0" id

static void setup(void)
{
	static const char requests[] = PREFACE SETTINGS REQUEST("\1") REQUEST("\3");

	memset(&seen, 0, sizeof(seen));
	counts = (struct protocol_counts){0};
	connection = (struct connection){.counts = &counts};
	cr_assert_eq(pairing__new(&connection, on_exchange, NULL, &pairing), 0);
	cr_assert_eq(http2_ops.open(pairing, &connection, true, &parser), 0);
	cr_assert_eq(http2_ops.data(parser, WIRE_READ, bytes__of(requests, sizeof(requests) - 1),
				    true, &when),
		     0);
	DATA(SETTINGS RESPONSE("\1"), true);
}

static void teardown(void)
{
	http2_ops.free(parser);
	pairing__free(pairing);
}

TestSuite(http2_walk, .init = setup, .fini = teardown);

/* `size` bytes were left out: `first` of stream 1, `second` of stream 3, `left` goes on in
 * `stream`. */
static void left_out(uint64_t size, uint64_t first, uint64_t second, uint32_t left, uint32_t stream)
{
	const struct wire_frames_stream streams[] = {
		{.payload = first, .stream = 1},
		{.payload = second, .stream = 3},
	};
	const struct left_out left_out = {
		.streams = streams,
		.count = second	 ? 2
			 : first ? 1
				 : 0,
		.left = left,
		.stream = stream,
	};

	http2_ops.walked_frames(parser, WIRE_WRITE, size, &left_out, &when);
}

static void expect(size_t count, uint64_t body_bytes, bool complete, int line)
{
	cr_expect(seen.count == count && seen.body_bytes == body_bytes && seen.complete == complete,
		  "line %d: %zu, %llu bytes, %scomplete", line, seen.count,
		  (unsigned long long)seen.body_bytes, seen.complete ? "" : "not ");
}

#define EXPECT(count, body_bytes, complete) expect(count, body_bytes, complete, __LINE__)

Test(http2_walk, whole_frames)
{
	left_out(2 * 9 + 5000, 5000, 0, 0, 0);
	DATA(LAST("\1"), false);
	EXPECT(1, 5000, true);
	cr_expect_eq(counts.places_lost, 0);
}

Test(http2_walk, several_streams)
{
	DATA(RESPONSE("\3"), true);
	left_out(4 * 9 + 12000, 5000, 7000, 0, 0);
	DATA(LAST("\3"), true);
	EXPECT(1, 7000, true);
	DATA(LAST("\1"), true);
	EXPECT(2, 5000, true);
}

Test(http2_walk, a_frame_that_goes_on)
{
	left_out(2 * 9 + 5000, 5000, 0, 3, 1);
	cr_expect_eq(http2_ops.skippable(parser, WIRE_WRITE), 3);
	DATA("abc" LAST("\1"), false);
	EXPECT(1, 5003, true);
}

Test(http2_walk, the_rest_of_a_frame)
{
	DATA("\0\1\0\0\0\0\0\0\1"
	     "abc",
	     true);
	left_out(256 - 3 + 9 + 20, 256 - 3 + 20, 0, 30, 1);
	left_out(30, 30, 0, 0, 0);
	DATA(LAST("\1"), false);
	EXPECT(1, 256 + 50, true);
}

/* The head of the frame that ends the stream was seen; its end is told by what was left out. */
Test(http2_walk, the_end_of_a_stream)
{
	DATA("\0\1\0\0\1\0\0\0\1", true);
	left_out(200, 200, 0, 56, 1);
	EXPECT(0, 0, false);
	left_out(56 + 9 + 1000, 56, 1000, 24, 3);
	EXPECT(1, 256, true);
	cr_expect_eq(http2_ops.skippable(parser, WIRE_WRITE), 24);
}

/* What the walk says cannot be: nothing is believed, but that so many bytes passed. */
Test(http2_walk, what_cannot_be)
{
	static const struct {
		uint64_t size, first, second;
		uint32_t left;
	} wrong[] = {
		{1000, 1001, 0, 0},	  {1000, 999, 0, 0}, {1000, UINT64_MAX, 10, 0},
		{1000, 600, 600, 0},	  {1000, 0, 0, 0},   {1000, 0, 1000, 0},
		{100, 100, 0, 155},	  {100, 91, 0, 156}, {100, 99, 1, 156},
		{256 + 9, 200, 56, 1000},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint64_t lost = counts.places_lost;

		DATA("\0\1\0\0\1\0\0\0\1", true);
		left_out(wrong[i].size, wrong[i].first, wrong[i].second, wrong[i].left, 1);
		if (wrong[i].size < 256)
			cr_expect_eq(http2_ops.skippable(parser, WIRE_WRITE), 256 - wrong[i].size);
		else
			cr_expect_eq(counts.places_lost, lost + 1, "%zu", i);
		teardown();
		setup();
	}
}

/* Between the frames of a header block nothing is left out. */
Test(http2_walk, not_in_a_block)
{
	DATA("\0\0\1\1\0\0\0\0\3"
	     "\x88",
	     true);
	left_out(1009, 1000, 0, 0, 0);
	cr_expect_eq(counts.places_lost, 1);
}

/* What was lost before takes the place; the walk knows it. */
Test(http2_walk, the_place_after_a_loss)
{
	for (int inside = 0; inside < 2; inside++) {
		http2_ops.gap(parser, WIRE_WRITE, 30, GAP_LOST, &when);
		cr_expect_eq(counts.places_lost, 1);
		left_out(5009, 5000, 0, inside ? 3 : 0, 1);
		if (inside)
			DATA("abc", false);
		DATA(LAST("\1"), false);
		EXPECT(1, inside ? 5003 : 5000, false);
		cr_expect_eq(counts.places_lost, 1);
		teardown();
		setup();
	}
}

/* Bytes that wait for more in a search are not what follows. */
Test(http2_walk, what_waited_in_a_search)
{
	http2_ops.gap(parser, WIRE_WRITE, 30, GAP_LOST, &when);
	DATA("\0\0\1\1\4\0", true);
	left_out(5009, 5000, 0, 0, 0);
	DATA(LAST("\1"), false);
	EXPECT(1, 5000, false);
}

Test(http2_walk, where_a_frame_began)
{
	DATA(RESPONSE("\3"), true);
	cr_expect(http2_ops.began(parser, WIRE_WRITE));
	cr_expect_eq(http2_ops.frame_began(parser, WIRE_WRITE), 10);
	DATA("\0\0\3\0", true);
	cr_expect_eq(http2_ops.frame_began(parser, WIRE_WRITE), 4);
	cr_expect(http2_ops.began(parser, WIRE_WRITE));
	DATA("\0\0\0\0\3"
	     "ab",
	     true);
	cr_expect_not(http2_ops.began(parser, WIRE_WRITE));
	cr_expect_eq(http2_ops.frame_began(parser, WIRE_WRITE), 0);
	DATA("c" LAST("\3"), true);
	cr_expect_not(http2_ops.began(parser, WIRE_WRITE));
	cr_expect_eq(http2_ops.frame_began(parser, WIRE_WRITE), 9);
	DATA("\0\0\0\6\0\0\0\0\0", true); /* PING has 8 bytes */
	cr_expect_not(http2_ops.began(parser, WIRE_WRITE));
	/* Found again at its first byte, and behind it. */
	DATA(SETTINGS SETTINGS SETTINGS SETTINGS, true);
	cr_expect(http2_ops.began(parser, WIRE_WRITE));
	http2_ops.gap(parser, WIRE_WRITE, 30, GAP_LOST, &when);
	DATA("xyz" SETTINGS SETTINGS SETTINGS SETTINGS, true);
	cr_expect_not(http2_ops.began(parser, WIRE_WRITE));
	cr_expect_eq(http2_ops.frame_began(parser, WIRE_WRITE), 9);
}

/* Where messages are counted, no walk is confirmed; one that was already is not in the way. */
Test(http2_walk, grpc)
{
	cr_expect_not(http2_ops.reads_bodies(parser, WIRE_WRITE));
	DATA(GRPC("\3"), true);
	cr_expect(http2_ops.reads_bodies(parser, WIRE_WRITE));
	/* A message of 4000 bytes, of which 3 are here. */
	DATA("\0\0\x8\0\0\0\0\0\3"
	     "\0\0\0\x0f\xa0"
	     "abc",
	     true);
	left_out(9 + 3997, 0, 3997, 0, 0);
	DATA("\0\0\5\0\1\0\0\0\3"
	     "\0\0\0\0\0",
	     true);
	EXPECT(1, 4010, true);
	cr_expect(seen.has_messages);
	cr_expect_eq(seen.messages, 2);
}

Test(http2_walk, grpc_messages_that_began_unseen_are_not_counted)
{
	DATA(GRPC("\3"), true);
	left_out(9 + 3997, 0, 3997, 0, 0);
	DATA("\0\0\5\0\1\0\0\0\3"
	     "\0\0\0\0\0",
	     true);
	EXPECT(1, 4002, true);
	cr_expect_not(seen.has_messages);
}
